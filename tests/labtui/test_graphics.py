"""Pictures in pixels: asked for, refused where they cannot be, and drawn with all that stands on them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from textual.app import App, ComposeResult
from textual.widget import Widget

from labtui.widgets import graphics
from labtui.widgets.graphics import CELL, choose, drawn
from labtui.widgets.picture import Picture
from labtui.widgets.raster import lay
from labtui.widgets.scene import Scene, overlay
from labtui_artifacts.errors import UsageError
from tests.labtui.test_picture import patches, scene


def test_half_blocks_are_the_default_and_ask_the_terminal_nothing() -> None:
    assert choose("cells", {}, terminal=True) == (None, "")
    assert "textual_image" not in sys.modules


@pytest.mark.parametrize("environ", [{"TMUX": "/tmp/tmux-0/default,1,0"}, {"STY": "1.pts"}])
def test_inside_tmux_and_screen_half_blocks_are_drawn(environ: dict[str, str]) -> None:
    found, why = choose("kitty", environ, terminal=True)
    assert found is None and "tmux" in why and "half blocks" in why
    assert "textual_image" not in sys.modules


def test_what_cannot_be_is_one_line(monkeypatch) -> None:
    assert "no terminal" in choose("sixel", {}, terminal=False)[1]
    with pytest.raises(UsageError, match="expected one of cells, kitty, sixel"):
        choose("iterm", {}, terminal=True)
    monkeypatch.setattr(graphics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        choose("kitty", {}, terminal=True)


OLD_KITTY, KITTY, SIXEL, PLAIN = (
    "\x1b_Gi=31;OK\x1b\\\x1b[?62;c",
    "\x1b_Gi=31;OK\x1b\\\x1b_Gi=32;OK\x1b\\\x1b[?62;c",
    "\x1b[?63;1;2;4;22c",
    "\x1b[?64;1;2;22c",
)
"""What terminals answer: kitty 0.26 does not know the second question; xterm as a VT340 has attribute 4."""


@pytest.mark.parametrize(
    ("kind", "answer", "why"),
    [
        ("kitty", KITTY, ""),
        ("kitty", OLD_KITTY, "in the place of characters"),
        ("kitty", SIXEL, "does not say that it has it"),
        ("kitty", "", "does not say that it has it"),
        ("sixel", SIXEL, ""),
        ("sixel", KITTY, "does not say that it has it"),
        ("sixel", PLAIN, "does not say that it has it"),
    ],
)
def test_the_terminal_has_the_last_word(monkeypatch, kind: str, answer: str, why: str) -> None:
    """With the names that textual-image has, since it is an extra."""
    package, widget = ModuleType("textual_image"), ModuleType("textual_image.widget")
    vars(widget).update(TGPImage=Shown, SixelImage=Shown)
    vars(package).update(widget=widget)
    for module in (package, widget):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(graphics.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(graphics, "ask", lambda: (answer, 0.01))
    found, said = choose(kind, {}, terminal=True)
    assert (found is Shown) == (not why) and why in said and bool(said) == bool(why)


def test_frames_are_where_their_patches_are() -> None:
    layout = lay(2, 4, (40, 10))
    white = Scene("w", Image.new("RGB", (8, 4), "white"), 2, 4)
    pixels = np.asarray(drawn(white, layout, (1, 2, 3, 4), None)).min(axis=2)
    assert pixels.shape == (layout.height * CELL[1], layout.width * CELL[0])
    dark = np.argwhere(pixels < 50)
    half, quarter = pixels.shape[0] // 2, pixels.shape[1] // 4
    assert dark[:, 0].min() >= half and dark[:, 1].min() >= 3 * quarter
    marked = np.argwhere(np.asarray(drawn(white, layout, None, (0, 1, 0, 2))).min(axis=2) < 50)
    assert marked[:, 0].max() < half and marked[:, 1].max() < 2 * quarter


def test_an_overlay_is_tinted_and_has_its_numbers() -> None:
    layout = lay(1, 2, (40, 10))
    white = Image.new("RGB", (8, 4), "white")
    plain = np.asarray(drawn(Scene("w", white, 1, 2), layout, None, None))
    made = np.asarray(drawn(Scene("w", white, 1, 2, overlay("norm", (1.0, 9.0))), layout, None, None))
    left, right = made[:8, :8].mean(), made[:8, -8:].mean()
    assert plain.min() == 255 and left < right < 255
    middle = made[made.shape[0] // 2 - 6 : made.shape[0] // 2 + 6, : made.shape[1] // 2]
    assert middle.max() > 220 and middle.min() < 20


class Shown(Widget):
    """What textual-image's widgets are to the picture: something that shows ``image``."""

    image: Any = None


class One(App[None]):
    def compose(self) -> ComposeResult:
        yield Picture(empty="none", pixels=Shown)


async def test_the_picture_in_pixels_follows_the_cursor() -> None:
    app = One()
    async with app.run_test(size=(40, 15)) as pilot:
        picture, over = app.query_one(Picture), app.query_one(Shown)
        await pilot.pause()
        assert not over.display
        picture.show(scene(3, 4))
        picture.focus()
        await pilot.pause()
        assert over.display and over.size == (40, 15) and over.image.size == (40 * CELL[0], 15 * CELL[1])
        before = over.image
        await pilot.press("right")
        await pilot.pause()
        assert picture.cursor == (0, 1) and over.image is not before
        assert not np.array_equal(np.asarray(before), np.asarray(over.image))
        picture.show(None)
        await pilot.pause()
        assert not over.display


def test_the_grid_of_the_picture_is_that_of_the_layout() -> None:
    layout = lay(2, 3, (30, 10))
    made = np.asarray(drawn(Scene("p", patches(2, 3), 2, 3), layout, None, None))
    assert tuple(made[5, 5]) == (255, 0, 0) and tuple(made[5, -5]) == (0, 0, 255)
