"""The Diagnose screen, driven by keys over real events."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from labtui.replaying import Player
from labtui.screens.diagnose import Diagnose
from labtui.widgets.chart import Chart
from labtui.widgets.dialog import Form
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid
from labtui_kernels import specs
from tests.labtui.test_app_replay import Log, body, up_to
from tests.support import diagnosis_stories as stories
from tests.support.fake_kernel import FakeKernel
from tests.support.settling import workers_done

SMALL, LARGE = (80, 24), (200, 60)


async def settled(pilot) -> None:
    for _ in range(3):
        await workers_done(pilot.app)
        pilot.app.pump.now()
        await pilot.pause()


def plot(app, id: str):
    return app.screen.query_one(f"#{id}", Chart).plot


async def test_layers_curves_landscape_and_map_follow_the_site(make_app) -> None:
    app = make_app(stories.kernel("done"), first="diagnose")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        grid = app.screen.query_one("#anatomy-grid", Grid)
        assert grid.current == "llm.0.in" and grid.row_count == 9
        assert "no SNR: the poles have no spread" in str(app.screen.query_one("#anatomy-why").render())
        assert plot(app, "landscape-chart") is None and app.screen.query_one(Heatmap).current is None
        await pilot.press("full_stop", "full_stop")
        await settled(pilot)
        assert grid.current == "llm.1"
        drawn = plot(app, "landscape-chart")
        assert [len(series.points) for series in drawn.series] == [12, 12, 12, 1, 1, 1]
        assert len({series.symbol for series in drawn.series}) == 6
        norms = plot(app, "curve-norms")
        assert norms.mark_x == 2 and [series.label for series in norms.series] == [
            "norm",
            "with sinks",
            "apart",
            "spread",
        ]
        assert norms.series[0].points[1:3] == ((1.0, 20.0), (2.0, 26.0))
        map = app.screen.query_one(Heatmap).map
        assert map.rows == stories.NAMES and map.corner == "llm.1"
        assert [tile.text if tile else None for tile in map.tiles[0]] == ["+1.00", "+0.15", "-0.40"]
        assert map.tiles[1][2] is None
        await pilot.press("comma", "comma", "comma")
        await settled(pilot)
        assert grid.current == "llm.0.in"


async def test_enter_on_a_pair_draws_its_cosine_over_the_depth(make_app) -> None:
    app = make_app(stories.kernel("done"), first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("full_stop")
        await settled(pilot)
        await pilot.press("m", "enter")
        await settled(pilot)
        assert "pick a pair of two" in app.said
        await pilot.press("j", "enter")
        await settled(pilot)
        curve = plot(app, "curve-pair")
        assert curve.series[0].label == "terse and formal" and len(curve.series[0].points) == 8
        assert curve.series[0].points[3] == (3.0, pytest.approx(0.25))
        assert app.screen.query_one("#curve-pair", Chart).display
        await pilot.press("c")
        await settled(pilot)
        assert app.screen.query_one("#curve-norms", Chart).display


async def test_keys_bring_each_panel_to_a_small_screen(make_app) -> None:
    app = make_app(stories.kernel("done"), first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        for key, panel in (("t", "anatomy"), ("s", "landscape"), ("m", "cosines"), ("v", "curves")):
            await pilot.press(key)
            await settled(pilot)
            there = [part.id for part in app.screen.query(".part") if part.display and part.size.height > 1]
            assert there == [panel]
            await pilot.press("escape")


async def test_a_form_runs_a_diagnosis_with_its_cost_beside_it(make_app) -> None:
    made = stories.kernel("done")
    app = make_app(made, first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert isinstance(app.screen, Form)
        # 24 prompts of the poles and 24 neutral ones, at the 3 seconds that 48 took before
        assert "8 sites · 48 prompts in one pass · about 3 s" in str(
            app.screen.query_one("#preview").render()
        )
        await pilot.press("ctrl+u", *"nope")
        assert "expected one of terse, formal, dry" in str(app.screen.query_one("#hint-poles").render())
        await pilot.press("ctrl+u", *"socratic", "ctrl+r")
        await settled(pilot)
        sent = made.params("submit")
        assert sent["spec"] == {
            "kind": "diagnose",
            "style": "socratic",
            "directions": ["*"],
            "sites": "llm.*",
        }
        specs.load(sent["spec"])


async def test_the_shelf_diagnoses_the_direction_under_the_cursor(make_app) -> None:
    made = stories.kernel("empty")
    made.emit("artifact.saved", name="mix", kind="direction", meta={"method": "compose"})
    app = make_app(made, first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("G", "d")
        assert "was not read from poles (compose)" in app.said and "submit" not in made.methods()
        await pilot.press("g", "j", "d")
        await settled(pilot)
        assert made.params("submit")["spec"] == {
            "kind": "diagnose",
            "direction": "formal",
            "directions": ["*"],
        }
        assert app.current_mode == "diagnose"
        stories.diagnose(made)
        await settled(pilot)
        assert isinstance(app.screen, Diagnose) and app.screen.job is not None
        assert len(app.screen.depth) == 9


async def test_earlier_diagnoses_and_a_failed_one(make_app) -> None:
    made = stories.kernel("done")
    made.emit("job.queued", job="d2", kind="diagnose", spec={"kind": "diagnose", "style": "dry"})
    made.emit("job.finished", job="d2", status="failed", error="no room")
    app = make_app(made, first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "no room" in str(app.screen.query_one("#diagnose-progress").render())
        assert "dry · d2, 2 of 2" in str(app.screen.query_one("#diagnose-head").render())
        assert app.screen.query_one("#anatomy-grid", Grid).row_count == 0
        await pilot.press("d")
        await settled(pilot)
        assert "terse · 12 pairs · read last" in str(app.screen.query_one("#diagnose-head").render())
        assert app.screen.query_one("#anatomy-grid", Grid).row_count == 9


async def test_a_table_and_a_picture_are_written(make_app, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(stories.kernel("done"), first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("e", "tab", "enter")
        await settled(pilot)
        with (tmp_path / "d1-anatomy.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["site"] for row in rows] == ["llm.0.in", *stories.SITES]
        assert float(rows[3]["snr"]) == pytest.approx(14 / 3)
        await pilot.press("e", "tab", "ctrl+u", *"d.png", "enter")
        await settled(pilot)
        assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
        assert "layer anatomy of terse" in app.said


async def test_its_spec_and_its_table_are_copied(make_app) -> None:
    app = make_app(stories.kernel("done"), first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert app.screen.copy_text().splitlines()[1].startswith("terse\tllm.0.in\t2.5")
        assert specs.load(app.screen.copy_spec()) == specs.load(stories.SPEC)
        assert "labtui run diagnose" in app.screen.copy_command()


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
async def test_live_and_replayed_screens_are_equal_at_the_same_event(make_app, share: float) -> None:
    made = stories.kernel("done")
    seq = int(len(made.events) * share)
    painted = []
    player = Player(Log(made.events), at=seq)
    for options in ({"kernel": up_to(made, seq)}, {"replay": player}):
        app = make_app(first="diagnose", **options)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("t", "j", "j", "escape", "s")
            await settled(pilot)
            painted.append([line for line in body(app) if "r reads" not in line])
    assert painted[0] == painted[1]
    assert player.first_screen == "diagnose"


async def test_a_replay_that_goes_back_takes_the_landscape_away(make_app) -> None:
    made = stories.kernel("done")
    player = Player(Log(made.events), at=len(made.events))
    app = make_app(replay=player, first="diagnose")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        await pilot.press("full_stop")
        await settled(pilot)
        assert plot(app, "landscape-chart") is not None
        before = next(e.seq for e in made.events if e.data.get("cell") == "landscape:llm.0")
        player.seek(before - 1)
        await settled(pilot)
        assert plot(app, "landscape-chart") is None and len(app.screen.depth) == 9
        player.seek(0)
        await settled(pilot)
        assert app.screen.job is None and app.screen.query_one("#anatomy-grid", Grid).row_count == 0


async def test_a_kernel_without_a_model_says_so(make_app) -> None:
    app = make_app(FakeKernel().opened(), first="diagnose")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "still loading" in str(app.screen.query_one("#diagnose-head").render())
