"""How long a plan takes here, by what was timed before.

What writes goes by tokens: those a second of the last sweep or, before there was one, of answers written alone
(``Speed``). What only reads goes by prompts: the seconds that the last pass over some took (``seconds_for``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .fields import JobView
from .state import SessionState

READERS = ("direction", "diagnose", "index")
"""Kinds whose time is that of passes over prompts."""


def seconds_for(counts: Mapping[str, Any], jobs: Iterable[JobView]) -> float | None:
    """Seconds that the ``prompts`` of a plan take at the pace of the last job that read some.

    None where nothing was measured, or the plan does not say how many prompts. Sites cost next to nothing
    beside the pass. The first job on a model also measures the reference norms, so what follows it is faster.
    """
    prompts = counts.get("prompts")
    if not isinstance(prompts, int) or isinstance(prompts, bool):
        return None
    pace = None
    for job in jobs:
        read = job.plan.get("prompts")
        if (
            job.kind in READERS
            and job.status == "done"
            and job.seconds
            and isinstance(read, int)
            and read > 0
        ):
            pace = job.seconds / read
    return None if pace is None else pace * prompts


@dataclass
class Speed:
    """How fast the last sweep of this kernel was that ran to its end; 0 before there was one.

    ``rate`` is in tokens a second over all rows of the batch, the time for metrics included.
    """

    rate: float = 0.0
    tokens_a_row: float = 0.0

    def note(self, result: Mapping[str, Any] | None) -> None:
        """Take what a sweep says at its end."""
        found = [(result or {}).get(key) for key in ("tokens_per_second", "tokens", "committed")]
        rate, tokens, rows = (value if isinstance(value, int | float) else 0 for value in found)
        if rate > 0 and tokens > 0 and rows > 0:
            self.rate, self.tokens_a_row = float(rate), tokens / rows

    def seconds(self, rows: int, limit: int, state: SessionState) -> dict[str, Any]:
        """``seconds`` that so many rows of at most ``limit`` tokens take, and what was ``measured``: a sweep, or
        only single answers, which a batch is faster than. Nothing where nothing was measured."""
        if self.rate:
            return {"seconds": rows * min(self.tokens_a_row, limit) / self.rate, "measured": "sweep"}
        if (alone := _alone(state)) is not None:
            rate, tokens = alone
            return {"seconds": rows * min(tokens, limit) / rate, "measured": "answers"}
        return {}


def _alone(state: SessionState) -> tuple[float, float] | None:
    """Tokens a second of the single answers that the session still holds, and how many tokens they have."""
    done = [
        (row.tokens, row.finished - row.started)
        for row in state.rows.values()
        if row.finished is not None and row.tokens > 1
        and (job := state.jobs.get(row.job)) is not None and job.kind == "generate"
    ]  # fmt: skip
    tokens, seconds = sum(t for t, _ in done), sum(s for _, s in done)
    return (tokens / seconds, tokens / len(done)) if seconds > 0 else None
