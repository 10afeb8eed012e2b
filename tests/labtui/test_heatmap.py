"""The map of numbers: its cells, its window, and what it paints."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from labtui import themes
from labtui.widgets.heatmap import Heatmap, Map, Tile, Window, draw, tone, window

SMALL = Map(
    ("llm.2", "llm.10"),
    ("2%", "16%"),
    ((Tile("-1.20", -0.1), Tile("-12.0", -1.0, "*!")), (None, Tile("≥+0.4", 0.03))),
    "site",
)
ALL = Window(0, 0, 2, 2)


def large(rows: int, columns: int) -> Map:
    tiles = tuple(tuple(Tile(f"{r}.{c}") for c in range(columns)) for r in range(rows))
    return Map(tuple(f"r{r}" for r in range(rows)), tuple(f"c{c}" for c in range(columns)), tiles)


def test_digits_marks_and_empty_cells_stand_below_each_other() -> None:
    text = draw(SMALL, ALL, (0, 1), focused=False, ansi=False).plain
    assert text.split("\n") == [
        "site      2%     16%  ",
        "llm.2  -1.20  [-12.0*!]",
        "llm.10     ·   ≥+0.4  ",
    ]


@pytest.mark.parametrize("ansi", [False, True])
@pytest.mark.parametrize("focused", [False, True])
def test_all_that_colour_says_is_said_without_it(ansi: bool, focused: bool) -> None:
    """Every way of drawing has the same characters, and the cursor is in brackets whatever has the focus."""
    plain = draw(SMALL, ALL, (1, 1), focused=focused, ansi=ansi).plain
    assert plain == draw(SMALL, ALL, (1, 1), focused=False, ansi=False).plain
    assert "[ ≥+0.4  ]" not in plain and "[≥+0.4  ]" in plain


def test_larger_effects_are_coloured_more_and_16_colours_have_no_shades() -> None:
    shades = [tone(share, False) for share in (0.0, 0.15, 0.4, 0.6, 1.0)]
    assert shades[0] == "" and len(set(shades)) == 5 and all("$lab-second" in shade for shade in shades[1:])
    assert tone(-1.0, False) == tone(1.0, False).replace("$lab-second", "$accent")
    assert [tone(share, True) for share in (0.0, -0.2, -0.9)] == ["", "$accent", "bold $accent"]


def test_the_window_moves_no_more_than_the_cursor_needs() -> None:
    map = large(30, 20)
    first = window(map, 40, 11, (0, 0), Window(0, 0, 0, 0))
    assert (first.row, first.column, first.rows) == (0, 0, 10) and first.columns < 20
    below = window(map, 40, 11, (12, 0), first)
    assert (below.row, below.column) == (3, 0)
    assert window(map, 40, 11, (5, 0), below) == below
    last = window(map, 40, 11, (29, 19), below)
    assert last.row + last.rows == 30 and last.column + last.columns == 20


def test_there_is_more_is_shown_on_every_side() -> None:
    map = large(9, 9)
    text = draw(map, Window(2, 3, 4, 2), (3, 3), focused=False, ansi=False).plain
    assert text.split("\n")[0] == "↑↓‹ c3  c4›"
    assert len(text.split("\n")) == 5


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 3), (80, 24), (300, 90)])
def test_a_map_never_takes_more_than_its_size(width: int, height: int) -> None:
    map = large(28, 9)
    part = window(map, width, height, (27, 8), Window(0, 0, 0, 0))
    lines = draw(map, part, (27, 8), focused=True, ansi=False).split("\n")
    assert len(lines) <= max(2, height)
    if width >= 20:
        assert max(line.cell_length for line in lines) <= width


class Watched(Heatmap):
    """Remembers what it asked to be painted: a list of lines, or None for all."""

    def __init__(self) -> None:
        super().__init__(empty="nothing yet", id="map")
        self.asked: list[list[int] | None] = []

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False):
        if hasattr(self, "asked"):
            self.asked.append([region.y for region in regions] or None)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)


class Alone(App[None]):
    AUTO_FOCUS = "#map"
    CSS = "Heatmap { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        for theme in themes.OURS:
            self.register_theme(theme)
        self.theme = "lab-dark"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.derived(self.current_theme)

    def compose(self) -> ComposeResult:
        yield Watched()

    def on_heatmap_moved(self) -> None:
        self.heard.append("moved")

    def on_heatmap_picked(self) -> None:
        self.heard.append("picked")

    def on_heatmap_pinned(self) -> None:
        self.heard.append("pinned")


async def test_only_what_changed_is_painted() -> None:
    async with Alone().run_test(size=(30, 8)) as pilot:
        map = pilot.app.query_one(Watched)
        assert map.render().plain == "nothing yet"
        assert map.show(SMALL)
        await pilot.pause()
        map.asked.clear()
        assert not map.show(Map(SMALL.rows, SMALL.columns, SMALL.tiles, "site"))
        assert map.asked == []
        other = Map(SMALL.rows, SMALL.columns, (SMALL.tiles[0], (Tile("+9"), SMALL.tiles[1][1])), "site")
        assert map.show(other) and map.asked == [[2]]
        map.asked.clear()
        await pilot.press("j")
        assert sorted(map.asked[0] or []) == [1, 2]
        map.asked.clear()
        await pilot.press("j")
        assert map.asked == [], "the cursor stands on the last row already"
        map.show(large(3, 3))
        assert map.asked == [None]


async def test_keys_and_mouse_move_the_cursor_and_tell_of_it() -> None:
    app = Alone()
    async with app.run_test(size=(30, 8)) as pilot:
        map = app.query_one(Watched)
        await pilot.press("l", "enter", "space")
        assert app.heard == [] and map.current is None, "there is nothing to move over"
        map.show(large(20, 9))
        await pilot.pause()
        await pilot.press("l", "right", "j", "down")
        assert map.current == ("r2", "c2") and app.heard == ["moved"] * 4
        await pilot.press("h", "k", "G", "end")
        assert map.current == ("r19", "c8")
        await pilot.press("g", "home", "ctrl+d")
        assert map.current == ("r6", "c0")
        app.heard.clear()
        await pilot.press("enter", "space")
        await pilot.click("#map", offset=(8, 2))
        assert app.heard == ["picked", "pinned", "moved"] and map.current == ("r1", "c1")


async def test_the_cursor_stays_on_its_cell_when_the_map_grows() -> None:
    async with Alone().run_test(size=(30, 8)) as pilot:
        map = pilot.app.query_one(Watched)
        map.show(Map(("b",), ("2", "4"), ((Tile("1"), Tile("2")),)))
        map.select("b", "4")
        map.show(Map(("a", "b"), ("1", "2", "4"), ((Tile("0"),) * 3, (Tile("0"), Tile("1"), Tile("2")))))
        assert map.current == ("b", "4")
        map.show(Map(("a",), ("1",), ((Tile("0"),),)))
        assert map.current == ("a", "1")
