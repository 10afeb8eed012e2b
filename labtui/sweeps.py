"""The sweeps of a session: which job wrote which table, and which is a confirmation of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labtui.calibrating import GRIDS

if TYPE_CHECKING:
    from labtui.projection import Source
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

SUFFIX = "-confirmed"
"""What the table of a confirmation is called, after the sweep's own."""
ASKED = frozenset(("prompt", "direction", "site", "where", "strength", "control"))
"""Columns without which a table is no sweep's."""


@dataclass(frozen=True)
class Entry:
    """A sweep that can be shown, one of this session or of another that was opened beside it.

    ``jobs`` wrote its table, the last one last; ``rows`` and the jobs are those of the moment it was listed.
    """

    key: str
    """Session and table: the same as long as the session is."""
    table: str
    source: Source = field(compare=False)
    session: str = ""
    """Title of the session, empty for the one in view."""
    rows: int = 0
    jobs: tuple[JobView, ...] = field(default=(), compare=False)

    @property
    def job(self) -> JobView | None:
        """The job that wrote it last; None where the state no longer has it."""
        return self.jobs[-1] if self.jobs else None

    @property
    def live(self) -> bool:
        """Rows are still to come."""
        return any(job.live for job in self.jobs)

    @property
    def spec(self) -> dict[str, Any]:
        """The spec that it was made by last; empty where that is not kept."""
        return self.job.spec if self.job is not None else {}

    @property
    def label(self) -> str:
        """What it is called where there are several."""
        return f"{self.session}: {self.table}" if self.session else self.table


def entries(here: Source, others: Sequence[Source] = ()) -> list[Entry]:
    """The sweeps of the session in view, the last first, then those of the others; confirmations stand beside
    their sweep and are not listed."""
    found = _entries(here, "")
    for source in others:
        found += _entries(source, source.state.title or source.state.id)
    return found


def _entries(source: Source, session: str) -> list[Entry]:
    state = source.state
    writers: dict[str, list[JobView]] = {
        name: [] for name, view in state.tables.items() if set(view.columns) >= ASKED
    }
    for job in state.jobs.values():
        name = table_of(job)
        if job.kind in GRIDS and (name in writers or job.live or name not in state.tables):
            writers.setdefault(name, []).append(job)
    order = {job: at for at, job in enumerate(state.jobs)}
    found = [
        Entry(
            f"{state.id}/{name}",
            name,
            source,
            session,
            state.tables[name].rows if name in state.tables else 0,
            tuple(jobs),
        )
        for name, jobs in writers.items()
        if not (name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in writers)
    ]
    found.sort(key=lambda entry: order[entry.job.job] if entry.job is not None else -1, reverse=True)
    return found


def table_of(job: JobView) -> str:
    """The name of the table that a sweep's rows go to."""
    return str(job.plan.get("table") or job.spec.get("table") or job.job)


def confirmations(state: SessionState, table: str) -> JobView | None:
    """The last job that confirmed cells of a table."""
    wanted = table + SUFFIX
    jobs = [job for job in state.jobs.values() if job.kind == "sweep"]
    return next((job for job in reversed(jobs) if table_of(job) == wanted), None)
