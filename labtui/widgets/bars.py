"""The lines that frame every screen: tabs and link above, the job and the keys below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from labtui.actions import SCREENS, Action, by_scope


@dataclass(frozen=True)
class Badge:
    """What the upper right corner says: a symbol, a text and a shorter one, and their style."""

    symbol: str = "○"
    text: str = "no kernel"
    style: str = "$lab-dim"
    short: str = ""


def fit(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells, with an ellipsis where it was cut."""
    if width <= 0:
        return ""
    content = Content(text)
    return text if content.cell_length <= width else content.truncate(width, ellipsis=True).plain


class TopBar(Static):
    """Tabs to the left, kernel and link to the right."""

    def __init__(self) -> None:
        super().__init__(id="topbar")
        self._screen_name, self._badge = "home", Badge()
        self._ends: list[tuple[int, str]] = []

    def show(self, screen: str, badge: Badge) -> None:
        """Update; nothing is painted when nothing changed."""
        if (screen, badge) != (self._screen_name, self._badge) or not self.content:
            self._screen_name, self._badge = screen, badge
            self.refresh_content()

    def on_resize(self, event: events.Resize) -> None:
        self.refresh_content()

    def refresh_content(self) -> None:
        width = self.size.width or 80
        badge = self._badge
        room = Content(badge.short or badge.text).cell_length + 5
        tabs = self._tabs(short=False)
        if sum(tab.cell_length for _, tab in tabs) + room > width:
            tabs = self._tabs(short=True)
        self._ends, end = [], 0
        for name, tab in tabs:
            end += tab.cell_length
            self._ends.append((end, name))
        left = Content("").join(tab for _, tab in tabs)
        text = badge.text
        if Content(text).cell_length > width - left.cell_length - 5:
            text = badge.short or text
        text = fit(text, width - left.cell_length - 5)
        right = Content.assemble((f"{badge.symbol} ", badge.style), (text, badge.style))
        gap = max(1, width - left.cell_length - right.cell_length - 1)
        self.update(Content.assemble(left, " " * gap, right), layout=False)

    def _tabs(self, *, short: bool) -> list[tuple[str, Content]]:
        """The product's name and a tab for each screen; ``short`` leaves out what a narrow screen can spare."""
        tabs = [("", Content("" if short else "labtui ").stylize("bold"))]
        keys = {action.id: action.key for action in by_scope("app")}
        for name in SCREENS:
            key, title = keys[f"app.{name}"], name.capitalize()
            if name == self._screen_name:
                here = (("▐", "$accent"), (f"{key} {title}", "bold reverse $accent"), ("▌", "$accent"))
                tabs.append((name, Content.assemble(*here)))
            else:
                tabs.append(
                    (
                        name,
                        Content.assemble("" if short else " ", (key, "$accent"), (f" {title} ", "$lab-dim")),
                    )
                )
        return tabs

    def on_click(self, event: events.Click) -> None:
        name = next((name for end, name in self._ends if event.x < end), "")
        if name:
            self.app.call_later(self.app.run_action, f"app.show_screen('{name}')")


class Banner(Static):
    """A line under the tabs that is there only while something is wrong or awaited."""

    def __init__(self) -> None:
        super().__init__(id="banner")
        self._now: tuple[Content | str, str] = ("", "")

    def show(self, content: Content | str, tone: str = "") -> None:
        """Show a line in a tone (``wait``, ``warn`` or ``bad``); an empty one hides the banner."""
        if (content, tone) == self._now:
            return
        self._now = (content, tone)
        self.set_classes(f"-{tone}" if content and tone else "")
        self.display = bool(content)
        self.update(content)


class StatusLine(Static):
    """What the kernel does now, and the last thing that was said to the user."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self._now: Content | str | None = None

    def show(self, content: Content | str) -> None:
        if content != self._now:
            self._now = content
            self.update(content, layout=False)


class KeyBar(Widget):
    """The keys that matter here, as many as fit; help and commands always at the right."""

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._actions: tuple[Action, ...] = ()

    def show(self, actions: Sequence[Action]) -> None:
        """``actions`` in the order in which they are worth showing."""
        if tuple(actions) != self._actions:
            self._actions = tuple(actions)
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        fixed = [a for a in self._actions if a.foot >= 97]
        right = Content("  ").join(self._one(a) for a in sorted(fixed, key=lambda a: a.foot))
        room = width - right.cell_length - 2
        shown, used = [], 0
        for action in (a for a in self._actions if a.foot < 97):
            item = self._one(action)
            if used + item.cell_length > room:
                break
            shown.append(item)
            used += item.cell_length + 2
        left = Content("  ").join(shown)
        return Content.assemble(left, " " * max(1, width - left.cell_length - right.cell_length), right)

    @staticmethod
    def _one(action: Action) -> Content:
        return Content.assemble((action.key, "bold $accent"), (f" {action.title}", "$lab-dim"))
