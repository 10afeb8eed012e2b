"""What the keys that work everywhere do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labtui import themes
from labtui.pump import Rates
from labtui.widgets.dialog import Field, Form, Menu, Values
from labtui.widgets.help import HelpScreen, Jump
from labtui.widgets.lists import Choice
from labtui.wording import short_path, spec_text
from labtui_artifacts.errors import LabError

if TYPE_CHECKING:
    from labtui.app import LabApp

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0)


class AppActions:
    """A part of the app without state of its own; ``self`` is always a :class:`labtui.app.LabApp`."""

    def action_show_screen(self: LabApp, name: str) -> None:  # type: ignore[misc]
        if self.current_mode != name:
            self.switch_mode(name)

    def action_help(self: LabApp) -> None:  # type: ignore[misc]
        here = self.lab_screen
        if here is None or isinstance(self.screen, HelpScreen):
            return
        scopes = [here.SCOPE, *here.focus_scopes(), *(["replay"] if self.replay is not None else []), "app"]
        self.push_screen(HelpScreen(scopes, self.live))

    def action_jump(self: LabApp) -> None:  # type: ignore[misc]
        here = self.lab_screen
        if here is None or self.screen is not here:
            return

        def go(id: str | None) -> None:
            if id is not None:
                here.action_focus_panel(id)

        self.push_screen(Jump(here.panels()), go)

    def action_leave(self: LabApp) -> None:  # type: ignore[misc]
        if self.lab_screen is not None:
            self.lab_screen.leave()

    def action_interrupt(self: LabApp) -> None:  # type: ignore[misc]
        self.say("ctrl+q leaves labtui; the kernel goes on. b breaks off what is being written")

    # -- copying --------------------------------------------------------------------------------------

    def action_copy(self: LabApp) -> None:  # type: ignore[misc]
        if self.lab_screen is not None:
            self.run_worker(self.copy_out(self.lab_screen.copy_text()), exit_on_error=False)

    def action_copy_command(self: LabApp) -> None:  # type: ignore[misc]
        if self.lab_screen is not None:
            self._copy(self.lab_screen.copy_command)

    def action_copy_spec(self: LabApp) -> None:  # type: ignore[misc]
        here = self.lab_screen
        if here is not None:
            self._copy(lambda: spec_text(here.copy_spec()))

    def _copy(self: LabApp, make: Callable[[], str]) -> None:  # type: ignore[misc]
        try:
            text = make()
        except LabError as error:
            self.say(str(error), bad=True)
            return
        self.run_worker(self.copy_out(text), exit_on_error=False)

    # -- the session ----------------------------------------------------------------------------------

    def action_note(self: LabApp) -> None:  # type: ignore[misc]
        def add(values: Values | None) -> None:
            if values and values["text"].strip():
                self.ask(
                    lambda kernel: kernel.request("session.note", text=values["text"].strip()),
                    lambda _: self.say("noted"),
                )

        self.push_screen(
            Form("A note, at this moment of the session", [Field("text", "note")], accept="Note"), add
        )

    def action_save_session(self: LabApp) -> None:  # type: ignore[misc]
        kernel = self.kernel
        if kernel is None:
            return
        title = (kernel.state.title or kernel.state.id or "session").replace("/", "-").replace(" ", "-")
        place = Path.cwd() / f"{title}.safetensors"

        def save(values: Values | None) -> None:
            if values is None:
                return
            path = Path(values["path"]).expanduser().absolute()
            self.say(f"saving to {path}")
            self.do(
                lambda: self.lobby.save(kernel, path),
                lambda _: self.say(f"saved; labtui replay {short_path(path)} plays it"),
            )

        field = Field(
            "path",
            "file",
            str(place),
            hint="one .safetensors file: events, tables, notes",
            check=lambda v: "" if v["path"].endswith(".safetensors") else "expected a name.safetensors",
        )
        self.push_screen(Form("Save the session", [field], accept="Save"), save)

    # -- directions, from Steer and from Shelf --------------------------------------------------------

    def make_direction(self: LabApp, then: Callable[[str], None]) -> None:  # type: ignore[misc]
        """Choose a bundled style; ``then`` gets its name."""
        if not self.style_names:
            self.say("no bundled styles were found")
            return
        choices = [
            Choice(style, f"{style:<12}", self.style_help.get(style, "")) for style in self.style_names
        ]
        self.push_screen(
            Menu("Make a direction from a bundled style", choices), lambda id: then(id) if id else None
        )

    def make_from_style(self: LabApp, style: str, then: Callable[[], None] | None = None) -> None:  # type: ignore[misc]
        """Submit the reading of a style's direction at every site; ``then`` follows when it is queued."""
        spec = {"kind": "direction", "name": style, "method": "mean-difference", "style": style}
        self.ask(
            lambda kernel: kernel.request("submit", spec=spec, priority="interactive"),
            lambda _: then() if then else self.say(f"reading {style} at every site"),
        )

    # -- view -----------------------------------------------------------------------------------------

    def action_freeze(self: LabApp) -> None:  # type: ignore[misc]
        if self.pump.frozen:
            self.pump.thaw()
        else:
            self.pump.now()
            self.pump.frozen = True
            if self.lab_screen is not None:
                self.lab_screen.show_badge()

    def action_next_theme(self: LabApp) -> None:  # type: ignore[misc]
        at = themes.CYCLE.index(self.theme) if self.theme in themes.CYCLE else -1
        self.theme = themes.CYCLE[(at + 1) % len(themes.CYCLE)]
        self.say(f"theme {self.theme}")

    def action_low_bandwidth(self: LabApp) -> None:  # type: ignore[misc]
        self.low_bandwidth = not self.low_bandwidth
        self.pump.suit(Rates.suited(low_bandwidth=self.low_bandwidth))
        self.animation_level = "none" if self.low_bandwidth else "full"
        rates = self.pump.rates
        self.say(
            f"low bandwidth {'on' if self.low_bandwidth else 'off'}: "
            f"{rates.text:g} text and {rates.chart:g} chart frames a second at most"
        )

    def action_reconnect(self: LabApp) -> None:  # type: ignore[misc]
        if self.kernel is not None:
            self.kernel.retry_now()
            self.say(f"trying {self.kernel.name} now" if not self.kernel.link.up else "the link is up")

    # -- replay ---------------------------------------------------------------------------------------

    def action_replay_play(self: LabApp) -> None:  # type: ignore[misc]
        if self.replay is not None:
            self.replay.toggle()

    def action_replay_step(self: LabApp, way: int) -> None:  # type: ignore[misc]
        if self.replay is not None:
            self.replay.pause()
            self.replay.seek(self.replay.seq + way)

    def action_replay_leap(self: LabApp, way: int) -> None:  # type: ignore[misc]
        if self.replay is not None:
            self.replay.seek(self.replay.seq + way * max(1, self.replay.last // 20))

    def action_replay_speed(self: LabApp, way: int) -> None:  # type: ignore[misc]
        if self.replay is not None:
            near = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - self.replay.speed))  # type: ignore[union-attr]
            self.replay.set_speed(SPEEDS[max(0, min(len(SPEEDS) - 1, near + way))])

    def action_replay_seek(self: LabApp, where: str) -> None:  # type: ignore[misc]
        if self.replay is not None:
            self.replay.seek(0 if where == "start" else self.replay.last)

    def action_replay_goto(self: LabApp) -> None:  # type: ignore[misc]
        replay = self.replay
        if replay is None:
            return

        def check(values: Values) -> str:
            return (
                "" if values["seq"].isdigit() and int(values["seq"]) <= replay.last else f"0 to {replay.last}"
            )

        def go(values: Values | None) -> None:
            if values is not None:
                replay.seek(int(values["seq"]))

        self.push_screen(
            Form("Go to an event", [Field("seq", "event", str(replay.seq), check=check)], accept="Go"), go
        )

    def action_replay_close(self: LabApp) -> None:  # type: ignore[misc]
        if self.replay is None:
            return
        self.replay.pause()
        self.replay = None
        if self.kernel is None:
            self.action_show_screen("home")
        self.pump.now()
