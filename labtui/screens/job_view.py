"""What the screens share that show one job of a kind at a time, and read its tables as they are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from textual.containers import Container
from textual.content import Content

from labtui.cells import as_table
from labtui.exporting import Drawn, export_to
from labtui.parts import Parts
from labtui.projection import Source
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Field, Form, Values
from labtui.wording import ago, short_path
from labtui_sessions.fields import JobView
from labtui_sessions.state import SessionState
from labtui_sessions.tables import Table


class JobScreen(BaseScreen):
    """A screen of one job, which is the last of its kind until another is chosen.

    Its panels are in a container named as the screen is; where there is no room for all, they take turns.
    """

    TURNS: ClassVar[tuple[str, ...]] = ()
    """The panels that take turns on a small screen."""
    NO_OTHER: ClassVar[str] = "this session has no other"
    """What is said where there is no other job to show."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: Parts | None = None
        self.job: JobView | None = None
        """The job in view."""
        self.number, self.count = 0, 0
        """Which it is of how many."""
        self.wanted = ""
        """The job that was chosen; empty for the last."""

    def jobs(self, state: SessionState) -> list[JobView]:
        """The jobs that this screen shows, oldest first."""
        raise NotImplementedError

    def stoppable(self, state: SessionState) -> JobView | None:
        """The job that is cancelled by the key for it."""
        return self.job if self.job is not None and self.job.live else None

    def choose(self, source: Source | None) -> None:
        """Bring :attr:`job` and :attr:`parts` up to date: the job asked for, else the last of the session."""
        found = self.jobs(source.state) if source is not None else []
        self.job = next((job for job in found if job.job == self.wanted), found[-1] if found else None)
        self.number, self.count = found.index(self.job) + 1 if self.job is not None else 0, len(found)
        if source is None or self.job is None:
            self.parts = None
        elif self.parts is None or self.parts.source is not source:
            self.parts = Parts(source)

    def fetch(self, table: str, filter: str = "") -> None:
        """Bring a part of a table here, where it is not."""
        parts = self.parts
        if parts is not None and parts.due(table, filter):
            self.app.do(
                lambda: parts.fetch(table, filter),
                lambda _: self.app.pump.changed(),
                group=f"{self.SCOPE}:{table}:{filter}",
            )

    def progress(self, job: JobView) -> Content:
        """How far a job is, or how it ended."""
        if job.live:
            told = self.app.kernel.telemetry.get("progress") if self.app.live and self.app.kernel else None
            told = told if isinstance(told, dict) and told.get("job") == job.job else {}
            done, total, text = told.get("done", 0), told.get("total", 0), str(told.get("text", ""))
            if not total and job.to_run:
                done, total, text = job.cells, job.to_run, "cells"
            wide = max(10, min(40, self.size.width - 50))
            full = round(wide * min(1.0, done / total)) if total else 0
            said = f" {done:.0f}/{total:.0f} {text}" if total else f" {job.status}"
            return Content.assemble(("█" * full, "$accent"), ("░" * (wide - full), "$lab-line"), said)
        parts: list[str | tuple[str, str]] = [(job.status, "bold" if job.status == "done" else "bold $error")]
        parts += [(f" in {ago(job.seconds)}", "$lab-dim")] if job.seconds is not None else []
        parts += [(f"  {job.error}", "$error")] if job.error else []
        for note in (job.result or {}).get("notes") or ():
            parts.append((f"  ! {note}", "$warning"))
        if not clean(job):
            parts.append((f"  ! audit: {(job.audit or {}).get('detail', 'not clean')}", "bold $error"))
        return Content.assemble(*parts)

    # -- keys -----------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        source = self.app.source
        job = self.stoppable(source.state) if source is not None else None
        if job is None:
            self.app.say("nothing is running")
            return
        self.ask(
            lambda kernel: kernel.request("job.cancel", job=job.job),
            lambda _: self.app.say("cancelled; committed cells stay"),
        )

    def action_cycle_job(self) -> None:
        source = self.app.source
        found = self.jobs(source.state) if source is not None else []
        if len(found) < 2 or self.job is None:
            self.app.say(self.NO_OTHER)
            return
        self.wanted = found[(self.number - 2) % len(found)].job
        self.another()
        self.app.pump.now()

    def another(self) -> None:
        """Another job was chosen."""

    def action_focus_panel(self, id: str) -> None:
        if id in self.TURNS:
            self.show_part(id)
        super().action_focus_panel(id)

    def show_part(self, id: str) -> None:
        """Show one of the panels that take turns."""
        self.query_one(f"#{self.SCOPE}", Container).set_classes(f"-{id}")
        self.app.pump.now()

    # -- export ---------------------------------------------------------------------------------------

    def export_form(
        self,
        tables: Mapping[str, str],
        drawn: Callable[[Table], Drawn],
        check: Callable[[Values], str],
        hint: str,
    ) -> None:
        """Ask which of ``tables`` (what it holds: its name) is written where; ``check`` says what is wrong with it."""
        parts = self.parts
        if parts is None or not tables:
            self.app.say("there is no table yet, so there is nothing to export")
            return

        def write(values: Values | None) -> None:
            if values is None:
                return
            path, name = Path(values["path"]).expanduser().absolute(), tables[values["table"]]

            async def work() -> str:
                rows = await parts.fetch(name)
                return await asyncio.to_thread(export_to, path, as_table(name, rows), drawn)

            self.app.do(work, self.app.say)

        first = next(iter(tables))
        start = short_path(Path.cwd() / f"{tables[first]}.csv")
        fields = [
            Field("table", "table", first, options=tuple(tables), free=False),
            Field("path", "file", start, hint=hint, check=check),
        ]
        self.app.push_screen(Form("Export", fields, accept="Write"), write)


def clean(job: JobView) -> bool:
    """Whether the audit after a job found nothing."""
    return job.audit is None or bool(job.audit.get("ok", True))
