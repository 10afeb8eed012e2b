"""What a picture widget shows: a picture, its grid of merged patches, and the numbers laid over them.

No widgets here: how digits and frames stand in cells, and how numbers are written where there is little room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labtui.widgets.raster import TINT, Colours, Layout, Raster, pixels, raster, shares, tinted

if TYPE_CHECKING:
    from PIL.Image import Image

HEAVY, LIGHT, DOUBLE = "┏━┓┃┗┛[]", "┌─┐│└┘[]", "╔═╗║╚╝{}"
"""Frames of the cursor with and without the focus, and of a marked rectangle: corners and edges of one of several
lines, and the ends of one of a single line."""


_ROOMY = 5
"""Cells across beyond which the cursor's frame has edges, not corners alone."""
NUMBER = 3
"""Cells from which on a patch shows its number; smaller ones show how far it is from the lowest to the highest."""


@dataclass(frozen=True)
class Overlay:
    """A number for each merged patch, raster; None where there is none. The colours run from ``low`` to ``high``."""

    title: str
    values: tuple[float | None, ...]
    low: float = 0.0
    high: float = 1.0
    places: int | None = None
    """Digits after the point; None: as many as there is room for."""

    @property
    def legend(self) -> str:
        """What the digits of small patches stand for."""
        return f"{self.title}, 0 = {self.text(self.low, 6)} 9 = {self.text(self.high, 6)}"

    def text(self, value: float, width: int) -> str:
        """A value in at most ``width`` cells."""
        if self.places is None:
            return short(value, width)
        text = f"{value:.{self.places}f}"
        return text if len(text) <= width else short(value, width)


def overlay(
    title: str,
    values: tuple[float | None, ...],
    *,
    low: float | None = None,
    high: float | None = None,
    places: int | None = None,
) -> Overlay:
    """An overlay over the span of its values, but for the ends that are given."""
    there = [value for value in values if value is not None]
    return Overlay(
        title,
        values,
        min(there, default=0.0) if low is None else low,
        max(there, default=1.0) if high is None else high,
        places,
    )


@dataclass(frozen=True)
class Scene:
    """What is shown. ``key`` names the picture's content; without ``rows`` and ``cols`` there is nothing to point at."""

    key: str
    image: Image
    rows: int = 0
    cols: int = 0
    overlay: Overlay | None = None

    def same(self, other: Scene | None) -> bool:
        """Whether it paints the same."""
        return other is not None and (self.key, self.rows, self.cols, self.overlay) == (
            other.key,
            other.rows,
            other.cols,
            other.overlay,
        )


def short(value: float, width: int) -> str:
    """A number in at most ``width`` cells: as many digits as go in, and no zero before the point where there is little
    room. A single cell cannot say more than the whole part of 0 to 9."""
    for places in (3, 2, 1):
        text = f"{value:.{places}g}"
        text = f"{value:.0f}" if "e" in text and abs(value) < 10**width else text
        bare = text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
        for shown in (text, bare):
            if len(shown) <= width:
                return shown
    whole = f"{value:.0f}"
    return whole if len(whole) <= width else "+" * min(1, width)


def raster_of(scene: Scene, layout: Layout, colours: Colours) -> Raster:
    """The cells of a scene, tinted by its overlay."""
    drawn = pixels(scene.image, layout)
    if scene.overlay is not None and scene.rows and colours != "none":
        values = [np.nan if value is None else value for value in scene.overlay.values]
        wanted = scene.rows * scene.cols
        padded = np.array([*values, *[np.nan] * (wanted - len(values))][:wanted], dtype=float)
        share = shares(padded.reshape(scene.rows, scene.cols), scene.overlay.low, scene.overlay.high)
        drawn = tinted(drawn, layout, share, 1.0 if colours == "16" else TINT)
    return raster(drawn, colours)


def inner(width: int, height: int) -> int:
    """Cells for a number in a patch, beside the cursor's frame."""
    return width - 2 if height < 3 or width > _ROOMY else width


def framed(box: tuple[int, int, int, int], line: int, glyphs: str) -> dict[int, str]:
    """The part of a frame around cells that stands on a line; corners alone where there is little room inside."""
    x0, y0, x1, y1 = box
    if not y0 <= line < y1:
        return {}
    if y1 - y0 == 1:
        return {x1 - 1: glyphs[7], x0: glyphs[6]}
    wide = x1 - x0 > _ROOMY and y1 - y0 > 2
    if line in (y0, y1 - 1):
        left, right = (glyphs[0], glyphs[2]) if line == y0 else (glyphs[4], glyphs[5])
        edge = dict.fromkeys(range(x0, x1), glyphs[1]) if wide else {}
        return {**edge, x1 - 1: right, x0: left}
    return {x1 - 1: glyphs[3], x0: glyphs[3]} if wide else {}


def digits(shown: Overlay, value: float | None, box: tuple[int, int, int, int], line: int) -> dict[int, str]:
    """A patch's number on its middle line: itself where it has room, else how far it is from low to high, 0 to 9."""
    x0, y0, x1, y1 = box
    if value is None or line != y0 + (y1 - y0 - 1) // 2 + (y1 - y0 > 2 and (y1 - y0) % 2 == 0):
        return {}
    room = inner(x1 - x0, y1 - y0)
    if room >= NUMBER:
        text = shown.text(value, min(room, 5))
    else:
        span = shown.high - shown.low
        text = f"{min(9, max(0, int(10 * (value - shown.low) / span))) if span > 0 else 5}"
    start = x0 + (x1 - x0 - len(text)) // 2
    return {start + place: char for place, char in enumerate(text)}
