"""Rules that all style sheets of a process share: read once, and never those of other colours."""

from __future__ import annotations

from typing import Any

import pytest
from textual.css.parse import parse
from textual.css.stylesheet import StylesheetParseError

from labtui.screens.home import Home
from labtui.stylesheet import LabStylesheet


async def test_a_second_app_parses_nothing(make_app, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_app(first="home").run_test() as pilot:
        await pilot.pause()
    read: list[object] = []

    def counted(*given: Any, **more: Any) -> Any:
        read.append(given)
        return parse(*given, **more)

    monkeypatch.setattr("textual.css.stylesheet.parse", counted)
    async with make_app(first="home").run_test() as pilot:
        await pilot.pause()
        assert not read
        pilot.app.theme = "nord"  # no other test has it
        await pilot.pause()
        assert read, "other colours are other rules, so the test could fail"


async def test_a_theme_that_is_chosen_later_looks_as_if_it_had_been_chosen_first(make_app) -> None:
    def colours(app) -> list[object]:
        return [(str(node), node.styles.background, node.styles.color) for node in app.screen.walk_children()]

    seen = {}
    for theme in ("lab-dark", "lab-light"):
        async with make_app(first="home", theme=theme).run_test() as pilot:
            await pilot.pause()
            seen[theme] = colours(pilot.app)
    assert seen["lab-dark"] != seen["lab-light"]
    async with make_app(first="home", theme="lab-dark").run_test() as pilot:
        for theme in ("lab-light", "lab-dark", "lab-light"):
            pilot.app.theme = theme
            await pilot.pause()
            assert colours(pilot.app) == seen[theme]


async def test_home_is_mounted_when_it_is_first_shown(make_app) -> None:
    async with make_app(first="shelf").run_test() as pilot:
        assert pilot.app.current_mode == "shelf"
        await pilot.press("1")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Home)


def test_a_sheet_with_an_error_stays_as_it_was() -> None:
    sheet = LabStylesheet(variables={"ink": "red"})
    sheet.add_source("Label { color: $ink; }", ("one", ""))
    before = [rule.css for rule in sheet.rules]
    sheet.add_source("Label { color: ; }", ("two", ""))
    with pytest.raises(StylesheetParseError):
        sheet.reparse()
    assert [rule.css for rule in sheet._rules] == before
    sheet.source.pop(("two", ""))
    sheet.set_variables({"ink": "blue"})
    sheet.reparse()
    assert [rule.css for rule in sheet.rules] != before
