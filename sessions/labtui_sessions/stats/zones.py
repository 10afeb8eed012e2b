"""Along the strengths of a direction at a site: where nothing happens, where it works, where text collapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .effects import effects
from .null import MIN_ROWS, null_of
from .sheet import Point, Sheet
from .summary import collapsed


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
    """False where a strength has fewer than 20 null rows: then only the collapse is said."""


@np.errstate(over="ignore", invalid="ignore")
def zones(sheet: Sheet, metric: str) -> list[Zone]:
    """The zones of every line of the grid, by a metric's effect against the null's bound (``null.py``)."""
    found = effects(sheet, metric)
    null = null_of(sheet, found)
    ruined = collapsed(sheet)
    lines: dict[tuple[str, str, str, int], list[int]] = {}
    for i, point in enumerate(sheet.points):
        if not point.control and np.isfinite(found.effect[i]):
            side = 1 if point.strength > 0 else -1
            lines.setdefault((point.direction, point.site, point.where, side), []).append(i)
    answer = []
    for key, members in lines.items():
        members.sort(key=lambda i: abs(sheet.points[i].strength))
        known = all(null.rows[i] >= MIN_ROWS for i in members)
        outside = [bool(abs(found.effect[i]) > null.bound[i]) for i in members]
        answer.append(
            _zone(key, [sheet.points[i] for i in members], outside, [ruined[i] for i in members], known)
        )
    return answer


def _zone(
    key: tuple[str, str, str, int],
    points: Sequence[Point],
    outside: Sequence[bool],
    ruined: Sequence[bool | None],
    known: bool,
) -> Zone:
    direction, site, where, side = key
    strengths = [point.strength for point in points]
    end = next((i for i, bad in enumerate(ruined) if bad), len(points))
    first = next((i for i in range(end) if outside[i]), end)
    last = max((i for i in range(first, end) if outside[i]), default=first)
    straight = all(outside[first:end]) and all(bad is not False for bad in ruined[end:])
    return Zone(
        direction=direction,
        site=site,
        where=where,
        side=side,
        dead=strengths[first - 1] if known and first else None,
        effective=(strengths[first], strengths[last]) if known and first < end else None,
        collapse=strengths[end] if end < len(points) else None,
        monotone=straight if known else all(bad is not False for bad in ruined[end:]),
        known=known,
    )
