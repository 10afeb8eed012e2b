"""Scenes of coloured shapes with boxes, and questions about their names, places, counts and relations."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from labtui_artifacts.errors import UsageError

from .stimuli import BACKGROUNDS, COLORS, Split

SHAPES = ("circle", "square", "triangle", "cross")
NUMBERS = ("zero", "one", "two", "three", "four")
CANVASES = ((112, 84), (84, 112), (112, 112))
"""(width, height) in pixels; multiples of 28, the side of a merged patch."""
SPLIT_SIDES: Mapping[str, tuple[int, ...]] = {
    "train": (18, 19, 20, 21, 24, 25, 26, 27, 30, 31, 32),
    "held-out": (22, 23, 28, 29),
}
"""Sides of the shapes' boxes in pixels."""
GAP = 4
"""Pixels between the boxes of two shapes, at least."""
OVERSAMPLE = 4

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, right and bottom outside."""
Shape = tuple[str, str, Box]
"""(name, color, box)."""


@dataclass(frozen=True)
class Scene:
    """A picture of one to four ``shapes`` with all ``questions`` (question, answer) that have one right answer."""

    image: Image.Image
    shapes: list[Shape]
    questions: list[tuple[str, str]]


def paint(canvas: tuple[int, int], background: str, shapes: Sequence[Shape]) -> Image.Image:
    """Draw ``shapes`` with smooth edges; later ones over earlier ones."""
    k = OVERSAMPLE
    image = Image.new("RGB", (canvas[0] * k, canvas[1] * k), BACKGROUNDS[background])
    pen = ImageDraw.Draw(image)
    for name, color, box in shapes:
        left, top, right, bottom = (edge * k for edge in box)
        fill, side = COLORS[color], right - left
        if name == "circle":
            pen.ellipse((left, top, right - 1, bottom - 1), fill=fill)
        elif name == "square":
            pen.rectangle((left, top, right - 1, bottom - 1), fill=fill)
        elif name == "triangle":
            pen.polygon(((left + right) / 2, top, right - 1, bottom - 1, left, bottom - 1), fill=fill)
        elif name == "cross":
            third = side // 3
            pen.rectangle((left + third, top, right - third - 1, bottom - 1), fill=fill)
            pen.rectangle((left, top + third, right - 1, bottom - third - 1), fill=fill)
        else:
            raise UsageError(f"shape {name!r}: expected one of {', '.join(SHAPES)}")
    return image.reduce(k)


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def place_of(box: Box, canvas: tuple[int, int], margin: float = 0.06) -> str | None:
    """``top left`` and so on; None where the centre is within ``margin`` of a midline (shares of the canvas)."""
    across, down = (c / size - 0.5 for c, size in zip(centre(box), canvas, strict=True))
    if min(abs(across), abs(down)) < margin:
        return None
    return f"{'top' if down < 0 else 'bottom'} {'left' if across < 0 else 'right'}"


def relation(one: Box, other: Box, margin: float = 8.0) -> str | None:
    """Where ``one`` lies, seen from ``other``: left, right, above, below; None where two of them are as true.

    One distance between the centres must exceed the other by ``margin`` pixels.
    """
    (x, y), (u, v) = centre(one), centre(other)
    across, down = x - u, y - v
    if abs(abs(across) - abs(down)) < margin:
        return None
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def ask(shapes: Sequence[Shape], canvas: tuple[int, int]) -> list[tuple[str, str]]:
    """Every question about ``shapes`` that has one right answer. Kinds: `kind_of`."""
    names, colors = Counter(s[0] for s in shapes), Counter(s[1] for s in shapes)
    asked = [("How many shapes are there?", NUMBERS[len(shapes)])]
    asked += [(f"How many {plural(name)} are there?", NUMBERS[names[name]]) for name in SHAPES]
    asked += [(f"What shape is {color}?", name) for name, color, _ in shapes if colors[color] == 1]
    single = [shape for shape in shapes if names[shape[0]] == 1]
    asked += [(f"What color is the {name}?", color) for name, color, _ in single]
    for name, _, box in single:
        if (place := place_of(box, canvas)) is not None:
            asked.append((f"Where is the {name}?", place))
        for other, _, its in single:
            if other != name and (where := relation(box, its)) is not None:
                asked.append((f"Where is the {name}, seen from the {other}?", where))
    return asked


def plural(name: str) -> str:
    return f"{name}es" if name.endswith("s") else f"{name}s"


def kind_of(question: str) -> str:
    """``count``, ``name``, ``color``, ``place`` or ``relation``: what a question of `ask` is about."""
    if question.startswith("How many"):
        return "count"
    if question.startswith("What shape"):
        return "name"
    if question.startswith("What color"):
        return "color"
    return "relation" if "seen from" in question else "place"


def describe(shapes: Sequence[Shape]) -> str:
    """A caption: the shapes from left to right."""
    ordered = sorted(shapes, key=lambda shape: centre(shape[2]))
    return ", ".join(f"a {color} {name}" for name, color, _ in ordered)


def random_scene(
    rng: random.Random,
    split: Split = "train",
    canvases: Sequence[tuple[int, int]] = CANVASES,
) -> Scene:
    """One scene of ``split``: one to four shapes that do not touch, in random places."""
    canvas = rng.choice(list(canvases))
    count = rng.randint(1, 4)
    while True:
        shapes: list[Shape] = []
        for _ in range(40):
            side = rng.choice(SPLIT_SIDES[split])
            left, top = rng.randint(1, canvas[0] - side - 1), rng.randint(1, canvas[1] - side - 1)
            box = (left, top, left + side, top + side)
            if not any(_near(box, other) for _, _, other in shapes):
                shapes.append((rng.choice(SHAPES), rng.choice(list(COLORS)), box))
            if len(shapes) == count:
                image = paint(canvas, rng.choice(list(BACKGROUNDS)), shapes)
                return Scene(image, shapes, ask(shapes, canvas))


def _near(a: Box, b: Box) -> bool:
    return a[0] < b[2] + GAP and b[0] < a[2] + GAP and a[1] < b[3] + GAP and b[1] < a[3] + GAP


def generate(n: int, seed: int, split: Split = "train") -> list[Scene]:
    """``n`` scenes; the same arguments give the same ones. Shapes' sizes differ between the splits.

    UsageError for an unknown split or a negative ``n``.
    """
    if split not in SPLIT_SIDES:
        raise UsageError(f"split {split!r}: expected train or held-out")
    if n < 0:
        raise UsageError(f"{n} scenes: expected a number from 0")
    rng = random.Random(f"scenes/{seed}/{split}")
    return [random_scene(rng, split) for _ in range(n)]
