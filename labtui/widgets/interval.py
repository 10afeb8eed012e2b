"""An interval against a threshold, drawn on one line of text: ``├──●──┤   ┃``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

THRESHOLD = "┃"
INSIDE = "╂"
"""The threshold where it lies within the interval."""
_MARGIN = 0.06


@dataclass(frozen=True)
class Axis:
    """What a line's ends stand for; several intervals on one axis can be compared by eye."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Axis:
        """The axis that holds all finite values, with a margin."""
        found = [value for value in values if value is not None and math.isfinite(value)]
        low, high = (min(found), max(found)) if found else (-1.0, 1.0)
        room = (high - low) * _MARGIN or max(abs(low), 1.0) * _MARGIN
        return cls(low - room, high + room)

    def column(self, value: float, width: int) -> int:
        """The cell of a value on a line of ``width`` cells; the first or last for one beyond the ends."""
        share = (value - self.low) / (self.high - self.low)
        return max(0, min(width - 1, int(share * width)))


def draw(
    axis: Axis, width: int, threshold: float, low: float | None, estimate: float | None, high: float | None
) -> str:
    """The interval and the threshold on an axis, ``width`` cells. Without an interval only the threshold."""
    line = [" "] * width
    at = axis.column(threshold, width)
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        line[at] = THRESHOLD
        return "".join(line)
    first, last = axis.column(low, width), axis.column(high, width)
    # Cells are coarse: an interval that lies beside the threshold is not drawn onto it.
    if high < threshold:
        at = max(1, at)
        first, last = min(first, at - 1), min(last, at - 1)
    if low > threshold:
        at = min(width - 2, at)
        first, last = max(first, at + 1), max(last, at + 1)
    line[first : last + 1] = "─" * (last - first + 1)
    if last > first:
        line[first], line[last] = "├", "┤"
    if estimate is not None and math.isfinite(estimate):
        line[max(first, min(last, axis.column(estimate, width)))] = "●"
    line[at] = INSIDE if first <= at <= last else THRESHOLD
    return "".join(line)
