"""What a sweep would run, as the worker will run it: its rows by kind, those that are new, and how long they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labtui_artifacts.store import Store
    from labtui_kernels.lang.shape import ModelShape
    from labtui_kernels.specs import Spec, Sweep
    from labtui_sessions.state import SessionState


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


def shuffles(spec: Sweep, store: Store) -> tuple[dict[str, int], list[str]]:
    """How many shuffled-label controls each stored direction brings along, and the names that are not there."""
    from labtui_artifacts.kinds.direction import DirectionFile  # here: a kernel answers before it has numpy
    from labtui_kernels.lang.algebra import parse_algebra

    known: dict[str, int] = {}
    missing: list[str] = []
    for name in dict.fromkeys(name for text in spec.directions for name in parse_algebra(text).names):
        try:
            known[name] = DirectionFile.open(store.path(name), name).shuffles
        except (UsageError, FileNotFoundError):
            missing.append(name)
    return known, missing


def planned(
    spec: Spec, shape: ModelShape, store: Store, cells: Collection[str] | None = None
) -> dict[str, Any]:
    """The counts of a spec. For a sweep also ``missing`` directions, ``new`` rows, those whose cells are not among
    the ``cells`` of the table that it extends (None: it extends none), and ``new_controls``, these by kind."""
    from labtui_kernels.specs import Sweep
    from labtui_kernels.specs.plan import count, count_sweep, plan_sweep

    if not isinstance(spec, Sweep):
        return count(spec, shape)
    known, missing = shuffles(spec, store)
    if not cells:
        counts = count_sweep(spec, shape, shuffles=known)
        return {**counts, "new": counts["rows"], "new_controls": counts["controls"], "missing": missing}
    plan = plan_sweep(spec, shape, shuffles=known)
    new = Counter(row.control for row in plan.rows if row.cell not in cells)
    by_kind = {name: rows for name, rows in sorted(new.items()) if name}
    return {**plan.counts, "new": new.total(), "new_controls": by_kind, "missing": missing}
