"""What maps share: a cursor that keys, clicks and the wheel move from tile to tile."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widget import Widget


class Cursored(Widget):
    """A widget with a cursor on ``extent`` tiles, rows by columns."""

    class Moved(Message):
        """The cursor came to another tile."""

    class Picked(Message):
        """Enter on a tile."""

    cursor: tuple[int, int] = (0, 0)

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns; (0, 0) where there is nothing to point at."""
        raise NotImplementedError

    @property
    def page(self) -> int:
        """Rows that a page key moves by."""
        return max(1, self.extent[0] // 2)

    def put(self, row: int, column: int) -> bool:
        """Put the cursor on a tile, or the nearest there is, silently; False where it stands there."""
        raise NotImplementedError

    def go(self, row: int, column: int) -> None:
        """Put the cursor on a tile and tell of it."""
        if all(self.extent) and self.put(row, column):
            self.post_message(self.Moved())

    def action_move(self, down: int, right: int) -> None:
        self.go(self.cursor[0] + down, self.cursor[1] + right)

    def action_page(self, way: int) -> None:
        self.go(self.cursor[0] + way * self.page, self.cursor[1])

    def action_edge(self, way: int) -> None:
        self.go(self.extent[0] - 1 if way > 0 else 0, self.cursor[1])

    def action_side(self, way: int) -> None:
        self.go(self.cursor[0], self.extent[1] - 1 if way > 0 else 0)

    def action_pick(self) -> None:
        if all(self.extent):
            self.post_message(self.Picked())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(1, 0)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-1, 0)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
