"""Running a spec to its end: submit it, follow its job, gather what it made."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labtui.client import AsyncLab, Change
from labtui.pictures import submit
from labtui_artifacts.errors import JobFailed, LabError, from_code
from labtui_sessions.events import Event
from labtui_sessions.tables import MAX_PAGE, Table

OnProgress = Callable[[float, float, str], None]


@dataclass
class Outcome:
    """How a job ended. ``rows`` are the keys of its rows, ``tables`` the tables it added cells to."""

    job: str
    session: str
    status: str = ""
    error: str = ""
    code: int = 0
    seconds: float | None = None
    result: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] | None = None
    rows: dict[str, None] = field(default_factory=dict)
    tables: dict[str, None] = field(default_factory=dict)

    def check(self) -> Outcome:
        """This outcome when the job is done; else the LabError that says why it is not."""
        if self.status == "done":
            return self
        line = f"job {self.job} {self.status}" + (f": {self.error}" if self.error else "")
        if self.code in (0, 1):
            raise JobFailed(line)
        raise from_code(self.code, self.error or line)

    def take(self, event: Event) -> None:
        """Note what an event of the session says of this job."""
        data = event.data
        if data.get("job") != self.job:
            return
        if event.kind == "row.started":
            self.rows[f"{self.job}/{data.get('row')}"] = None
        elif event.kind == "cell.committed":
            self.tables[str(data.get("table"))] = None
        elif event.kind == "job.finished":
            self.status = str(data.get("status"))
            self.error = data.get("error") or ""
            self.code = 0 if self.status == "done" else int(data.get("code") or 1)
            self.seconds = data.get("seconds")
            self.result = data.get("result") or {}
            self.audit = data.get("audit")


class Run:
    """A submitted job, followed from its first event on."""

    def __init__(self, lab: AsyncLab, spec: Mapping[str, Any], *, session: str | None = None) -> None:
        self._lab = lab
        self._spec = dict(spec)
        self._session = session
        self._subscription = lab.subscribed()
        self.outcome = Outcome("", "")

    async def submit(self) -> Outcome:
        """Queue it; LabError when the kernel does not take the spec."""
        self._take = self._subscription.__enter__()
        try:
            answer = await submit(self._lab, self._spec, session=self._session)
        except BaseException:
            self.close()
            raise
        self.outcome.job, self.outcome.session = answer["job"], answer["session"]
        return self.outcome

    async def wait(self, on_progress: OnProgress | None = None) -> Outcome:
        """Until the job has ended, through lost links too. Follows the session that the job is in."""
        lab, outcome = self._lab, self.outcome
        if lab.session != outcome.session:
            await lab.switch(outcome.session)
        try:
            while not outcome.status:
                change: Change = await self._take()
                for event in change.events:
                    outcome.take(event)
                if change.reset:
                    self._catch_up()
                if on_progress is not None:
                    self._show(on_progress)
        finally:
            self.close()
        return outcome

    def _catch_up(self) -> None:
        """After a new snapshot: what the state says of the job, since its events were not seen."""
        view = self._lab.state.jobs.get(self.outcome.job)
        if view is None:
            return
        for row in self._lab.state.rows_of(view.job):
            self.outcome.rows[row.key] = None
        for table in self._lab.state.tables.values():
            if table.job == view.job:
                self.outcome.tables[table.name] = None
        if not view.live:
            self.outcome.status, self.outcome.error = view.status, view.error or ""
            self.outcome.code = 0 if view.status == "done" else 1
            self.outcome.seconds, self.outcome.audit = view.seconds, view.audit
            self.outcome.result = view.result or {}

    def _show(self, on_progress: OnProgress) -> None:
        lab = self._lab
        view = lab.state.jobs.get(self.outcome.job)
        if not lab.link.up:
            on_progress(0, 0, f"{lab.link.detail}; trying again (attempt {lab.link.attempt})")
            return
        told = lab.telemetry.get("progress") or {}
        if told.get("job") == self.outcome.job:
            on_progress(told.get("done", 0), told.get("total", 0), told.get("text", ""))
        elif view is not None and view.to_run is not None:
            on_progress(view.cells, view.to_run, "cells")
        elif view is not None:
            on_progress(0, 0, view.status)

    def close(self) -> None:
        """Stop following."""
        self._subscription.__exit__()


async def run(
    lab: AsyncLab,
    spec: Mapping[str, Any],
    *,
    session: str | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Run a spec to its end; the outcome of a job that is done, else its LabError.

    When this task is cancelled, so is the job.
    """
    job = Run(lab, spec, session=session)
    await job.submit()
    try:
        return (await job.wait(on_progress)).check()
    except asyncio.CancelledError:
        with contextlib.suppress(LabError, TimeoutError):  # it has ended already, or the link is gone
            await asyncio.wait_for(lab.request("job.cancel", job=job.outcome.job), 5.0)
        raise


async def fetch_table(lab: AsyncLab, name: str) -> Table:
    """A whole table of the lab's session, page by page."""
    table = Table(name)
    start = 0
    while True:
        page = await lab.page(name, start, start + MAX_PAGE)
        rows = [dict(zip(page.columns, row, strict=True)) for row in page.rows]
        for row, reasons in zip(rows, page.reasons, strict=True):
            if reasons:
                row["reasons"] = reasons
        table.add("", str(start), rows)
        start += len(rows)
        if not rows or start >= page.total:
            return table
