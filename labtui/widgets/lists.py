"""Lists, tables and trees with vim keys beside the arrows, and a filter for ``/``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, OptionList
from textual.widgets.option_list import Option

from labtui.actions import bindings


@dataclass(frozen=True)
class Choice:
    """One line of a menu."""

    id: str
    title: str
    detail: str = ""


class Search(Message):
    """``/`` was pressed in a list: the screen opens its search line for ``target``."""

    def __init__(self, target: Choices | Grid) -> None:
        super().__init__()
        self.target = target


class Choices(OptionList):
    """A list of choices. What it holds is given by :meth:`show`; the cursor stays on its choice."""

    BINDINGS = bindings("list")

    class Picked(Message):
        """Enter or a click on a choice."""

        def __init__(self, id: str, sender: Choices) -> None:
            super().__init__()
            self.id, self.sender = id, sender

        @property
        def control(self) -> Choices:
            return self.sender

    class Moved(Message):
        """The cursor came to a choice."""

        def __init__(self, id: str, sender: Choices) -> None:
            super().__init__()
            self.id, self.sender = id, sender

        @property
        def control(self) -> Choices:
            return self.sender

    def __init__(self, choices: Sequence[Choice] = (), *, id: str | None = None, empty: str = "") -> None:
        super().__init__(id=id, compact=True)
        self._all: tuple[Choice, ...] = tuple(choices)
        self._needle, self._empty = "", empty
        self._fill()

    @property
    def current(self) -> str | None:
        """Id of the choice under the cursor."""
        if self.highlighted is None or not self._ids:
            return None
        return self._ids[self.highlighted]

    def show(self, choices: Sequence[Choice]) -> None:
        """Replace the choices; nothing is painted when they are the same."""
        if tuple(choices) != self._all:
            self._all = tuple(choices)
            self._fill()

    def narrow(self, needle: str) -> None:
        """Keep only the choices that contain ``needle``."""
        self._needle = needle.casefold()
        self._fill()

    def select(self, id: str) -> None:
        """Put the cursor on a choice, silently."""
        if id in self._ids and self.current != id:
            with self.prevent(OptionList.OptionHighlighted):
                self.highlighted = self._ids.index(id)

    def _fill(self) -> None:
        kept = self.current if hasattr(self, "_ids") else None
        shown = [c for c in self._all if self._needle in f"{c.title} {c.detail}".casefold()]
        self._ids = [c.id for c in shown]
        with self.prevent(OptionList.OptionHighlighted):
            self.clear_options()
            self.add_options([Option(self._line(c)) for c in shown])
            if not shown:
                text = f"nothing matches {self._needle!r}" if self._needle else self._empty
                self.add_option(Option(Content.styled(text, "$lab-dim"), disabled=True))
            else:
                self.highlighted = self._ids.index(kept) if kept in self._ids else 0

    @staticmethod
    def _line(choice: Choice) -> Content:
        if not choice.detail:
            return Content(choice.title)
        return Content.assemble(choice.title, "  ", (choice.detail, "$lab-dim"))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_index < len(self._ids):
            self.post_message(self.Picked(self._ids[event.option_index], self))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self._ids):
            self.post_message(self.Moved(self._ids[event.option_index], self))

    def action_search(self) -> None:
        self.post_message(Search(self))


class Grid(DataTable[Any]):
    """A table of rows by key, with a row cursor. Cells are text; numbers are given as right-aligned Text."""

    BINDINGS = bindings("list")

    class Picked(Message):
        """Enter or a click on a row."""

        def __init__(self, key: str, sender: Grid) -> None:
            super().__init__()
            self.key, self.sender = key, sender

        @property
        def control(self) -> Grid:
            return self.sender

    class Moved(Message):
        """The cursor came to a row."""

        def __init__(self, key: str, sender: Grid) -> None:
            super().__init__()
            self.key, self.sender = key, sender

        @property
        def control(self) -> Grid:
            return self.sender

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._columns: tuple[str, ...] = ()
        self._all: tuple[tuple[str, tuple[str | Text, ...]], ...] = ()
        self._keys: list[str] = []
        self._needle = ""
        self._widths: tuple[int, ...] = ()

    @property
    def current(self) -> str | None:
        """Key of the row under the cursor."""
        return self._keys[self.cursor_row] if 0 <= self.cursor_row < len(self._keys) else None

    def show(self, columns: Sequence[str], rows: Sequence[tuple[str, tuple[str | Text, ...]]]) -> bool:
        """Show rows of (key, cells); False when nothing changed. The cursor stays on its row."""
        if tuple(columns) == self._columns and tuple(rows) == self._all:
            return False
        self._columns, self._all = tuple(columns), tuple(rows)
        widths = tuple(
            max([cell_len(name), *(cell_len(str(cells[i])) for _, cells in rows if i < len(cells))])
            for i, name in enumerate(columns)
        )
        fresh, self._widths = (
            (self._columns, widths) != (tuple(c.value for c in self.columns), self._widths),
            widths,
        )
        self._fill(fresh)
        return True

    def narrow(self, needle: str) -> None:
        """Keep only the rows in which a cell contains ``needle``."""
        self._needle = needle.casefold()
        self._fill(False)

    def select(self, key: str) -> None:
        """Put the cursor on a row."""
        if key in self._keys:
            self.move_cursor(row=self._keys.index(key))

    def _fill(self, fresh: bool) -> None:
        kept, x, at = self.current, self.scroll_x, self.cursor_row
        shown = [r for r in self._all if self._needle in " ".join(str(c) for c in r[1]).casefold()]
        with self.prevent(DataTable.RowHighlighted):
            self.clear(columns=fresh)
            if fresh:
                for name, width in zip(self._columns, self._widths, strict=True):
                    self.add_column(name, key=name, width=width)
            for key, cells in shown:
                self.add_row(*cells, key=key)
            self._keys = [key for key, _ in shown]
            if kept in self._keys:
                self.move_cursor(row=self._keys.index(kept), animate=False)
                self.scroll_x = x
            elif kept is not None and self._keys:  # renamed or gone: what stands there now, not the first row
                self.move_cursor(row=min(at, len(self._keys) - 1), animate=False)
        now = self.current
        if kept is not None and now is not None and now != kept:
            self.post_message(self.Moved(now, self))

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        if event.row_key.value is not None:
            self.post_message(self.Picked(event.row_key.value, self))

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        if event.row_key is not None and event.row_key.value is not None:
            self.post_message(self.Moved(event.row_key.value, self))

    def action_first(self) -> None:
        self.move_cursor(row=0)

    def action_last(self) -> None:
        self.move_cursor(row=max(0, self.row_count - 1))

    def action_search(self) -> None:
        self.post_message(Search(self))


def right(text: str) -> Text:
    """A number's cell."""
    return Text(text, justify="right")
