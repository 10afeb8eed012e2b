"""The table of a sweep's rows: paged without end, sorted by any column, searched, and read beside the control."""

from __future__ import annotations

from typing import Any

from textual.app import App, ComposeResult
from textual.widgets import Static

from labtui.widgets.rowtable import PAGE, RowTable
from labtui_sessions.tables import Condition
from tests.support import sweep_stories

ROWS = [row for cell in sweep_stories.cells() for row in cell]


class Host(App[None]):
    """Only the table."""

    AUTO_FOCUS = ""

    def compose(self) -> ComposeResult:
        yield RowTable(id="row-table")


def column(table: RowTable, name: str) -> list[str]:
    heads = [str(head.label) for head in table.grid.ordered_columns]
    at = next(i for i, head in enumerate(heads) if head.split()[0] == name)
    return [str(table.grid.get_row_at(i)[at]) for i in range(table.grid.row_count)]


def text(table: RowTable, id: str) -> str:
    return str(table.query_one(f"#{id}", Static).render())


async def test_the_cursor_goes_on_through_all_rows_page_by_page() -> None:
    app = Host()
    async with app.run_test(size=(120, 30)) as pilot:
        table = app.query_one(RowTable)
        assert table.show([]) == "empty"
        assert table.show(ROWS) == "401–520 of 520", "the last rows while nobody reads"
        table.grid.focus()
        await pilot.press("g")
        assert (table.current, table.note, table.grid.row_count) == (0, "1–200 of 520", PAGE)
        seen = []
        for place in (0, PAGE - 2, 2 * PAGE - 2, len(ROWS) - 2):
            table.to(place)
            await pilot.press("j", "j", "j")
            seen.append(table.current)
        assert seen == [3, PAGE + 1, 2 * PAGE + 1, len(ROWS) - 1]
        table.to(PAGE)
        await pilot.press("k")
        assert table.current == PAGE - 1 and table.note == "1–200 of 520"
        await pilot.press("G")
        assert table.current == len(ROWS) - 1


async def test_it_is_sorted_by_each_column_in_turn_with_the_column_marked() -> None:
    app = Host()
    async with app.run_test(size=(120, 30)) as pilot:
        table = app.query_one(RowTable)
        table.show(ROWS)
        heads = [table.next_column() for _ in range(4)]
        assert heads == ["site", "strength", "%", "words"]
        assert "words ▲" in [str(head.label) for head in table.grid.ordered_columns]
        words = sorted(row["words"] for row in ROWS)
        shown = [int(value.strip("≥")) for value in column(table, "words")]
        assert shown == words[:PAGE]
        table.turn()
        await pilot.pause()
        assert [int(v.strip("≥")) for v in column(table, "words")] == words[::-1][:PAGE]
        more = [*ROWS, {**ROWS[0], "words": 999}]
        table.show(more)
        assert "401" not in table.note and table.current is not None, "a sorted table does not run to its end"
        said = ""
        while table.sort is not None:
            said = table.next_column()
        assert said == "the order in which they were committed"


async def test_it_is_searched_by_text_and_by_conditions_on_any_column() -> None:
    app = Host()
    async with app.run_test(size=(120, 30)):
        table = app.query_one(RowTable)
        table.show(ROWS)
        table.narrow("Sextant")
        assert table.note == f"{sum('sextant' in r['prompt'] for r in ROWS)} of 520 matches Sextant"
        table.narrow("words>44 control= site=llm.6")
        wanted = [r for r in ROWS if r["words"] > 44 and r["site"] == "llm.6" and not r["control"]]
        assert 0 < len(wanted) == table.grid.row_count
        table.narrow("wrods>3")
        assert table.note.startswith("! no column wrods · nothing of 520 matches")
        table.narrow("")
        table.show(ROWS, [Condition("control", "=", "random")])
        assert set(column(table, "control")) == {"random"}


async def test_the_row_under_the_cursor_is_read_beside_its_zero_row() -> None:
    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "prompt_id": f"p{sweep_stories.PROMPTS.index(row['prompt'])}", "prompt": "go on"}

    app = Host()
    rows = [change(row) for row in ROWS]  # all prompts look alike: only the ids tell them apart
    async with app.run_test(size=(120, 30)):
        table = app.query_one(RowTable)
        table.show(rows)
        at = next(i for i, r in enumerate(rows) if r["site"] == "llm.2" and r["prompt_id"] == "p3")
        table.to(at)
        zero = next(r for r in rows if r["control"] == "zero" and r["prompt_id"] == "p3")
        assert table.zero_of(at) is zero and zero["words"] == sweep_stories.zero_words(3)
        assert text(table, "cell-text") == rows[at]["text"]
        assert text(table, "zero-text") == f"α = 0  {zero['text']}"
