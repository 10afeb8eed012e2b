"""A map of numbers: rows by columns, as digits and colour, with a cursor that moves from tile to tile.

It knows nothing of sweeps: what it shows is a :class:`Map`. It keeps its own window on the map, because the
heads of the rows and the columns have to stay while the tiles scroll.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message

from labtui.actions import bindings
from labtui.widgets.bars import fit
from labtui.widgets.cursor import Cursored

EMPTY = "·"
"""What stands where there is no number."""
_LONGEST_HEAD = 18
_STEPS = (0.1, 0.3, 0.55, 0.8)
"""Shares of the largest number from which a tile is shaded one step more."""
_SHADES = ("", "12%", "22%", "32%", "44%")


@dataclass(frozen=True)
class Tile:
    """One number as it is shown."""

    text: str
    """Its digits, with a sign, since the colour only repeats it."""
    share: float = 0.0
    """Its part of the largest one, -1 to 1: how strongly it is coloured."""
    marks: str = ""
    """What is to be known of it, a character each."""


@dataclass(frozen=True)
class Map:
    """Numbers by row and column; ``tiles`` has a tuple for each row, None where there is nothing."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    tiles: tuple[tuple[Tile | None, ...], ...]
    corner: str = ""

    @property
    def tile_width(self) -> int:
        """Cells that a tile takes: the longest digits or column head, and room for the most marks."""
        shown = [cell_len(tile.text) for row in self.tiles for tile in row if tile is not None]
        return max([1, *shown, *(cell_len(column) for column in self.columns)]) + self.marks_width

    @property
    def marks_width(self) -> int:
        """Cells for the marks after the digits, so that digits stand below each other."""
        return max([0, *(cell_len(tile.marks) for row in self.tiles for tile in row if tile is not None)])

    @property
    def head_width(self) -> int:
        """Cells for the row heads; longer ones are cut."""
        longest = max([cell_len(self.corner) + 2, *(cell_len(row) for row in self.rows)])
        return min(longest, _LONGEST_HEAD)


NOTHING = Map((), (), ())


@dataclass(frozen=True)
class Window:
    """The part of a map in view: its first row and column, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int


def window(map: Map, width: int, height: int, cursor: tuple[int, int], before: Window) -> Window:
    """The window of a size in cells that shows the cursor, moved from ``before`` no more than that takes."""
    columns = max(1, (width - map.head_width - 1) // (map.tile_width + 1))
    rows = max(1, height - 1)
    return Window(
        _into_view(before.row, rows, cursor[0], len(map.rows)),
        _into_view(before.column, columns, cursor[1], len(map.columns)),
        min(rows, len(map.rows)),
        min(columns, len(map.columns)),
    )


def _into_view(first: int, room: int, at: int, count: int) -> int:
    first = min(max(first, at - room + 1), at)
    return max(0, min(first, count - room))


def tone(share: float, ansi: bool) -> str:
    """The style of a tile: negative in the accent, positive in the second colour. A terminal of 16 colours has
    no shades, so there the digits are coloured, and bold where they are large."""
    step = sum(abs(share) >= edge for edge in _STEPS)
    if not step:
        return ""
    colour = "$lab-second" if share > 0 else "$accent"
    if ansi:
        return f"bold {colour}" if step >= 3 else colour
    return f"on {colour} {_SHADES[step]}"


def draw(map: Map, part: Window, cursor: tuple[int, int], *, focused: bool, ansi: bool) -> Content:
    """A window of the map as lines: the column heads, then a line a row. The cursor stands in brackets."""
    head, wide, room = map.head_width, map.tile_width, map.marks_width
    columns = range(part.column, part.column + part.columns)
    lines = [_heads(map, part, columns)]
    for row in range(part.row, part.row + part.rows):
        here = row == cursor[0]
        name = fit(map.rows[row], head)
        parts: list[str | tuple[str, str]] = [
            (name + " " * (head - cell_len(name)), "bold" if here else "$lab-dim")
        ]
        for column in columns:
            left = "[" if (row, column) == cursor else "]" if (row, column - 1) == cursor else " "
            tile = map.tiles[row][column]
            text, marks = (tile.text, tile.marks) if tile is not None else (EMPTY, "")
            shown = " " * (wide - room - cell_len(text)) + text + marks + " " * (room - cell_len(marks))
            style = tone(tile.share, ansi) if tile is not None else "$lab-dim"
            if (row, column) == cursor:
                style = "bold reverse" if focused else f"bold {style}".rstrip()
            parts += [left, (shown, style)]
        last = part.column + part.columns - 1
        parts.append("]" if (row, last) == cursor else "")
        lines.append(Content.assemble(*parts))
    return Content("\n").join(lines)


def _frame(map: Map) -> object:
    """What a map has around its tiles; where it is the same, only tiles have to be painted."""
    return map.rows, map.columns, map.corner, map.tile_width, map.marks_width, map.head_width


def _heads(map: Map, part: Window, columns: range) -> Content:
    """The first line: which way there is more, and the columns' heads."""
    more = ("↑" if part.row else "") + ("↓" if part.row + part.rows < len(map.rows) else "")
    head, wide = map.head_width, map.tile_width
    corner = fit(map.corner, head - cell_len(more)) + more
    parts: list[str | tuple[str, str]] = [(corner + " " * (head - cell_len(corner)), "$lab-dim")]
    for number, column in enumerate(columns):
        text = map.columns[column]
        before = "‹" if number == 0 and part.column else " "
        space = " " * (wide - map.marks_width - cell_len(text))
        parts.append((before + space + text + " " * map.marks_width, "$lab-dim"))
    parts.append("›" if columns.stop < len(map.columns) else "")
    return Content.assemble(*parts)


class Heatmap(Cursored, can_focus=True):
    """Shows a :class:`Map`; the cursor stays on its row and column when another map has them."""

    BINDINGS = bindings("heatmap")

    class Moved(Cursored.Moved):
        """The cursor came to another tile."""

    class Picked(Cursored.Picked):
        """Enter on a tile."""

    class Pinned(Message):
        """Space on a tile."""

    def __init__(self, *, empty: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self._empty = empty
        self._map = NOTHING
        self._window = Window(0, 0, 0, 0)

    @property
    def map(self) -> Map:
        return self._map

    @property
    def extent(self) -> tuple[int, int]:
        return len(self._map.rows), len(self._map.columns)

    @property
    def page(self) -> int:
        return max(1, self._window.rows - 1)

    @property
    def current(self) -> tuple[str, str] | None:
        """Row and column under the cursor."""
        if not self._map.rows or not self._map.columns:
            return None
        return self._map.rows[self.cursor[0]], self._map.columns[self.cursor[1]]

    def show(self, map: Map) -> bool:
        """Show ``map``; False, and nothing is painted, when it is the same."""
        if map == self._map:
            return False
        kept, before, self._map = self.current, self._map, map
        self.cursor = self._kept(kept)
        if _frame(before) != _frame(map):
            self.refresh(layout=len(before.rows) != len(map.rows))
        elif lines := self._differing(before):
            self.refresh(*lines)
        return True

    def _kept(self, kept: tuple[str, str] | None) -> tuple[int, int]:
        """Where the cursor stands now that the map is another."""
        rows, columns = self._map.rows, self._map.columns
        row, column = self.cursor
        if kept is not None:
            row = rows.index(kept[0]) if kept[0] in rows else row
            column = columns.index(kept[1]) if kept[1] in columns else column
        return max(0, min(row, len(rows) - 1)), max(0, min(column, len(columns) - 1))

    def _differing(self, before: Map) -> list[Region]:
        """The lines in view that are not as they were in ``before``."""
        part = self._window
        changed = [
            row for row in range(part.row, part.row + part.rows) if before.tiles[row] != self._map.tiles[row]
        ]
        return [Region(0, row - part.row + 1, self.size.width, 1) for row in changed]

    def select(self, row: str, column: str) -> None:
        """Put the cursor on a tile, silently."""
        if row in self._map.rows and column in self._map.columns:
            self.put(self._map.rows.index(row), self._map.columns.index(column))

    def put(self, row: int, column: int) -> bool:
        """Only the lines that the cursor leaves and comes to are painted, unless the window moves."""
        row = max(0, min(row, len(self._map.rows) - 1))
        column = max(0, min(column, len(self._map.columns) - 1))
        if (row, column) == self.cursor:
            return False
        old, self.cursor = self.cursor, (row, column)
        before = self._window
        if self._fitted() != before:
            self.refresh()
        else:
            top = before.row - 1
            self.refresh(*(Region(0, y - top, self.size.width, 1) for y in {old[0], row}))
        return True

    def _fitted(self) -> Window:
        return window(self._map, *self.size, self.cursor, self._window)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._map.rows) + 1

    def render(self) -> Content:
        if not self._map.rows or not self._map.columns:
            return Content.styled(self._empty, "$lab-dim")
        self._window = self._fitted()
        ansi = bool(self.app.current_theme.ansi)
        return draw(self._map, self._window, self.cursor, focused=self.has_focus, ansi=ansi)

    # -- keys and mouse -------------------------------------------------------------------------------

    def action_pin(self) -> None:
        if self.current is not None:
            self.post_message(self.Pinned())

    def on_click(self, event: events.Click) -> None:
        part = self._window
        row = event.y - 1
        column = (event.x - self._map.head_width) // (self._map.tile_width + 1)
        if self.current is not None and 0 <= row < part.rows and 0 <= column < part.columns:
            self.go(part.row + row, part.column + column)
