"""Help and jump: both are read off the registry and the screen as it is, so they cannot be out of date."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from labtui.actions import SCOPE_TITLES, bindings, by_scope
from labtui.widgets.panel import Panel
from labtui.widgets.reader import Reader

LETTERS = "asdfghjklqwertyuiopzxcvbnm"


def text(scopes: Sequence[str], live: bool) -> Table:
    """The help of some scopes: a line an action, keys to the left; what needs a kernel says so when
    there is none."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for number, scope in enumerate(scopes):
        if number:
            table.add_row("", "", "")
        table.add_row(Text(SCOPE_TITLES[scope], style="bold underline"), "", "")
        for action in by_scope(scope):
            off = " (needs a kernel)" if action.live and not live else ""
            table.add_row(Text(action.all_keys), Text(action.title), Text(action.help + off))
    return table


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
            with Reader(classes="help-scroll"):
                yield Static(text(self.scopes, self._live))

    def on_mount(self) -> None:
        self.set_focus(self.query_one(Reader))

    def on_key(self, event: events.Key) -> None:
        if event.character == "?" or event.key == "q":
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
        keys = {p.key for p in shown}
        taken: dict[str, Panel] = {}
        for panel in shown:
            free = (c for c in LETTERS if c not in taken and c not in keys)
            letter = panel.key if panel.key and panel.key not in taken else next(free)
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
        panel = self.targets.get(event.character or "")
        self.dismiss(panel.id if panel is not None else None)
