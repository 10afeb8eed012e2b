"""Stroop stimuli: rendered colour words in inks, from a seed. Folders of them are read by `folder`.

Four subsets: ``color_only`` (ink without a word: a row of x), ``text_only`` (a word in neutral grey),
``congruent`` (word and ink agree) and ``incongruent`` (they do not), the last two named ``{word}_as_{ink}``.
Fonts, sizes and places are split: the held-out ones are in no training picture.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labtui_artifacts.errors import UsageError

INK_QUESTION = "What is the ink color of the text?"
WORD_QUESTION = "What word is written?"

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (215, 25, 30),
    "green": (25, 145, 50),
    "blue": (35, 70, 225),
    "yellow": (225, 190, 0),
    "orange": (240, 120, 10),
    "purple": (150, 45, 190),
}
NEUTRAL, NEUTRAL_RGB = "gray", (128, 128, 128)
"""The ink of ``text_only``: seen on every background."""
NO_WORD = "none"
"""What is written where only ink is shown."""
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "cream": (250, 242, 224),
    "sky": (222, 236, 250),
    "mint": (226, 246, 230),
    "rose": (250, 230, 234),
}
"""All of them lighter than every ink: a model this small learns to read on paper, not also on slate."""
CANVASES = ((140, 56), (168, 56), (140, 84))
"""(width, height) in pixels; multiples of 28, the side of a merged patch."""

Split = Literal["train", "held-out"]
Subset = Literal["color_only", "text_only", "congruent", "incongruent"]
SUBSETS: tuple[Subset, ...] = ("color_only", "text_only", "congruent", "incongruent")

FONT_FOLDER = Path(__file__).parent / "fonts"
FONTS = ("sans", "sans-bold", "sans-oblique", "serif", "serif-bold", "serif-italic", "mono", "mono-bold")
SPLIT_FONTS: Mapping[str, tuple[str, ...]] = {
    "train": ("sans", "sans-bold", "sans-oblique", "serif", "serif-italic", "mono"),
    "held-out": ("serif-bold", "mono-bold"),
}
SPLIT_SIZES: Mapping[str, tuple[int, ...]] = {"train": (16, 18, 22, 24, 28), "held-out": (20, 26)}
"""Font sizes in pixels per em."""
PLACE_BINS = (5, 3)
"""Places fall into so many bins across and down; which bins are held out: `held_out_place`."""
MARGIN = 2
"""Pixels between a word's box and the edge of its picture, at least."""


@dataclass(frozen=True)
class Stimulus:
    """A picture of a word in an ink. ``ink_mask`` [height, width] bool: which pixels the ink covers.

    ``word`` is `NO_WORD` in ``color_only``; ``ink`` is `NEUTRAL` in ``text_only``.
    """

    image: Image.Image
    word: str
    ink: str
    subset: str
    name: str
    font: str
    ink_mask: NDArray[np.bool_]

    @property
    def answers(self) -> dict[str, str]:
        """The right answer to each of the two questions."""
        return {INK_QUESTION: self.ink, WORD_QUESTION: self.word}

    def marks(self, rows: int, cols: int, share: float = 0.02) -> tuple[bool, ...]:
        """Which of ``rows`` x ``cols`` equal rectangles (raster order) have at least ``share`` of ink."""
        return covered(self.ink_mask, rows, cols, share)


def covered(mask: NDArray[np.bool_], rows: int, cols: int, share: float = 0.02) -> tuple[bool, ...]:
    """Which of ``rows`` x ``cols`` equal rectangles of ``mask`` [h, w] are covered to at least ``share``."""
    height, width = mask.shape
    down = [round(height * i / rows) for i in range(rows + 1)]
    across = [round(width * i / cols) for i in range(cols + 1)]
    return tuple(
        bool(mask[down[i] : down[i + 1], across[j] : across[j + 1]].mean() >= share)
        for i in range(rows)
        for j in range(cols)
    )


@lru_cache(maxsize=256)
def font_at(font: str, size: int) -> ImageFont.FreeTypeFont:
    """A bundled face at ``size`` pixels per em. UsageError for another name."""
    if font not in FONTS:
        raise UsageError(f"font {font!r}: expected one of {', '.join(FONTS)}")
    return ImageFont.truetype(str(FONT_FOLDER / f"{font}.ttf"), size, layout_engine=ImageFont.Layout.BASIC)


def ink_rgb(ink: str) -> tuple[int, int, int]:
    """The colour of an ink by its name, `NEUTRAL` included. UsageError for another name."""
    if ink == NEUTRAL:
        return NEUTRAL_RGB
    if ink not in COLORS:
        raise UsageError(f"ink {ink!r}: expected one of {', '.join(COLORS)}, {NEUTRAL}")
    return COLORS[ink]


def subset_of(word: str, ink: str) -> Subset:
    """Which subset a word in an ink belongs to."""
    if word == NO_WORD:
        return "color_only"
    if ink == NEUTRAL:
        return "text_only"
    return "congruent" if word == ink else "incongruent"


def stem(word: str, ink: str) -> str:
    """``{word}_as_{ink}``, or the one name that there is where only a word or only ink is shown."""
    return {"color_only": ink, "text_only": word}.get(subset_of(word, ink), f"{word}_as_{ink}")


def draw(
    word: str,
    ink: str,
    *,
    font: str = "sans-bold",
    size: int = 24,
    place: tuple[float, float] = (0.5, 0.5),
    background: str = "white",
    canvas: tuple[int, int] = CANVASES[0],
    text: str | None = None,
) -> Stimulus:
    """Draw ``word`` in ``ink``; for `NO_WORD` a row of five x.

    ``size``: pixels per em. ``place``: (across, down), each 0-1, as shares of the room that the word leaves in the
    picture. ``background``: a name of `BACKGROUNDS`. ``canvas``: (width, height) in pixels. ``text``: the
    characters to draw, where they are not the word itself. UsageError for unknown names, and where the word does
    not fit.
    """
    if background not in BACKGROUNDS:
        raise UsageError(f"background {background!r}: expected one of {', '.join(BACKGROUNDS)}")
    if not all(0 <= share <= 1 for share in place):
        raise UsageError(f"place {place}: expected two numbers from 0 to 1")
    shown = text if text is not None else ("xxxxx" if word == NO_WORD else word)
    face = font_at(font, size)
    left, top, right, bottom = (round(edge) for edge in face.getbbox(shown))
    room = (canvas[0] - 2 * MARGIN - (right - left), canvas[1] - 2 * MARGIN - (bottom - top))
    if min(room) < 0:
        raise UsageError(f"{shown!r} in {font} at {size} does not fit into {canvas[0]}x{canvas[1]} pixels")
    alpha = Image.new("L", canvas, 0)
    corner = (MARGIN + round(place[0] * room[0]) - left, MARGIN + round(place[1] * room[1]) - top)
    ImageDraw.Draw(alpha).text(corner, shown, fill=255, font=face)
    image = Image.new("RGB", canvas, BACKGROUNDS[background])
    image.paste(Image.new("RGB", canvas, ink_rgb(ink)), mask=alpha)
    return Stimulus(image, word, ink, subset_of(word, ink), stem(word, ink), font, np.asarray(alpha) >= 128)


def place_bin(place: tuple[float, float]) -> tuple[int, int]:
    """The bin (across, down) that a place falls into."""
    across, down = PLACE_BINS
    return min(int(place[0] * across), across - 1), min(int(place[1] * down), down - 1)


def held_out_place(place: tuple[float, float]) -> bool:
    """Whether a place lies in one of the held-out bins (a quarter of them, along diagonals; never the centre)."""
    across, down = place_bin(place)
    return (across + down) % 4 == 2


def random_place(rng: random.Random, split: Split) -> tuple[float, float]:
    """A place of ``split``, uniform over its bins."""
    while True:
        place = (rng.random(), rng.random())
        if held_out_place(place) == (split == "held-out"):
            return place


def fits(text: str, font: str, size: int, canvas: tuple[int, int]) -> bool:
    """Whether ``text`` can be drawn on ``canvas``."""
    left, top, right, bottom = font_at(font, size).getbbox(text)
    return right - left + 2 * MARGIN <= canvas[0] - 1 and bottom - top + 2 * MARGIN <= canvas[1] - 1


def random_stimulus(
    rng: random.Random,
    word: str,
    ink: str,
    split: Split,
    *,
    canvases: Sequence[tuple[int, int]] = CANVASES,
) -> Stimulus:
    """``word`` in ``ink`` in a random font, size, place and background of ``split``, on one of ``canvases``."""
    text = "x" * rng.randint(3, 6) if word == NO_WORD else word
    canvas = rng.choice(list(canvases))
    while True:
        font, size = rng.choice(SPLIT_FONTS[split]), rng.choice(SPLIT_SIZES[split])
        if fits(text, font, size, canvas):
            break
    place = random_place(rng, split)
    background = rng.choice(list(BACKGROUNDS))
    return draw(word, ink, font=font, size=size, place=place, background=background, canvas=canvas, text=text)


def pairs(subset: str) -> list[tuple[str, str]]:
    """Every (word, ink) of a subset. UsageError for another name."""
    names = list(COLORS)
    if subset == "color_only":
        return [(NO_WORD, ink) for ink in names]
    if subset == "text_only":
        return [(word, NEUTRAL) for word in names]
    if subset == "congruent":
        return [(name, name) for name in names]
    if subset == "incongruent":
        return [(word, ink) for word in names for ink in names if word != ink]
    raise UsageError(f"subset {subset!r}: expected one of {', '.join(SUBSETS)}")


def generate(subset: str, n: int, seed: int, split: Split = "train") -> list[Stimulus]:
    """``n`` stimuli of ``subset``: its (word, ink) pairs in turn, in a random order, each in a random rendering.

    The same arguments give the same pictures; ``train`` and ``held-out`` share no font, size or place. Names end
    in a number. UsageError for an unknown subset or split, or a negative ``n``.
    """
    if split not in SPLIT_FONTS:
        raise UsageError(f"split {split!r}: expected train or held-out")
    if n < 0:
        raise UsageError(f"{n} stimuli: expected a number from 0")
    rng = random.Random(f"stroop/{subset}/{seed}/{split}")
    order = pairs(subset)
    rng.shuffle(order)
    made = []
    for number in range(n):
        word, ink = order[number % len(order)]
        s = random_stimulus(rng, word, ink, split)
        name = f"{s.name}-{number:04d}"
        made.append(Stimulus(s.image, s.word, s.ink, s.subset, name, s.font, s.ink_mask))
    return made


def load_folder(path: Path | str) -> list[Stimulus]:
    """The stimuli of a folder of pictures: see `folder.read_folder`."""
    from .folder import read_folder

    return read_folder(Path(path))
