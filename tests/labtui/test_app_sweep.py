"""The Sweep screen, driven by keys: map, curve, texts, pins, export and confirmation, live and in a replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labtui.replaying import Player
from labtui.screens.sweep import Sweep
from labtui.widgets.chart import Chart
from labtui.widgets.dialog import Form
from labtui.widgets.growing import GrowingText
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid
from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_sessions.export import export
from labtui_sessions.figures import available
from labtui_sessions.log import tables_of
from tests.support import sweep_stories
from tests.support.fake_kernel import FakeKernel, FakeLobby
from tests.support.settling import workers_done
from tests.support.sweep_stories import kernel

SMALL, LARGE = (80, 24), (200, 60)


class Log:
    """Events in memory, as an event log."""

    def __init__(self, made: FakeKernel) -> None:
        self.events = made.events

    @property
    def last_seq(self) -> int:
        return len(self.events)

    def read(self, from_seq: int = 1, limit: int | None = None, limit_bytes: int | None = None) -> Any:
        return self.events[from_seq - 1 : None if limit is None else from_seq - 1 + limit]


async def settled(pilot) -> None:
    """Until what the screen asked for has been read and painted."""
    for _ in range(3):
        await workers_done(pilot.app)
        pilot.app.pump.now()
        await pilot.pause()


def screen_of(app) -> Sweep:
    assert isinstance(app.lab_screen, Sweep)
    return app.lab_screen


def verdict(app) -> str:
    return str(app.lab_screen.query_one("#verdict").render())


def shown(app, side: str) -> str:
    return app.lab_screen.query_one(f"#{side}-answer", GrowingText).plain


async def test_moving_shows_the_cells_sentence_curve_and_texts(make_app) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        chart = screen.query_one("#sweep-chart", Chart)
        await pilot.press("m", "j", "l", "l")
        await settled(pilot)
        cell = screen.cell
        assert cell is not None and (cell.point.site, cell.point.strength_pct) == ("llm.2", 8.0)
        assert cell.verdict == "called" and cell.sentence in verdict(app).replace("\n", " ")
        assert "the negated direction: words +2" in verdict(app)
        assert chart.plot is not None and chart.plot.mark_x == 8.0
        assert [s.label for s in chart.plot.series] == [
            "95% interval",
            "",
            "null's 95%",
            "",
            "effect at llm.2",
        ]
        rows = [r for r in screen.rows if r["prompt"] == "What is a mutex?"]
        steered = next(
            r for r in rows if r["site"] == "llm.2" and r["strength_pct"] == 8 and not r["control"]
        )
        zero = next(r for r in rows if r["control"] == "zero")
        assert (shown(app, "steered"), shown(app, "zero")) == (steered["text"], zero["text"])
        parts = screen.query_one("#zero-answer", GrowingText)._parts
        assert any("underline" in str(span.style) for part, _ in parts for span in part.spans)
        await pilot.press("full_stop", "full_stop", "comma")
        assert "What is a tide?" in str(screen.query_one("#sweep-asked").render())
        await pilot.press("k")
        assert screen.cell is not None and screen.cell.point.site == "llm.1"
        assert "What is a tide?" in str(screen.query_one("#sweep-asked").render()), "the prompt stays"


async def test_one_panel_at_a_time_on_a_small_screen_and_enter_shows_the_texts(make_app) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)

        def in_view() -> list[str]:
            return [p.id for p in app.screen.query(".lower") if p.region.area]  # type: ignore[misc]

        assert in_view() == ["chart"]
        await pilot.press("m", "enter")
        await pilot.pause()
        assert in_view() == ["texts"] and app.focused is app.screen.query_one(Heatmap)
        for key, id in (("t", "table"), ("o", "pins"), ("v", "chart"), ("x", "texts")):
            await pilot.press(key)
            await pilot.pause()
            assert in_view() == [id]


async def test_a_filling_sweep_is_not_tested_and_is_once_it_is_done(make_app) -> None:
    made = kernel("filling")
    app = make_app(made, first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        assert screen.reading is not None and not screen.reading.summary.tested
        await pilot.press("m", "l", "l")
        assert "the permutation test has not been run yet" in verdict(app).replace("\n", " ")
        before = screen.query_one(Heatmap).map
        for number, rows in enumerate(list(sweep_stories.cells())[14:], 14):
            made.emit("cell.committed", job="s1", cell=f"c{number}", table="s1", rows=rows)
        made.emit("job.finished", job="s1", status="done", seconds=41.0, audit={"ok": True})
        await settled(pilot)
        assert screen.reading.summary.tested and len(screen.rows) == 520
        after = screen.query_one(Heatmap).map
        assert before.rows == ("llm.1", "llm.2") and after.rows == ("llm.1", "llm.2", "llm.6")
        assert screen.query_one(Heatmap).current == ("llm.1", "8%")
        assert "called: p = 0.0001" in verdict(app).replace("\n", " ")


async def test_c_and_d_change_metric_and_direction(make_app) -> None:
    made = kernel("done")
    more = [
        {**row, "direction": "formal"}
        for cell in sweep_stories.cells()
        for row in cell
        if row["site"] == "llm.2" and not row["control"]
    ]
    made.emit("cell.committed", job="s1", cell="formal", table="s1", rows=more)
    app = make_app(made, first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        assert screen.reading is not None
        seen = []
        for _ in screen.reading.metrics:
            await pilot.press("c")
            await settled(pilot)
            seen.append(screen.reading.summary.metric)
        assert sorted(seen) == sorted(screen.reading.metrics) and {"perplexity", "coherent"} <= set(seen)
        assert screen.reading.summary.metric == "words"
        await pilot.press("d")
        await settled(pilot)
        assert screen.query_one(Heatmap).map.rows == ("llm.2",) and "formal, on all" in app.said
        await pilot.press("d")
        assert len(screen.query_one(Heatmap).map.rows) == 3


async def test_pins_are_listed_with_their_numbers_and_enter_goes_there(make_app) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        await pilot.press("m", "j", "l", "l", "space", "l", "space", "G")
        grid = screen.query_one("#pin-grid", Grid)
        cells = [[str(cell) for cell in grid.get_row_at(row)] for row in range(grid.row_count)]
        assert [cell[:3] for cell in cells] == [["llm.2", "8%", "-21.5"], ["llm.2", "16%", "-34.3"]]
        assert cells[0][6] == "called" and "•" in str(screen.query_one(Heatmap).render())
        await pilot.press("o", "enter")
        assert screen.query_one(Heatmap).current == ("llm.2", "8%")
        await pilot.press("m", "space")
        assert grid.row_count == 1 and "no longer pinned" in app.said


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
async def test_e_exports_what_the_session_itself_would(
    make_app, tmp_path: Path, monkeypatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = kernel("done")
    app = make_app(made, first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("e")
        await pilot.pause()
        assert isinstance(app.screen, Form) and app.screen.values() == {"path": "s1.csv"}
        await pilot.press("ctrl+u", *f"s1.{kind}", "enter")
        await settled(pilot)
        assert app.said == f"wrote 520 rows to s1.{kind}"
    export(tables_of(Log(made)).table("s1"), tmp_path / f"other.{kind}", kind)
    if kind == "parquet":
        import pyarrow.parquet as parquet

        assert parquet.read_table("s1.parquet") == parquet.read_table("other.parquet")
    else:
        assert (tmp_path / f"s1.{kind}").read_bytes() == (tmp_path / f"other.{kind}").read_bytes()
        assert kind != "json" or len(json.loads((tmp_path / "s1.json").read_text())["rows"]) == 520


@pytest.mark.skipif(not available(), reason="matplotlib is not installed")
async def test_e_draws_the_map_and_refuses_what_it_cannot_write(
    make_app, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("x")
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        for name, why in (
            ("a.xls", "ends in .csv"),
            ("no/a.csv", "there is no folder"),
            ("there.csv", "exists already"),
        ):
            await pilot.press("e", "ctrl+u", *name)
            await pilot.press("enter")
            assert isinstance(app.screen, Form)
            assert why in str(app.screen.query_one("#hint-path").render())
            await pilot.press("escape")
        await pilot.press("e", "ctrl+u", *"map.png", "enter")
        await settled(pilot)
        assert app.said == "wrote the map to map.png"
        assert (tmp_path / "map.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (tmp_path / "there.csv").read_text() == "x"


def threshold(percent: float) -> dict[str, Any]:
    return {"pct": percent, "alpha": percent / 4, "abs": percent * 2.5}


PHASE = {
    "direction": "terse", "site": "llm.2", "where": "all", "dead": threshold(2.0), "first": threshold(4.0),
    "last": threshold(8.0), "collapse": None, "monotone": True, "known": True, "open": True, "undecided": [16.0],
    "rows": 420, "probes": [{"pct": 2.0, "effect": -1.0, "note": "x" * 2_000}],
}  # fmt: skip


async def test_a_calibration_tells_its_own_thresholds_once_it_has_ended_also_in_a_replay(make_app) -> None:
    made = kernel("done")
    spec = {"kind": "calibrate", "direction": "terse", "sites": "llm.1,2,6", "table": "s1"}
    made.emit("job.queued", job="c1", kind="calibrate", spec=spec, priority="batch", client="app")
    made.emit("job.started", job="c1", plan={"rows": 520, "cells": 520, "table": "s1"})
    before = len(made.events)
    app = make_app(made, first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        await pilot.press("m", "j", "l", "l")
        await settled(pilot)
        assert "calibrated" not in verdict(app) and "dead zone to 4%" in verdict(app)
        result = {"table": "s1", "phases": [PHASE]}
        made.emit("job.finished", job="c1", status="done", seconds=9.0, audit={"ok": True}, result=result)
        await settled(pilot)
        told = (
            "calibrated: dead zone to 2% · effective 4% to 8% · the bound on rows ended the search, undecided"
        )
        assert told in verdict(app).replace("\n", " ")
        await pilot.press("k")
        await settled(pilot)
        assert "calibrated" not in verdict(app) and "collapse from 16%" in verdict(app), "none of this site"
    player = Player(Log(made), at=len(made.events))
    app = make_app(None, lobby=FakeLobby(), replay=player, first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        await pilot.press("m", "j", "l", "l")
        await settled(pilot)
        assert told in verdict(app).replace("\n", " ")
        assert "timed" not in str(app.lab_screen.query_one("#form-cost").render())
        player.seek(before)
        await settled(pilot)
        assert "calibrated" not in verdict(app)


async def test_z_confirms_on_fresh_prompts_and_the_verdict_stands_beside(make_app) -> None:
    made = kernel("done")
    app = make_app(made, first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        await pilot.press("m", "j", "l", "l", "space", "z")
        await settled(pilot)
        sent = made.params("submit")
        spec = sent["spec"]
        assert sent["priority"] == "batch" and "40 fresh prompts" in app.said
        assert (spec["sites"], spec["strengths"], spec["table"]) == ("llm.2", ["8%"], "s1-confirmed")
        assert not set(spec["prompts"]) & set(sweep_stories.PROMPTS)
        sweep_stories.confirm(made, spec, done=False)
        await settled(pilot)
        assert "confirming 40/40" in str(screen.query_one("#sweep-progress").render())
        asked = made.methods().count("submit")
        await pilot.press("z")
        assert made.methods().count("submit") == asked and "being confirmed already" in app.said
        made.emit("job.finished", job="s2", status="done", seconds=9.0, audit={"ok": True})
        await settled(pilot)
        cell = screen.cell
        assert cell is not None and cell.point.site == "llm.2", "the map is still the sweep's"
        fresh = screen.confirmed(cell)
        assert fresh is not None and fresh.prompts == 40 and fresh.verdict == "called"
        text = verdict(app).replace("\n", " ")
        assert text.startswith("llm.2 8% · α 2 · norm 20: called · on fresh prompts called -20.7 [")
        assert cell.sentence in text and f"fresh: {fresh.sentence}" in text
        pins = screen.query_one("#pin-grid", Grid)
        assert str(pins.get_row_at(0)[-1]).endswith("called")
        await pilot.press("z")
        assert (
            made.methods().count("submit") == asked
            and "confirmed already: called on 40 fresh prompts" in app.said
        )


async def test_z_says_why_it_cannot(make_app) -> None:
    made = FakeKernel().ready("terse")
    app = make_app(made, first="sweep")
    both = [*library.prompt_set("bleed").prompts, *library.prompt_set("neutral").prompts]
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("z")
        assert "no cell under the cursor" in app.said
        await pilot.press("c", "d", "e", "comma", "m", "space", "enter", "h")
        assert isinstance(app.screen, Sweep)
        spec = {**sweep_stories.SPEC, "prompts": both}
        made.emit("job.queued", job="s1", kind="sweep", spec=spec, priority="batch", client="app")
        made.emit("job.started", job="s1", plan={"rows": 520, "cells": 26, "table": "s1"})
        for number, rows in enumerate(sweep_stories.cells()):
            made.emit("cell.committed", job="s1", cell=f"c{number}", table="s1", rows=rows)
        await settled(pilot)
        await pilot.press("z")
        assert "only 0 prompts" in app.said and "submit" not in made.methods()
        made.answers["submit"] = UsageError("the queue is full")
        await pilot.press("P")
        await settled(pilot)
        assert made.params("job.pause") == {"job": "s1"}


async def test_a_replay_shows_the_same_at_every_event(make_app) -> None:
    made = kernel("done")
    player = Player(Log(made), at=len(made.events))
    app = make_app(None, lobby=FakeLobby(), replay=player, first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        assert screen.reading is not None and screen.reading.summary.tested
        whole = screen.query_one(Heatmap).map
        await pilot.press("m", "j", "l", "l", "z", "r")
        assert "submit" not in made.methods() and screen.cell is not None
        live = kernel("filling")
        player.seek(len(live.events))
        await settled(pilot)
        early = screen.query_one(Heatmap).map
        player.seek(3)
        await settled(pilot)
        assert screen.query_one(Heatmap).map.rows == () and not screen.query_one("#verdict").display
        player.seek(player.last)
        await settled(pilot)
        assert screen.query_one(Heatmap).map == whole != early
    app = make_app(live, first="sweep")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert app.screen.query_one(Heatmap).map == early


async def test_a_frozen_view_holds_the_map_and_lets_the_cursor_move(make_app) -> None:
    made = kernel("filling")
    app = make_app(made, first="sweep")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = screen_of(app)
        await pilot.press("p", "m")
        before = screen.query_one(Heatmap).map
        for number, rows in enumerate(list(sweep_stories.cells())[14:], 14):
            made.emit("cell.committed", job="s1", cell=f"c{number}", table="s1", rows=rows)
        await pilot.pause()
        await pilot.press("l", "l")
        assert screen.query_one(Heatmap).map == before and "llm.1 8%" in verdict(app)
        chart = screen.query_one("#sweep-chart", Chart).plot
        assert chart is not None and chart.mark_x == 8.0
        await pilot.press("p")
        await settled(pilot)
        assert screen.query_one(Heatmap).map != before
