"""How long generating takes here, from the sweeps that have run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class Ran(Protocol):
    """What a session knows of a job (``labtui_sessions.fields.JobView``)."""

    kind: str
    status: str
    result: dict[str, Any] | None


def speed(jobs: Iterable[Ran]) -> float | None:
    """Tokens a second of the last sweep that was finished; None where there was none."""
    found = None
    for job in jobs:
        told = (job.result or {}).get("tokens_per_second")
        if job.kind == "sweep" and job.status == "done" and isinstance(told, int | float) and told > 0:
            found = float(told)
    return found


def with_seconds(counts: Mapping[str, Any], jobs: Iterable[Ran]) -> dict[str, Any]:
    """The counts of a plan that generates ``tokens``, with ``tokens_per_second`` and ``seconds`` at most.

    As they are where nothing was measured, or nothing is generated. Answers that end by themselves take less.
    """
    tokens, pace = counts.get("tokens"), speed(jobs)
    if pace is None or not isinstance(tokens, int):
        return dict(counts)
    return {**counts, "tokens_per_second": pace, "seconds": tokens / pace}
