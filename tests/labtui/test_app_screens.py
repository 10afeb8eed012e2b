"""Home, Sweep, Shelf and Sessions, driven by keys."""

from __future__ import annotations

from textual.widgets import Input

from labtui.projection import KernelCard
from labtui.screens.home import TOY
from labtui.screens.shelf import Shelf
from labtui.screens.sweep import Sweep
from labtui.widgets.dialog import Confirm, Form
from labtui.widgets.lists import Grid
from labtui.widgets.prompt import Prompt
from labtui_kernels import specs
from tests.support.fake_kernel import FakeKernel, FakeLobby
from tests.support.settling import workers_done
from tests.support.stories import kernel

SMALL = (80, 24)


async def settled(pilot) -> None:
    await workers_done(pilot.app)
    pilot.app.pump.now()
    await pilot.pause()


async def test_one_key_starts_the_bundled_toy_and_the_app_attaches(make_app) -> None:
    lobby = FakeLobby()
    app = make_app(lobby=lobby)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("b")
        await settled(pilot)
        await settled(pilot)
        assert lobby.started == [TOY]
        assert app.kernel is lobby.there["toy"] and app.current_mode == "steer"
        banner = app.screen.query_one("#banner")
        assert banner.display and "45%" in str(banner.render())


async def test_a_kernel_is_started_by_form(make_app) -> None:
    lobby = FakeLobby([KernelCard("lab", "ready", "m")])
    app = make_app(lobby=lobby)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("s")
        await settled(pilot)
        assert isinstance(app.screen, Form)
        await pilot.press(*"lab")
        assert "runs already" in str(app.screen.query_one("#hint-name").render())
        await pilot.press("2", "ctrl+r")
        await settled(pilot)
        assert lobby.started[0].name == "lab2" and lobby.started[0].model == "toy-qwen3"


async def test_stopping_a_kernel_asks_first(make_app) -> None:
    lobby = FakeLobby([KernelCard("toy", "ready", "toy-qwen3")])
    app = make_app(lobby=lobby)
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("X")
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        assert lobby.stopped == []
        await pilot.press("X", "y")
        await settled(pilot)
        assert lobby.stopped == ["toy"]


async def test_search_narrows_a_list_and_escape_widens_it(make_app) -> None:
    app = make_app(kernel("done"), first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        grid = app.screen.query_one("#artifact-grid", Grid)
        await pilot.press("slash", *"form")
        assert grid.row_count == 1
        await pilot.press("enter")
        assert grid.row_count == 1 and grid.has_focus
        await pilot.press("slash", "escape")
        assert grid.row_count == 2


async def test_shelf_marks_compares_renames_and_deletes(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("m", "j", "m")
        await settled(pilot)
        assert isinstance(app.screen, Shelf) and app.screen.marked == ("terse", "formal")
        assert made.params("cosine") == {"names": ["terse", "formal"]}
        assert "0.31" in str(app.screen.query_one("#cosine-text").render())
        await pilot.press("e", "ctrl+u", *"polite", "enter")
        await settled(pilot)
        assert made.params("artifact.rename") == {"old": "formal", "new": "polite"}
        made.emit("artifact.renamed", old="formal", new="polite")
        await settled(pilot)
        assert app.screen.current() == "polite"
        made.emit("artifact.renamed", old="polite", new="formal")
        await settled(pilot)
        await pilot.press("delete", "escape")
        assert "artifact.delete" not in made.methods()
        await pilot.press("delete", "y")
        await settled(pilot)
        assert made.params("artifact.delete") == {"name": "formal"}


async def test_shelf_compares_directions_only_and_inspects_what_a_search_leaves(make_app) -> None:
    made = kernel("done")
    assert made is not None
    made.emit("artifact.saved", name="norms", kind="activations", meta={"dtype": "float32"})
    app = make_app(made, first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("G", "m")
        assert isinstance(app.screen, Shelf) and app.screen.current() == "norms"
        assert app.screen.marked == () and "only directions are compared" in app.said
        await pilot.press("slash", *"form", "enter")
        await settled(pilot)
        assert app.screen.current() == "formal"
        assert str(app.screen.query_one("#about-text").render()).startswith("formal")


async def test_algebra_is_checked_and_sent(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("a", "ctrl+u", *"terse - nope")
        assert "there is no nope" in str(app.screen.query_one("#hint-expr").render())
        await pilot.press(*(["backspace"] * 4), *"formal", "tab", *"both", "enter")
        await settled(pilot)
        spec = made.params("submit")["spec"]
        assert spec == {"kind": "compose", "name": "both", "expr": "terse - formal"}
        specs.load(spec)


async def test_enter_on_a_direction_steers_with_it(make_app) -> None:
    app = make_app(kernel("done"), first="shelf")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("j", "enter")
        await settled(pilot)
        assert app.current_mode == "steer"
        assert app.screen.draft.edits == "2.0*formal@llm.4"  # type: ignore[attr-defined]


async def test_sweep_counts_live_and_runs(make_app) -> None:
    made = FakeKernel().ready("terse")
    app = make_app(made, first="sweep")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        count = app.screen.query_one("#sweep-count")
        assert "196 rows" in str(count.render())
        await pilot.press("i")
        app.screen.query_one("#sweep-strengths").focus()
        await pilot.press("end", *", x")
        app.pump.now()
        assert "strengths" in str(count.render())
        await pilot.press("backspace", *"8%", "escape", "r")
        await settled(pilot)
        sent = made.params("submit")
        assert sent["priority"] == "batch" and sent["spec"]["strengths"] == [1, 2, 4, "8%"]


async def test_sweep_shows_the_table_and_pauses(make_app) -> None:
    made = kernel("running")
    assert made is not None
    app = make_app(made, first="sweep")
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await settled(pilot)
        assert isinstance(app.screen, Sweep) and len(app.screen.rows) == 6
        await pilot.press("P")
        await settled(pilot)
        assert made.params("job.pause") == {"job": "s1"}
        spec = made.state.jobs["s1"].spec | {"prompts": ["What is a tide?"], "sites": "llm.3"}
        made.emit("job.queued", job="s2", kind="sweep", spec=spec, priority="batch", client="elsewhere")
        await settled(pilot)
        assert app.screen.query_one("#sweep-prompts", Prompt).text == "What is a tide?"
        assert app.screen.query_one("#sweep-sites", Input).value == "llm.3"


async def test_session_notes_tags_and_saving(make_app, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = kernel("done")
    assert made is not None
    lobby = FakeLobby()
    app = make_app(made, lobby=lobby, first="sessions")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("n", *"seen", "enter")
        await settled(pilot)
        assert made.params("session.note") == {"text": "seen"}
        await pilot.press("t", *"keep", "enter")
        await settled(pilot)
        assert made.params("session.untag") == {"text": "keep"}
        await pilot.press("N", *"next", "enter")
        await settled(pilot)
        assert made.asked[-2:] == [("session.new", {"title": "next"}), ("attach", {"session": None})]
        await pilot.press("ctrl+s", "enter")
        await settled(pilot)
        assert lobby.files == [tmp_path / "mutex.safetensors"]
        assert "labtui replay" in app.said
