"""Effects of the cells: means over prompts of what steering changed, and how sure they are.

The gap of a row is its value minus that of the zero row of the same prompt and seed; gaps are averaged over
seeds, so that each prompt counts once, and the effect of a cell is the mean over prompts. A row without a
value, or without its zero row's, is left out and counted. Beside the effect stands the cell's own value: the
mean over prompts, or for yes and no the rate with Wilson's interval, prompts being the trials (seeds of one
prompt are no trials of their own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import intervals
from .sheet import Sheet

Array = np.ndarray[Any, np.dtype[Any]]

CUT = frozenset({"words", "tokens"})
"""Metrics that are lower bounds where the answer was cut off by the length limit."""


@dataclass(frozen=True)
class Effects:
    """Arrays by cell [points], NaN where nothing is known, unless said otherwise."""

    metric: str
    rate: bool
    gaps: Array
    """[points, prompts] Paired differences, seeds averaged."""
    row_gaps: Array
    """[rows] Paired difference of each row."""
    effect: Array
    spread: Array
    """Standard deviation of the gaps over prompts; NaN under two of them."""
    low: Array
    high: Array
    prompts: Array
    """Prompts in the effect."""
    value: Array
    value_low: Array
    value_high: Array
    value_prompts: Array
    base: Array
    """Mean of the zero rows of the prompts in the effect."""
    rows: Array
    absent: Array
    """Rows without a value or without a zero row's."""
    cut: Array
    """Rows that the length limit cut off."""
    bound: tuple[str, ...]
    """``lower``, ``upper``, ``unclear`` or empty: what the cuts make of the effect."""


def effects(sheet: Sheet, metric: str) -> Effects:
    """All cells of a sheet. UsageError for a metric that the table lacks."""
    values = sheet.values(metric)
    rate = sheet.is_rate(metric)
    base, cut_base = _zeros(sheet, values)
    row_gaps = values - base
    size = (len(sheet.points), len(sheet.prompts))
    member = sheet.cell >= 0
    slot = np.where(member, sheet.cell * max(1, size[1]) + sheet.prompt, 0)

    def by_prompt(numbers: Array, use: Array) -> Array:
        """[points, prompts] Mean over seeds; NaN where there is none."""
        use = use & member & np.isfinite(numbers)
        total = np.bincount(slot[use], numbers[use], size[0] * size[1])
        count = np.bincount(slot[use], minlength=size[0] * size[1])
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0).reshape(size)

    paired = np.isfinite(row_gaps)
    gaps = by_prompt(row_gaps, paired)
    effect, spread, count = _moments(gaps)
    all_values = by_prompt(values, np.ones(sheet.rows, bool))
    value, value_spread, value_count = _moments(all_values)
    ours, theirs = by_prompt(values, paired), by_prompt(base, paired)
    base_mean = _moments(theirs)[0]
    if rate:
        value_low, value_high = intervals.wilson(value, value_count)
        low, high = intervals.paired_rates(base_mean + effect, base_mean, _phi(ours, theirs), count)
    else:
        value_low, value_high = intervals.mean_interval(value, value_spread, value_count)
        low, high = intervals.mean_interval(effect, spread, count)

    def per_cell(flag: Array) -> Array:
        return np.bincount(sheet.cell[member & flag], minlength=size[0])

    everywhere = np.ones(sheet.rows, bool)
    cut, plain_cut = per_cell(sheet.cut & paired), per_cell(cut_base & paired)
    return Effects(
        metric=metric,
        rate=rate,
        gaps=gaps,
        row_gaps=row_gaps,
        effect=effect,
        spread=spread,
        low=low,
        high=high,
        prompts=count,
        value=value,
        value_low=value_low,
        value_high=value_high,
        value_prompts=value_count,
        base=base_mean,
        rows=per_cell(everywhere),
        absent=per_cell(~paired),
        cut=per_cell(sheet.cut),
        bound=tuple(_bound(metric, bool(a), bool(b)) for a, b in zip(cut, plain_cut, strict=True)),
    )


def _zeros(sheet: Sheet, values: Array) -> tuple[Array, Array]:
    """For each row the mean of its zero rows, NaN where there is none; and whether one of them was cut."""
    pairs = int(sheet.pair.max(initial=0)) + 1
    use = sheet.zero & np.isfinite(values)
    count = np.bincount(sheet.pair[use], minlength=pairs)
    total = np.bincount(sheet.pair[use], values[use], pairs)
    mean = np.divide(total, count, out=np.full(pairs, np.nan), where=count > 0)
    cut = np.bincount(sheet.pair[use & sheet.cut], minlength=pairs) > 0
    return mean[sheet.pair], cut[sheet.pair]


def _moments(values: Array) -> tuple[Array, Array, Array]:
    """Mean, standard deviation (ddof 1) and count along the prompts, without NaN."""
    there = np.isfinite(values)
    count = there.sum(axis=1)
    filled = np.where(there, values, 0.0)
    nan = np.full(len(values), np.nan)
    mean = np.divide(filled.sum(axis=1), count, out=nan.copy(), where=count > 0)
    squares = (np.where(there, values - mean[:, None], 0.0) ** 2).sum(axis=1)
    spread = np.sqrt(np.divide(squares, count - 1, out=nan, where=count > 1))
    return mean, spread, count


def _phi(one: Array, other: Array) -> Array:
    """Correlation of two rates over the prompts; 0 where a side does not vary."""
    a = np.nan_to_num(one - _moments(one)[0][:, None])
    b = np.nan_to_num(other - _moments(other)[0][:, None])
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.zeros(len(a)), where=scale > 0)


def _bound(metric: str, cut: bool, plain_cut: bool) -> str:
    if metric not in CUT or not (cut or plain_cut):
        return ""
    if cut and plain_cut:
        return "unclear"
    return "lower" if cut else "upper"
