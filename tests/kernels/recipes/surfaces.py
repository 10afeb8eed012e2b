"""Response surfaces with known thresholds, answered row by row in place of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.recipes.rounds import Rounds
from labtui_kernels.specs.calibrate import Calibrate
from labtui_kernels.specs.plan import Plan, PlannedRow, plan_sweep
from labtui_sessions.stats.search import Want
from labtui_sessions.stats.zones import Line, Zone

SHAPE = ModelShape("qwen3", 8, 16)
PROMPTS = [f"Question {number}?" for number in range(40)]


def rise(at: float, height: float, slope: float = 6.0) -> Callable[[float], float]:
    """A logistic curve over log strength with half of its height at ``at`` %."""
    return lambda pct: height / (1 + math.exp(-slope * math.log(pct / at)))


NULL, NOISE = rise(150, 20, 2), rise(30, 6, 2)


@dataclass(frozen=True)
class Surface:
    """What steering does at one site: change of words, chance of coherent text, and what null directions do."""

    effect: Callable[[float], float]
    coherent: Callable[[float], float]
    null: Callable[[float], float] = NULL
    """Spread of the shift of one null direction."""
    noise: Callable[[float], float] = NOISE
    """Spread of single rows about the shift of their direction."""


@dataclass
class World:
    """A model of surfaces, one a site. ``asked`` collects the rows that were run."""

    surfaces: Mapping[str, Surface]
    seed: int = 0
    asked: list[str] = field(default_factory=list)

    def answer(self, row: PlannedRow) -> dict[str, Any]:
        self.asked.append(row.cell)
        rng = np.random.default_rng([self.seed, int(row.cell, 16) % 2**32])
        base = 30 + 5 * math.sin(row.prompt)
        if row.control == "zero":
            return {"words": round(base), "coherent": True}
        surface, pct = self.surfaces[row.site], row.strength.value
        if row.control == "":
            shift = surface.effect(pct)
        else:
            name = np.random.default_rng([self.seed, *row.direction.encode(), *row.site.encode()])
            shift = surface.null(pct) * name.normal()
        words = round(base + shift + surface.noise(pct) * rng.normal())
        return {"words": words, "coherent": bool(rng.random() < surface.coherent(pct))}


def planned(**fields: Any) -> tuple[Calibrate, Plan]:
    """A calibration with its plan."""
    spec = Calibrate(direction="terse", prompts=list(PROMPTS), **fields)
    return spec, plan_sweep(spec.grid(), SHAPE)


def search(spec: Calibrate, plan: Plan, world: World, known: dict[str, Any]) -> Rounds:
    """Run a calibration to its end; what is in ``known`` is not asked again, and what is asked is put there."""
    rounds = Rounds(spec, plan)
    while rows := rounds.next(known):
        for row in rows:
            if row.cell not in known:
                known[row.cell] = world.answer(row)
    return rounds


def whole(spec: Calibrate, plan: Plan, known: Mapping[str, Any]) -> dict[Line, Zone]:
    """The zones of the full grid, of which ``known`` has every row."""
    rounds = _Everything(spec, plan)
    return {finding.line: finding.zone for finding in rounds.findings(known)}


class _Everything(Rounds):
    """All rows of the plan asked for at once."""

    def __init__(self, spec: Calibrate, plan: Plan) -> None:
        super().__init__(spec, plan)
        self._asked = list(plan.rows)
        frame = self.search.frame
        every = {index: Want(index, frame.prompts, frame.nulls) for index in range(frame.steps)}
        self.search.asked = {line: dict(every) for line in self.search.lines}


def steps_apart(spec: Calibrate, one: Zone, other: Zone) -> Iterator[tuple[str, int]]:
    """By how many steps of the grid the thresholds of two zones differ; none counts as one beyond an end."""
    index = {percent: number for number, percent in enumerate(spec.percents)}

    def numbers(zone: Zone) -> dict[str, int]:
        end = spec.steps if zone.collapse is None else index[zone.collapse]
        first, last = zone.effective or (None, None)
        return {
            "dead": -1 if zone.dead is None else index[zone.dead],
            "first": end if first is None else index[first],
            "last": end if last is None else index[last],
            "collapse": end,
        }

    a, b = numbers(one), numbers(other)
    for name, number in a.items():
        yield name, abs(number - b[name])
