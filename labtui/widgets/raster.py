"""A picture as cells of a terminal: two pixels a cell by half blocks, or one of ten ASCII shades.

Nothing here knows of widgets. A picture of ``rows`` x ``cols`` merged patches is laid out so that patches are square,
a cell being about twice as high as it is wide; where each patch then lies is said by :class:`Layout`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from rich.color import Color
from rich.style import Style

if TYPE_CHECKING:
    from PIL.Image import Image

Colours: TypeAlias = Literal["full", "16", "none"]
"""What the terminal has: 256 or more, its own 16, or none (or none are wanted)."""
Rect: TypeAlias = tuple[int, int, int, int]
"""Row start, row stop, column start, column stop, half-open, in merged patches."""

SHADES = " .:-=+*#%@"
ANSI = (
    (0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (170, 170, 170),
    (85, 85, 85), (255, 85, 85), (85, 255, 85), (255, 255, 85), (85, 85, 255), (255, 85, 255), (85, 255, 255),
    (255, 255, 255),
)  # fmt: skip
"""What a terminal's own colours are about: only their names are sent, so a theme of the terminal's may differ."""
_RAMP = np.array([(40, 30, 110), (35, 100, 150), (30, 160, 130), (120, 205, 70), (250, 225, 40)], dtype=float)
"""Dark to bright through hues that are told apart without red and green."""
TINT = 0.62
"""How much of a tinted pixel is the tint where there are colours for both."""
_GROUND = 0.5
"""How bright the picture is below a tint."""


@dataclass(frozen=True)
class Layout:
    """Where merged patches lie in cells, of a picture ``width`` x ``height`` cells large."""

    rows: int
    cols: int
    width: int
    height: int

    def cells(self, rect: Rect) -> tuple[int, int, int, int]:
        """The cells of a rectangle of patches: x0, y0, x1, y1, half-open, at least one cell each way."""
        r0, r1, c0, c1 = rect
        x0, x1 = c0 * self.width // self.cols, c1 * self.width // self.cols
        y0, y1 = r0 * self.height // self.rows, r1 * self.height // self.rows
        x0, y0 = min(x0, self.width - 1), min(y0, self.height - 1)
        return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)

    def patch(self, x: int, y: int) -> tuple[int, int]:
        """The patch, row and column, that lies in a cell."""
        col, row = ((x + 1) * self.cols - 1) // self.width, ((y + 1) * self.rows - 1) // self.height
        return max(0, min(row, self.rows - 1)), max(0, min(col, self.cols - 1))


def lay(rows: int, cols: int, room: tuple[int, int], *, whole: bool = False) -> Layout:
    """The largest layout of square patches in ``room`` (cells across, lines). Where not all of them fit at two cells
    by one, a patch has two by one and the rest is out of view; with ``whole`` all are in view, however small."""
    across, lines = max(2, room[0]), max(1, room[1])
    height = min(lines, max(1, across * rows // (2 * cols)))
    if not whole:
        height = max(height, rows)
    width = max(1, round(2 * height * cols / rows))
    width = min(width, across) if whole or across >= 2 * cols else width
    return Layout(rows, cols, width if whole else max(width, 2 * cols), height)


def pixels(image: Image, layout: Layout) -> np.ndarray:
    """The picture in the pixels of half blocks, uint8 [2 * height, width, 3]."""
    from PIL import Image as pil

    box = image.convert("RGB").resize((layout.width, 2 * layout.height), pil.Resampling.BOX)
    return np.asarray(box)


def shares(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values [rows, cols] as parts of the way from ``low`` to ``high``, 0 to 1; NaN stays."""
    span = high - low
    scaled = (values - low) / span if span > 0 else np.where(np.isnan(values), values, 0.5)
    return np.clip(scaled, 0.0, 1.0)


def tinted(pixels: np.ndarray, layout: Layout, share: np.ndarray, tint: float = TINT) -> np.ndarray:
    """Pixels in grey, darkened, under a colour for each patch's share (``tint`` of the pixel); patches without one are
    only darkened."""
    grey = (pixels @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=2) * _GROUND
    lines = np.arange(layout.height).repeat(2)
    row_of = np.array([layout.patch(0, y)[0] for y in range(layout.height)])[lines]
    col_of = np.array([layout.patch(x, 0)[1] for x in range(layout.width)])
    each = share[row_of][:, col_of]
    place = np.nan_to_num(each) * (len(_RAMP) - 1)
    below = np.minimum(place.astype(int), len(_RAMP) - 2)
    part = (place - below)[..., None]
    colour = _RAMP[below] * (1 - part) + _RAMP[below + 1] * part
    mixed = grey * (1 - tint) + colour * tint
    return np.where(np.isnan(each)[..., None], grey, mixed).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Raster:
    """Cells of a picture: a character, and the colours of its upper and lower half, by line and column.

    A colour is a number: 0xRRGGBB, or the number of one of the terminal's own.
    """

    chars: list[str]
    upper: np.ndarray
    lower: np.ndarray
    colours: Colours

    def style(self, x: int, y: int) -> Style:
        """How a cell of the picture is painted."""
        if self.colours == "none":
            return Style.null()
        return paint(int(self.upper[y, x]), int(self.lower[y, x]), self.colours)

    def behind(self, x: int, y: int) -> Style:
        """How a glyph is painted that stands in place of a cell: readable, on the cell's mean colour."""
        if self.colours == "none":
            return _BOLD
        upper, lower = int(self.upper[y, x]), int(self.lower[y, x])
        one, two = _rgb(upper, self.colours), _rgb(lower, self.colours)
        mean = tuple((a + b) // 2 for a, b in zip(one, two, strict=True))
        light = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2] > 120
        if self.colours == "16":
            ground = upper if (sum(one) > sum(two)) == light else lower
            light = sum(_rgb(ground, "16")) > 330
            return _glyph(ground, light, "16")
        return _glyph(mean[0] << 16 | mean[1] << 8 | mean[2], light, "full")


_BOLD = Style(bold=True)


def raster(pixels: np.ndarray, colours: Colours) -> Raster:
    """Pixels [2 * height, width, 3] as cells."""
    if colours == "none":
        light = (pixels @ np.array([0.299, 0.587, 0.114])).reshape(-1, 2, pixels.shape[1]).mean(axis=1)
        index = np.minimum((light / 256 * len(SHADES)).astype(int), len(SHADES) - 1)
        nothing = np.zeros(index.shape, dtype=int)
        return Raster(["".join(SHADES[i] for i in line) for line in index], nothing, nothing, colours)
    numbers = _few(pixels) if colours == "16" else _many(pixels)
    height, width = numbers.shape[0] // 2, numbers.shape[1]
    return Raster(["▀" * width] * height, numbers[0::2], numbers[1::2], colours)


def _many(pixels: np.ndarray) -> np.ndarray:
    """Colours as 0xRRGGBB, five bits of each, so that neighbours are alike more often and less is sent."""
    kept = (pixels & 0xF8).astype(int)
    kept |= kept >> 5
    return kept[..., 0] << 16 | kept[..., 1] << 8 | kept[..., 2]


def _few(pixels: np.ndarray) -> np.ndarray:
    """The nearest of the terminal's own 16. Dithering was tried: at this size it only makes noise."""
    from PIL import Image as pil

    palette = pil.new("P", (1, 1))
    flat = [part for colour in ANSI for part in colour]
    palette.putpalette(flat + flat[:3] * (256 - len(ANSI)))
    made = pil.fromarray(np.ascontiguousarray(pixels)).quantize(palette=palette, dither=pil.Dither.NONE)
    return np.minimum(np.asarray(made), len(ANSI) - 1).astype(int)


def _rgb(number: int, colours: Colours) -> tuple[int, int, int]:
    return ANSI[number] if colours == "16" else (number >> 16, number >> 8 & 255, number & 255)


def _colour(number: int, colours: Colours) -> Color:
    return Color.from_ansi(number) if colours == "16" else Color.from_rgb(*_rgb(number, colours))


@lru_cache(maxsize=8192)
def paint(upper: int, lower: int, colours: Colours) -> Style:
    """The style of a half block."""
    return Style(color=_colour(upper, colours), bgcolor=_colour(lower, colours))


@lru_cache(maxsize=2048)
def _glyph(ground: int, light: bool, colours: Colours) -> Style:
    ink = (0 if light else 15) if colours == "16" else (0 if light else 0xFFFFFF)
    return Style(color=_colour(ink, colours), bgcolor=_colour(ground, colours), bold=True)
