"""The strength at which a site reaches a given divergence, from measuring few of them. No torch, no model.

Divergence grows about with the square of a small strength, so the search goes by the logarithms of both: a step
of slope 2 first, then the chord between the nearest strengths on either side of the target (regula falsi), or
their middle when a chord did not halve the interval. From below it never grows more than ``GROWTH``-fold at a
time, so that of several crossings the first is found.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt

GROWTH = 4.0
MOST_PASSES = 40
WEAKEST = 1e-4
"""Strength in % below which no answer is looked for."""
_NARROW = 1e-4


@dataclass
class Matching:
    """The search at one site. ``next`` gives the strength to measure, ``tell`` takes what it gave.

    It ends with ``strength`` found, or with a ``refusal`` that says why there is none. Strengths are in %.
    """

    target: float
    tolerance: float
    strongest: float
    start: float
    seen: list[tuple[float, float]] = field(default_factory=list)
    """(strength, divergence) as measured."""
    strength: float | None = None
    kl: float | None = None
    refusal: str = ""
    _width: float = float("inf")

    @property
    def done(self) -> bool:
        return self.strength is not None or bool(self.refusal)

    @property
    def monotone(self) -> bool:
        """Whether divergence rose with the strength wherever it was measured."""
        values = [kl for _, kl in sorted(self.seen)]
        return all(a <= b for a, b in itertools.pairwise(values))

    def next(self) -> float:
        """The strength to measure now, in five digits, so that it can be written down."""
        return float(f"{self._next():.5g}")

    def _next(self) -> float:
        if not self.seen:
            return min(self.start, self.strongest)
        low, high = self._bracket()
        if high is None:
            assert low is not None
            return min(self.strongest, low[0] * min(GROWTH, max(1.05, self._scale(low))))
        if low is None:
            return high[0] / min(GROWTH, max(1.05, 1 / self._scale(high)))
        width = log(high[0] / low[0])
        chord = 0.5
        if width < self._width / 2 and low[1] > 0:
            chord = log(self.target / low[1]) / log(high[1] / low[1])
        self._width = width
        return low[0] * exp(width * min(0.95, max(0.05, chord)))

    def _scale(self, point: tuple[float, float]) -> float:
        """By how much the strength would have to change were the divergence its square."""
        return sqrt(self.target / point[1]) if point[1] > 0 else GROWTH

    def _bracket(self) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """The weakest strength beyond the target, and the strongest below that one that falls short."""
        over = min((point for point in self.seen if point[1] > self.target), default=None)
        under = [p for p in self.seen if p[1] <= self.target and (over is None or p[0] < over[0])]
        return max(under, default=None), over

    def tell(self, strength: float, kl: float) -> None:
        """Note a measurement."""
        self.seen.append((strength, kl))
        if abs(kl / self.target - 1) <= self.tolerance:
            self.strength, self.kl = strength, kl
            return
        low, high = self._bracket()
        if high is None and strength >= self.strongest:
            self.refusal = (
                f"KL reaches {max(k for _, k in self.seen):.3g} nats up to {self.strongest:g}%, the target is "
                f"{self.target:.3g}"
            )
        elif low is None and strength <= WEAKEST:
            self.refusal = f"KL is {kl:.3g} nats at {strength:.2g}% already, the target is {self.target:.3g}"
        elif low is not None and high is not None and high[0] / low[0] - 1 < _NARROW:
            self.refusal = (
                f"KL jumps from {low[1]:.3g} to {high[1]:.3g} nats at {low[0]:.4g}%, "
                f"over the target {self.target:.3g}"
            )
        elif len(self.seen) >= MOST_PASSES:
            self.refusal = (
                f"no strength was found in {MOST_PASSES} passes; the nearest has {self._nearest():.3g} nats"
            )

    def _nearest(self) -> float:
        return min((kl for _, kl in self.seen), key=lambda kl: abs(kl - self.target))


def spread(values: Sequence[float]) -> float | None:
    """The largest of some divergences over the smallest, less one: how far matched sites are apart."""
    return max(values) / min(values) - 1 if values and min(values) > 0 else None
