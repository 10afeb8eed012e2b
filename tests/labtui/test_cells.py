"""What the Sweep screen makes of a table: map, curves, texts; and which sweep is a confirmation of which."""

from __future__ import annotations

from typing import Any

import pytest

from labtui.cells import (
    Reading,
    SweepTable,
    as_table,
    beside,
    board_of,
    digits,
    key_of,
    lens_text,
    less_text,
    scale_of,
    zone_text,
)
from labtui.confirming import confirmation, fresh_prompts
from labtui.curves import curve_of
from labtui.sweeps import confirmations, entries
from labtui.texts import answers_of, prompts_of
from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_sessions.fields import JobView
from labtui_sessions.stats import differences
from labtui_sessions.tables import Page
from tests.support import sweep_stories

ROWS = [row for cell in sweep_stories.cells() for row in cell]
PLACE = ("terse", "all")


class Pages:
    """A table of rows, given out a page at a time, and how often it was asked."""

    def __init__(self, rows: list[dict[str, Any]], most: int = 100) -> None:
        self.held, self.most, self.starts = rows, most, list[int]()

    async def page(self, table: str, start: int, stop: int, **_: Any) -> Page:
        self.starts.append(start)
        names = list(dict.fromkeys(name for row in self.held for name in row))
        rows = [[row.get(name) for name in names] for row in self.held[start : min(stop, start + self.most)]]
        count = len(self.held)
        return Page(table, names, ["str"] * len(names), rows, [{}] * len(rows), start, count, count)


def made(rows: list[dict[str, Any]]) -> SweepTable:
    return SweepTable(Pages(rows), "s1")  # type: ignore[arg-type]


async def reading_of(rows: list[dict[str, Any]], metric: str = "words", tested: bool = True) -> Reading:
    table = made(rows)
    await table.read(len(rows), metric, tested)
    assert table.reading is not None
    return table.reading


async def test_rows_come_page_by_page_and_only_the_new_ones() -> None:
    pages = Pages(ROWS, most=200)
    table = SweepTable(pages, "s1")  # type: ignore[arg-type]
    await table.read(300, "words", False)
    assert table.rows == ROWS[:300] and pages.starts == [0, 200]
    await table.read(len(ROWS), "words", False)
    assert table.rows == ROWS and pages.starts == [0, 200, 300, 500]
    await table.read(120, "words", False)
    assert table.rows == ROWS[:120] and len(pages.starts) == 4, "a replay that goes back asks for nothing"


async def test_one_reading_at_a_time_and_none_twice() -> None:
    table = made(ROWS)
    assert table.due((300, "words", False)) and not table.due((301, "words", False))
    await table.read(300, "words", False)
    assert not table.due((300, "words", False))
    assert table.due((300, "words", True)) or table.due((300, "tokens", False))


async def test_the_test_is_run_once_a_metric_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    import labtui_sessions.stats as stats

    calls: list[str] = []
    real = stats.permute
    monkeypatch.setattr(stats, "permute", lambda sheet, metric: calls.append(metric) or real(sheet, metric))
    table = made(ROWS)
    await table.read(len(ROWS), "words", False)
    assert calls == [] and table.reading is not None and not table.reading.summary.tested
    for metric in ("words", "tokens", "words", "tokens"):
        await table.read(len(ROWS), metric, True)
    assert calls == ["words", "tokens"] and table.reading.summary.tested


@pytest.mark.parametrize(
    "rows",
    [[], [{"a": 1}], [r for r in ROWS if r["control"]], [{**r, "words": "many"} for r in ROWS[:1]]],
    ids=["none", "another table", "controls only", "no number"],
)
async def test_no_cells_is_no_reading(rows: list[dict[str, Any]]) -> None:
    table = made(rows)
    await table.read(len(rows), "words", True)
    assert table.reading is None and table.rows == rows


async def test_a_map_has_sites_in_order_strengths_by_size_and_marks() -> None:
    rows = [{**r, "site": r["site"].replace("llm.6", "llm.10")} for r in ROWS]
    board = board_of(await reading_of(rows), PLACE)
    assert board.map.rows == ("llm.1", "llm.2", "llm.10") and board.map.columns == ("2%", "4%", "8%", "16%")
    shown = {heads: board.map.tiles[r][c] for r, row in enumerate(board.map.rows)
             for c, column in enumerate(board.map.columns) for heads in [(row, column)]}  # fmt: skip
    assert {heads: tile.marks for heads, tile in shown.items() if tile and tile.marks} == {
        ("llm.1", "8%"): "*",
        ("llm.1", "16%"): "*!",
        ("llm.2", "8%"): "*",
        ("llm.2", "16%"): "*",
    }
    cut, largest = shown["llm.10", "16%"], shown["llm.1", "16%"]
    assert cut is not None and cut.text == "≥-2.00" and largest is not None and largest.share == -1.0


async def test_a_map_of_a_part_has_empty_cells_and_pins() -> None:
    part = [r for r in ROWS if not (r["site"] == "llm.2" and r["strength_pct"] == 16.0)]
    reading = await reading_of(part, tested=False)
    key = key_of(reading.cells(PLACE)[0].point)
    board = board_of(reading, PLACE, [key])
    tiles = board.map.tiles
    assert tiles[1][3] is None and tiles[0][0] is not None and tiles[0][0].marks == "•"
    assert board.heads(key) == ("llm.1", "2%")
    assert not any("*" in tile.marks for row in tiles for tile in row if tile is not None), (
        "nothing is tested"
    )


async def test_strengths_are_in_the_unit_that_the_sites_share() -> None:
    assert scale_of((await reading_of(ROWS)).cells(PLACE)).unit == "%"
    norms = {"llm.1": 1.0, "llm.2": 1.7, "llm.6": 2.3, "": 1.0}
    by_alpha = [{**r, "strength_pct": r["strength_pct"] * norms[r["site"]]} for r in ROWS]
    by_alpha = [{**r, "strength_abs": r["strength_abs"] * norms[r["site"]]} for r in by_alpha]
    board = board_of(await reading_of(by_alpha), PLACE)
    assert board.scale.unit == "α" and board.map.columns == ("0.5", "1", "2", "4")
    assert board.map.corner == "site, α"
    by_norm = [{**r, "strength": r["strength"] * norms[r["site"]]} for r in by_alpha]
    by_norm = [{**r, "strength_abs": r["strength_pct"] * 2.5 / norms[r["site"]]} for r in by_norm]
    assert board_of(await reading_of(by_norm), PLACE).scale.unit == "norm"
    close = [{**r, "strength_pct": 8.004 if r["strength_pct"] == 4.0 else r["strength_pct"]} for r in ROWS]
    assert board_of(await reading_of(close), PLACE).map.columns == ("2%", "8%", "8.004%", "16%")


async def test_several_directions_and_places_have_a_map_each() -> None:
    more = [{**r, "direction": "formal", "words": r["words"] + 1} for r in ROWS if r["control"] == ""]
    more += [{**r, "where": "last"} for r in ROWS if r["control"] == "" and r["site"] == "llm.2"]
    reading = await reading_of(ROWS + more, tested=False)
    assert reading.places == [("terse", "all"), ("formal", "all"), ("terse", "last")]
    assert board_of(reading, ("terse", "last")).map.rows == ("llm.2",)


async def test_curves_have_interval_and_null_as_the_statistics_have_them() -> None:
    reading = await reading_of(ROWS)
    board = board_of(reading, PLACE)
    plot = curve_of(board, "llm.2", "8%")
    assert plot is not None and plot.mark_x == 8.0
    cell = board.cells["llm.2", "8%"]
    at = {series.symbol + series.label: dict(series.points).get(8.0) for series in plot.series}
    bound = cell.null_bound
    assert at["●effect at llm.2"] == cell.effect and at["▲95% interval"] == cell.high and at["▼"] == cell.low
    assert bound is not None and at["×null's 95%"] == bound
    assert [dict(s.points)[8.0] for s in plot.series if s.symbol == "×"] == [bound, -bound]
    assert curve_of(board, "llm.9") is None


async def test_the_zones_of_a_line_and_what_stands_beside_a_cell() -> None:
    reading = await reading_of(ROWS)
    board = board_of(reading, PLACE)
    assert (
        zone_text(reading, board.cells["llm.1", "8%"])
        == "dead zone to 4% · effective 8% to 8% · collapse from 16%"
    )
    lines = beside(reading, board.cells["llm.2", "8%"])
    assert len(lines) == 1 and lines[0].startswith("the negated direction: words +2")
    assert beside(reading, board.cells["llm.2", "4%"]) == []


async def test_the_null_of_a_difference_is_on_its_chart() -> None:
    mine = await reading_of(ROWS, tested=False)
    theirs = await reading_of([{**r, "words": r["words"] + (not r["control"])} for r in ROWS], tested=False)
    less = {key_of(one.point): one for one in differences(mine.sheet, theirs.sheet, "words")}
    board = board_of(mine, PLACE, (), less)
    plot, cell = curve_of(board, "llm.2", "8%", less=less), board.cells["llm.2", "8%"]
    assert plot is not None
    left = less[key_of(cell.point)]
    assert left.effect == -1 and left.null_bound is not None
    assert [dict(s.points)[8.0] for s in plot.series if s.symbol == "×"] == [
        left.null_bound,
        -left.null_bound,
    ]
    assert f"two directions that mean nothing: ±{left.null_bound:.3g}" in less_text(left, "s2")


async def test_the_lenses_of_a_table_are_told_at_a_cell() -> None:
    reading = await reading_of(ROWS, tested=False)
    cell = board_of(reading, PLACE).cells["llm.2", "4%"]
    assert lens_text(reading, cell) == ""
    rows = [{**r, "lens:code": 100.0 if r["site"] == "llm.2" and not r["control"] else 0.0} for r in ROWS]
    reading = await reading_of(rows, tested=False)
    assert lens_text(reading, cell) == "lenses per 100 words: code 100.0 (+100.0)"


async def test_texts_stand_beside_those_of_the_zero_row_of_the_same_prompt() -> None:
    reading = await reading_of(ROWS)
    cell = board_of(reading, PLACE).cells["llm.2", "8%"]
    assert prompts_of(reading, cell) == list(range(20))
    (answer,) = answers_of(reading, cell, 3)
    mine = next(r for r in ROWS if r["prompt"] == "What is a desert?" and r["site"] == "llm.2"
                and r["strength_pct"] == 8.0 and not r["control"])  # fmt: skip
    zero = next(r for r in ROWS if r["prompt"] == "What is a desert?" and r["control"] == "zero")
    assert (answer.text, answer.value) == (mine["text"], mine["words"])
    assert (answer.zero_text, answer.zero_value) == (zero["text"], zero["words"])
    early = await reading_of([r for r in ROWS if r["control"] != "zero"], tested=False)
    cell = board_of(early, PLACE).cells["llm.2", "8%"]
    assert answers_of(early, cell, 3)[0].zero_text is None and cell.effect is None
    assert board_of(early, PLACE).map.tiles[0][0].text == "?"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.001, "+0"), (-0.001, "-0"), (1.234, "+1.23"), (-9.996, "-10.0"), (12.34, "+12.3"),
     (-99.96, "-100"), (999.6, "+1.0k"), (-4_560.0, "-4.6k"), (12_345.0, "+12k"), (99_600.0, "+1e5"),
     (-3.2e7, "-3e7"), (9.6e9, "+1e10")],
)  # fmt: skip
def test_digits_are_short_and_signed(value: float, shown: str) -> None:
    assert digits(value) == shown and len(shown) <= 5


def test_rows_become_the_table_that_they_came_from() -> None:
    table = as_table("s1", [{**ROWS[0], "reasons": {"kl": "not asked"}}, *ROWS[1:]])
    assert table.rows == len(ROWS) and table.reasons == {0: {"kl": "not asked"}}
    assert table.columns["words"].type == "int" and "reasons" not in table.columns


# -- confirming ---------------------------------------------------------------------------------------


def job(**spec: Any) -> JobView:
    return JobView("s1", "sweep", spec={**sweep_stories.SPEC, **spec})


async def test_a_confirmation_is_that_one_cell_on_other_prompts() -> None:
    reading = await reading_of(ROWS)
    cell = board_of(reading, PLACE).cells["llm.2", "8%"]
    used = list(library.prompt_set("bleed").prompts[:5])
    spec = specs.load(confirmation(job(prompts=[*sweep_stories.PROMPTS, *used]), "s1", reading, cell))
    assert isinstance(spec, specs.Sweep) and isinstance(spec.prompts, list)
    assert (spec.directions, spec.sites, spec.strengths, spec.where) == (["terse"], "llm.2", ["8%"], "all")
    assert (spec.table, spec.controls, spec.max_new_tokens) == ("s1-confirmed", "auto", 64)
    assert len(spec.prompts) == 40 and not set(spec.prompts) & {*used, *sweep_stories.PROMPTS}
    bundled = {*library.prompt_set("bleed").prompts, *library.prompt_set("neutral").prompts}
    assert set(map(str, spec.prompts)) <= bundled


async def test_a_confirmation_needs_prompts_that_are_fresh() -> None:
    reading = await reading_of(ROWS)
    cell = reading.cells(PLACE)[0]
    both = [*library.prompt_set("bleed").prompts, *library.prompt_set("neutral").prompts]
    assert len(fresh_prompts(both[:-20])) == 20 and fresh_prompts([p.upper() + " " for p in both]) == []
    with pytest.raises(UsageError, match="only 18 prompts of the sets bleed and neutral"):
        confirmation(job(prompts=both[:-18]), "s1", reading, cell)
    by_set = confirmation(job(prompts={"set": "bleed"}), "s1", reading, cell)
    left = set(library.prompt_set("neutral").prompts) - set(sweep_stories.PROMPTS)
    assert set(by_set["prompts"]) == left and len(left) < 24
    with pytest.raises(UsageError, match="too long"):
        confirmation(JobView("s1", "sweep", spec_kept=False), "s1", reading, cell)


async def test_a_confirmation_is_not_taken_for_the_sweep() -> None:
    reading = await reading_of(ROWS)
    made = sweep_stories.kernel("done")
    spec = confirmation(made.state.jobs["s1"], "s1", reading, reading.cells(PLACE)[0])
    sweep_stories.confirm(made, spec)
    again = confirmations(made.state, "s1")
    assert [entry.table for entry in entries(made)] == ["s1"] and again is not None and again.job == "s2"
    made.emit("job.queued", job="s3", kind="sweep", spec={**sweep_stories.SPEC, "table": "words-confirmed"})
    listed = [entry.table for entry in entries(made)]
    assert listed == ["words-confirmed", "s1"], "that name confirms no table here"
