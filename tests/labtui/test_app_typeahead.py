"""Keys that come all at once, as a terminal gives what was typed ahead: each does what it would have done
alone."""

from __future__ import annotations

from textual import events

from labtui.app import LabApp
from labtui.screens.steer import Steer
from labtui.widgets.dialog import Form
from tests.support.settling import workers_done
from tests.support.stories import kernel

WIDE = (200, 60)
NAMED = {"\r": "enter", "\x1b": "escape", "+": "plus", "\n": "ctrl+j", " ": "space"}


async def burst(app: LabApp, pilot, text: str) -> None:
    """Put every key into the app's queue before it has looked at the first."""
    for character in text:
        app.post_message(events.Key(NAMED.get(character, character), character))
    await settled(pilot)


async def settled(pilot) -> None:
    await pilot.pause()
    await workers_done(pilot.app)
    await pilot.pause()


async def test_an_edit_and_a_prompt_typed_ahead_run(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="home")
    async with app.run_test(size=WIDE) as pilot:
        await settled(pilot)
        await burst(app, pilot, "2e")
        assert app.current_mode == "steer"
        assert app.focused is not None and app.focused.id == "edit-line"
        app.focused.value = ""  # type: ignore[attr-defined]
        await burst(app, pilot, "20%*random:7@llm.3\x1bi What is a mutex?\r")
        spec = made.params("submit")["spec"]
        assert spec["edits"] == "20%*random:7@llm.3"
        assert spec["prompt"].endswith(" What is a mutex?")
        assert "knob" not in made.methods()


async def test_keys_go_to_the_dialogue_that_the_key_before_opens(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="home")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await burst(app, pilot, "2nquiet at llm.4\r")
        assert made.params("session.note")["text"] == "quiet at llm.4"
        assert app.current_mode == "steer" and not isinstance(app.screen, Form)


async def test_a_menu_that_opens_a_form_takes_what_was_typed_ahead(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(made, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await burst(app, pilot, "A\r8\r")
        assert made.params("submit")["spec"]["edits"] == "8.0*terse@llm.4"


async def test_a_form_that_has_to_ask_first_still_gets_its_keys(make_app) -> None:
    app = make_app(kernel("done"), first="home")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await burst(app, pilot, "sbrain2")
        assert isinstance(app.screen, Form)
        assert app.screen.values()["name"].endswith("brain2")


async def test_a_paste_goes_where_the_key_before_it_led(make_app) -> None:
    app = make_app(kernel("done"), first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.post_message(events.Key("i", "i"))
        app.post_message(events.Paste("pasted words"))
        await settled(pilot)
        assert isinstance(app.screen, Steer)
        assert app.screen.draft.prompt.endswith("pasted words")
