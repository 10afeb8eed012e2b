"""What directions that mean nothing do: the bound that an effect has to exceed.

**What is compared.** A cell's effect is the mean over n prompts under ONE direction; a null row is ONE prompt
under one random or shuffled-label direction of the same norm. Write a null row's gap as

    x = m + a_r + e_rp,   Var(a_r) = rho V,   Var(e_rp) = (1 - rho) V,

m what any direction of this norm does, a_r what direction r does to all prompts, e_rp the rest. Were the
cell's direction a random one too, its effect would be m + a + mean(e), with variance

    V f,   f = rho + (1 - rho) / n,

and not V: held against single rows, true effects drown in the noise of single answers. Nor V / n, which is
what resampling means of n null rows gives: that treats each prompt as if it had a direction of its own, and
one random direction that shifts every answer a little would be called again and again. The bound is therefore
the 95th percentile of the absolute value of one more *direction's mean over n prompts*, foretold from K null
rows of mean x. and variance s^2 (a mean is near normal where rows are not):

    |x. + s sqrt(f + 1/K) T|,   T of Student's t with K - 1 degrees of freedom.

**rho** is the intraclass correlation of the null rows of one direction over prompts: one-way analysis of
variance of random effects, each (site, positions, norm) scaled to unit variance, pooled over the table, which
gives it many degrees of freedom. Its upper 95% limit is used (jackknife over directions), so that what is not
known counts against the effect. It can be known only where null directions were run on more than one prompt;
where fewer than ``MIN_DIRECTIONS`` were, nothing can part the direction's share from the row's, and the bound
is the 95th percentile of the absolute single rows: valid whatever rho is, but severe. (The bundled model, terse at
llm.1, alpha 0.6, 20 questions: effect -17.4 words; means of twelve random directions reach 9.1, the bound of 20
single rows is 19.6, that of 20 rows in ten pairs 12.2.)

**Percentile** of single rows: of K rows the p-th has rank p (K + 1) (Hyndman & Fan's type 6, NumPy's
``weibull``): one more draw from the same source exceeds it with probability 1 - p on average, where the usual
rank p (K - 1) + 1 is exceeded by 9% of draws for K = 20. It needs K >= 19, hence the 20 rows in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .effects import Effects
from .intervals import t_quantile
from .sheet import Sheet

Array = np.ndarray[Any, np.dtype[Any]]

MIN_ROWS = 20
MIN_DIRECTIONS = 5
PERCENTILE = 0.95
_UPPER = 1.645  # one-sided 95% of the normal
_NORMAL = np.array([NormalDist().inv_cdf(j / 400) for j in range(1, 400)])
_TOP = 389  # the normal's 97.5% is number 390 of 399


@dataclass(frozen=True)
class Consistency:
    """How much of the null's variance is its directions': rho, its upper limit, and how many were replicated."""

    rho: float | None
    upper: float
    directions: int


@dataclass(frozen=True)
class Null:
    """By cell [points]; NaN where a cell has no null rows."""

    bound: Array
    """95th percentile of absolute null effects, of directions' means over the cell's prompts."""
    row_bound: Array
    """The same of single null rows."""
    mean: Array
    scale: Array
    """Standard deviation of one more direction's mean over the cell's prompts, as foretold; NaN where the direction's
    share cannot be parted from the row's, and the bound is ``row_bound``."""
    rows: Array
    """Null rows of the cell's site, positions and norm, seeds averaged."""
    consistency: Consistency


@dataclass(frozen=True)
class Size:
    """How much a cell of a whole grid has: prompts, and null rows."""

    prompts: int
    rows: int


def null_of(sheet: Sheet, effects: Effects, whole: Size | None = None) -> Null:
    """The null of each cell, from the random and shuffled-label rows of its site, positions and norm.

    ``whole``: the bound that a cell would have with so many prompts and null rows, were the rest like those
    that are there. A search among the cells of a grid holds what it has of a cell against that.
    """
    use = sheet.null & np.isfinite(effects.row_gaps) & (sheet.level >= 0)
    level, direction, gap = _units(sheet, effects.row_gaps, use)
    rho = consistency(level, direction, gap)
    values = _padded(level, gap, int(sheet.level.max(initial=-1)) + 1)[sheet.point_level]
    count = np.isfinite(values).sum(axis=1)
    mean = np.divide(np.nansum(values, axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
    row_bound = percentile(np.abs(values))
    scale, bound = np.full(len(mean), np.nan), row_bound
    if rho.rho is not None:
        scale = _scale(values, mean, count, rho.upper, effects.prompts, whole)
        bound = foretold(mean, scale)
    return Null(bound=bound, row_bound=row_bound, mean=mean, scale=scale, rows=count, consistency=rho)


def foretold(mean: Array, scale: Array) -> Array:
    """95th percentile of |mean + scale Z|, Z standard normal; NaN where one is not known."""
    return percentile(np.abs(mean[:, None] + scale[:, None] * _NORMAL))


def _scale(values: Array, mean: Array, count: Array, rho: float, prompts: Array, whole: Size | None) -> Array:
    """s sqrt(f + 1/K), widened as Student's T is against the normal; NaN under two null rows."""
    squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
    variance = squares / np.maximum(count - 1, 1)
    if whole is not None:
        prompts, of = np.full_like(prompts, whole.prompts), np.full_like(count, whole.rows)
    else:
        of = count
    f = rho + (1 - rho) / np.maximum(1, prompts)
    wider = np.array([t_quantile(max(1, int(k) - 1)) for k in of]) / _NORMAL[_TOP]
    scale = np.sqrt(variance * (f + 1 / np.maximum(of, 1))) * wider
    return np.where(count > 1, scale, np.nan)


def percentile(values: Array, share: float = PERCENTILE) -> Array:
    """The percentile of rank ``share * (K + 1)`` of each row of ``values``, NaN left out; NaN for no values."""
    values = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    rank = np.clip(share * (count + 1), 1, np.maximum(count, 1)) - 1
    low = np.floor(rank).astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    row = np.arange(len(values))
    found = values[row, low] + (rank - low) * (values[row, high] - values[row, low])
    return np.where(count > 0, found, np.nan)


def consistency(level: Array, direction: Array, gap: Array) -> Consistency:
    """rho of null gaps, one a (level, direction, prompt): see above."""
    parts = _parts(level, direction, gap)
    if parts is None:
        return Consistency(None, 1.0, 0)
    names = parts.shape[1]
    rho = _ratio(parts.sum(axis=1))
    without = np.array([_ratio(parts.sum(axis=1) - parts[:, j]) for j in range(names)])
    replicated = int((parts[3] > 0).sum())
    if replicated < MIN_DIRECTIONS or not np.isfinite(rho) or not np.isfinite(without).all():
        return Consistency(None, 1.0, replicated)
    error = np.sqrt((names - 1) / names * ((without - without.mean()) ** 2).sum())
    return Consistency(float(rho), float(np.clip(max(rho, 0.0) + _UPPER * error, 0, 1)), replicated)


def _parts(level: Array, direction: Array, gap: Array) -> Array | None:
    """[5, directions] What each direction adds to: squares between and within, their degrees of freedom, and
    the degrees between times the mean rows a direction. Levels that do not vary say nothing."""
    if not len(gap):
        return None
    unit, member = np.unique(level * (direction.max() + 1) + direction, return_inverse=True)
    unit_level, unit_name = unit // (direction.max() + 1), unit % (direction.max() + 1)
    rows = np.bincount(level)
    mean = np.bincount(level, gap) / np.maximum(rows, 1)
    k = np.bincount(member)
    unit_mean = np.bincount(member, gap) / k
    between = k * (unit_mean - mean[unit_level]) ** 2
    within = np.bincount(member, (gap - unit_mean[member]) ** 2)
    variance = np.bincount(level, (gap - mean[level]) ** 2) / np.maximum(rows - 1, 1)
    units = np.bincount(unit_level, minlength=len(rows))
    use = (variance > 0)[unit_level] & (units > 1)[unit_level]
    if not use.any():
        return None
    squares = np.bincount(unit_level, k.astype(float) ** 2, len(rows))
    typical = (rows - squares / np.maximum(rows, 1)) / np.maximum(units - 1, 1)
    scale = np.where(use, variance[unit_level], 1.0)
    degrees = (units - 1)[unit_level] / np.maximum(units, 1)[unit_level]
    lines = (between / scale, within / scale, degrees, k - 1.0, degrees * typical[unit_level])
    names = int(unit_name.max()) + 1
    parts = np.array([np.bincount(unit_name[use], line[use], names) for line in lines])
    return parts[:, parts[2] > 0]


def _ratio(sums: Array) -> float:
    """(MSB - MSW) / (MSB + (k0 - 1) MSW); NaN where there is nothing within."""
    between, within, degrees, inside, typical = sums.tolist()
    if inside <= 0 or degrees <= 0:
        return float("nan")
    msb, msw, k0 = between / degrees, within / inside, typical / degrees
    whole = msb + (k0 - 1) * msw
    return (msb - msw) / whole if whole > 0 else float("nan")


def _units(sheet: Sheet, gaps: Array, use: Array) -> tuple[Array, Array, Array]:
    """Level, direction and gap of the null rows in use; the seeds of one direction and prompt are averaged."""
    level, direction, prompt = sheet.level[use], sheet.direction[use], sheet.prompt[use]
    width = int(sheet.prompt.max(initial=0)) + 1
    names = int(sheet.direction.max(initial=0)) + 1
    key, member = np.unique((level * names + direction) * width + prompt, return_inverse=True)
    count = np.bincount(member, minlength=len(key))
    gap = np.bincount(member, gaps[use], len(key)) / np.maximum(count, 1)
    return key // width // names, key // width % names, gap


def _padded(level: Array, gap: Array, levels: int) -> Array:
    """[levels, most] The gaps of each level, NaN where it has fewer; ``level`` is sorted."""
    count = np.bincount(level, minlength=levels)
    start = np.cumsum(count) - count
    table = np.full((levels, int(count.max(initial=0))), np.nan)
    table[level, np.arange(len(level)) - start[level]] = gap
    return table
