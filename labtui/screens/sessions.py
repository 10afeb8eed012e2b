"""Sessions: what this one holds (title, notes, tags, jobs), and the others, to be replayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.actions import bindings
from labtui.projection import Kernel, SessionCard, Source
from labtui.replaying import END, Player, open_player
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Field, Form, Values
from labtui.widgets.lists import Choice, Choices, Grid, right
from labtui.widgets.panel import Panel
from labtui.wording import when
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

MARKS = {
    "done": "✓",
    "failed": "✕",
    "cancelled": "◌",
    "lost": "✕",
    "running": "▶",
    "queued": "…",
    "paused": "❚❚",
}
"""A symbol for how each job stands."""


class Sessions(BaseScreen):
    """This session, and the others."""

    SCOPE = "sessions"
    BINDINGS = bindings("sessions")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.cards: list[SessionCard] = []

    def body(self) -> ComposeResult:
        with Horizontal(id="sessions"):
            with Vertical(id="sessions-left"):
                yield Panel(Grid(id="all-grid"), title="Sessions", id="all")
            with Vertical(id="sessions-right"):
                yield Panel(Static("", id="this-text", markup=False), title="This session", id="this")
                yield Panel(
                    Choices(id="note-list", empty="n writes one, at any moment"), title="Notes", id="notes"
                )
                yield Panel(Grid(id="job-grid"), title="Jobs", id="jobs")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_focus(self.query_one("#all-grid", Grid))

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.look()

    def look(self) -> None:
        """List the sessions anew."""

        async def list_them() -> None:
            self.cards = await self.app.lobby.sessions()

        self.app.do(list_them, lambda _: self.app.pump.changed(), group="sessions")

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        here = source.state.id if source is not None else ""
        self.query_one("#all-grid", Grid).show(
            ("", "when", "title", "model", "events", "jobs", "tags"),
            [
                (
                    c.id,
                    (
                        "◆" if c.id == here else " ",
                        when(c.when),
                        c.title or c.id,
                        c.model,
                        right(_n(c.events)),
                        right(_n(c.jobs)),
                        " ".join(c.tags),
                    ),
                )
                for c in self.cards
            ],
        )
        self.query_one("#all", Panel).note(
            "enter replays · o opens a file" if self.cards else "none saved yet · o opens a file"
        )
        state = source.state if source is not None else None
        self.query_one("#this-text", Static).update(about(state))
        notes = list(state.notes.values()) if state is not None else []
        self.query_one("#note-list", Choices).show(
            [Choice(n.id, n.text.replace("\n", " "), when(n.t)) for n in notes]
        )
        self.query_one("#notes", Panel).note(f"{len(notes)}" if notes else "")
        jobs = list(reversed(state.jobs.values())) if state is not None else []
        self.query_one("#job-grid", Grid).show(
            ("", "job", "kind", "status", "cells", "seconds", "audit"), [(j.job, _job(j)) for j in jobs]
        )
        self.query_one("#jobs", Panel).note(f"{len(jobs)}")

    # -- actions --------------------------------------------------------------------------------------

    @on(Grid.Picked, "#all-grid")
    def _picked(self, message: Grid.Picked) -> None:
        card = next((c for c in self.cards if c.id == message.key), None)
        if card is not None:
            self.app.do(lambda: self.app.lobby.open(card), self._opened)

    @on(Grid.Picked, "#job-grid")
    def _job_picked(self, message: Grid.Picked) -> None:
        source = self.app.source
        job = source.state.jobs.get(message.key) if source is not None else None
        if job is not None:
            self.app.show_screen_of(job)

    def _opened(self, source: Source) -> None:
        if isinstance(source, Player):
            self.app.open_replay(source)

    def action_open(self) -> None:
        key = self.query_one("#all-grid", Grid).current
        card = next((c for c in self.cards if c.id == key), None)
        if card is not None:
            self.app.do(lambda: self.app.lobby.open(card), self._opened)

    def action_open_file(self) -> None:
        def check(values: Values) -> str:
            path = Path(values["path"]).expanduser()
            return "" if path.is_file() else f"{path} is not there" if values["path"] else "a file is needed"

        def open_it(values: Values | None) -> None:
            if values is not None:
                path = Path(values["path"]).expanduser()

                async def work() -> Player:
                    return open_player(path, at=END)

                self.app.do(work, self._opened)

        self.app.push_screen(
            Form("Open a session file", [Field("path", "file", check=check)], accept="Replay"), open_it
        )

    def action_new_session(self) -> None:
        async def begin(kernel: Kernel, title: str) -> None:
            await kernel.request("session.new", title=title)
            await kernel.request("attach", session=None)

        def go(values: Values | None) -> None:
            if values is not None:
                self.ask(lambda kernel: begin(kernel, values["title"].strip()), begun)

        def begun(_: object) -> None:
            self.app.say("a new session has begun; the one before stays as it is")
            self.look()

        field = Field("title", "title", hint="may stay empty; jobs that run now stay in their session")
        self.app.push_screen(Form("A new session", [field], accept="Begin"), go)

    def action_title(self) -> None:
        source = self.app.source
        now = source.state.title if source is not None else ""

        def set_title(values: Values | None) -> None:
            if values is not None:
                self.ask(lambda kernel: kernel.request("session.title", text=values["title"]))

        self.app.push_screen(
            Form("Title of this session", [Field("title", "title", now)], accept="Set"), set_title
        )

    def action_tag(self) -> None:
        source = self.app.source
        tags = list(source.state.tags) if source is not None else []

        def tag(values: Values | None) -> None:
            word = values["tag"].strip() if values else ""
            if word:
                method = "session.untag" if word in tags else "session.tag"
                self.ask(lambda kernel: kernel.request(method, text=word))

        hint = f"there are: {', '.join(tags)}; one of them again takes it off" if tags else "one word"
        self.app.push_screen(
            Form("Tag this session", [Field("tag", "tag", hint=hint, options=tuple(tags))], accept="Tag"), tag
        )

    def action_remove_note(self) -> None:
        note = self.query_one("#note-list", Choices).current
        if note is None:
            self.app.say("there is no note under the cursor")
            return
        self.ask(lambda kernel: kernel.request("session.unnote", id=note))

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        source = self.app.source
        return about(source.state).plain if source is not None else ""

    def copy_command(self) -> str:
        key = self.query_one("#all-grid", Grid).current
        card = next((c for c in self.cards if c.id == key), None)
        if card is not None and card.path.endswith(".safetensors"):
            return f"labtui replay {card.path}"
        name = (
            card.id if card is not None else (self.app.source.state.id if self.app.source is not None else "")
        )
        if not name:
            raise UsageError("no session is under the cursor")
        return f"labtui session save {name} {name}.safetensors"

    def copy_spec(self) -> dict[str, Any]:
        """The spec of the job under the cursor, or of the last one."""
        source = self.app.source
        if source is None or not source.state.jobs:
            return super().copy_spec()
        key = self.query_one("#job-grid", Grid).current
        job = source.state.jobs.get(key or "") or list(source.state.jobs.values())[-1]
        return job.spec or super().copy_spec()


def about(state: SessionState | None) -> Content:
    """A session in a few lines."""
    if state is None or not state.id:
        return Content.styled("no session: attach to a kernel (1), or replay one from the list", "$lab-dim")
    model = state.model or {}
    facts = [
        ("title", state.title or "—"),
        ("id", state.id),
        ("created", when(state.created)),
        ("kernel", state.kernel_name),
        ("model", " · ".join(str(model.get(k)) for k in ("name", "dtype", "device") if model.get(k))),
        ("tags", " ".join(state.tags) or "—"),
        ("events", f"{state.seq:,}"),
    ]
    lines = [Content.assemble((f"{key:<9}", "$lab-dim"), value) for key, value in facts if value]
    lines += [
        Content.styled(f"✕ worker lost: {loss.reason} ({when(loss.t)})", "$error")
        for loss in state.losses[-3:]
    ]
    lines += [
        Content.styled(f"! journal: {cut.bytes} bytes were cut off a torn end ({when(cut.t)})", "$warning")
        for cut in state.cuts[-3:]
    ]
    return Content("\n").join(lines)


def _job(job: JobView) -> tuple[Any, ...]:
    cells = f"{job.cells}/{job.to_run}" if job.to_run else ""
    audit = "" if job.audit is None else "clean" if job.audit.get("ok") else "! not clean"
    return (
        MARKS.get(job.status, " "),
        job.job,
        job.kind,
        job.status + (f": {job.error}" if job.error else ""),
        right(cells),
        right("" if job.seconds is None else f"{job.seconds:.1f}"),
        audit,
    )


def _n(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
