"""Pictures in real pixels, where the terminal has them and the user asks for them (``--images kitty`` or ``sixel``).

Half blocks work everywhere and are the default. The optional package textual-image draws pixels; it asks the terminal
how large its cells are as it is imported, so that happens only on request, before the app takes the screen, and never inside
tmux or screen, which keep pictures to themselves. The cursor, the mark and the overlay are drawn into the picture.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from textual.widget import Widget

from labtui.doctor.terminal import ask, graphics, places
from labtui.widgets.raster import TINT, Layout, Rect, shares, tinted
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from labtui.widgets.scene import Scene

KINDS = ("cells", "kitty", "sixel")
CELL = (10, 20)
"""Pixels drawn for a cell of the terminal, across and down; the terminal scales them to its own."""


def choose(wanted: str, environ: Mapping[str, str], *, terminal: bool) -> tuple[type[Widget] | None, str]:
    """The widget that draws pixels, or None for half blocks, and why not where that was not what was asked for.

    UsageError for a name that is none of `KINDS`, and where the package is not installed.
    """
    if wanted not in KINDS:
        raise UsageError(f"images {wanted!r}: expected one of {', '.join(KINDS)}")
    if wanted == "cells":
        return None, ""
    if environ.get("TMUX") or environ.get("STY"):
        return None, f"{wanted}: tmux and screen pass no pictures on; half blocks are drawn"
    if not terminal:
        return None, f"{wanted}: this is no terminal; half blocks are drawn"
    if importlib.util.find_spec("textual_image") is None:
        raise UsageError(f"images {wanted}: needs textual-image: pip install 'labtui[images]'")
    answer, _ = ask()
    if graphics(environ, answer).get(wanted) != "answered":
        return None, f"{wanted}: this terminal does not say that it has it; half blocks are drawn"
    if wanted == "kitty" and not places(answer):
        why = "this terminal puts no pictures in the place of characters (kitty does from 0.28, and Ghostty)"
        return None, f"kitty: {why}; half blocks are drawn"
    from textual_image import widget  # type: ignore[import-not-found]

    return (widget.TGPImage if wanted == "kitty" else widget.SixelImage), ""


def drawn(scene: Scene, layout: Layout, cursor: Rect | None, mark: Rect | None) -> Image:
    """The picture at the size of a layout in cells, with everything that stands on it.

    Frames are a dark line within a light one, the mark's two of them, so that they are seen on any ground and told apart
    without colour.
    """
    from PIL import Image as pil
    from PIL import ImageDraw

    wide, high = CELL
    size = layout.width * wide, layout.height * high
    image = scene.image.convert("RGB").resize(size, pil.Resampling.LANCZOS)
    if scene.overlay is not None and scene.rows:
        image = _tinted(image, scene)
    draw = ImageDraw.Draw(image)

    def box(rect: Rect, inset: int) -> tuple[int, int, int, int]:
        r0, r1, c0, c1 = rect
        across, down = size[0] / layout.cols, size[1] / layout.rows
        return (round(c0 * across) + inset, round(r0 * down) + inset,
                round(c1 * across) - 1 - inset, round(r1 * down) - 1 - inset)  # fmt: skip

    def frame(rect: Rect, inset: int) -> None:
        for step, colour in enumerate(((255, 255, 255), (0, 0, 0))):
            draw.rectangle(box(rect, inset + 2 * step), outline=colour, width=2)

    if scene.overlay is not None and scene.rows:
        for patch, value in enumerate(scene.overlay.values[: scene.rows * scene.cols]):
            if value is not None:
                row, col = divmod(patch, scene.cols)
                x0, y0, x1, y1 = box((row, row + 1, col, col + 1), 0)
                text = scene.overlay.text(value, 5)
                place = ((x0 + x1) / 2, (y0 + y1) / 2)
                draw.text(
                    place,
                    text,
                    (255, 255, 255),
                    anchor="mm",
                    stroke_width=2,
                    stroke_fill=(0, 0, 0),
                    font_size=16,
                )
    if mark is not None:
        frame(mark, 0)
        frame(mark, 6)
    if cursor is not None:
        frame(cursor, 1)
    return image


def _tinted(image: Image, scene: Scene) -> Image:
    from PIL import Image as pil

    assert scene.overlay is not None
    wanted = scene.rows * scene.cols
    values = [np.nan if value is None else value for value in scene.overlay.values[:wanted]]
    grid = np.array([*values, *[np.nan] * (wanted - len(values))], dtype=float).reshape(
        scene.rows, scene.cols
    )
    place = Layout(scene.rows, scene.cols, image.width, image.height // 2)
    even = image.resize((image.width, 2 * place.height))
    made = tinted(np.asarray(even), place, shares(grid, scene.overlay.low, scene.overlay.high), TINT)
    return pil.fromarray(made).resize(image.size)
