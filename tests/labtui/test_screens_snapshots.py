"""Every screen at every moment, as it is painted, at both sizes."""

from __future__ import annotations

import pytest

from labtui.actions import SCREENS
from labtui.projection import Link
from tests.support import claim_stories, diagnosis_stories, look_stories, sweep_stories
from tests.support.fake_kernel import FakeKernel
from tests.support.settling import workers_done
from tests.support.stories import MOMENTS, kernel


async def settle(pilot) -> None:
    """Wait for what the screen asked for, twice, and paint it all with nothing in focus."""
    for _ in range(2):
        await workers_done(pilot.app)
        pilot.app.screen.set_focus(None)
        pilot.app.pump.now()
        await pilot.pause()


SIZES = {"80x24": (80, 24), "200x60": (200, 60)}


OF_THEIR_OWN = ("sweep", "diagnose", "claims", "look")
"""Screens with stories of their own below."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("screen", [name for name in SCREENS if name not in OF_THEIR_OWN])
def test_screen(snap_compare, make_app, screen: str, moment: str, size: str) -> None:
    app = make_app(kernel(moment), first=screen)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=settle)


@pytest.mark.parametrize("moment", ["loading", "error"])
@pytest.mark.parametrize("screen", OF_THEIR_OWN)
def test_before_there_is_anything(snap_compare, make_app, screen: str, moment: str) -> None:
    """Where no session can be shown yet."""
    app = make_app(kernel(moment), first=screen)
    assert snap_compare(app, terminal_size=(80, 24), run_before=settle)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", ["empty", "filling", "done", "failed"])
def test_sweep(snap_compare, make_app, moment: str, size: str) -> None:
    """A sweep that can be judged; ``empty`` is a kernel on which none was run."""
    made = FakeKernel().ready("terse") if moment == "empty" else sweep_stories.kernel(moment)
    assert snap_compare(make_app(made, first="sweep"), terminal_size=SIZES[size], run_before=settle)


@pytest.mark.parametrize("theme", ["lab-16", "lab-light"])
def test_sweep_cell(snap_compare, make_app, theme: str) -> None:
    """The cursor on a called cell, its texts below, in few colours and on a light ground."""
    app = make_app(sweep_stories.kernel("done"), first="sweep", theme=theme)

    async def move(pilot) -> None:
        await settle(pilot)
        await pilot.press("m", "j", "l", "l", "space", "enter")
        await workers_done(pilot.app)
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=move)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", ["filled", "damaged", "failed"])
def test_claims(snap_compare, make_app, moment: str, size: str) -> None:
    app = make_app(claim_stories.kernel(moment), first="claims")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=settle)


def test_claims_being_checked(snap_compare, make_app) -> None:
    async def paint(pilot) -> None:
        pilot.app.screen.set_focus(None)
        pilot.app.pump.now()
        await pilot.pause()

    app = make_app(claim_stories.kernel("checked"), first="claims")
    assert snap_compare(app, terminal_size=(80, 24), run_before=paint)


@pytest.mark.parametrize("theme", ["lab-16", "lab-light"])
def test_evidence(snap_compare, make_app, theme: str) -> None:
    """The cursor on a cell that decides nothing, in few colours and on a light ground."""
    app = make_app(claim_stories.kernel("filled"), first="claims", theme=theme)

    async def move(pilot) -> None:
        await settle(pilot)
        await pilot.press("v", "G")
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=move)


def test_claim_form(snap_compare, make_app) -> None:
    app = make_app(claim_stories.kernel("filled"), first="claims")

    async def open_it(pilot) -> None:
        await settle(pilot)
        await pilot.press("f", "tab", "tab", "tab", "tab", "x")
        app.screen.set_focus(None)  # a cursor blinks
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=open_it)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", ["empty", "running", "done", "failed"])
def test_diagnose(snap_compare, make_app, moment: str, size: str) -> None:
    app = make_app(diagnosis_stories.kernel(moment), first="diagnose")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=settle)


@pytest.mark.parametrize("theme", ["lab-16", "lab-light"])
@pytest.mark.parametrize("panel", ["t", "s", "m"])
def test_diagnose_panel(snap_compare, make_app, panel: str, theme: str) -> None:
    """Each of the panels that take turns on a small terminal, at a block in the middle."""
    app = make_app(diagnosis_stories.kernel("done"), first="diagnose", theme=theme)

    async def turn(pilot) -> None:
        await settle(pilot)
        await pilot.press(*["full_stop"] * 4, panel)
        await workers_done(pilot.app)
        app.pump.now()
        await pilot.pause()
        await workers_done(pilot.app)
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=turn)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", ["empty", "text", "shown", "running", "done", "steered", "failed"])
def test_look(snap_compare, make_app, moment: str, size: str) -> None:
    app = make_app(look_stories.kernel(moment), first="look")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=settle)


@pytest.mark.parametrize(
    ("keys", "theme"),
    [
        ("c", "lab-dark"),
        ("c", "lab-16"),
        ("cc", "lab-light"),
        ("s", "lab-dark"),
        ("u", "lab-dark"),
        ("x", "lab-16"),
    ],
)
def test_look_part(snap_compare, make_app, keys: str, theme: str) -> None:
    """Overlays, and the panels that take turns on a small terminal, with the cursor on the disc."""
    app = make_app(look_stories.kernel("steered"), first="look", theme=theme)

    async def turn(pilot) -> None:
        await settle(pilot)
        app.screen.picture.put(1, 3)
        await pilot.press(*keys)
        for _ in range(3):
            await workers_done(pilot.app)
            app.pump.now()
            await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=turn)


@pytest.mark.parametrize("size", SIZES)
def test_look_scores(snap_compare, make_app, size: str) -> None:
    """Projections over the picture, and the scores of the patch under the cursor."""
    app = make_app(look_stories.kernel("scored"), first="look")

    async def turn(pilot) -> None:
        await settle(pilot)
        await pilot.press("f", "c", "c", "c")
        for _ in range(3):
            await workers_done(pilot.app)
            app.pump.now()
            await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[size], run_before=turn)


def test_look_marking(snap_compare, make_app) -> None:
    """A rectangle that is being drawn."""
    app = make_app(look_stories.kernel("done"), first="look")

    async def draw(pilot) -> None:
        await settle(pilot)
        await pilot.press("v", "down", "right")
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=draw)


@pytest.mark.parametrize(
    ("keys", "size"),
    [("H-", "200x60"), ("H-", "80x24"), ("v", "80x24"), ("a", "80x24"), ("tsssw", "80x24"), ("f", "80x24")],
)
def test_sweeps(snap_compare, make_app, keys: str, size: str) -> None:
    """Two sweeps: the list, one laid over the other (``v``) or subtracted (``H-``), the table sorted, the form of an
    extension with its cost, and the filter."""
    made = sweep_stories.second(sweep_stories.kernel("done"))
    made.answers["plan"] = {
        **{"rows": 196, "cells": 196, "new": 88, "grid": 160, "prompts": 20, "directions": 1, "sites": 2},
        **{"strengths": 4, "places": 1, "seeds": 1, "extends": "s2" if keys == "a" else "", "missing": []},
        **{"controls": {"zero": 36}, "new_controls": {"zero": 8, "random": 16}, "confirm": False},
        **{"seconds": 41.0, "measured": "sweep"},
    }
    app = make_app(made, first="sweep")

    async def press(pilot) -> None:
        await settle(pilot)
        if keys in ("v", "H-"):
            await pilot.press("H", "j", "space", *(["minus"] if keys == "H-" else []))
            await settle(pilot)
        await pilot.press(*keys.removesuffix("-"))
        await settle(pilot) if keys in ("v", "H-") else await workers_done(pilot.app)
        app.pump.now()
        await pilot.pause()
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[size], run_before=press)


def test_link_lost(snap_compare, make_app) -> None:
    made = kernel("done")
    assert made is not None
    made.link = Link("lost", "the kernel closed the connection", 3)
    app = make_app(made, first="steer")
    assert snap_compare(app, terminal_size=(80, 24), run_before=settle)


@pytest.mark.parametrize("screen", ["steer", "sweep"])
def test_sixteen_colours(snap_compare, make_app, screen: str) -> None:
    app = make_app(kernel("done"), first=screen, theme="lab-16")
    assert snap_compare(app, terminal_size=(80, 24), run_before=settle)


@pytest.mark.parametrize("keys", [["question_mark"], ["ctrl+o"], ["A"], ["x"], ["D"], ["v"], ["s"], ["t"]])
def test_over_steer(snap_compare, make_app, keys: list[str]) -> None:
    """Help, jump labels, dialogues and drawers over the Steer screen of a small terminal."""
    app = make_app(kernel("done"), first="steer")

    async def open_it(pilot) -> None:
        await workers_done(pilot.app)
        app.screen.set_focus(None)
        await pilot.press(*keys)
        await workers_done(pilot.app)
        app.pump.now()
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=open_it)
