"""What may be said of a cell, and the sentence that says it.

Called: p < 0.05 over the whole grid, and the effect exceeds the null's bound. Not called: p < 0.05, but
directions that mean nothing do as much. No effect: the interval lies inside a declared range of +-delta.
Inconclusive: none of these. Descriptive: fewer than 20 prompts or 20 null rows, whatever the numbers. Untested:
p has not been computed yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .null import MIN_ROWS

Verdict = Literal["called", "not called", "no effect", "inconclusive", "descriptive", "untested"]
VERDICTS: tuple[Verdict, ...] = (
    "called",
    "not called",
    "no effect",
    "inconclusive",
    "descriptive",
    "untested",
)
ALPHA = 0.05
MIN_PROMPTS = 20


@dataclass(frozen=True)
class Evidence:
    """What a verdict is reached from; None where it is not known."""

    metric: str
    effect: float | None
    low: float | None
    high: float | None
    prompts: int
    p: float | None
    """Family-wise."""
    null_bound: float | None
    null_rows: int
    single_rows: bool
    """The bound is that of single null rows, because no null direction was run on several prompts."""
    bound: str = ""
    delta: float | None = None


def judge(e: Evidence) -> tuple[Verdict, str]:
    """The verdict and its sentence."""
    if e.effect is None:
        return "descriptive", f"no prompt has {e.metric} both here and in its zero row, so there is no effect"
    shown = f"{e.metric} {_signed(e.effect, e.bound)}{_range(e)} over {count_of(e.prompts, 'prompt')}"
    if e.prompts < MIN_PROMPTS:
        return "descriptive", f"{shown}; under {MIN_PROMPTS} prompts this is descriptive, nothing is called"
    if e.null_bound is None or e.null_rows < MIN_ROWS:
        had = f"with {count_of(e.null_rows, 'null row')} here, of at least {MIN_ROWS}," if e.null_rows else ""
        return "descriptive", f"{shown}; {had or 'without null rows'} this is descriptive"
    if e.p is None:
        return "untested", f"{shown}; the permutation test has not been run yet"
    kind, why = _tested(e, e.effect, e.null_bound, e.p)
    return kind, f"{shown}; {why}{_caution(e)}"


def _tested(e: Evidence, effect: float, bound: float, p: float) -> tuple[Verdict, str]:
    seen = f"p = {_p(p)} over the grid"
    inside = _inside(e)
    if p < ALPHA and abs(effect) > bound:
        small = f", though smaller than ±{_short(e.delta)}" if inside and e.delta is not None else ""
        return "called", f"called: {seen}, beyond the ±{_short(bound)} of {_null(e)}{small}"
    if inside and e.delta is not None:
        return "no effect", f"no effect: the interval lies inside ±{_short(e.delta)}"
    if p < ALPHA:
        return "not called", f"not called: {seen}, but {_null(e)} reach ±{_short(bound)}"
    if e.delta is None:
        return "inconclusive", f"inconclusive: {seen}, and no ±δ was declared to hold the interval against"
    if e.bound and e.low is not None and e.high is not None and -e.delta <= e.low and e.high <= e.delta:
        return "inconclusive", f"inconclusive: {seen}, and cut answers leave the effect open"
    return "inconclusive", f"inconclusive: {seen}, and the interval leaves ±{_short(e.delta)}"


def _inside(e: Evidence) -> bool:
    """The interval lies inside ±delta; answers that were cut leave its ends open."""
    if e.delta is None or e.low is None or e.high is None or e.bound:
        return False
    return -e.delta <= e.low and e.high <= e.delta


def _null(e: Evidence) -> str:
    return f"{e.null_rows} null rows (95%{', single rows' if e.single_rows else ''})"


def _caution(e: Evidence) -> str:
    if e.bound == "lower":
        return "; answers here were cut at the length limit, so the true effect is larger or less negative"
    if e.bound == "upper":
        return (
            "; unsteered answers were cut at the length limit, so the true effect is smaller or more negative"
        )
    return "; answers were cut on both sides, so the effect is uncertain" if e.bound else ""


def _range(e: Evidence) -> str:
    if e.low is None or e.high is None:
        return ""
    return f" [{_signed(e.low)}, {_signed(e.high)}]"


def _signed(value: float, bound: str = "") -> str:
    mark = {"lower": "≥", "upper": "≤", "unclear": "~"}.get(bound, "")
    return f"{mark}{value:+.3g}" if math.isfinite(value) else "?"


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def _p(p: float) -> str:
    return f"{p:.4f}" if p < 0.01 else f"{p:.2g}"


def count_of(n: int, what: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{n} {what}{'' if n == 1 else 's'}"
