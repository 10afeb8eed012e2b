"""The rows of a sweep as a table, and the text of the row under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from labtui.widgets.lists import Grid, right

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
    "prompt": "prompt",
}
"""Columns of the table and how they are headed; ``text`` is read in the line below it."""

MOST = 500
"""Most rows shown in the table, the last ones; map, chart and numbers are always of all rows."""


class RowTable(Vertical):
    """The committed rows of a sweep; the last ones are in view until the table is gone to."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._rows: Sequence[dict[str, Any]] = ()

    def compose(self) -> ComposeResult:
        yield Grid(id="cell-grid")
        yield Static("", id="cell-text", markup=False)

    def show(self, rows: Sequence[dict[str, Any]]) -> str:
        """Show rows; a line about them."""
        first = max(0, len(rows) - MOST)
        if rows is not self._rows:
            self._rows = rows
            self._fill(first)
        note = f"the last {MOST} of {len(rows):,} rows" if first else f"{len(rows)} rows"
        return note if rows else "empty"

    def _fill(self, first: int) -> None:
        grid, shown = self.query_one(Grid), self._rows[first:]
        columns = [c for c in COLUMNS if any(r.get(c) not in (None, "") for r in shown)] or list(COLUMNS)[:5]
        follow = not grid.has_focus
        changed = grid.show(
            [COLUMNS[c] for c in columns],
            [(str(first + i), tuple(_cell(c, r.get(c), r) for c in columns)) for i, r in enumerate(shown)],
        )
        if changed and follow and shown:
            grid.move_cursor(row=len(shown) - 1, animate=False)
        self._read()

    @on(Grid.Moved)
    def _read(self) -> None:
        """Show the text of the row under the cursor."""
        key = self.query_one(Grid).current
        there = key is not None and int(key) < len(self._rows)
        text = str(self._rows[int(key or 0)].get("text") or "") if there else ""
        self.query_one("#cell-text", Static).update(text.replace("\n", " ⏎ "))


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
