"""The picture widget: where patches lie in cells, what is painted with and without colours, cursor, mark, overlay."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image
from textual.app import App, ComposeResult

from labtui.themes import SIXTEEN
from labtui.widgets.picture import Picture
from labtui.widgets.raster import ANSI, Layout, lay, pixels, raster, shares, tinted
from labtui.widgets.scene import Overlay, Scene, overlay, short

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
GRIDS = [(1, 1), (2, 5), (8, 8), (5, 3), (16, 11), (36, 36)]


def patches(rows: int, cols: int, side: int = 28) -> Image.Image:
    """A picture in which each merged patch has a colour of its own among its neighbours."""
    made = np.zeros((rows * side, cols * side, 3), dtype=np.uint8)
    for row, col in product(range(rows), range(cols)):
        made[row * side : (row + 1) * side, col * side : (col + 1) * side] = colour(row, col)
    return Image.fromarray(made)


def colour(row: int, col: int) -> tuple[int, int, int]:
    return COLOURS[(row * 2 + col) % len(COLOURS)]


def scene(rows: int, cols: int, **more) -> Scene:
    return Scene(f"{rows}x{cols}", patches(rows, cols), rows, cols, **more)


class One(App[None]):
    """An app of one picture."""

    def __init__(self, shown: Scene | None, *, ansi: bool = False) -> None:
        super().__init__()
        self.shown, self.moves, self.ansi = shown, 0, ansi

    def compose(self) -> ComposeResult:
        yield Picture(empty="no picture yet")

    def on_mount(self) -> None:
        if self.ansi:
            self.register_theme(SIXTEEN)
            self.theme = SIXTEEN.name
        self.query_one(Picture).show(self.shown)
        self.query_one(Picture).focus()

    def on_picture_moved(self) -> None:
        self.moves += 1


def lines(app: App[None]) -> list[str]:
    widget = app.query_one(Picture)
    return [widget.render_line(y).text for y in range(widget.size.height)]


# -- layout -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("room", [(34, 17), (80, 24), (130, 50), (10, 3), (1, 1)])
@pytest.mark.parametrize("whole", [False, True])
def test_every_cell_belongs_to_the_patch_that_covers_it(grid, room, whole) -> None:
    layout = lay(grid[0], grid[1], room, whole=whole)
    if whole:
        assert layout.width <= max(2, room[0]) and layout.height <= max(1, room[1])
    else:
        assert layout.height >= grid[0] and layout.width >= 2 * grid[1]
    counted = 0
    for x, y in product(range(layout.width), range(layout.height)):
        row, col = layout.patch(x, y)
        x0, y0, x1, y1 = layout.cells((row, row + 1, col, col + 1))
        assert x0 <= x < x1 and y0 <= y < y1
        counted += 1
    assert counted == layout.width * layout.height


@pytest.mark.parametrize("grid", [(8, 8), (2, 5), (16, 11)])
@pytest.mark.parametrize("room", [(34, 17), (80, 24), (130, 50)])
def test_patches_are_square_where_there_is_room(grid, room) -> None:
    layout = lay(grid[0], grid[1], room)
    aspect = (layout.width / grid[1]) / (2 * layout.height / grid[0])
    assert 0.9 < aspect < 1.1


def test_the_largest_layout_that_fits_is_taken() -> None:
    assert lay(8, 8, (34, 17)) == Layout(8, 8, 34, 17)
    assert lay(2, 5, (34, 17)) == Layout(2, 5, 30, 6)
    assert lay(36, 36, (34, 17)) == Layout(36, 36, 72, 36)
    assert lay(36, 36, (34, 17), whole=True) == Layout(36, 36, 34, 17)


# -- cells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(2, 5), (8, 8)])
def test_each_patch_is_painted_in_its_colour(grid) -> None:
    layout = lay(grid[0], grid[1], (grid[1] * 8, grid[0] * 4))
    made = raster(pixels(patches(grid[0], grid[1]), layout), "full")
    for row, col in product(range(grid[0]), range(grid[1])):
        x0, y0, x1, y1 = layout.cells((row, row + 1, col, col + 1))
        for x, y in ((x0, y0), (x1 - 1, y1 - 1)):
            style = made.style(x, y)
            assert style.color and style.bgcolor
            for painted in (style.color.triplet, style.bgcolor.triplet):
                assert painted is not None
                assert max(abs(a - b) for a, b in zip(painted, colour(row, col), strict=True)) < 8


def test_sixteen_colours_are_the_terminals_own() -> None:
    layout = lay(2, 3, (24, 8))
    made = raster(pixels(patches(2, 3), layout), "16")
    style = made.style(0, 0)
    assert style.color and style.color.number is not None and style.color.triplet is None
    red = ANSI[int(made.upper[1, 3])]
    assert red[0] > red[1] and red[0] > red[2]


def test_without_colours_light_is_denser_than_dark() -> None:
    image = Image.fromarray(np.linspace(0, 255, 80).astype(np.uint8)[None].repeat(40, 0))
    made = raster(pixels(image, lay(1, 4, (40, 5))), "none")
    assert made.chars[0][0] == " " and made.chars[0][-1] == "@"
    assert made.style(3, 1).color is None and made.behind(3, 1).color is None


def test_a_tint_follows_the_values_and_leaves_absent_ones_grey() -> None:
    layout = lay(1, 3, (24, 4))
    white = np.full((8, 24, 3), 255, dtype=np.uint8)
    made = tinted(white, layout, shares(np.array([[0.0, 10.0, np.nan]]), 0.0, 10.0))
    low, high, absent = made[4, 4], made[4, 12], made[4, 20]
    assert high.astype(int).sum() > low.astype(int).sum() + 150
    assert absent[0] == absent[1] == absent[2]


# -- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (0.8712, 5, "0.871"), (0.8712, 4, ".871"), (0.8712, 3, ".87"), (-0.8712, 3, "-.9"), (44.26, 4, "44.3"),
        (44.26, 3, "44"), (212.0, 3, "212"), (1234.0, 4, "1234"), (12345.0, 3, "+"), (0.0, 3, "0"), (7.4, 1, "7"),
    ],
)  # fmt: skip
def test_numbers_take_no_more_cells_than_there_are(value: float, width: int, text: str) -> None:
    assert short(value, width) == text and len(short(value, width)) <= width


@pytest.mark.parametrize("value", [0.0, 1e-9, 3e-4, 0.0999, 0.9999, 9.99, 99.96, 1e5, -1e-5, -44.4, -12345.6])
@pytest.mark.parametrize("width", range(1, 8))
def test_no_number_overflows(value: float, width: int) -> None:
    assert len(short(value, width)) <= width


# -- the widget ---------------------------------------------------------------------------------------


async def test_without_a_picture_it_says_so() -> None:
    app = One(None)
    async with app.run_test(size=(20, 6)) as pilot:
        await pilot.pause()
        assert lines(app)[0].strip() == "no picture yet"
        await pilot.press("right", "enter")
        assert app.query_one(Picture).patch is None and app.moves == 0


async def test_arrows_walk_over_every_patch() -> None:
    app = One(scene(3, 4))
    async with app.run_test(size=(40, 15)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        seen = []
        for row in range(3):
            for _ in range(4):
                seen.append(widget.patch)
                await pilot.press("right" if row % 2 == 0 else "left")
            await pilot.press("down")
        assert sorted(seen) == list(range(12)) and app.moves == 11
        await pilot.press("g", "home")
        assert widget.patch == 0
        await pilot.press("G", "end")
        assert widget.patch == 11


async def test_the_cursor_is_a_frame_around_its_patch() -> None:
    app = One(scene(3, 4))
    async with app.run_test(size=(40, 15)) as pilot:
        await pilot.pause()
        await pilot.press("right", "down")
        widget = app.query_one(Picture)
        x0, y0, x1, y1 = widget._layout.cells((1, 2, 1, 2))
        shown = lines(app)
        assert shown[y0][x0:x1] == "┏" + "━" * (x1 - x0 - 2) + "┓"
        assert shown[y1 - 1][x0] == "┗" and shown[y1 - 1][x1 - 1] == "┛"
        assert "".join(shown).count("┏") == 1
        app.screen.set_focus(None)
        await pilot.pause()
        assert lines(app)[y0][x0] == "┌"


async def test_small_patches_have_brackets_and_the_view_follows_the_cursor() -> None:
    app = One(scene(36, 36))
    async with app.run_test(size=(34, 17)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        assert lines(app)[0].startswith("[]") and widget.cut
        await pilot.press("G", "end")
        await pilot.pause()
        assert lines(app)[-1].endswith("[]")
        widget.zoom()
        await pilot.pause()
        assert not widget.cut and widget._layout.height == 17


async def test_only_the_lines_of_both_patches_are_painted_anew(monkeypatch) -> None:
    app = One(scene(4, 4))
    async with app.run_test(size=(40, 20)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        painted: list[int] = []
        real = Picture.render_line
        monkeypatch.setattr(Picture, "render_line", lambda self, y: painted.append(y) or real(self, y))
        made = widget._cells
        await pilot.press("right")
        await pilot.pause()
        assert set(painted) == set(range(5)) and widget._cells is made


async def test_a_rectangle_is_marked_with_arrows_and_enter() -> None:
    app = One(scene(4, 4))
    async with app.run_test(size=(40, 20)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        await pilot.press("right", "down")
        assert widget.begin()
        await pilot.press("down", "right", "right")
        assert widget.rect == (1, 3, 1, 4) and widget.marked is None
        await pilot.press("enter")
        await pilot.pause()
        assert widget.marked == (1, 3, 1, 4) and not widget.marking
        shown = lines(app)
        x0, y0, x1, y1 = widget._layout.cells((1, 3, 1, 4))
        assert shown[y0][x0] == "╔" and shown[y1 - 1][x0] == "╚"
        assert shown[y0][x0 + 1] == "═" and shown[y0 + 1][x1 - 1] in "║┃"
        widget.begin()
        await pilot.press("left")
        assert widget.rect == (2, 3, 2, 4) and widget.cancel() and widget.rect == (1, 3, 1, 4)
        widget.show(scene(2, 2))
        assert widget.marked is None and widget.cursor == (1, 1)


async def test_an_overlay_writes_numbers_where_there_is_room_and_deciles_where_not() -> None:
    values = tuple(float(v) for v in range(12))
    app = One(scene(3, 4, overlay=overlay("norm", values)))
    async with app.run_test(size=(40, 15)) as pilot:
        await pilot.pause()
        app.query_one(Picture).put(2, 3)
        shown = "".join(lines(app))
        assert all(f"{v:.0f}" in shown for v in range(11))
    app = One(scene(3, 4, overlay=overlay("norm", (*values[:-1], None))))
    async with app.run_test(size=(8, 3)) as pilot:
        await pilot.pause()
        app.query_one(Picture).put(1, 0)
        assert lines(app)[0] == "0▀1▀2▀3▀" and lines(app)[1].startswith("[]")
        assert lines(app)[2] == "8▀9▀9▀▀▀"


async def test_the_same_scene_paints_nothing() -> None:
    app = One(scene(2, 2))
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        assert not widget.show(scene(2, 2))
        assert widget.show(scene(2, 2, overlay=Overlay("norm", (1.0, 2.0, 3.0, 4.0), 0.0, 4.0)))
        assert not widget.show(scene(2, 2, overlay=Overlay("norm", (1.0, 2.0, 3.0, 4.0), 0.0, 4.0)))


async def test_no_color_paints_shades(monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = One(scene(2, 2))
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        shown = lines(app)
        assert "▀" not in "".join(shown) and set("".join(shown)) & set(".:-=+*#%@")
        assert shown[0][0] == "┏"
        assert all(segment.style is None or segment.style.color is None for segment in widget.render_line(3))


async def test_a_theme_of_sixteen_colours_sends_only_their_names() -> None:
    app = One(scene(2, 2), ansi=True)
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.pause()
        strip = app.query_one(Picture).render_line(2)
        used = [segment.style for segment in strip if segment.style and segment.style.color]
        assert used and all(style.color and style.color.triplet is None for style in used)


async def test_a_click_goes_to_the_patch() -> None:
    app = One(scene(3, 4))
    async with app.run_test(size=(40, 15)) as pilot:
        await pilot.pause()
        widget = app.query_one(Picture)
        x0, y0, _, _ = widget._layout.cells((2, 3, 1, 2))
        await pilot.click(Picture, offset=(x0 + 1, y0 + 1))
        assert widget.cursor == (2, 1)


async def test_a_picture_that_was_not_read_has_its_own_shape_and_no_cursor() -> None:
    app = One(Scene("raw", patches(2, 6, side=7)))
    async with app.run_test(size=(24, 10)) as pilot:
        await pilot.pause()
        shown = lines(app)
        assert shown[0].strip() and shown[4].strip() == "" and "┏" not in "".join(shown)
        assert not app.query_one(Picture).begin()
