"""Simulated sweeps: tables as the sweep recipe commits them, with what is true of them known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[np.random.Generator, Array], Array]


@dataclass(frozen=True)
class World:
    """How answers come about: words are a rounded log-normal about each prompt's own length.

    A direction shifts every answer by ``share`` (of the sd of log-words) times a draw of its own: with 0 a random
    direction does nothing but re-roll the answers, with 1 it decides all. ``same`` is the probability that
    an answer is exactly the unsteered one, as greedy decoding gives where an edit is weak.
    """

    prompts: int = 20
    sites: int = 6
    strengths: int = 4
    nulls: int = 20
    per_direction: int = 2
    share: float = 0.0
    same: float = 0.3
    noise: float = 0.3


def draw(
    world: World, seed: int, planted: dict[tuple[int, int], float] | None = None
) -> dict[str, list[Any]]:
    """Columns of a sweep. ``planted``: (site, strength) -> factor on the words of that cell."""
    rng = np.random.default_rng(seed)
    length = rng.normal(3.6, 0.5, world.prompts)  # log words; the median prompt gets 37
    zero = _words(rng, length, world.noise)
    columns: dict[str, list[Any]] = {}

    def put(prompts: Array, words: Array, direction: str, site: str, strength: float, control: str) -> None:
        for p, w in zip(prompts.tolist(), words.tolist(), strict=True):
            row = {
                "prompt": f"p{p}", "direction": direction, "site": site, "where": "all",
                "strength": strength, "strength_abs": 20 * strength, "strength_pct": 4 * strength, "seed": 0,
                "control": control, "tokens": 2 * w, "finish": "stop", "words": w,
            }  # fmt: skip
            for name, value in row.items():
                columns.setdefault(name, []).append(value)

    everyone = np.arange(world.prompts)
    put(everyone, zero, "", "", 0.0, "zero")
    for site in range(world.sites):
        pull = rng.normal(
            0, 1, world.strengths
        )  # what the direction at hand does by itself, as a random one would
        for strength in range(world.strengths):
            words = _steered(rng, world, length, zero, pull[strength])
            factor = (planted or {}).get((site, strength), 1.0)
            put(everyone, np.round(words * factor).astype(int), "terse", f"llm.{site}", strength + 1.0, "")
            for number in range(0, world.nulls, world.per_direction):
                members = np.arange(number, min(number + world.per_direction, world.nulls)) % world.prompts
                words = _steered(rng, world, length[members], zero[members], rng.normal())
                name = f"random:{number // world.per_direction}~terse"
                put(members, words, name, f"llm.{site}", strength + 1.0, "random")
    return columns


def _words(rng: np.random.Generator, length: Array, noise: float) -> Array:
    return np.round(np.exp(length + rng.normal(0, noise, len(length)))).astype(int)


def _steered(rng: np.random.Generator, world: World, length: Array, zero: Array, pull: float) -> Array:
    shift = world.noise * np.sqrt(world.share) * pull
    fresh = _words(rng, length + shift, world.noise * np.sqrt(1 - world.share))
    return np.where(rng.random(len(zero)) < world.same, zero, fresh)
