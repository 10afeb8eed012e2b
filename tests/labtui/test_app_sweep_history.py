"""Several sweeps on the Sweep screen: the list, overlays, a baseline, pins, filters, and other sessions."""

from __future__ import annotations

import pytest

from labtui.replaying import Player
from labtui.screens.sweep import Sweep
from labtui.sweeps import entries
from labtui.widgets.chart import Chart
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid
from labtui.widgets.panel import Panel
from labtui.widgets.sweeplist import SweepList
from tests.labtui.test_app_sweep import Log, settled, verdict
from tests.support import sweep_stories
from tests.support.fake_kernel import FakeKernel, FakeLobby
from tests.support.stories import SAVED

LARGE = (200, 60)


def labels(app) -> list[str]:
    plot = app.lab_screen.query_one("#sweep-chart", Chart).plot
    return [series.label for series in plot.series if series.label] if plot is not None else []


def marks(app) -> dict[str, str]:
    grid = app.lab_screen.query_one(SweepList)
    return {str(grid.get_row_at(i)[1]): str(grid.get_row_at(i)[0]) for i in range(grid.row_count)}


def test_the_last_sweep_comes_first_and_confirmations_are_not_listed() -> None:
    made = sweep_stories.second(sweep_stories.kernel("done"))
    sweep_stories.confirm(made, {**sweep_stories.SPEC, "prompts": ["a", "b"], "table": "s1-confirmed"})
    made.emit("job.queued", job="s9", kind="sweep", spec={**sweep_stories.SPEC, "table": "s1"})
    listed = entries(made)
    assert [(entry.table, entry.rows, entry.live) for entry in listed] == [
        ("s1", 520, True),
        ("s2", 108, False),
    ]
    assert [job.job for job in listed[0].jobs] == ["s1", "s9"], "an extension is of the table that it extends"


async def test_past_sweeps_are_shown_laid_over_and_subtracted_and_pins_stay(make_app) -> None:
    app = make_app(sweep_stories.second(sweep_stories.kernel("done")), first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = app.lab_screen
        assert isinstance(screen, Sweep)
        assert marks(app) == {"s2": "▶  ", "s1": "   "} and screen.query_one(Heatmap).map.rows == (
            "llm.2",
            "llm.3",
        )
        await pilot.press("m", "l", "l", "space")  # llm.2 at 8% of s2
        await pilot.press("H", "j", "space")
        await settled(pilot)
        assert (
            marks(app)["s1"] == " ▲ " and labels(app) == ["95% interval", "null's 95%", "s1", "s2 at llm.2"]
        ) or (labels(app) == ["95% interval", "s1", "s2 at llm.2"])
        over = next(s for s in screen.query_one("#sweep-chart", Chart).plot.series if s.label == "s1")  # type: ignore[union-attr]
        reading = screen.reading_of(screen.over[0])
        assert reading is not None
        assert [y for _, y in over.points] == [
            c.effect for c in reading.cells(("terse", "all")) if c.point.site == "llm.2"
        ]
        await pilot.press("m", "j")
        await settled(pilot)
        assert "s1: no llm.3" in str(screen.query_one("#chart", Panel).border_title)

        await pilot.press("H", "minus")
        await settled(pilot)
        assert marks(app)["s1"] == " ▲−" and "effect on words less s1" in str(
            screen.query_one("#map", Panel).border_title
        )
        board = screen.query_one(Heatmap).map
        assert [tile.text for tile in board.tiles[1] if tile is not None] == ["–"] * 4, "llm.3 is not in s1"
        assert "less s1: absent, the baseline has no such cell" in verdict(app)
        await pilot.press("m", "k")
        await settled(pilot)
        cell = screen.cell
        assert cell is not None and screen.less is not None
        (left,) = [one for one in screen.less.values() if one.point == cell.point]
        assert f"less s1: {left.effect:+.3g} [" in verdict(app) and "over 12 shared prompts" in verdict(app)

        await pilot.press("H", "enter")  # s1 comes into view; it was the baseline, which it stays
        await settled(pilot)
        assert marks(app) == {"s2": "   ", "s1": "▶▲−"}
        await pilot.press("minus")
        await settled(pilot)
        assert screen.query_one(Heatmap).map.rows == ("llm.1", "llm.2", "llm.6") and screen.less is None
        pins = screen.query_one("#pin-grid", Grid)
        assert [str(cell) for cell in pins.get_row_at(0)][:3] == ["s2", "llm.2", "8%"], (
            "pins survive the switch"
        )
        await pilot.press("o", "enter")
        await settled(pilot)
        assert marks(app)["s2"].startswith("▶") and screen.query_one(Heatmap).current == ("llm.2", "8%")


async def test_f_shows_only_a_class_of_prompts_and_the_tables_rows_of_a_control(make_app) -> None:
    app = make_app(sweep_stories.second(sweep_stories.kernel("done")), first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = app.lab_screen
        assert isinstance(screen, Sweep)
        await pilot.press("f")
        await pilot.pause()
        for id, value in (("control", "the grid"), ("group", "code")):
            app.screen.query_one(f"#in-{id}").value = value  # type: ignore[attr-defined]
        await pilot.click("#accept")
        await settled(pilot)
        assert app.said == "only the grid · code"
        assert screen.reading is not None and screen.reading.summary.prompts == 8
        assert "code prompts only" in str(screen.query_one("#map", Panel).border_title)
        assert "64 of 108 matches" in str(screen.query_one("#table", Panel).border_subtitle)


async def test_sweeps_of_another_session_lie_beside_and_cannot_be_changed(make_app) -> None:
    other = sweep_stories.second(FakeKernel("old").ready("terse"), "s7", shrink=1.0)
    other.events[0].data["id"] = SAVED[1].id
    player = Player(Log(other), at=len(other.events))
    lobby = FakeLobby([], SAVED)
    lobby.replays[SAVED[1].id] = player
    made = sweep_stories.kernel("done")
    app = make_app(made, lobby=lobby, first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = app.lab_screen
        assert isinstance(screen, Sweep)
        await pilot.press("O")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        name = next(label for label in marks(app) if label.endswith("s7"))
        assert name != "s7" and "1 sweep of" in app.said
        await pilot.press("H", "G", "minus")
        await settled(pilot)
        assert screen.less is not None and {one.reason for one in screen.less.values()} == {
            "", "the baseline has no such cell",
        }  # fmt: skip
        await pilot.press("enter", "a")
        await settled(pilot)
        assert "of another session" in app.said
        await pilot.press("m", "z")
        assert "of another session" in app.said and "submit" not in made.methods()


@pytest.mark.parametrize("keys", [["space"], ["minus"], ["enter"]])
async def test_the_list_says_what_it_cannot_do(make_app, keys: list[str]) -> None:
    app = make_app(FakeKernel().ready("terse"), first="sweep")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("H", *keys, "s", "w", "f")
        await settled(pilot)
        assert isinstance(app.screen, Sweep), "an empty list and an empty table take every key"
