"""The Look screen, driven by keys over real events."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from labtui.replaying import Player
from labtui.screens.look import Look
from labtui.widgets.bars import Banner
from labtui.widgets.chart import Chart
from labtui.widgets.dialog import Form
from labtui.widgets.panel import Panel
from labtui.widgets.picture import Picture
from labtui_kernels import specs
from labtui_kernels.specs.images import check_pictures
from tests.labtui.test_app_replay import Log, body, up_to
from tests.support import look_stories as stories
from tests.support.fake_kernel import FakeKernel
from tests.support.settling import workers_done

SMALL, LARGE = (80, 24), (200, 60)


async def settled(pilot) -> None:
    for _ in range(4):
        await workers_done(pilot.app)
        pilot.app.pump.now()
        await pilot.pause()


def text(app, id: str) -> str:
    return str(app.screen.query_one(f"#{id}").render())


def numbers(app) -> tuple[float | None, ...]:
    scene = app.screen.picture.scene
    return scene.overlay.values if scene.overlay is not None else ()


@pytest.mark.parametrize(
    ("moment", "head"),
    [
        ("empty", "no picture was read in this session yet"),
        ("loading", "still loading"),
        ("text", "reads text only"),
        ("running", "scene.png · 140×112 pixels · 4×5 patches"),
        ("failed", "a picture · l1"),
    ],
)
async def test_it_says_what_there_is(make_app, moment: str, head: str) -> None:
    app = make_app(stories.kernel(moment), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert head in text(app, "look-head")
        assert (app.screen.picture.patch is None) == (moment != "running")


async def test_without_a_kernel_it_says_where_to_go(make_app) -> None:
    app = make_app(first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "no kernel is attached" in text(app, "look-head")
        for key in ("o", "r", "v", "c", "comma", "d", "E", "b", "z", "w"):
            await pilot.press(key)
        assert isinstance(app.screen, Look)


async def test_a_picture_that_was_sent_but_not_read_is_shown_without_a_cursor(make_app) -> None:
    app = make_app(stories.kernel("shown"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        scene = app.screen.picture.scene
        assert scene is not None and scene.key == stories.DIGEST and scene.rows == 0


async def test_the_patch_under_the_cursor_is_told_of(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = app.screen
        assert screen.site == "llm.3"
        await pilot.press("m", "down", "right", "right", "right")
        await settled(pilot)
        assert screen.picture.patch == 8
        where = text(app, "look-patch")
        assert "patch 8, row 1, column 3" in where and "pixels 84,28 to 112,56" in where
        assert f"token {stories.START + 8}" in where
        norm = stories.norm(4, 8)
        rank = 1 + sum(stories.norm(4, other) > norm for other in range(20))
        assert f"norm {norm:.3g}, {rank}th of 20" in where
        near = text(app, "look-neighbours")
        assert near.splitlines()[0].startswith("+0.88 llm.4") and "[blue]" in near.splitlines()[0]
        assert "▸llm.3" in near and near.count("[blue]") == 1 + len(stories.SITES)
        words = text(app, "look-readings")
        assert "word embeddings, cosine" in words and "·blue" in words and "0.6 ·blue" in words
        plot = screen.query_one("#look-norms", Chart).plot
        assert plot.series[0].points[4][1] == pytest.approx(norm) and plot.mark_x == 4
        assert [series.label for series in plot.series] == ["this patch", "median", "ends"]


async def test_comma_and_full_stop_change_the_site(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        await pilot.press("full_stop")
        await settled(pilot)
        assert app.screen.site == "llm.4" and "▸llm.4" in text(app, "look-neighbours")
        await pilot.press(*["comma"] * 9)
        await settled(pilot)
        assert app.screen.site == "vision.merged"
        assert app.screen.query_one("#look-norms", Chart).plot.mark_x == 0


async def test_raw_and_centred_neighbours(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert text(app, "look-neighbours").startswith("+0.88")
        await pilot.press("w")
        await settled(pilot)
        assert text(app, "look-neighbours").startswith("+0.58")


async def test_overlays_come_by_their_key_and_follow_the_cursor(make_app) -> None:
    app = make_app(stories.kernel("steered"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        seen = []
        for _ in range(5):
            await pilot.press("c")
            await settled(pilot)
            seen.append((app.screen.overlay, numbers(app)))
        assert [name for name, _ in seen] == ["norm", "similarity", "effect", "attention", "none"]
        every = range(stories.ROWS * stories.COLS)
        assert seen[0][1] == pytest.approx([stories.norm(4, patch) for patch in every])
        assert seen[1][1] == pytest.approx([stories.cosine(4, 0, patch) for patch in every], abs=1 / 127)
        assert seen[2][1] == pytest.approx([row["change"] for row in stories.effect(4)])
        assert seen[3][1] == pytest.approx([stories.weight(4, 51, patch) for patch in every], rel=1e-3)
        await pilot.press("c", "c", "m", "down", "down", "right")
        await settled(pilot)
        assert numbers(app) == pytest.approx([stories.cosine(4, 11, patch) for patch in every], abs=1 / 127)


async def test_the_next_word_of_the_question(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        seen = []
        for _ in range(4):
            await pilot.press("a")
            await settled(pilot)
            seen.append(app.screen.word)
        assert seen == [51, 36, 37, 38]
        assert app.screen.picture.legend == "attention llm.3 from ·is"
        assert numbers(app)[1] == pytest.approx(stories.weight(4, 38, 1), rel=1e-3)


async def test_a_marked_rectangle_is_where_edits_act(make_app) -> None:
    made = stories.kernel("done")
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("v", "down", "right", "enter")
        await settled(pilot)
        assert app.screen.edits == "8%*terse@llm.3@image0[0:2,0:2]"
        assert "only there" not in app.said and "in [0:2,0:2] alone" in app.said
        await pilot.press("escape", "r")
        await settled(pilot)
        asked, moved = [params["spec"] for method, params in made.asked if method == "submit"][-2:]
        assert asked["kind"] == "generate" and asked["edits"] == "8%*terse@llm.3@image0[0:2,0:2]"
        assert asked["prompt"] == stories.PROMPT
        assert moved["kind"] == "look" and moved["read"] == ["effect"] and moved["prompt"] == stories.PROMPT
        for spec in (asked, moved):
            check_pictures(specs.load(spec), stories_shape())
        await pilot.press("V")
        await settled(pilot)
        assert app.screen.picture.marked is None and app.screen.edits == "8%*terse@llm.3@image0"


def stories_shape():
    from labtui.projection import shape_of

    shape = shape_of(stories.kernel("empty").state)
    assert shape is not None
    return shape


async def test_scores_stand_beside_the_patch_and_over_the_picture(make_app) -> None:
    made = stories.kernel("scored")
    app = make_app(made, first="look")
    every = range(stories.ROWS * stories.COLS)
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen = app.screen
        assert screen.query_one("#scores").display
        await pilot.press("m", "right", "f")
        await settled(pilot)
        said, value = text(app, "look-scores"), stories.projection(4, 1, 0)
        cosine = value / stories.norm(4, 1)
        assert "▸terse" in said and f"+{value:.3g}  {cosine:+.2f}   3rd" in said
        assert (
            "terse at each site" in said
            and "▸llm.3" in said
            and "rank of 20" in said
            and said.count(" 3rd") == 1 + 7
        )
        await pilot.press("c", "c", "c")
        await settled(pilot)
        assert screen.overlay == "scores" and screen.picture.legend == "projection terse llm.3"
        assert numbers(app) == pytest.approx([stories.projection(4, patch, 0) for patch in every])
        await pilot.press("a")
        await settled(pilot)
        assert "random:1 at each site" in text(app, "look-scores")
        assert numbers(app) == pytest.approx([stories.projection(4, patch, 1) for patch in every])
        assert "projection on random:1" in screen.copy_text().splitlines()[0]


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 40), (200, 60)])
async def test_scores_and_readings_have_room_or_take_turns(make_app, size: tuple[int, int]) -> None:
    app = make_app(stories.kernel("scored"), first="look")
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        for key, panel in (("f", "scores"), ("s", "readings"), ("t", "neighbours")):
            await pilot.press(key)
            await settled(pilot)
            shown = {part.id: part.size.height for part in app.screen.query(".part") if part.display}
            assert shown[panel] >= 4 and all(height >= 4 for height in shown.values()), (key, shown)
            assert ("scores" in shown and "readings" in shown) == (size == LARGE)


async def test_without_directions_the_scores_say_how_to_get_them(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        assert not app.screen.query_one("#scores").display
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("f")
        await settled(pilot)
        assert "o with directions reads them" in text(app, "look-scores")


async def test_the_text_of_an_edit_is_the_truth_about_its_rectangle(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        screen, panel = app.screen, app.screen.query_one("#edits", Panel)
        await pilot.press("v", "right", "enter")
        await settled(pilot)
        assert screen.edits == "8%*terse@llm.3@image0[0:1,0:2]" and screen.picture.marked == (0, 1, 0, 2)
        await pilot.press("e", "ctrl+u", *"9%*terse@llm.2@image[1:3,2:4] + 1*terse@llm.1@last")
        await settled(pilot)
        assert screen.picture.marked == (1, 3, 2, 4) and "in [1:3,2:4]" in str(panel.border_subtitle)
        assert "only" not in str(panel.border_subtitle)
        await pilot.press("ctrl+u", *"9%*terse@llm.2@image0[3:5,2:4]")
        await settled(pilot)
        assert "expected a rectangle within [0:4,0:5]" in text(app, "look-problem")
        assert screen.picture.marked is None
        await pilot.press("ctrl+u", *"9%*terse@llm.2@image0[1:2,2:4", "escape")
        await settled(pilot)
        assert text(app, "look-problem") and screen.picture.marked is None
        await pilot.press("e", "end", "]", "escape", "V")
        await settled(pilot)
        assert screen.picture.marked is None and screen.edits == "9%*terse@llm.2@image0"


async def test_a_new_mark_leaves_edits_of_the_text_alone(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        await pilot.press("e", *"9%*terse@llm.2@image1 + 1*terse@llm.1@last", "escape", "v", "down", "enter")
        await settled(pilot)
        assert app.screen.edits == "9%*terse@llm.2@image0[0:2,0:1] + 1.0*terse@llm.1@last"


async def test_the_picture_has_the_focus_when_it_comes_and_after_writing(make_app, tmp_path: Path) -> None:
    made = stories.kernel("empty")
    app = make_app(made, first="look")
    file = tmp_path / "scene.png"
    file.write_bytes(stories.PICTURE)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("o", *str(file), "ctrl+r")
        await settled(pilot)
        stories.picture(made)
        stories.look(made)
        await settled(pilot)
        await pilot.press("right", "down")
        assert app.screen.picture.patch == 6
        await pilot.press("i", *"Why?", "enter", "right")
        await settled(pilot)
        assert app.screen.question == "Why?" and app.screen.picture.patch == 7
        await pilot.press("t", "escape", "left")
        assert app.screen.picture.patch == 6


async def test_a_replay_of_a_look_opens_where_it_can_be_read(make_app) -> None:
    made = stories.kernel("steered")
    player = Player(Log(made.events))
    app = make_app(replay=player)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert isinstance(app.screen, Look) and not player.playing and player.seq == player.last
        await pilot.press("right")
        assert app.screen.picture.patch == 1
    stays = Player(Log(made.events), at=2)
    app = make_app(replay=stays)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert stays.seq == 2 and not stays.playing


async def test_escape_leaves_a_rectangle_undrawn(make_app) -> None:
    app = make_app(stories.kernel("done"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("v", "right", "escape")
        await settled(pilot)
        assert not app.screen.picture.marking and app.screen.edits == ""


async def test_a_question_is_asked_plain_and_steered(make_app) -> None:
    made = stories.kernel("steered")
    app = make_app(made, first="look")
    async with app.run_test(size=LARGE) as pilot:
        await settled(pilot)
        assert "A red square is at the left." in text(app, "look-plain-text")
        assert text(app, "look-steered-text") == f"steered {stories.EDITS}\nA square."
        await pilot.press("i", "end", "ctrl+u", *"How many?", "enter")
        await settled(pilot)
        asked, moved = [params["spec"] for method, params in made.asked if method == "submit"][-2:]
        assert asked["prompt"] == [{"role": "user", "content": "How many?", "images": [stories.DIGEST]}]
        assert asked["kind"] == "generate" and asked["edits"] == moved["edits"] == stories.EDITS


async def test_a_bad_edit_is_said_and_nothing_is_run(make_app) -> None:
    made = stories.kernel("done")
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("e", *"2*terse@llm.99")
        await settled(pilot)
        assert "llm.99" in text(app, "look-problem")
        await pilot.press("ctrl+u", *"2*terse@@", "enter")
        await settled(pilot)
        assert app.said.startswith("!") and "submit" not in made.methods()


async def test_a_form_reads_a_picture(make_app, tmp_path: Path) -> None:
    made = stories.kernel("empty")
    app = make_app(made, first="look")
    file = tmp_path / "scene.png"
    file.write_bytes(stories.PICTURE)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("o")
        await settled(pilot)
        assert isinstance(app.screen, Form)
        await pilot.press(*"nowhere.png")
        assert "no such file" in text(app, "hint-picture")
        await pilot.press("ctrl+u", *str(file)[:-3])
        await settled(pilot)
        await pilot.press("right")
        assert app.screen.values()["picture"] == str(file)
        assert "7 sites · norms, similarity, scores, readings, neighbours" in text(app, "preview")
        await pilot.press("tab", *"What?", "ctrl+r")
        await settled(pilot)
        spec = made.params("submit")["spec"]
        assert spec["kind"] == "look" and spec["index"] == "captions" and spec["directions"] == ["*"]
        assert spec["prompt"] == [{"role": "user", "content": "What?", "images": [stories.DIGEST]}]
        assert made.params("submit")["names"] == {stories.DIGEST: "scene.png"}
        assert made.params("image.missing") == {"digests": [stories.DIGEST]}
        specs.load(spec)


async def test_a_text_model_is_not_asked_to_see(make_app) -> None:
    app = make_app(stories.kernel("text"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("o")
        assert isinstance(app.screen, Look) and "reads text only" in app.said


async def test_an_earlier_picture_and_a_failed_look(make_app) -> None:
    made = stories.kernel("done")
    stories.look(made, "failed", job="l9")
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "read from another model" in text(app, "look-progress")
        scene = app.screen.picture.scene
        assert scene is not None and scene.rows == 0
        await pilot.press("d")
        await settled(pilot)
        assert "l1, 1 of 2" in text(app, "look-head") and app.screen.picture.extent == (4, 5)


async def test_without_a_thumbnail_the_patches_can_still_be_walked(make_app) -> None:
    made = stories.kernel("empty")
    made.emit(
        "image.added", digest=stories.DIGEST, name="scene.png", width=140, height=112, thumbnail=b"no png"
    )
    stories.look(made)
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert app.screen.picture.scene.key.startswith("blank:")
        await pilot.press("m", "right")
        await settled(pilot)
        assert app.screen.picture.patch == 1 and "patch 1" in text(app, "look-patch")


async def test_a_picture_is_shown_however_many_came_after_it(make_app) -> None:
    made = stories.kernel("done")
    for number in range(60):
        made.emit("image.added", digest=f"sha256:{number:064x}", name="other.png", width=9, height=9)
    assert stories.DIGEST not in made.state.images
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        scene = app.screen.picture.scene
        assert scene is not None and scene.key == stories.DIGEST and app.screen.picture.extent == (4, 5)


async def test_keys_bring_each_panel_to_a_small_screen(make_app) -> None:
    app = make_app(stories.kernel("steered"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        for key, panel in (("s", "readings"), ("u", "norms"), ("x", "answers"), ("t", "neighbours")):
            await pilot.press(key)
            await settled(pilot)
            there = [part.id for part in app.screen.query(".part") if part.display and part.size.height > 1]
            assert there == [panel]
            assert app.screen.query_one(Picture).size.height >= 8
            await pilot.press("escape")


async def test_a_table_is_written_and_the_patches_are_copied(make_app, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(stories.kernel("steered"), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("E", "tab", "enter")
        await settled(pilot)
        with (tmp_path / "l1-patches.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 20 * len(stories.SITES)
        assert float(rows[21]["norm"]) == pytest.approx(stories.norm(1, 1))
        await pilot.press("c")
        await settled(pilot)
        lines = app.screen.copy_text().splitlines()
        assert lines[0].split("\t")[:5] == ["site", "patch", "row", "col", "norm"] and len(lines) == 21
        assert specs.load(app.screen.copy_spec()) == specs.load(stories.SPEC)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
async def test_live_and_replayed_screens_are_equal_at_the_same_event(make_app, share: float) -> None:
    made = stories.kernel("steered")
    seq = int(len(made.events) * share)
    painted = []
    player = Player(Log(made.events), at=seq)
    for options in ({"kernel": up_to(made, seq)}, {"replay": player}):
        app = make_app(first="look", **options)
        async with app.run_test(size=(120, 40)) as pilot:
            await settled(pilot)
            await pilot.press("m", "right", "down", "c", "escape", "x")
            await settled(pilot)
            painted.append(body(app))
    assert painted[0] == painted[1]
    assert player.first_screen == "look"


async def test_a_kernel_that_goes_away_leaves_what_was_read(make_app) -> None:
    from labtui.projection import Link

    made = stories.kernel("done")
    app = make_app(made, first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        made.set_link(Link("lost", "the kernel closed the connection", 2))
        await settled(pilot)
        await pilot.press("m", "right")
        await settled(pilot)
        assert app.screen.picture.patch == 1 and "patch 1" in text(app, "look-patch")
        assert "link lost" in str(app.screen.query_one(Banner).render())


async def test_a_kernel_without_a_model_says_so(make_app) -> None:
    app = make_app(FakeKernel().opened(), first="look")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "still loading" in text(app, "look-head")
