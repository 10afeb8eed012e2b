"""The metrics that a spec may ask for, without torch, so that a spec can be checked anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from labtui_artifacts.errors import UsageError

from .registry import BUILT_IN, metric

METRICS: dict[str, str] = {kind.form(): kind.about for kind in BUILT_IN}
"""How the names of a metric look -> what it measures."""

AGAINST_ZERO: frozenset[str] = frozenset(kind.head for kind in BUILT_IN if kind.judged)
"""The lab's own metrics that compare a row with the unsteered row of the same prompt and seed."""


def against_zero(names: Iterable[str]) -> bool:
    """Whether one of these metrics compares a row with the unsteered row of the same prompt and seed."""
    return any(metric(name).judged for name in names)


def check_metrics(names: Iterable[str], what: str) -> None:
    """Raise UsageError for an unknown metric, one that cannot mean anything, or one asked for twice."""
    seen: set[str] = set()
    for name in names:
        try:
            metric(name)
        except UsageError as problem:
            raise UsageError(f"{what}: {problem}") from None
        if name in seen:
            raise UsageError(f"{what}: {name!r} is named twice")
        seen.add(name)
