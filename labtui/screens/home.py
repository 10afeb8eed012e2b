"""Home: the kernels of this machine, recent sessions, and what to do next."""

from __future__ import annotations

import re

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.actions import bindings
from labtui.projection import KernelCard, SessionCard, Source, Start
from labtui.replaying import Player
from labtui.screens.base import GLYPHS, BaseScreen
from labtui.widgets.dialog import Confirm, Field, Form, Values
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui.wording import ago, when

TOY = Start("toy", "toy-qwen3", dtype="float32", device="cpu")
"""The bundled model, started by one key."""

_EVERY = 3.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}\Z")


class Home(BaseScreen):
    """The first screen."""

    SCOPE = "home"
    BINDINGS = bindings("home")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[KernelCard] | None = None
        self.sessions: list[SessionCard] | None = None
        self._attach_when_up = ""

    def body(self) -> ComposeResult:
        with Vertical(id="home"):
            with Vertical(id="welcome"):
                yield Static("", id="welcome-text", markup=False)
            yield Panel(Grid(id="kernel-grid"), title="Kernels", id="kernels")
            with Horizontal(id="home-lower"):
                yield Panel(Grid(id="session-grid"), title="Recent sessions", id="recent")
                yield Panel(Static("", id="next-text", markup=False), title="What next", id="next")

    def on_mount(self) -> None:
        super().on_mount()
        self.action_refresh_list()
        self.set_interval(_EVERY, self._look_again)

    def _look_again(self) -> None:
        if self.app.screen is self:
            self.action_refresh_list()

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        empty = self.kernels == []
        self.query_one("#welcome").display = empty
        self.query_one("#kernels").display = not empty
        if empty:
            self.query_one("#welcome-text", Static).update(_welcome(self.size.height))
        self._project_kernels()
        self._project_sessions()
        self.query_one("#next-text", Static).update(self._next(source))

    def _project_kernels(self) -> None:
        grid = self.query_one("#kernel-grid", Grid)
        if self.kernels is None:
            grid.show(("name",), (("", ("looking for kernels…",)),))
            return
        attached = self.app.kernel.name if self.app.kernel is not None else ""
        grid.show(
            ("", "name", "model", "state", "device", "memory", "apps", "up"),
            [(card.name, _cells(card, attached)) for card in self.kernels],
        )
        self.query_one("#kernels", Panel).note(f"{len(self.kernels)} running · enter attaches")

    def _project_sessions(self) -> None:
        grid = self.query_one("#session-grid", Grid)
        if self.sessions is None:
            return
        grid.show(
            ("when", "title", "model", "events", "tags"),
            [
                (
                    card.id,
                    (
                        when(card.when),
                        card.title or card.id,
                        card.model,
                        right(_count(card.events)),
                        " ".join(card.tags),
                    ),
                )
                for card in self.sessions
            ],
        )
        self.query_one("#recent", Panel).note("enter replays" if self.sessions else "none yet")

    def _next(self, source: Source | None) -> Content:
        if self.kernels == []:
            steps = [
                ("b", "start the bundled toy and steer it"),
                ("s", "start a model of yours"),
                ("5", "replay a saved session, no kernel needed"),
                ("?", "every key of this screen"),
            ]
        elif source is None:
            steps = [
                ("enter", "attach to the kernel under the cursor"),
                ("s", "start another one"),
                ("?", "every key of this screen"),
            ]
        else:
            steps = [
                ("2", "steer an answer"),
                ("3", "sweep sites and strengths"),
                ("4", "look at directions"),
                ("n", "write down what you saw"),
                ("^s", "save the session, replay it anywhere"),
            ]
        return Content("\n").join(
            Content.assemble((f"{key:>6}  ", "bold $accent"), text) for key, text in steps
        )

    # -- actions --------------------------------------------------------------------------------------

    def action_refresh_list(self) -> None:
        async def look() -> None:
            self.kernels = await self.app.lobby.kernels()
            if self._attach_when_up and any(
                c.name == self._attach_when_up and not c.error for c in self.kernels
            ):
                name, self._attach_when_up = self._attach_when_up, ""
                self.attach_to(name)
            self.app.pump.changed()
            self.sessions = await self.app.lobby.sessions()
            if not self.query_one("#kernel-grid", Grid).has_focus and self.focused is None and self.kernels:
                self.set_focus(self.query_one("#kernel-grid", Grid))

        self.app.do(look, lambda _: self.app.pump.changed(), group="home")

    @on(Grid.Picked, "#kernel-grid")
    def _kernel_picked(self, message: Grid.Picked) -> None:
        if message.key:
            self.attach_to(message.key)

    @on(Grid.Picked, "#session-grid")
    def _session_picked(self, message: Grid.Picked) -> None:
        card = next((c for c in self.sessions or () if c.id == message.key), None)
        if card is not None:
            self.open_session(card)

    def action_open(self) -> None:
        """Enter outside a list: the kernel under the cursor, if there is one."""
        grid = self.query_one("#kernel-grid", Grid)
        if grid.current and self.kernels:
            self.attach_to(grid.current)

    def open_session(self, card: SessionCard) -> None:
        """Replay a session."""

        def then(source: Source) -> None:
            if isinstance(source, Player):
                self.app.open_replay(source)

        self.app.do(lambda: self.app.lobby.open(card), then)

    def attach_to(self, name: str) -> None:
        """Attach to a kernel and go to Steer."""
        if self.app.kernel is not None and self.app.kernel.name == name:
            self.app.action_show_screen("steer")
            return

        def then(kernel: object) -> None:
            self.app.attach(kernel)  # type: ignore[arg-type]
            self.app.action_show_screen("steer")

        self.app.say(f"attaching to {name}")
        self.app.do(lambda: self.app.lobby.connect(name), then, opens=True)

    def action_start_toy(self) -> None:
        self.start(TOY)

    def start(self, start: Start) -> None:
        """Start a kernel, and attach to it as soon as it answers, which is before its model is loaded."""
        if any(card.name == start.name for card in self.kernels or ()):
            self.attach_to(start.name)
            return

        def then(_: object) -> None:
            self._attach_when_up = start.name
            self.action_refresh_list()

        self.app.say(f"starting {start.name}: {start.model}")
        self.app.do(lambda: self.app.lobby.start(start), then)

    def action_start_kernel(self) -> None:
        async def known() -> tuple[list[str], dict[str, Start]]:
            return await self.app.lobby.models(), await self.app.lobby.profiles()

        self.app.do(known, lambda found: self._ask_start(*found), opens=True)

    def _ask_start(self, models: list[str], profiles: dict[str, Start]) -> None:
        taken = {card.name for card in self.kernels or ()}

        def named(values: Values) -> str:
            if not _NAME.match(values["name"]):
                return "lower-case letters, digits, '.', '_' or '-'"
            return f"a kernel named {values['name']} runs already" if values["name"] in taken else ""

        def modelled(values: Values) -> str:
            return "" if values["model"].strip() or values["profile"] != "none" else "a model is needed"

        fields = [
            Field("name", "name", "lab" if "lab" not in taken else "", hint="how you call it", check=named),
            Field(
                "profile",
                "profile",
                "none",
                options=("none", *profiles),
                free=False,
                hint="from the config file; overrides what is below",
            ),
            Field(
                "model",
                "model",
                models[0] if models else "",
                options=tuple(models),
                check=modelled,
                hint="a bundled name, a Hub id, a folder, or a .gguf file",
            ),
            Field(
                "dtype", "precision", "auto", options=("auto", "float32", "bfloat16", "float16"), free=False
            ),
            Field(
                "device", "device", "auto", options=("auto", "cpu", "cuda", "cuda:0", "cuda:1"), free=False
            ),
            Field("quantize", "quantise", "no", options=("no", "4bit", "8bit"), free=False),
        ]

        def chosen(values: Values) -> Start:
            profile = profiles.get(values["profile"])
            if profile is not None:
                return Start(values["name"], profile.model, profile.dtype, profile.device, profile.quantize)
            quantize = "" if values["quantize"] == "no" else values["quantize"]
            return Start(values["name"], values["model"].strip(), values["dtype"], values["device"], quantize)

        self.app.push_screen(
            Form("Start a kernel", fields, accept="Start", preview=lambda v: "$ " + chosen(v).command()),
            lambda values: self.start(chosen(values)) if values else None,
        )

    def action_stop_kernel(self) -> None:
        name = self.query_one("#kernel-grid", Grid).current
        if not name or not self.kernels:
            return

        def sure(yes: bool | None) -> None:
            if yes:
                self.app.do(lambda: self.app.lobby.stop(name), lambda _: self.action_refresh_list())

        self.app.push_screen(
            Confirm(
                f"Stop the kernel {name}?",
                "Its session stays, and unfinished jobs go on at its "
                "next start. Leaving labtui (q) would not stop it.",
                yes="Stop it",
            ),
            sure,
        )

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        return "\n".join(f"{c.name}\t{c.model}\t{c.state}" for c in self.kernels or ())

    def copy_command(self) -> str:
        name = self.query_one("#kernel-grid", Grid).current
        card = next((c for c in self.kernels or () if c.name == name), None)
        if card is None:
            return TOY.command()
        return f"labtui --kernel {card.name}"


def _cells(card: KernelCard, attached: str) -> tuple[str | Text, ...]:
    state = card.error or card.state
    if card.progress is not None and card.state == "loading":
        state = f"{card.state} {card.progress:.0%}"
    memory = ""
    if card.memory_used is not None:
        memory = _bytes(card.memory_used) + (f"/{_bytes(card.memory_total)}" if card.memory_total else "")
    return (
        "◆" if card.name == attached else " ",
        card.name,
        card.model,
        f"{'✕' if card.error else GLYPHS.get(card.state, '●')} {state}",
        card.device,
        right(memory),
        right("" if card.clients is None else str(card.clients)),
        right(ago(card.uptime)),
    )


def _welcome(height: int) -> Content:
    lines = [
        Content.styled("No kernel is running here.", "bold"),
        Content("A kernel holds a model in the background. It keeps working when you leave."),
        Content(""),
        Content.assemble(
            ("  b  ", "bold reverse $accent"), "  start the bundled toy, a small Qwen3 on the CPU"
        ),
        Content.assemble(
            ("  s  ", "bold reverse $accent"), "  start a model of yours: Hub id, folder or .gguf"
        ),
    ]
    return Content("\n").join(lines if height < 34 else [Content(""), *lines, Content("")])


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
