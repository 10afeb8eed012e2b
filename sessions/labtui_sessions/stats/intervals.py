"""Intervals: Student's t for means, Wilson's for rates, Newcombe's for paired differences of rates.

Means get t and not a percentile bootstrap: with the 20 prompts of a usual sweep the bootstrap is too narrow
(by sqrt((n-1)/n), and it has the normal's tails), and t needs no random numbers. Rates get score intervals,
because t and the bootstrap have no width where all answers agree. All are vectorised over cells.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
LEVEL = 0.95


def mean_interval(mean: Array, spread: Array, count: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """mean -+ t(count - 1) * spread / sqrt(count); ``spread`` is the sample's standard deviation (ddof 1).

    NaN under two values: one value has no spread.
    """
    degrees, back = np.unique(np.maximum(count - 1, 0).astype(int), return_inverse=True)
    factor = np.array([t_quantile(int(d), level) if d else np.nan for d in degrees])[back]
    half = factor * spread / np.sqrt(np.maximum(count, 1))
    return mean - half, mean + half


def wilson(rate: Array, count: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Wilson's (1927) score interval of a rate seen in ``count`` trials; NaN without trials.

    centre = (p + z^2/2n) / (1 + z^2/n), half width = z/(1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2).
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    n = np.where(count > 0, count, np.nan)
    shrink = 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(np.clip(rate * (1 - rate), 0, None) / n + z * z / (4 * n * n))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def paired_rates(
    rate: Array, base: Array, correlation: Array, count: Array, level: float = LEVEL
) -> tuple[Array, Array]:
    """Newcombe's (1998, method 10) interval of ``rate - base``, both seen on the same ``count`` prompts.

    With Wilson's limits l, u of each rate, d = rate - base and the correlation phi of the pairs (0 where a
    side does not vary): d - sqrt((p1-l1)^2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)^2), and likewise upwards.
    """
    low, high = wilson(rate, count, level)
    base_low, base_high = wilson(base, count, level)
    phi = np.nan_to_num(correlation, nan=0.0)

    def reach(one: Array, other: Array) -> Array:
        return np.sqrt(np.clip(one**2 - 2 * phi * one * other + other**2, 0, None))

    gap = rate - base
    return gap - reach(rate - low, base_high - base), gap + reach(high - rate, base - base_low)


@lru_cache(maxsize=512)
def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The t with P(|T| <= t) = ``level`` for a whole number of degrees of freedom (>= 1)."""
    normal = NormalDist().inv_cdf(0.5 + level / 2)
    if degrees > 2_000:  # within 1e-3 of the normal's
        return normal
    low, high = normal, 2.0 * normal
    while _within(high, degrees) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """P(|T| <= t), the finite sums of Abramowitz & Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    if odd and degrees == 1:
        return 2 * theta / math.pi
    term = cosine if odd else 1.0
    total = term
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
