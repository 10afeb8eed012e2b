"""One metric of a sweep, cell by cell: effect, interval, null, p and verdict.

``summarise`` is quick without the permutation test (the sentences then say that it has not been run), so
that a screen can call it while a sweep fills; ``permute`` runs the test, whose result can be kept and handed in.
The family of the test is the grid of one metric: looking at several metrics is not corrected for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .effects import Effects, effects
from .flips import Flips, sign_flips
from .null import Consistency, null_of
from .sheet import Point, Sheet
from .verdicts import Evidence, Verdict, count_of, judge

Array = np.ndarray[Any, np.dtype[Any]]

COHERENT = "coherent"
_QUIET = np.errstate(over="ignore", invalid="ignore")  # what overflows is not known, and shown as such


@dataclass(frozen=True)
class Cell:
    """One cell and one metric. Numbers that are not known are None; differences are cell minus zero row."""

    point: Point
    metric: str
    effect: float | None
    low: float | None
    high: float | None
    """95% interval of the effect."""
    prompts: int
    """Prompts in the effect."""
    value: float | None
    value_low: float | None
    value_high: float | None
    """Mean over prompts (a rate for yes and no) with its 95% interval."""
    value_prompts: int
    """Prompts in the value."""
    base: float | None
    """The zero rows' mean over the same prompts as the effect."""
    rows: int
    absent: int
    """Rows left out, because they or their zero row have no value."""
    cut: int
    """Rows cut off by the length limit."""
    bound: str
    """What the cuts make of the effect: a ``lower`` or ``upper`` bound, ``unclear``, or empty."""
    null_bound: float | None
    """95th percentile of the null's absolute effects, as of means over the cell's prompts."""
    null_rows: int
    p: float | None
    """Of the cell by itself."""
    p_family: float | None
    """Over the whole grid; None for what stands beside the grid, and before the test."""
    collapsed: bool | None
    """Fewer than half of the rows are coherent; None where that was not measured."""
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Summary:
    """A metric over all cells: those of the grid first come, first listed; see ``grid`` and ``beside``."""

    metric: str
    rate: bool
    cells: tuple[Cell, ...]
    prompts: int
    """Different prompts in the table."""
    consistency: Consistency
    tested: bool
    exact: bool
    flips: int
    delta: float | None

    @property
    def grid(self) -> tuple[Cell, ...]:
        """The cells that the sweep asked about."""
        return tuple(cell for cell in self.cells if not cell.point.control)

    @property
    def beside(self) -> tuple[Cell, ...]:
        """The negated and the prompt-only cells."""
        return tuple(cell for cell in self.cells if cell.point.control)


@_QUIET
def summarise(
    sheet: Sheet,
    metric: str,
    *,
    flips: Flips | None = None,
    run_test: bool = True,
    delta: float | None = None,
) -> Summary:
    """The summary of a metric. ``flips`` is the result of ``permute`` on the same sheet and metric; without it
    the test is run, unless ``run_test`` is False. ``delta``: effects inside ±delta count as none.
    UsageError for a metric that the table lacks."""
    found = effects(sheet, metric)
    null = null_of(sheet, found)
    if flips is None and run_test:
        flips = permute(sheet, metric, found)
    grid = [i for i, point in enumerate(sheet.points) if not point.control]
    p, family = np.full(len(sheet.points), np.nan), np.full(len(sheet.points), np.nan)
    if flips is not None and len(flips.p) == len(grid):
        p[grid], family[grid] = flips.p, flips.p_family
    ruined = collapsed(sheet)
    columns = {
        "effect": found.effect, "low": found.low, "high": found.high, "value": found.value,
        "value_low": found.value_low, "value_high": found.value_high, "base": found.base,
        "null_bound": null.bound, "p": p, "p_family": family,
    }  # fmt: skip
    numbers = {name: _plain(values) for name, values in columns.items()}
    cells = []
    for i, point in enumerate(sheet.points):
        known = {name: values[i] for name, values in numbers.items()}
        evidence = Evidence(
            metric=metric,
            effect=known["effect"],
            low=known["low"],
            high=known["high"],
            prompts=int(found.prompts[i]),
            p=known["p_family"],
            null_bound=known["null_bound"],
            null_rows=int(null.rows[i]),
            single_rows=null.consistency.rho is None,
            bound=found.bound[i],
            delta=delta,
        )
        verdict, sentence = judge(evidence) if not point.control else _beside(point, evidence)
        cells.append(
            Cell(
                point=point,
                metric=metric,
                prompts=int(found.prompts[i]),
                value_prompts=int(found.value_prompts[i]),
                rows=int(found.rows[i]),
                absent=int(found.absent[i]),
                cut=int(found.cut[i]),
                bound=found.bound[i],
                null_rows=int(null.rows[i]),
                collapsed=ruined[i],
                verdict=verdict,
                sentence=sentence,
                **known,
            )
        )
    return Summary(
        metric=metric,
        rate=found.rate,
        cells=tuple(cells),
        prompts=len(sheet.prompts),
        consistency=null.consistency,
        tested=flips is not None,
        exact=flips is not None and flips.exact,
        flips=flips.flips if flips is not None else 0,
        delta=delta,
    )


@_QUIET
def permute(sheet: Sheet, metric: str, found: Effects | None = None) -> Flips:
    """The permutation test over the grid's cells, in their order: seconds for large grids, so keep it."""
    found = found if found is not None else effects(sheet, metric)
    grid = [i for i, point in enumerate(sheet.points) if not point.control]
    return sign_flips(found.gaps[grid])


def collapsed(sheet: Sheet) -> list[bool | None]:
    """For each cell, whether fewer than half of its rows are coherent; None where none says."""
    rates, _ = coherence(sheet)
    return [bool(rate < 0.5) if np.isfinite(rate) else None for rate in rates]


def coherence(sheet: Sheet) -> tuple[Array, Array]:
    """For each cell the share of its judged rows that are coherent, NaN without any; and how many there are."""
    if COHERENT not in sheet.columns:
        return np.full(len(sheet.points), np.nan), np.zeros(len(sheet.points), int)
    values = sheet.values(COHERENT)
    use = (sheet.cell >= 0) & np.isfinite(values)
    count = np.bincount(sheet.cell[use], minlength=len(sheet.points))
    total = np.bincount(sheet.cell[use], values[use], len(sheet.points))
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), count


def _beside(point: Point, e: Evidence) -> tuple[Verdict, str]:
    """A control is shown, never called."""
    what = "the negated direction" if point.control == "negated" else "asking for it in the prompt"
    if e.effect is None:
        return "descriptive", f"{what}: no effect on {e.metric} is known"
    ends = f" [{e.low:+.3g}, {e.high:+.3g}]" if e.low is not None and e.high is not None else ""
    return "descriptive", f"{what}: {e.metric} {e.effect:+.3g}{ends} over {count_of(e.prompts, 'prompt')}"


def _plain(values: Array) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
