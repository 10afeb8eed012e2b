"""Help and jump: both are read off the registry and the screen as it is, so they cannot be out of date."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from labtui.actions import SCOPE_TITLES, Action, bindings, by_scope
from labtui.widgets.panel import Panel

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


def text(scopes: Sequence[str], live: bool) -> Content:
    """The help of some scopes: a line an action, keys to the left; what needs a kernel says so when there is none."""
    lines: list[Content] = []
    for scope in scopes:
        lines.append(Content.styled(SCOPE_TITLES[scope], "bold $accent"))
        for action in by_scope(scope):
            lines.append(_line(action, live))
        lines.append(Content(""))
    return Content("\n").join(lines[:-1])


def _line(action: Action, live: bool) -> Content:
    off = "  (needs a kernel)" if action.live and not live else ""
    detail = f"  {action.help}" if action.help else ""
    return Content.assemble((f"  {action.all_keys:<12}", "bold"), action.title, (detail + off, "$lab-dim"))


class HelpScreen(ModalScreen[None]):
    """The keys that work here: this screen's, those of what is in focus, and those that work everywhere."""

    BINDINGS = bindings("dialog")

    def __init__(self, scopes: Sequence[str], live: bool) -> None:
        super().__init__()
        self.scopes, self._live = tuple(scopes), live

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog help") as box:
            box.border_title = "Keys"
            box.border_subtitle = "esc closes · ^p finds a command by name"
            with VerticalScroll(classes="help-scroll"):
                yield Static(text(self.scopes, self._live), markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def on_key(self, event: events.Key) -> None:
        moves = {"j": 1, "k": -1}
        if event.key in moves:
            self.query_one(VerticalScroll).scroll_relative(y=moves[event.key], animate=False)
        elif event.character == "?" or event.key == "q":
            event.stop()
            self.dismiss(None)

    def action_accept(self) -> None:
        self.dismiss(None)

    def action_close(self) -> None:
        self.dismiss(None)


class Jump(ModalScreen[str | None]):
    """A letter over each panel; pressing it goes there. Dismisses with the panel's id."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        super().__init__()
        shown = [p for p in panels if p.id]
        taken: dict[str, Panel] = {}
        for panel in shown:
            first = panel.key.lower() if panel.key.lower() in LETTERS and panel.key else ""
            letter = first if first and first not in taken else next(c for c in LETTERS if c not in taken)
            taken[letter] = panel
        self.targets = taken

    def compose(self) -> ComposeResult:
        hidden: list[tuple[str, Panel]] = []
        for letter, panel in self.targets.items():
            if panel.region.area and panel.display:
                label = Static(Content(f" {letter} "), classes="jump-label")
                label.styles.offset = (panel.region.x + 1, panel.region.y)
                yield label
            else:
                hidden.append((letter, panel))
        rest = "   ".join(f"{letter} {panel.title}" for letter, panel in hidden)
        line = "press a letter to go there, esc to stay" + (f"      {rest}" if rest else "")
        yield Static(Content(line), id="jump-line")

    def on_key(self, event: events.Key) -> None:
        event.stop()
        panel = self.targets.get((event.character or "").lower())
        self.dismiss(panel.id if panel is not None else None)
