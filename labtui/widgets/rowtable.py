"""The rows of a sweep as a table: sorted by any column, filtered, and the row under the cursor beside its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from labtui.cells import group_of
from labtui.texts import zero_rows
from labtui.widgets.arms import mark_words
from labtui.widgets.lists import Grid, right
from labtui_artifacts.errors import UsageError
from labtui_sessions.tables import Condition, choose, parse_conditions

COLUMNS = {
    "site": "site",
    "strength": "strength",
    "strength_pct": "%",
    "words": "words",
    "tokens": "tokens",
    "perplexity": "perplexity",
    "kl": "kl",
    "distinct-2": "distinct-2",
    "coherent": "coherent",
    "finish": "finish",
    "control": "control",
    "direction": "direction",
    "where": "where",
    "seed": "seed",
    "prompt_class": "class",
    "prompt_index": "#",
    "picture": "picture",
    "prompt": "prompt",
}
"""Columns of the table that come first and how they are headed; metrics beyond them follow."""
UNSEEN = frozenset(
    (
        "row",
        "text",
        "reasons",
        "note",
        "prompt_id",
        "prompt_set",
        "prompt_images",
        "strength_abs",
        "strength_text",
    )
)
"""Columns that are not shown; ``text`` is read below the table."""

PAGE = 200
"""Rows in view at a time; the cursor goes on into those before and after."""


class RowGrid(Grid):
    """A window on many rows: where the cursor leaves it, the table moves it. What is searched for is looked for in
    all rows."""

    def __init__(self, table: RowTable) -> None:
        super().__init__(id="cell-grid")
        self._table = table

    def narrow(self, needle: str) -> None:
        self._table.narrow(needle)

    def action_cursor_down(self) -> None:
        if self.cursor_row < self.row_count - 1 or not self._table.move(1):
            super().action_cursor_down()

    def action_cursor_up(self) -> None:
        if self.cursor_row > 0 or not self._table.move(-1):
            super().action_cursor_up()

    def action_page_down(self) -> None:
        if self.cursor_row < self.row_count - 1 or not self._table.move(1):
            super().action_page_down()

    def action_page_up(self) -> None:
        if self.cursor_row > 0 or not self._table.move(-1):
            super().action_page_up()

    def action_first(self) -> None:
        self._table.to(0)

    def action_last(self) -> None:
        self._table.to(-1)


class RowTable(Vertical):
    """The committed rows of a sweep; the last ones are in view until the table is gone to, or sorted."""

    class Looked(Message):
        """Other rows are in view: what is said of them is to be said anew."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._rows: Sequence[dict[str, Any]] = ()
        self._kept: Sequence[Condition] = ()
        self._needle = self._problem = self._group = ""
        self._order: list[int] = []
        self._first = 0
        self._zeros: Mapping[int, Mapping[str, Any]] | None = None
        self.sort: str | None = None
        self.descending = False

    def compose(self) -> ComposeResult:
        yield RowGrid(self)
        with Horizontal(id="row-texts"):
            yield Static("", id="cell-text", markup=False)
            yield Static("", id="zero-text", markup=False)

    @property
    def grid(self) -> RowGrid:
        return self.query_one(RowGrid)

    @property
    def current(self) -> int | None:
        """Which of the rows is under the cursor."""
        key = self.grid.current
        return int(key) if key is not None and int(key) < len(self._rows) else None

    def show(self, rows: Sequence[dict[str, Any]], kept: Sequence[Condition] = (), group: str = "") -> str:
        """Show the rows that meet the conditions ``kept``, on prompts of the class ``group``; a line about them."""
        if rows is not self._rows or (kept, group) != (self._kept, self._group):
            follow = not self.grid.has_focus and self.sort is None
            self._rows, self._kept, self._group, self._zeros = rows, kept, group, None
            self._look(at_end=follow)
        return self.note

    def narrow(self, text: str) -> None:
        """Keep only rows that meet conditions such as ``words>40 direction=terse``, or in which the text occurs."""
        self._needle = text.strip()
        self._look(keep=False)

    def next_column(self) -> str:
        """Sort by the next column; after the last, by none. What the rows are sorted by now."""
        there: list[str | None] = [None, *self._columns()]
        at = there.index(self.sort) if self.sort in there else 0
        self.sort = there[(at + 1) % len(there)]
        self._look(keep=False)
        return _head(self.sort) if self.sort is not None else "the order in which they were committed"

    def turn(self) -> None:
        """The other way round."""
        self.descending = not self.descending
        self._look(keep=False)

    def zero_of(self, row: int) -> Mapping[str, Any] | None:
        """The unsteered row of the same prompt and seed."""
        if self._zeros is None:
            self._zeros = zero_rows(self._rows)
        return self._zeros.get(row)

    def move(self, way: int) -> bool:
        """The next rows, or those before; False where there are none."""
        edge = self._first + (PAGE if way > 0 else -1)
        if not 0 <= edge < len(self._order):
            return False
        self.to(edge)
        return True

    def to(self, place: int) -> None:
        """Put the cursor on a row by its place in the order; -1 is the last."""
        if self._order:
            place %= len(self._order)
            self._first = place // PAGE * PAGE
            self._fill()
            self.grid.move_cursor(row=place - self._first, animate=False)
            self._read()

    # -- filling --------------------------------------------------------------------------------------

    def _look(self, *, at_end: bool = False, keep: bool = True) -> None:
        """Sort and filter anew. The cursor goes to the last row, stays on its own (``keep``), or goes to the first."""
        before = self.current if keep else None
        self._order, self._problem = self._found()
        place = len(self._order) - 1 if at_end else 0
        if not at_end and before is not None and before in self._order:
            place = self._order.index(before)
        self._first = max(0, place) // PAGE * PAGE
        self._fill()
        if self._order:
            self.grid.move_cursor(row=place - self._first, animate=False)
        self._read()

    def _found(self) -> tuple[list[int], str]:
        """The places of the rows to show, and what is wrong with what was asked for."""
        conditions, text, problem = list(self._kept), "", ""
        try:
            conditions += parse_conditions(self._needle)
        except UsageError:
            text = self._needle.casefold()
        names = {name for row in self._rows[:1] for name in row}
        unknown = [c.column for c in conditions if names and c.column not in names]
        if unknown:
            problem = f"no column {unknown[0]}"
        found = choose(self._rows, conditions, self.sort, self.descending)
        if self._group:
            found = [i for i in found if group_of(self._rows[i]) == self._group]
        return [i for i in found if text in _searched(self._rows[i])] if text else found, problem

    def _columns(self) -> list[str]:
        """The columns that say something, in their order."""
        names = dict.fromkeys([*COLUMNS, *(name for row in self._rows[-1:] for name in row)])
        filled = [n for n in names if n not in UNSEEN and any(r.get(n) not in (None, "") for r in self._rows)]
        if "seed" in filled and len({row.get("seed") for row in self._rows}) == 1:
            filled.remove("seed")
        return filled or list(COLUMNS)[:5]

    def _fill(self) -> None:
        columns = self._columns()
        mark = " ▼" if self.descending else " ▲"
        self.grid.show(
            [_head(c) + (mark if c == self.sort else "") for c in columns],
            [
                (str(i), tuple(_cell(c, self._rows[i].get(c), self._rows[i]) for c in columns))
                for i in self._order[self._first : self._first + PAGE]
            ],
        )

    @property
    def note(self) -> str:
        """A line about the rows in view."""
        if not self._rows:
            return "empty"
        count, total = len(self._order), len(self._rows)
        last = min(count, self._first + PAGE)
        parts = [f"! {self._problem}"] if self._problem else []
        if count < total:
            parts.append(f"{count or 'nothing'} of {total:,} matches {self._needle}".rstrip())
        if count > PAGE or count == total:
            parts.append(f"{self._first + 1:,}–{last:,} of {count:,}" if count > PAGE else f"{count:,} rows")
        return " · ".join(parts)

    @on(Grid.Moved)
    def _moved(self) -> None:
        self._read()

    def _read(self) -> None:
        """Show the text of the row under the cursor, and that of its zero row."""
        self.post_message(self.Looked())
        at = self.current
        mine = str(self._rows[at].get("text") or "") if at is not None else ""
        zero = self.zero_of(at) if at is not None else None
        other = str(zero.get("text") or "") if zero is not None else ""
        left, right_side = self.query_one("#cell-text", Static), self.query_one("#zero-text", Static)
        left.update(mark_words(_line(mine), _line(other)) if zero is not None else Content(_line(mine)))
        right_side.display = zero is not None and zero is not self._rows[at or 0]
        right_side.update(Content.assemble(("α = 0  ", "$lab-dim"), mark_words(_line(other), _line(mine))))


def _head(column: str) -> str:
    return COLUMNS.get(column, column)


def _line(text: str) -> str:
    return text.replace("\n", " ⏎ ")


def _searched(row: Mapping[str, Any]) -> str:
    return " ".join(str(value) for name, value in row.items() if name not in ("reasons", "row")).casefold()


def _cell(column: str, value: Any, row: dict[str, Any]) -> Any:
    if value is None:
        return right("")
    if column in ("words", "tokens") and row.get("finish") == "length":
        return right(f"≥{value}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return right(f"{value:.3g}{'%' if column.endswith('pct') else ''}")
    if isinstance(value, int):
        return right(str(value))
    text = str(value).replace("\n", " ")
    return text if len(text) <= 28 else text[:27] + "…"
