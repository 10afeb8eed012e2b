"""Steer, driven by keys against a kernel whose events are real."""

from __future__ import annotations

from dataclasses import replace

from labtui.projection import Link
from labtui.screens.steer import Steer, related
from labtui.widgets.arms import Arm
from labtui.widgets.dialog import Form, Menu
from labtui.widgets.growing import GrowingText
from labtui.widgets.tokens import Templated
from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from tests.support.fake_kernel import SPEC, STEERED, FakeKernel
from tests.support.settling import workers_done
from tests.support.stories import kernel

WIDE = (200, 60)


def steer(app) -> Steer:
    screen = app.lab_screen
    assert isinstance(screen, Steer)
    return screen


async def settled(pilot) -> None:
    await workers_done(pilot.app)
    pilot.app.pump.now()
    await pilot.pause()


async def test_a_prompt_is_written_and_run(make_app) -> None:
    made = FakeKernel().ready("terse")
    app = make_app(made)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", *"Why?", "enter")
        await settled(pilot)
        sent = made.params("submit")
        assert sent["priority"] == "interactive"
        assert sent["spec"]["prompt"] == "Why?" and sent["spec"]["edits"] == ""
        specs.load(sent["spec"])


async def test_control_j_breaks_the_line_and_escape_leaves(make_app) -> None:
    made = FakeKernel().ready()
    app = make_app(made)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i", "a", "ctrl+j", "b")
        assert steer(app).draft.prompt == "a\nb"
        await pilot.press("escape")
        assert app.focused is None
        assert "submit" not in made.methods()


async def test_site_and_direction_make_an_edit(make_app) -> None:
    app = make_app(FakeKernel().ready("terse", "formal"))
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("s", "j", "j", "j", "enter", "d", "enter")
        assert steer(app).draft.edits == "30%*terse@llm.2"


async def test_typed_edits_are_checked_as_they_are_typed(make_app) -> None:
    app = make_app(FakeKernel().ready("terse"))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("e", *"2.0*terse@llm.99")
        problem = app.screen.query_one("#edit-problem")
        assert problem.display and "llm.99" in str(problem.render())
        await pilot.press("backspace", "backspace", "3")
        assert not problem.display
        assert steer(app).draft.edits == "2.0*terse@llm.3"


async def test_a_line_that_is_no_edit_does_not_run_the_edit_before_it(make_app) -> None:
    made = FakeKernel().ready("terse")
    app = make_app(made)
    async with app.run_test(size=WIDE) as pilot:
        steer(app).change(replace(steer(app).draft, prompt="Why?"))
        await pilot.press("e", *"2.0*terse@llm.99", "enter")
        await settled(pilot)
        assert "llm.99" in app.said and "submit" not in made.methods()
        await pilot.press("backspace", "backspace", "3", "enter")
        await settled(pilot)
        assert made.params("submit")["spec"]["edits"] == "2.0*terse@llm.3"


async def test_a_new_direction_comes_with_an_edit_in_the_middle_of_the_model(make_app) -> None:
    made = FakeKernel().ready()
    app = make_app(made)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "D makes a direction" in app.screen.query_one("#steered-text", GrowingText).plain
        await pilot.press("D", "enter")
        await settled(pilot)
        assert made.params("submit")["spec"]["kind"] == "direction"
        shape = steer(app).shape
        assert shape is not None
        middle = shape.blocks // 2
        assert steer(app).draft.edits == f"30%*terse@llm.{middle}"
        assert steer(app).draft.edits in app.said
        assert "r runs" in app.screen.query_one("#steered-text", GrowingText).plain


async def test_a_direction_that_is_not_made_yet_names_the_key_that_makes_it(make_app) -> None:
    made = FakeKernel().ready()
    app = make_app(made)
    made.emit("job.queued", job="j1", kind="generate", spec={"kind": "generate", "prompt": "x"})
    made.emit("job.finished", job="j1", status="failed", error="no direction named 'terse' (stored: none)")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert "D makes terse" in app.screen.query_one("#steered-text", GrowingText).plain


async def test_the_chart_holds_answers_to_this_prompt_only(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        assert len(related(made.state, steer(app).draft)) > 2
        steer(app).change(replace(steer(app).draft, prompt="Something else?"))
        assert related(made.state, steer(app).draft) == []


async def test_the_knob_is_sent_while_it_streams_and_says_from_where_it_applies(make_app) -> None:
    made = kernel("running")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("full_stop")
        await settled(pilot)
        assert made.params("knob") == {"job": "j9", "row": "steered", "edit": 0, "strength": "2.1"}
        made.emit("knob", job="j9", row="steered", edit=0, strength=2.1, strength_text="2.1", step=5)
        await settled(pilot)
        assert "2.1 from token 5" in str(app.screen.query_one("#knob").render())


async def test_the_knob_is_not_sent_when_nothing_streams(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("greater_than_sign", "minus")
        await settled(pilot)
        assert steer(app).draft.edits == "-2.5*terse@llm.4"
        assert "knob" not in made.methods()


async def test_units_are_the_same_strength(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        scale = steer(app).scale(made.state)
        before = scale.all_units(steer(app).draft.strength)
        for _ in range(3):
            await pilot.press("u")
        after = scale.all_units(steer(app).draft.strength)
        assert steer(app).draft.strength.unit == "alpha"
        assert all(abs(a - b) < 1e-2 * abs(b) for a, b in zip(after, before, strict=True) if a and b)


async def test_tokens_are_asked_for_and_marked(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await pilot.press("w", "w")
        await settled(pilot)
        tokens = steer(app).tokens
        assert steer(app).draft.edits == "2.0*terse@llm.4@last"
        assert isinstance(tokens, Templated)
        assert tokens.edited == {len(tokens.pieces) - 1} == tokens.read
        assert tokens.generated == ""


async def test_again_with_one_thing_changed(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("A")
        await pilot.pause()
        assert isinstance(app.screen, Menu)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, Form)
        await pilot.press("ctrl+u", *"8%", "enter")
        await settled(pilot)
        sent = made.params("submit")
        assert sent["spec"] == {**SPEC, "edits": "8%*terse@llm.4"}
        assert sent["parent"] == "j9"


async def test_a_patch_is_a_spec_that_loads(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("x")
        await pilot.pause()
        await pilot.press("ctrl+r")
        await settled(pilot)
        spec = made.params("submit")["spec"]
        loaded = specs.load(spec)
        assert loaded.kind == "patch" and spec["source"] == "plain" and spec["site"] == "llm.4"


async def test_keeping_a_turn_and_dropping_it(make_app) -> None:
    made = kernel("done")
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("plus")
        assert steer(app).draft.turns == (("user", SPEC["prompt"]), ("assistant", STEERED))
        await pilot.press(*"And?", "escape")
        messages = steer(app).draft.spec()["prompt"]
        assert [m["role"] for m in messages] == ["user", "assistant", "user"]
        specs.load(steer(app).draft.spec())
        await pilot.press("underscore")
        assert steer(app).draft.prompt == SPEC["prompt"]


async def test_an_error_of_the_kernel_is_one_line_and_the_app_lives(make_app) -> None:
    made = kernel("done")
    assert made is not None
    made.answers["submit"] = UsageError("spec generate: site llm.99 does not exist")
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert "llm.99 does not exist" in str(app.screen.query_one("#status").render())
        await pilot.press("4")
        assert app.current_mode == "shelf"


async def test_a_frozen_view_holds_while_the_run_goes_on(make_app) -> None:
    made = kernel("running")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        arm = app.screen.query_one("#steered", Arm)
        before = arm.text
        await pilot.press("p")
        made.tokens("j9", "steered", " one thread at a time", start=5)
        await pilot.pause(0.3)
        assert arm.text == before
        await pilot.press("p")
        await pilot.pause()
        assert arm.text.endswith("at a time")


async def test_the_link_is_shown_and_can_be_hurried(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        made.set_link(Link("lost", "broken pipe", 2))
        await settled(pilot)
        banner = app.screen.query_one("#banner")
        assert (
            banner.display and "broken pipe" in str(banner.render()) and "attempt 2" in str(banner.render())
        )
        await pilot.press("R")
        assert made.retried == 1
        made.set_link(Link())
        await settled(pilot)
        assert not banner.display


async def test_copying_says_which_way_was_used(make_app, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    made = kernel("done")
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key, wanted in (
            ("y", STEERED),
            ("Y", "labtui run generate --kernel toy"),
            ("S", 'kind = "generate"'),
        ):
            await pilot.press(key)
            await settled(pilot)
            assert (tmp_path / "copied.txt").read_text().startswith(wanted)
            assert str(tmp_path / "copied.txt") in app.said


async def test_a_word_typed_in_an_input_is_no_command(make_app) -> None:
    made = kernel("done")
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("i", *"q12?/:")
        assert app.current_mode == "steer" and app.is_running
        assert steer(app).draft.prompt.endswith("q12?/:")
        await pilot.press("alt+4")
        assert app.current_mode == "shelf"
