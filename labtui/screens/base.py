"""What all screens share: the frame of bars, the search line, focus, and how a panel is gone to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, TextArea, Tree

from labtui.actions import Action, by_scope, live_only
from labtui.projection import Kernel, Link, Source, last_job, one_line, rate
from labtui.widgets.bars import Badge, Banner, KeyBar, StatusLine, TopBar
from labtui.widgets.growing import GrowingText
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Choices, Grid, Search
from labtui.widgets.panel import Panel
from labtui.widgets.reader import Reader
from labtui.widgets.transport import Transport
from labtui.wording import spec_command
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui.app import LabApp
    from labtui_sessions.state import SessionState

GLYPHS = {
    "ready": "●",
    "busy": "◉",
    "loading": "◌",
    "starting": "◌",
    "worker-lost": "✕",
    "draining": "◍",
    "stopping": "◍",
}
"""A symbol for each state of a kernel, so that it reads without colour."""
_STYLES = {"ready": "$success", "busy": "$accent", "worker-lost": "$error"}


class BaseScreen(Screen[None]):
    """A screen of the lab: :meth:`project` puts a state on it, nothing else does."""

    SCOPE: ClassVar[str] = ""
    AUTO_FOCUS = ""
    app: LabApp  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(id=f"{self.SCOPE}-screen")
        self._searching: Choices | Grid | None = None

    def body(self) -> ComposeResult:
        """The panels of this screen."""
        yield from ()

    def project(self, source: Source | None, charts: bool) -> None:
        """Show ``source``; ``charts`` tells whether charts are due too."""

    def compose(self) -> ComposeResult:
        yield TopBar()
        yield Banner()
        yield from self.body()
        with Horizontal(id="searchline"):
            yield Input(placeholder="search", id="search", compact=True)
        yield Transport()
        yield StatusLine()
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#searchline").display = False
        self.query_one(Transport).display = False
        self.watch(self, "focused", self._focus_changed, init=False)
        self._focus_changed()

    def on_screen_resume(self) -> None:
        self.app.pump.now()

    # -- painting -------------------------------------------------------------------------------------

    def paint(self, source: Source | None, charts: bool) -> None:
        """Bring the whole screen up to date."""
        if not self.is_mounted:
            return
        self.query_one(KeyBar).show(self.actions_here())
        state = source.state if source is not None else None
        self.query_one(TopBar).show(self.SCOPE, badge(self.app, state))
        content, tone = alarm(self.app, state)
        self.query_one(Banner).show(content, tone)
        transport, status = self.query_one(Transport), self.query_one(StatusLine)
        transport.display = self.app.replay is not None
        status.display = self.app.replay is None
        if self.app.replay is not None:
            transport.show(self.app.replay)
        status.show(self.app.said or job_line(state))
        self.project(source, charts)

    def _focus_changed(self, *_: object) -> None:
        if self.is_mounted:
            self.query_one(KeyBar).show(self.actions_here())

    def actions_here(self) -> list[Action]:
        """What can be done at this moment, the most useful first."""
        scopes = [self.SCOPE, *self.focus_scopes()]
        if "prompt" in scopes or "sweeps" in scopes:
            scopes.reverse()
        if self.app.replay is not None:
            scopes.insert(0, "replay")
        off = {(a.scope, a.handler) for s in scopes for a in by_scope(s) if a.live and not self.app.live}
        found = [a for s in scopes for a in by_scope(s) if a.foot and (a.scope, a.handler) not in off]
        typing = isinstance(self.focused, (Input, TextArea))
        if typing:
            found = [a for a in found if a.anywhere or a.scope == "prompt"]
        found.sort(key=lambda a: (scopes.index(a.scope), a.foot))
        return [*found, *(a for a in by_scope("app") if a.foot and (a.anywhere or not typing))]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in live_only().get(self.SCOPE, ()) and not self.app.live:
            return False
        return super().check_action(action, parameters)

    def focus_scopes(self) -> list[str]:
        """Scopes of what has the focus, beside the screen's own."""
        if self.focused.__class__.__name__ == "Prompt":
            return ["prompt"]
        if isinstance(self.focused, (Reader, GrowingText)):
            return ["reader"]
        if isinstance(self.focused, Heatmap):
            return ["heatmap"]
        return ["list"] if isinstance(self.focused, (Choices, Grid, Tree)) else []

    def show_badge(self) -> None:
        """Bring only the upper right corner up to date, as when the view is frozen."""
        source = self.app.source
        self.query_one(TopBar).show(self.SCOPE, badge(self.app, source.state if source is not None else None))

    # -- what can be copied ---------------------------------------------------------------------------

    def copy_text(self) -> str:
        """The text that ``y`` copies."""
        return ""

    def copy_command(self) -> str:
        """The command line that does what this screen shows."""
        return spec_command(self.copy_spec(), self.app.kernel)

    def copy_spec(self) -> dict[str, Any]:
        """The spec that does what this screen shows; raises UsageError where there is none."""
        raise UsageError("there is no spec on this screen: nothing was run from it")

    # -- panels ---------------------------------------------------------------------------------------

    def panels(self) -> list[Panel]:
        """The panels, in the order of the screen."""
        return list(self.query(Panel))

    def action_focus_panel(self, id: str) -> None:
        """Go to a panel; on a narrow screen its drawer opens."""
        panel = self.query_one(f"#{id}", Panel)
        for other in self.query(".-open"):
            other.remove_class("-open")
        for node in panel.ancestors_with_self:
            if node.has_class("drawer"):
                node.add_class("-open")
        panel.add_class("-open")
        target = panel.target()
        if target is not None:
            self.set_focus(target)

    def leave(self) -> bool:
        """Leave what has the focus; False when there was nothing to leave."""
        if self.query_one("#searchline").display:
            self._end_search(keep=False)
            return True
        opened = list(self.query(".-open"))
        for node in opened:
            node.remove_class("-open")
        if self.focused is not None:
            self.set_focus(None)
            return True
        return bool(opened)

    # -- search ---------------------------------------------------------------------------------------

    @on(Search)
    def _begin_search(self, message: Search) -> None:
        self._searching = message.target
        self.query_one("#searchline").display = True
        box = self.query_one("#search", Input)
        box.value = ""
        self.set_focus(box)

    @on(Input.Changed, "#search")
    def _search_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._searching is not None:
            self._searching.narrow(event.value)

    @on(Input.Submitted, "#search")
    def _search_done(self, event: Input.Submitted) -> None:
        event.stop()
        self._end_search(keep=True)

    def _end_search(self, *, keep: bool) -> None:
        target, self._searching = self._searching, None
        self.query_one("#searchline").display = False
        if target is not None:
            if not keep:
                target.narrow("")
            self.set_focus(target)

    # -- asking the kernel ----------------------------------------------------------------------------

    def ask(
        self,
        work: Callable[[Kernel], Awaitable[Any]],
        then: Callable[[Any], None] | None = None,
        *,
        group: str = "ask",
        exclusive: bool = False,
    ) -> None:
        """Run ``work`` on the kernel without holding up the keys; its error is said, its answer goes to
        ``then``."""
        self.app.ask(work, then, group=group, exclusive=exclusive)

    def on_key(self, event: events.Key) -> None:
        """Any key ends the last message, so that the status line is the job's again."""
        self.app.hush()


def badge(app: LabApp, state: SessionState | None) -> Badge:
    """The upper right corner: which kernel, which model, in what state."""
    if app.frozen:
        return Badge("▮▮", "view frozen, p goes on", "bold $warning")
    if app.replay is not None:
        title = (state.title or state.id) if state else ""
        return Badge("▶", f"replay {title}".strip(), "$lab-second")
    kernel = app.kernel
    if kernel is None or state is None:
        return Badge()
    if not kernel.link.up:
        return Badge("✕", f"{kernel.name} · link {kernel.link.phase}", "bold $error")
    now = state.kernel.state or "starting"
    model = str((state.model or {}).get("name") or (state.model or {}).get("source") or "")
    text = " · ".join(part for part in (kernel.name, model if model != kernel.name else "", now) if part)
    return Badge(GLYPHS.get(now, "●"), text, _STYLES.get(now, "$warning"), f"{kernel.name} · {now}")


def alarm(app: LabApp, state: SessionState | None) -> tuple[Content | str, str]:
    """The banner: what is wrong or awaited, and what can be done about it."""
    kernel = app.kernel
    if app.replay is not None or kernel is None:
        return "", ""
    if not kernel.link.up:
        return _link_line(kernel.name, kernel.link), "bad" if kernel.link.phase == "closed" else "warn"
    if state is None:
        return "", ""
    view = state.kernel
    if view.state in ("starting", "loading"):
        share = f" {view.progress:4.0%} {_meter(view.progress, 16)}" if view.progress is not None else ""
        return f"◌ {view.state}{share}  {view.detail}", "wait"
    if view.state == "worker-lost":
        loss = state.losses[-1].reason if state.losses else view.detail
        return f"✕ worker lost: {loss}. It is being started again; jobs go on after their last cell", "bad"
    if view.state in ("draining", "stopping"):
        return f"◍ the kernel is {view.state}: {view.detail or 'no new jobs'}", "warn"
    return "", ""


def _link_line(name: str, link: Link) -> str:
    wait = max(0.0, link.retry_at - time.monotonic())
    soon = f"trying again in {wait:.0f} s" if link.retry_at and wait >= 0.5 else "trying now"
    if link.phase == "closed":
        return f"✕ {name}: {link.detail or 'the link is closed'}. R tries again, 1 shows what runs"
    attempt = f"attempt {max(1, link.attempt)}"
    return f"✕ {name}: link lost, {link.detail or 'no answer'} · {soon} ({attempt}) · R at once"


def _meter(share: float, width: int) -> str:
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def job_line(state: SessionState | None) -> str:
    """What the kernel does now, or how the last job ended."""
    if state is None or not state.jobs:
        return ""
    live = state.live_jobs()
    job = live[-1] if live else last_job(state, *{j.kind for j in state.jobs.values()})
    if job is None:
        return ""
    parts = [f"{job.kind} {job.job}", job.status]
    if job.fraction is not None and job.live:
        parts.append(f"{job.cells}/{job.to_run} cells {_meter(job.fraction, 10)}")
    rows = [r for r in state.rows_of(job.job) if r.finished is None] if job.live else []
    if rows:
        speeds = [s for s in (rate(r, state.t) for r in rows) if s]
        parts.append(f"{sum(r.tokens for r in rows)} tokens")
        if speeds:
            parts.append(f"{sum(speeds):.0f} tok/s")
    if job.error:
        parts.append(job.error)
    elif job.seconds is not None and not job.live:
        parts.append(f"{job.seconds:.1f} s")
    if len(live) > 1:
        parts.append(f"{len(live) - 1} more queued")
    return " · ".join(parts)


__all__ = ["BaseScreen", "alarm", "badge", "job_line", "one_line"]
