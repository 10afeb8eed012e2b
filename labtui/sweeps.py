"""The sweeps of a session: which job wrote which table, and which is a confirmation of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

SUFFIX = "-confirmed"
"""What the table of a confirmation is called, after the sweep's own."""


def table_of(job: JobView) -> str:
    """The name of the table that a sweep's rows go to."""
    return str(job.plan.get("table") or job.spec.get("table") or job.job)


def sweep_jobs(state: SessionState) -> tuple[JobView | None, JobView | None]:
    """The last sweep, and the last confirmation of one of its cells."""
    jobs = [job for job in state.jobs.values() if job.kind == "sweep"]
    names = {table_of(job) for job in jobs}

    def confirms(job: JobView) -> bool:
        name = table_of(job)
        return name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names

    last = next((job for job in reversed(jobs) if not confirms(job)), None)
    if last is None:
        return None, None
    wanted = table_of(last) + SUFFIX
    return last, next((job for job in reversed(jobs) if table_of(job) == wanted), None)
