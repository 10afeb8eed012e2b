"""The jobs of a kernel, as its journals tell them: what is queued, what runs, what is committed.

The book changes only by events, live ones and those read back alike; so after any death of the broker it is
what it was, and a job goes on from its committed cells.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_sessions.events import Event

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
INTERACTIVE = "interactive"
BATCH = "batch"


@dataclass
class Job:
    """A job that is not finished.

    ``sent``: the worker has it. ``losses`` counts since its last committed cell. ``wish`` is what the worker
    was asked to do with it (``pause``, ``resume``, ``cancel``) and has not done yet.
    """

    id: str
    session: str
    kind: str
    spec: dict[str, Any]
    priority: str = BATCH
    client: str = ""
    status: str = "queued"
    sent: bool = False
    losses: int = 0
    wish: str = ""
    committed: dict[str, None] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """The worker has it and it does not stand still."""
        return self.sent and self.status != "paused"


class Jobs:
    """Unfinished jobs by id, in the order in which they were queued."""

    def __init__(self) -> None:
        self.open: dict[str, Job] = {}

    def new_id(self, kind: str, taken: set[str]) -> str:
        """A short id that no job of the session has."""
        while True:
            tail = "".join(secrets.choice(ALPHABET) for _ in range(4))
            identity = f"{kind}-{tail}"
            if identity not in taken and identity not in self.open:
                return identity

    def get(self, job: str) -> Job:
        """The unfinished job of that id; UsageError lists those there are."""
        found = self.open.get(job)
        if found is None:
            known = ", ".join(self.open) or "none"
            raise UsageError(f"job {job!r} is not queued or running here; unfinished jobs: {known}")
        return found

    def observe(self, session: str, event: Event) -> None:
        """Take note of an event of that session."""
        data = event.data
        if event.kind == "worker.lost":
            for name in data.get("jobs", []):
                if name in self.open:
                    self.open[name].losses += 1
            return
        name = data.get("job")
        if not isinstance(name, str):
            return
        if event.kind == "job.queued":
            self.open[name] = Job(
                id=name,
                session=session,
                kind=str(data.get("kind", "")),
                spec=data.get("spec", {}),
                priority=str(data.get("priority", BATCH)),
                client=str(data.get("client", "")),
            )
            return
        job = self.open.get(name)
        if job is None:
            return
        if event.kind == "job.finished":
            del self.open[name]
        elif event.kind == "cell.committed":
            job.committed[str(data.get("cell"))] = None
            job.losses = 0
        elif event.kind == "job.paused":
            job.status, job.wish = "paused", ""
        elif event.kind == "job.resumed":
            job.status, job.wish = "running" if job.sent else "queued", ""
        elif event.kind == "job.started" and job.status != "paused":
            job.status = "running"

    def next(self) -> list[Job]:
        """The jobs that the worker should get now: interactive ones at once, batches one after the other."""
        waiting = [job for job in self.open.values() if not job.sent and job.status != "paused"]
        due = [job for job in waiting if job.priority == INTERACTIVE]
        batches = [job for job in waiting if job.priority != INTERACTIVE]
        if batches and not any(job.running for job in self.open.values() if job.priority != INTERACTIVE):
            due.append(batches[0])
        return due

    def running(self) -> list[Job]:
        """The jobs on which the worker is at work."""
        return [job for job in self.open.values() if job.running]

    def worker_gone(self) -> None:
        """No worker has any job any more."""
        for job in self.open.values():
            job.sent = False
            if job.status == "running":
                job.status = "queued"

    def waiting(self) -> bool:
        """Something is to be done that does not stand still."""
        return any(job.status != "paused" for job in self.open.values())
