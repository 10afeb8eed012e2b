"""The app: it shows a session, live or replayed, and passes on what the user asks of the kernel.

It holds no experiment and no model: closing it, or losing its terminal, changes nothing in the kernel.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from labtui import actions, clipboard, themes
from labtui.actions import SCREENS, bindings, live_only
from labtui.app_actions import AppActions
from labtui.calibrating import GRIDS
from labtui.projection import Kernel, Lobby, Source, need, one_line
from labtui.pump import Pump, Rates
from labtui.replaying import Player
from labtui.screens.base import BaseScreen
from labtui.screens.claims import Claims
from labtui.screens.diagnose import Diagnose
from labtui.screens.home import Home
from labtui.screens.look import Look
from labtui.screens.sessions import Sessions
from labtui.screens.shelf import Shelf
from labtui.screens.steer import Steer
from labtui.screens.sweep import Sweep
from labtui.stylesheet import LabStylesheet
from labtui.typeahead import TypeAhead
from labtui.views import Views

if TYPE_CHECKING:
    from textual.widget import Widget

    from labtui.options import Target
    from labtui_sessions.fields import JobView

HERE = Path(__file__).parent


class LabApp(AppActions, TypeAhead, App[None]):
    """The lab console.

    ``lobby`` is the machine (kernels, sessions); ``kernel`` one that is attached already; ``replay`` a file
    that is played instead. ``home`` is the folder that takes a copied text when no clipboard does.
    """

    TITLE = "labtui"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    CSS_PATH = [  # noqa: RUF012
        HERE / "app.tcss",
        *sorted((HERE / "widgets").glob("*.tcss")),
        *sorted((HERE / "screens").glob("*.tcss")),
    ]
    MODES: ClassVar[dict[str, Any]] = {
        "home": Home,
        "steer": Steer,
        "sweep": Sweep,
        "shelf": Shelf,
        "sessions": Sessions,
        "claims": Claims,
        "diagnose": Diagnose,
        "look": Look,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings("app"),
        *bindings("replay"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-medium"), (150, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012

    def __init__(
        self,
        lobby: Lobby,
        *,
        kernel: Kernel | None = None,
        replay: Player | None = None,
        low_bandwidth: bool = False,
        home: Path | None = None,
        styles: Mapping[str, str] | None = None,
        first: str | None = None,
        theme: str | None = None,
        images: type[Widget] | None = None,
    ) -> None:
        if first is None:
            first = replay.first_screen if replay is not None else "steer" if kernel is not None else "home"
        setattr(self, "DEFAULT_MODE", first)  # noqa: B010  (the screen to start with; Textual means one for all apps)
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self.lobby, self.kernel, self.replay = lobby, kernel, replay
        self.folder = home or Path.home()
        self.style_help = dict(styles or {})
        self.style_names = tuple(self.style_help)
        self.low_bandwidth = low_bandwidth
        self.images = images
        """The widget that draws pictures in pixels; None for half blocks."""
        self.said = ""
        self.details: dict[str, dict[str, Any]] = {}
        self.references: dict[str, float] = {}
        self.wanted_direction = ""
        self.views = Views(self)
        self._was_up = True
        self._mine: contextvars.Context | None = None
        """The context of this app's own tasks; before it is mounted there are no others."""
        self._asked: set[str] = set()
        self.pump = Pump(self._paint, self._later, Rates.suited(low_bandwidth=low_bandwidth))
        for ours in themes.OURS:
            self.register_theme(ours)
        self.theme = theme or themes.for_terminal(self.console.color_system, os.environ)
        self.stylesheet = LabStylesheet(variables=self.get_css_variables())
        if low_bandwidth:
            self.animation_level = "none"

    # -- what is shown --------------------------------------------------------------------------------

    @property
    def source(self) -> Source | None:
        """What the screens read: the replay while one is open, else the kernel."""
        return self.replay if self.replay is not None else self.kernel

    @property
    def live(self) -> bool:
        return self.replay is None and self.kernel is not None

    @property
    def frozen(self) -> bool:
        return self.pump.frozen

    @property
    def lab_screen(self) -> BaseScreen | None:
        """The screen of the lab in view, whatever dialogue lies over it."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, BaseScreen)), None)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.derived(self.current_theme)

    def on_mount(self) -> None:
        self._mine = contextvars.copy_context()
        self._listen_to_signals()
        self._count_bytes()
        for source in (self.kernel, self.replay):
            if source is not None:
                source.on_change(self.pump.changed)
        if self.replay is not None:
            self.replay.begin()
        self.set_interval(1.0, self._tick)

    def _count_bytes(self) -> None:
        """Tell the pump what is written to the terminal. Textual has no hook for it."""
        driver = self._driver
        if driver is None:
            return
        write = driver.write

        def counted(data: str) -> None:
            self.pump.meter.spend(len(data.encode("utf-8", "replace")))
            write(data)

        setattr(driver, "write", counted)  # noqa: B010  (a method is not assigned to in typed code)

    def _listen_to_signals(self) -> None:
        """The app ends with its terminal. The kernel has its own session and does not notice."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._terminal_gone)
            except (NotImplementedError, RuntimeError, ValueError):  # not on the main thread, as in tests
                return

    def _terminal_gone(self) -> None:
        os._exit(129)

    def _tick(self) -> None:
        """Once a second: only what counts seconds by itself needs it."""
        if self.kernel is not None and not self.kernel.link.up and not self.frozen:
            self.pump.changed()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        """A timer of this app, also when it is set from a task of the kernel's client."""
        context = self._mine.copy() if self._mine is not None else contextvars.copy_context()
        context.run(self.set_timer, seconds, call)

    def _paint(self, charts: bool) -> None:
        up = self.kernel is not None and self.kernel.link.up
        if up and not self._was_up:  # another broker may answer now, so what the last one said is asked again
            self.details.clear()
        self._was_up = up
        screen = self.lab_screen
        if screen is not None:
            screen.paint(self.source, charts)

    def attach(self, kernel: Kernel) -> None:
        """Show another kernel; the one before is let go."""
        before, self.kernel = self.kernel, kernel
        self.replay = None
        self.details.clear()
        self.references.clear()
        self._asked.clear()
        kernel.on_change(self.pump.changed)
        if before is not None and before is not kernel:
            self.run_worker(before.close(), exit_on_error=False)
        self.pump.now()

    def open_replay(self, player: Player) -> None:
        """Show a replay; what is live goes on behind it."""
        if self.replay is not None:
            self.replay.pause()
        self.replay = player
        player.on_change(self.pump.changed)
        self.action_show_screen(player.first_screen)
        self.pump.now()

    # -- asking ---------------------------------------------------------------------------------------

    def ask(
        self,
        work: Callable[[Kernel], Awaitable[Any]],
        then: Callable[[Any], None] | None = None,
        *,
        group: str = "ask",
        exclusive: bool = False,
    ) -> None:
        """Run ``work`` on the kernel beside the event loop's keys; say its error, pass its answer on."""

        async def run() -> None:
            try:
                answer = await work(need(self.kernel))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever went wrong over there, this app shows it and lives on
                self.say(one_line(error), bad=True)
                return
            if then is not None:
                then(answer)

        self.run_worker(run(), group=group, exclusive=exclusive, exit_on_error=False)

    def do(
        self,
        work: Callable[[], Awaitable[Any]],
        then: Callable[[Any], None] | None = None,
        *,
        group: str = "do",
        opens: bool = False,
    ) -> None:
        """Like :meth:`ask`, for work that needs no kernel. ``opens``: the keys that follow are for what
        ``then`` opens."""

        async def run(_: object = None) -> None:
            try:
                answer = await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # said to the user, as above
                self.say(one_line(error), bad=True)
                return
            if then is not None:
                then(answer)

        worker = self.run_worker(run(), group=group, exit_on_error=False)
        if opens:
            self.hold_keys(worker)

    def say(self, text: str, *, bad: bool = False) -> None:
        """One line to the user, until the next key."""
        self.said = f"! {text}" if bad else text
        if bad and len(text) > 76:
            self.notify(text, severity="error", timeout=12, markup=False)
        self.pump.now()

    def hush(self) -> None:
        """The user has seen the last line."""
        if self.said:
            self.said = ""
            self.pump.changed()

    def use_direction(self, name: str) -> None:
        """Go to Steer with a direction chosen."""
        self.wanted_direction = name
        self.action_show_screen("steer")
        self.pump.now()

    def show_screen_of(self, job: JobView) -> None:
        """Go to the screen that shows a job."""
        screen = "sweep" if job.kind in GRIDS else job.kind if job.kind in ("diagnose", "look") else "steer"
        self.action_show_screen(screen)

    def want_detail(self, name: str) -> None:
        """Ask for an artifact's details, once for each time it was saved."""
        source = self.source
        artifact = source.state.artifacts.get(name) if source is not None else None
        if source is None or artifact is None or name in self._asked:
            return
        stamp = (id(source), artifact.t)
        if self.details.get(name, {}).get("stamp") == stamp:
            return
        self._asked.add(name)
        replay, kernel = self.replay, self.kernel

        async def work() -> Any:
            try:
                return await (
                    replay.detail(name) if replay else need(kernel).request("artifact.show", name=name)
                )
            finally:
                self._asked.discard(name)

        def then(answer: Any) -> None:
            if isinstance(answer, dict):
                self.details[name] = {**detail_of(answer), "stamp": stamp}
                self.pump.changed()

        self.do(work, then, group=f"detail:{name}")

    # -- palette --------------------------------------------------------------------------------------

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        here = self.lab_screen
        for action in actions.ACTIONS:
            if not action.palette or action.scope not in ("app", "replay", here.SCOPE if here else ""):
                continue
            if (action.scope == "replay" and self.replay is None) or (action.live and not self.live):
                continue
            namespace = "screen" if action.scope in SCREENS else "app"
            keys = f" ({action.all_keys})" if action.keys else ""
            yield SystemCommand(
                action.title + keys, action.help or action.title, self._runner(namespace, action.handler)
            )
        for name in self.available_themes:
            yield SystemCommand(
                f"Theme: {name}", "colours of the app", lambda name=name: setattr(self, "theme", name)
            )

    def _runner(self, namespace: str, handler: str) -> Callable[[], None]:
        def run() -> None:
            target = self.lab_screen if namespace == "screen" else self
            self.call_later(self.run_action, handler, default_namespace=target)

        return run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in live_only()["app"] and not self.live:
            return False
        if action.startswith("replay_") and self.replay is None:
            return False
        return super().check_action(action, parameters)

    def watch_theme(self, theme: str) -> None:
        if self.is_running:
            self.pump.changed()

    async def copy_out(self, text: str) -> None:
        """Copy a text by the best way there is, and say which."""
        if not text:
            self.say("there is nothing to copy here")
            return
        try:
            done = await clipboard.copy(text, clipboard.to_terminal, self.folder)
        except OSError as error:
            self.say(
                f"could not copy: {error.strerror or error}; no tmux, no clipboard, and no file", bad=True
            )
            return
        self.say(done.text)


def detail_of(answer: dict[str, Any]) -> dict[str, Any]:
    """A direction's numbers by site from what ``artifact.show`` says, wherever the header keeps them."""
    meta = answer.get("meta") if isinstance(answer.get("meta"), dict) else {}
    found = {**answer, **(meta or {})}
    return {**found, "references": answer.get("references") or {}, "norms": found.get("norms") or {}}


def run_app(target: Target) -> None:
    """Open the app for a target of the command line: connect first, so that ssh may ask for a password."""
    from labtui.lobby import open_app

    open_app(target)
