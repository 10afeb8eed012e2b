"""The registry tells the truth: bindings exist, actions are served, help and palette agree."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
from textual.binding import Binding

from labtui import actions
from labtui.actions import ACTIONS, SCOPE_TITLES, bindings, by_scope, handler_name
from labtui.app import LabApp
from labtui.screens.base import BaseScreen
from labtui.screens.claims import Claims
from labtui.screens.diagnose import Diagnose
from labtui.screens.home import Home
from labtui.screens.look import Look
from labtui.screens.sessions import Sessions
from labtui.screens.shelf import Shelf
from labtui.screens.steer import Steer
from labtui.screens.sweep import Sweep
from labtui.widgets.dialog import Confirm, Form, Menu
from labtui.widgets.growing import GrowingText
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.help import HelpScreen, text
from labtui.widgets.lists import Choices, Grid
from labtui.widgets.picture import Picture
from labtui.widgets.prompt import Prompt
from labtui.widgets.reader import Reader
from labtui.widgets.sitetree import SiteTree
from labtui.widgets.sweeplist import SweepList
from labtui_artifacts.errors import UsageError
from tests.support.settling import workers_done
from tests.support.stories import kernel

SERVED_BY: dict[str, tuple[type, ...]] = {
    "app": (LabApp,), "replay": (LabApp,), "home": (Home,), "steer": (Steer,), "sweep": (Sweep,),
    "shelf": (Shelf,), "sessions": (Sessions,), "diagnose": (Diagnose,), "claims": (Claims,),
    "list": (Choices, Grid, SiteTree), "reader": (Reader, GrowingText),
    "look": (Look,), "picture": (Picture,),
    "heatmap": (Heatmap,), "sweeps": (SweepList,),
    "prompt": (Prompt,), "dialog": (Form, Menu, HelpScreen), "question": (Confirm,),
}  # fmt: skip
SCREEN_CLASSES: dict[str, type[BaseScreen]] = {
    "home": Home, "steer": Steer, "sweep": Sweep, "shelf": Shelf, "sessions": Sessions,
    "diagnose": Diagnose, "claims": Claims, "look": Look,
}  # fmt: skip


def test_every_scope_is_served_and_titled() -> None:
    assert set(SERVED_BY) == set(SCOPE_TITLES) == {a.scope for a in ACTIONS}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a.id)
def test_every_action_has_a_handler(action) -> None:
    for served in SERVED_BY[action.scope]:
        assert inspect.isfunction(getattr(served, handler_name(action), None)), (
            f"{served.__name__}: {action.id}"
        )


@pytest.mark.parametrize("scope", SCOPE_TITLES)
def test_bindings_are_those_of_the_registry(scope: str) -> None:
    wanted = {(key, action.handler) for action in by_scope(scope) for key in action.keys}
    for served in SERVED_BY[scope]:
        own = served.__dict__["BINDINGS"]
        there = {(b.key, b.action) for b in own if isinstance(b, Binding)}
        assert wanted <= there
        if len(served.__dict__["BINDINGS"]) == len(bindings(scope)):
            assert wanted == there


@pytest.mark.parametrize("scope", SCOPE_TITLES)
def test_no_key_is_given_twice_in_a_scope(scope: str) -> None:
    keys = Counter(key for action in by_scope(scope) for key in action.keys)
    assert [key for key, count in keys.items() if count > 1] == []


def test_no_key_that_terminals_or_tmux_take() -> None:
    taken = {"ctrl+h", "ctrl+m", "ctrl+b", "ctrl+i", "ctrl+z"}
    assert not taken & {key for action in ACTIONS for key in action.keys}


def test_a_screen_key_does_not_hide_an_app_key_by_accident() -> None:
    """Where both have a key, the screen's wins: only those that are meant to."""
    for scope in SCREEN_CLASSES:
        here = {key for action in by_scope(scope) for key in action.keys}
        everywhere = {key for action in by_scope("app") for key in action.keys}
        assert here & everywhere == set()


@pytest.mark.parametrize("scope", SCREEN_CLASSES)
async def test_every_action_of_a_screen_is_reachable_by_its_key(make_app, scope: str, monkeypatch) -> None:
    """Each key, pressed on the screen with nothing in focus, calls its handler."""
    called: list[str] = []
    served = SCREEN_CLASSES[scope]
    for action in by_scope(scope):
        name = handler_name(action)

        def record(self, *args, name=name) -> None:
            called.append(name)

        monkeypatch.setattr(served, name, record)
    app = make_app(kernel("done"), first=scope)
    async with app.run_test(size=(120, 40)) as pilot:
        await workers_done(pilot.app)
        for action in by_scope(scope):
            for key in action.keys:
                app.screen.set_focus(None)
                called.clear()
                await pilot.press(key)
                assert handler_name(action) in called, f"{action.id}: {key}"


async def test_help_lists_exactly_the_scopes_that_work_here(make_app) -> None:
    app = make_app(kernel("done"), first="shelf")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, HelpScreen)
        assert screen.scopes == ("shelf", "list", "app")


@pytest.mark.parametrize("scope", SCOPE_TITLES)
def test_help_has_every_action_of_a_scope(scope: str) -> None:
    table = text([scope], live=False)
    shown = [str(cell) for column in table.columns for cell in column.cells]
    for action in by_scope(scope):
        assert action.title in shown and action.all_keys in shown
        if action.live:
            assert any("needs a kernel" in cell for cell in shown)


async def test_palette_offers_the_actions_of_the_screen(make_app) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=(120, 40)):
        titles = {c.title.partition(" (")[0] for c in app.get_system_commands(app.screen)}
        for action in (*by_scope("app"), *by_scope("sweep")):
            assert (action.title in titles) == action.palette, action.id


async def test_palette_runs_a_command(make_app) -> None:
    app = make_app(kernel("done"), first="steer")
    async with app.run_test(size=(120, 40)) as pilot:
        command = next(c for c in app.get_system_commands(app.screen) if c.title.startswith("Shelf"))
        command.callback()
        await pilot.pause()
        assert app.current_mode == "shelf"


def test_the_users_keys_replace_the_tables(monkeypatch) -> None:
    monkeypatch.setattr(actions, "ACTIONS", ACTIONS)
    try:
        actions.rebind({"steer.run": "f5 ctrl+g"})
        assert {b.key for b in bindings("steer") if isinstance(b, Binding) and b.action == "run"} == {
            "f5",
            "ctrl+g",
        }
        with pytest.raises(UsageError, match=r"steer\.runn.*steer\.run"):
            actions.rebind({"steer.runn": "f5"})
    finally:
        by_scope.cache_clear()
