"""The metrics that a spec may ask for, without torch, so that a spec can be checked anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from labtui_artifacts.errors import UsageError

from .registry import metric


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
