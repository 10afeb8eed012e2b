"""Plain pictures, drawn here and always the same: what the reference norms of a vision tower are measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from ..models.pictures import Picture
from ..specs import Message
from .context import JobContext
from .prompts import Prompted, rendered

SIDE = 224
"""Pixels; whole patches of 14 and of 16, and of the squares of four that are merged."""

Plane = np.ndarray


def _gradient(x: Plane, y: Plane) -> list[Plane]:
    return [x, 0.5 + 0 * x, 1 - x]


def _sky(x: Plane, y: Plane) -> list[Plane]:
    return [0.3 + 0.6 * y, 0.5 + 0.4 * y, 0.95 + 0 * y]


def _disc(x: Plane, y: Plane) -> list[Plane]:
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.09
    return [np.where(inside, shade, 0.96) for shade in (0.85, 0.2, 0.15)]


def _square(x: Plane, y: Plane) -> list[Plane]:
    inside = (abs(x - 0.4) < 0.2) & (abs(y - 0.6) < 0.2)
    return [np.where(inside, shade, 0.9) for shade in (0.1, 0.3, 0.8)]


def _triangle(x: Plane, y: Plane) -> list[Plane]:
    inside = (y > 0.2) & (y < 0.8) & (abs(x - 0.5) < (y - 0.2) / 2)
    return [np.where(inside, shade, ground) for shade, ground in ((0.1, 0.7), (0.6, 0.8), (0.2, 0.7))]


def _stripes(x: Plane, y: Plane) -> list[Plane]:
    stripe = (np.floor(x * 8) % 2) * 0.8 + 0.1
    return [stripe, stripe, stripe]


def _checks(x: Plane, y: Plane) -> list[Plane]:
    check = (np.floor(x * 6) + np.floor(y * 6)) % 2
    return [0.2 + 0.7 * check, 0.3 + 0.4 * check, 0.6 - 0.3 * check]


def _waves(x: Plane, y: Plane) -> list[Plane]:
    return [0.5 + 0.4 * np.sin(2 * np.pi * (3 * x + k * y)) for k in (1, 2, 3)]


_DRAWN: dict[str, Callable[[Plane, Plane], list[Plane]]] = {
    "gradient": _gradient,
    "sky": _sky,
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "stripes": _stripes,
    "checks": _checks,
    "waves": _waves,
}


@cache
def neutral_pictures() -> tuple[Picture, ...]:
    """Gradients, shapes and patterns, `SIDE` pixels wide and high; the digest is of their pixels."""
    steps = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid(steps, steps)
    found: list[Picture] = []
    for name, draw in _DRAWN.items():
        planes = [np.clip(plane * 255, 0, 255).round().astype(np.uint8) for plane in draw(x, y)]
        image = Image.fromarray(np.stack(planes, axis=-1))
        digest = "sha256:" + hashlib.sha256(image.tobytes()).hexdigest()
        found.append(Picture(image, digest, image.size, name))
    return tuple(found)


def neutral_prompted(ctx: JobContext, thinking: bool | None = None) -> list[tuple[str, Prompted]]:
    """The name of each plain picture, and a prompt of nothing but that picture."""
    given = {picture.digest: picture for picture in neutral_pictures()}
    chats = [[Message(role="user", content="", images=[digest])] for digest in given]
    prompts = [rendered(ctx, chat, thinking, given=given) for chat in chats]
    return [(picture.name, prompt) for picture, prompt in zip(given.values(), prompts, strict=True)]
