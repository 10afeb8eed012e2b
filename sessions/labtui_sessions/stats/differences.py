"""One sweep minus another: cell by cell, where both have the cell and prompts in common.

A cell is the same where site, positions and direction are, and the strength within 1e-4. Where each of the two
sweeps has one direction only and these differ, they are held against each other at equal share of the residual
norm (``strength_pct``), since α counts in norms of the direction. The difference is paired: for each prompt that
both have, the gap here minus the gap there (each the row minus its zero row, seeds averaged), its mean and the
95% t interval of the mean. It comes with no test: two sweeps were picked by hand.

Beside it stands the null's: by how much two unrelated directions that mean nothing would differ, one here and one
there, over the shared prompts. As in ``null.py`` each is m + s T, so the difference is (m - m') + sqrt(s^2 + s'^2) T;
where single rows are all there is, it is the root of the sum of both bounds' squares. Two sweeps of one direction differ
by less than that for chance alone, so against them it is severe.

What has no counterpart is absent, with a reason, and never zero.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import intervals
from .effects import Effects, effects
from .null import MIN_ROWS, Null, foretold, null_of
from .sheet import Point, Sheet

Array = np.ndarray[Any, np.dtype[Any]]

_NEAR = 1e-4
_NEAR_SHARE = 5e-3
"""Of %, which are measured anew on each machine."""


@dataclass(frozen=True)
class Difference:
    """What a cell has more than the same cell of a baseline; ``reason`` says why it is absent."""

    point: Point
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    prompts: int = 0
    """Prompts that both have."""
    here: float | None = None
    there: float | None = None
    """Both effects over these prompts."""
    null_bound: float | None = None
    """95th percentile of the absolute difference between two directions that mean nothing; None where one of the two
    has under 20 null rows."""
    bound: str = ""
    """What cut answers make of the difference: a ``lower`` or ``upper`` bound, ``unclear``, or empty."""
    reason: str = ""


def differences(sheet: Sheet, baseline: Sheet, metric: str) -> list[Difference]:
    """One for each cell of the grid of ``sheet``. UsageError for a metric that it lacks."""
    mine = effects(sheet, metric)
    grid = [i for i, point in enumerate(sheet.points) if not point.control]
    if metric not in baseline.metrics():
        return [Difference(sheet.points[i], reason=f"the baseline has no {metric}") for i in grid]
    theirs = effects(baseline, metric)
    here, there = _common(sheet, baseline)
    same = _matcher(sheet, baseline)
    others = [(j, point) for j, point in enumerate(baseline.points) if not point.control]
    bounds = _Nulls.of((sheet, mine), (baseline, theirs), len(here))
    found = []
    for i in grid:
        point = sheet.points[i]
        j = next((j for j, other in others if same(point, other)), None)
        if j is None:
            found.append(Difference(point, reason="the baseline has no such cell"))
        elif not len(here):
            found.append(Difference(point, reason="no prompt is in both sweeps"))
        else:
            bound = _bound(mine.bound[i], theirs.bound[j])
            gaps = mine.gaps[i, here], theirs.gaps[j, there]
            one = _paired(point, *gaps, bound, metric, mine.rate)
            found.append(replace(one, null_bound=bounds.at(i, j)) if one.effect is not None else one)
    return found


def _paired(point: Point, here: Array, there: Array, bound: str, metric: str, rate: bool) -> Difference:
    use = np.isfinite(here) & np.isfinite(there)
    count = int(use.sum())
    if not count:
        return Difference(point, reason=f"no prompt has {metric} and its zero row in both sweeps")
    gaps = here[use] - there[use]
    ends: tuple[float | None, float | None] = (None, None)
    if count > 1 and not (rate and np.ptp(gaps) == 0):  # rates that never differ leave no spread to judge by
        low, high = intervals.mean_interval(
            np.array([gaps.mean()]), np.array([gaps.std(ddof=1)]), np.array([count])
        )
        ends = (float(low[0]), float(high[0]))
    means = float(here[use].mean()), float(there[use].mean())
    return Difference(point, float(gaps.mean()), *ends, count, *means, bound=bound)


@dataclass(frozen=True)
class _Nulls:
    """The nulls of both tables, for effects over the prompts that both have."""

    here: Null
    there: Null

    @classmethod
    def of(cls, mine: tuple[Sheet, Effects], theirs: tuple[Sheet, Effects], shared: int) -> _Nulls:
        def null(sheet: Sheet, found: Effects) -> Null:
            return null_of(sheet, replace(found, prompts=np.minimum(found.prompts, shared)))

        return cls(null(*mine), null(*theirs))

    def at(self, i: int, j: int) -> float | None:
        """The bound of cell ``i`` here less cell ``j`` there."""
        if min(self.here.rows[i], self.there.rows[j]) < MIN_ROWS:
            return None
        scale = np.hypot(self.here.scale[i], self.there.scale[j])
        if not np.isfinite(scale):
            return float(np.hypot(self.here.row_bound[i], self.there.row_bound[j]))
        mean = self.here.mean[i] - self.there.mean[j]
        return float(foretold(np.array([mean]), np.array([scale]))[0])


def _bound(mine: str, theirs: str) -> str:
    """A lower bound less an upper one is a lower bound, and the other way round; all else is unclear."""
    turned = {"lower": "upper", "upper": "lower"}.get(theirs, theirs)
    return mine if not turned or mine == turned else turned if not mine else "unclear"


def _common(sheet: Sheet, baseline: Sheet) -> tuple[Array, Array]:
    """The numbers of the prompts that both have, in each. By id where both tables have ids, else by text, those
    left out that several prompts share."""
    by_id = all(any(one.columns.get("prompt_id", ())) for one in (sheet, baseline))
    mine, theirs = (_known(one.prompt_ids if by_id else one.prompts) for one in (sheet, baseline))
    both = [key for key in mine if key in theirs]
    return np.array([mine[k] for k in both], int), np.array([theirs[k] for k in both], int)


def _known(keys: tuple[str, ...]) -> dict[str, int]:
    count = Counter(keys)
    return {key: number for number, key in enumerate(keys) if count[key] == 1}


def _matcher(sheet: Sheet, baseline: Sheet) -> Any:
    """Whether two points are the same cell."""
    mine, theirs = (
        {point.direction for point in one.points if not point.control} for one in (sheet, baseline)
    )
    across = len(mine) == len(theirs) == 1 and mine != theirs

    def same(point: Point, other: Point) -> bool:
        if (point.site, point.where) != (other.site, other.where):
            return False
        if across and point.strength_pct is not None and other.strength_pct is not None:
            signed = [math.copysign(p.strength_pct or 0.0, p.strength) for p in (point, other)]
            return math.isclose(*signed, rel_tol=_NEAR_SHARE)
        if not across and point.direction != other.direction:
            return False
        return math.isclose(point.strength, other.strength, rel_tol=_NEAR)

    return same
