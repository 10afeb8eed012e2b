"""The jobs of a kernel, as its journals tell them: what is queued, what runs, what is committed.

The book changes only by events, live ones and those read back alike; so after any death of the broker it is
what it was, and a job goes on from its committed cells.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from labtui_artifacts.errors import UsageError
from labtui_sessions.events import Event

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
INTERACTIVE = "interactive"
BATCH = "batch"


Info: TypeAlias = Mapping[str, Any]
"""A ModelInfo as a map."""


def same_model(one: Info, other: Info) -> bool:
    """Whether rows of the two may stand in one table: equal weights, tokenizer, chat template and precision."""
    names = ("weight_hash", "tokenizer_hash", "template_hash", "dtype", "quantisation")
    return all(one.get(name) == other.get(name) for name in names)


def _described(info: Info) -> str:
    parts = [str(info.get("weight_hash") or "?")[:12], str(info.get("dtype")), info.get("quantisation")]
    return f"{str(info.get('name'))[:80]} ({', '.join(str(part) for part in parts if part)})"


@dataclass
class Job:
    """A job that is not finished.

    ``sent``: the worker has it. ``losses`` counts since its last committed cell. ``wish`` is what the worker
    was asked to do with it (``pause``, ``resume``, ``cancel``) and has not done yet. ``model`` is the one that its
    committed cells were made on, and ``made_with`` the digests of their directions.
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
    model: Info | None = None
    made_with: dict[str, str] = field(default_factory=dict)

    def fits(self, model: Info | None) -> bool:
        """The cells of one job are made on one model, in one precision."""
        return self.model is None or model is None or same_model(self.model, model)

    @property
    def running(self) -> bool:
        """The worker has it and it does not stand still."""
        return self.sent and self.status != "paused"


class Jobs:
    """Unfinished jobs by id, in the order in which they were queued."""

    def __init__(self) -> None:
        self.open: dict[str, Job] = {}
        self._models: dict[str, Info] = {}

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
        if event.kind == "model.ready":
            self._models[session] = data.get("info") or {}
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
            job.model = self._models.get(session)
        elif event.kind == "job.paused":
            job.status, job.wish = "paused", ""
        elif event.kind == "job.resumed":
            job.status, job.wish = "running" if job.sent else "queued", ""
        elif event.kind == "job.started":
            if not job.committed:
                job.made_with = dict((data.get("plan") or {}).get("made_with") or {})
            if job.status != "paused":
                job.status = "running"

    def next(self, model: Info | None) -> list[Job]:
        """The jobs that a worker with that model should get now: interactive ones at once, batches one after
        the other; none whose cells were made on another model."""
        waiting = [job for job in self._due(model) if not job.sent]
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

    def waiting(self, model: Info | None) -> bool:
        """Something is to be done that does not stand still and fits the model."""
        return bool(self._due(model))

    def model_of(self, session: str) -> Info:
        """The model that a session's unfinished cells were made on, else the last one in it; empty without any."""
        made = (job.model for job in self.open.values() if job.session == session and job.model)
        return next(made, self._models.get(session, {}))

    def misfits(self, model: Info) -> str:
        """One line about the jobs that wait for the model that their cells were made on; empty without any."""
        found = [job for job in self.open.values() if not job.fits(model)]
        if not found:
            return ""
        job, more = found[0], f" and {len(found) - 1} more" if len(found) > 1 else ""
        return (
            f"job {job.id}{more} cannot go on here: its {len(job.committed)} finished cells were made on "
            f"{_described(job.model or {})}, and this kernel holds {_described(model)}; start a kernel with that "
            "model, or cancel the job"
        )

    def _due(self, model: Info | None) -> list[Job]:
        return [job for job in self.open.values() if job.status != "paused" and job.fits(model)]
