"""The lines that frame every screen: tabs and link above, the job and the keys below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from labtui.actions import SCREENS, Action


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


_BADGE = 16
"""Cells that the badge gets before the tabs keep their titles."""


class TopBar(Static):
    """Tabs to the left, kernel and link to the right."""

    def __init__(self) -> None:
        super().__init__(id="topbar")
        self._screen_name, self._badge = "home", Badge()
        self._spans: list[tuple[int, int, str]] = []

    def show(self, screen: str, badge: Badge) -> None:
        """Update; nothing is painted when nothing changed."""
        if (screen, badge) != (self._screen_name, self._badge) or not self.content:
            self._screen_name, self._badge = screen, badge
            self.refresh_content()

    def on_resize(self, event: events.Resize) -> None:
        self.refresh_content()

    def refresh_content(self) -> None:
        width = self.size.width or 80
        left = self._tabs(self._shape(width))
        text = self._badge.text
        if Content(text).cell_length > width - left.cell_length - 5:
            text = self._badge.short or text
        text = fit(text, width - left.cell_length - 5)
        right = Content.assemble((f"{self._badge.symbol} ", self._badge.style), (text, self._badge.style))
        gap = max(1, width - left.cell_length - right.cell_length - 1)
        self.update(Content.assemble(left, " " * gap, right), layout=False)

    def _shape(self, width: int) -> str:
        """How the tabs are drawn: as wide as leaves room for the whole badge, else for a short one."""
        whole = Content(self._badge.text).cell_length
        short = min(Content(self._badge.short or self._badge.text).cell_length, _BADGE)
        for room in (whole, short):
            for how in ("wide", "tight"):
                if width - self._tabs(how).cell_length >= room + 5:
                    return how
        return "digits"

    def _tabs(self, how: str) -> Content:
        """The tabs, closer together or as mere digits where there is little room; notes where each one is."""
        parts: list[Content | tuple[str, str] | str] = [("labtui ", "bold")] if how == "wide" else []
        x = 7 if how == "wide" else 0
        self._spans = []
        for number, name in enumerate(SCREENS, 1):
            here = name == self._screen_name
            title = f"{number} {name.capitalize()}" if how != "digits" or here else str(number)
            room = len(title) + (2 if here or how == "wide" else 1)
            if here:
                parts += [("▐", "$accent"), (title, "bold reverse $accent"), ("▌", "$accent")]
            else:
                head, _, rest = title.partition(" ")
                parts += [" ", (head, "$accent"), (f" {rest}" if rest else "", "$lab-dim")]
                parts += [" "] if how == "wide" else []
            self._spans.append((x, x + room, name))
            x += room
        return Content.assemble(*parts)

    def on_click(self, event: events.Click) -> None:
        for start, end, name in self._spans:
            if start <= event.x < end:
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
