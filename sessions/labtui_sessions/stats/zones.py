"""Along the strengths of a direction at a site: where nothing happens, where it works, where text collapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .effects import effects
from .null import MIN_ROWS, Size, null_of
from .sheet import Point, Sheet
from .summary import coherence


@dataclass(frozen=True)
class Zone:
    """One direction, site, positions and side (the sign of the strengths). Strengths are alpha, sign included."""

    direction: str
    site: str
    where: str
    side: int
    dead: float | None
    """Up to this strength the outcome stays inside the null's 95% band; None: it leaves it at once."""
    effective: tuple[float, float] | None
    """First and last strength outside the band before collapse."""
    collapse: float | None
    """The first strength at which fewer than half of the rows are coherent."""
    monotone: bool
    """False where the outcome comes back into the band, or text becomes coherent again."""
    known: bool
    """False where no strength before the collapse has 20 null rows: then only the collapse is said."""


@dataclass(frozen=True)
class Level:
    """What is known of one strength of a line."""

    point: Point
    effect: float | None
    error: float | None
    """Standard error of the effect as a mean over the prompts that were run; None under two of them."""
    bound: float | None
    """The null's, in the terms of the effect; None without null rows."""
    prompts: int
    null_rows: int
    coherent: float | None
    """Share of the judged rows that are coherent."""
    judged: int

    @property
    def outside(self) -> bool | None:
        """The effect leaves the null's 95% band; None where fewer than 20 null rows say nothing."""
        if self.bound is None or self.null_rows < MIN_ROWS or self.effect is None:
            return None
        return abs(self.effect) > self.bound

    @property
    def ruined(self) -> bool | None:
        """Fewer than half of the rows are coherent; None where that was not measured."""
        return None if self.coherent is None else self.coherent < 0.5


Line = tuple[str, str, str, int]
"""Direction, site, positions, side."""


@np.errstate(over="ignore", invalid="ignore")
def lines(sheet: Sheet, metric: str, whole: Size | None = None) -> dict[Line, list[Level]]:
    """Every line of the grid, its levels by size of strength. ``whole``: see ``null.null_of``."""
    found = effects(sheet, metric)
    null = null_of(sheet, found, whole)
    rates, judged = coherence(sheet)
    error = found.spread / np.sqrt(np.maximum(found.prompts, 1))
    answer: dict[Line, list[Level]] = {}
    for i, point in enumerate(sheet.points):
        if point.control or not (np.isfinite(found.effect[i]) or judged[i]):
            continue
        side = 1 if point.strength > 0 else -1
        level = Level(
            point=point,
            effect=_given(found.effect[i]),
            error=_given(error[i]),
            bound=_given(null.bound[i]),
            prompts=int(found.prompts[i]),
            null_rows=int(null.rows[i]),
            coherent=_given(rates[i]),
            judged=int(judged[i]),
        )
        answer.setdefault((point.direction, point.site, point.where, side), []).append(level)
    for levels in answer.values():
        levels.sort(key=lambda level: abs(level.point.strength))
    return answer


def zones(sheet: Sheet, metric: str, whole: Size | None = None) -> list[Zone]:
    """The zones of every line of the grid, by a metric's effect against the null's bound (``null.py``).

    A calibration has null rows at some strengths only; then those speak of the band, and all of the collapse.
    """
    return [zone_of(line, levels) for line, levels in lines(sheet, metric, whole).items()]


def zone_of(line: Line, levels: Sequence[Level], steady: int = 1) -> Zone:
    """The zones of one line, from what was measured of it.

    The effective band begins where ``steady`` strengths in succession (as many as there are, before the collapse)
    are outside. Of the strengths of a dead zone one in 20 is outside by chance, so that on a fine grid 1 would
    end it early; what then stands alone is no reason to call the line not monotone.
    """
    direction, site, where, side = line
    end = next((i for i, level in enumerate(levels) if level.ruined), len(levels))
    band = [level for level in levels[:end] if level.outside is not None]
    known = bool(band) or (end == 0 and any(level.null_rows >= MIN_ROWS for level in levels))
    out = [bool(level.outside) for level in band]
    first = next((i for i in range(len(band)) if all(out[i : i + steady])), len(band))
    last = max((i for i in range(first, len(band)) if out[i]), default=first)
    healed = any(level.ruined is False for level in levels[end:])
    straight = all(out[first:]) and not healed
    return Zone(
        direction=direction,
        site=site,
        where=where,
        side=side,
        dead=band[first - 1].point.strength if first else None,
        effective=(band[first].point.strength, band[last].point.strength) if first < len(band) else None,
        collapse=levels[end].point.strength if end < len(levels) else None,
        monotone=straight,
        known=known,
    )


def _given(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
