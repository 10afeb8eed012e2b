"""The Sweep screen's form: what a spec costs before it runs, and extending a table by key."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input

from labtui.screens.sweep import Sweep
from labtui.widgets.dialog import Confirm
from labtui.widgets.prompt import Prompt
from labtui.widgets.sweepform import SweepForm
from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from tests.support.fake_kernel import FakeKernel
from tests.support.settling import workers_done
from tests.support.sweep_stories import SPEC, kernel

PLAN: dict[str, Any] = {
    "rows": 1_300, "cells": 1_300, "grid": 240, "prompts": 20, "directions": 1, "sites": 3, "strengths": 4,
    "places": 1, "seeds": 1, "tokens": 83_200, "confirm": False,
    "controls": {"negated": 240, "prompt": 20, "random": 320, "shuffled": 460, "zero": 20},
}  # fmt: skip


def planned(**change: Any) -> dict[str, Any]:
    counts = PLAN | change
    return {"new": counts["rows"], "new_controls": counts["controls"], "missing": [], "extends": ""} | counts


async def settled(pilot) -> None:
    for _ in range(3):
        await workers_done(pilot.app)
        pilot.app.pump.now()
        await pilot.pause()


def line(app) -> str:
    return str(app.lab_screen.query_one("#sweep-count").render())


def cost(app) -> str:
    return str(app.lab_screen.query_one("#form-cost").render())


async def test_the_kernels_count_and_time_are_shown_and_the_controls_by_kind(make_app) -> None:
    made = kernel("done")
    made.answers["plan"] = planned(seconds=230.0, measured="sweep")
    app = make_app(made, first="sweep")
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        assert line(app).startswith("1,300 rows  ≈ 4 min  = 3 sites × 4 strengths × 20 prompts + controls:")
        assert made.params("plan") == {"spec": specs.to_dict(specs.load(SPEC))}
        told = [" ".join(part.split()) for part in cost(app).splitlines()]
        assert told == [
            "rows that run", "240 of the grid", "240 negated, the sign check", "20 asked for in the prompt",
            "320 random directions", "460 shuffled labels", "20 zero, α = 0", "1,300 in all",
            "≈ 4 min at the speed of the last sweep",
        ]  # fmt: skip
        asked = made.methods().count("plan")
        made.answers["plan"] = planned(seconds=9.0, measured="answers", missing=["brife"])
        await pilot.press("i")
        screen = app.lab_screen
        box = screen.query_one("#sweep-directions", Input)
        box.value = "brife"
        await settled(pilot)
        assert made.methods().count("plan") == asked + 1
        assert "≤ 9 s" in line(app) and "! no direction brife here" in cost(app)
        made.answers["plan"] = UsageError("spec sweep: table: terse was made anew")
        box.value = "terse"
        await settled(pilot)
        assert line(app) == "! spec sweep: table: terse was made anew"


async def test_only_a_kernel_says_that_nothing_was_timed(make_app) -> None:
    made = kernel("done")
    made.answers["plan"] = planned()
    app = make_app(made, first="sweep")
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        assert cost(app).endswith("no sweep has been timed here yet")


async def test_before_the_kernel_answers_the_app_counts_and_says_it_does_not_know_all(make_app) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        assert " rows = 3 sites × 4 strengths × 20 prompts" in line(app)
        assert "as far as directions bring them along" in cost(app) and "timed" not in cost(app)


async def test_a_extends_the_table_and_only_new_rows_are_counted_and_run(make_app) -> None:
    made = kernel("done")
    made.answers["plan"] = lambda spec: (
        planned(rows=1_700, new=400, extends="s1", new_controls={"random": 200})
        if spec.get("table") == "s1" and "32%" in spec["strengths"]
        else planned(new=0, extends="s1", new_controls={}) if spec.get("table") == "s1" else planned()
    )  # fmt: skip
    app = make_app(made, first="sweep")
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        screen = app.lab_screen
        assert isinstance(screen, Sweep)
        await pilot.press("a")
        await settled(pilot)
        assert isinstance(app.focused, Prompt | Input), "the form is gone to"
        assert line(app).startswith("0 new of 1,300 rows, extends s1")
        await pilot.press("escape", "r")
        assert "every row of this is in s1 already" in app.said and "submit" not in made.methods()
        screen.query_one("#sweep-strengths", Input).value = "2%, 4%, 8%, 16%, 32%"
        await settled(pilot)
        assert line(app).startswith("400 new of 1,700 rows, extends s1")
        assert "200 of the grid" in cost(app) and "1,300 are in s1 already" in " ".join(cost(app).split())
        await pilot.press("r")
        await settled(pilot)
        sent = made.params("submit")["spec"]
        assert sent["table"] == "s1" and sent["strengths"] == ["2%", "4%", "8%", "16%", "32%"]
        assert app.said == "queued, to extend s1"
        await pilot.press("a")
        await settled(pilot)
        assert "no longer extends s1" in app.said and "table" not in screen.copy_spec()
        assert line(app).startswith("1,300 rows")


async def test_a_says_why_there_is_nothing_to_extend(make_app) -> None:
    app = make_app(FakeKernel().ready("terse"), first="sweep")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("a")
        assert "no table yet to extend" in app.said


async def test_very_many_rows_are_run_only_after_a_yes(make_app) -> None:
    made = kernel("done")
    made.answers["plan"] = planned(rows=50_000, confirm=True, seconds=9_000, measured="sweep")
    app = make_app(made, first="sweep")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key, sent in (("n", False), ("y", True)):
            await pilot.press("r")
            await pilot.pause()
            assert isinstance(app.screen, Confirm)
            await pilot.press(key)
            await settled(pilot)
            assert ("submit" in made.methods()) == sent
        assert made.params("submit")["spec"]["confirm"] is True


@pytest.mark.parametrize(
    ("text", "controls"),
    [("auto", "auto"), ("none", "none"), ("", "none"), ("zero", {"zero": True}),
     ("random 10, shuffled 4, negated", {"random": 10, "shuffled": 4, "negated": True}),
     ("random 3, no prompt", {"random": 3, "prompt": False}), ("no zero", {"zero": False})],
)  # fmt: skip
async def test_controls_are_written_in_words_and_come_back(make_app, text: str, controls: Any) -> None:
    app = make_app(kernel("done"), first="sweep")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        form = app.lab_screen.query_one(SweepForm)
        box = form.query_one("#sweep-controls", Input)
        box.value = text
        assert form.spec()["controls"] == controls
        spec = specs.to_dict(specs.load(form.spec()))
        box.value = "?"
        form.show(spec)
        again = specs.load(form.spec())
        assert isinstance(again, specs.Sweep)
        assert again.controls_for(20) == specs.load(spec).controls_for(20)  # type: ignore[attr-defined]
        box.value = "random ten"
        with pytest.raises(UsageError, match="'random ten'"):
            form.spec()
