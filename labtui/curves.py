"""Curves over strength: a sweep's effect at one site, other sweeps' beside it, or what is left less a baseline's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labtui.cells import Board, Key, Place, Reading, key_of
from labtui.widgets.chart import Plot, Series

if TYPE_CHECKING:
    from labtui_sessions.stats import Cell, Difference

MOST_OVER = 5
"""Sweeps that lie over the one shown, at most."""
OVER = (("▲", "$lab-second"), ("■", "$success"), ("◆", "$warning"), ("○", "$error"), ("△", "$foreground"))
"""Symbol and colour of each; a chart reads without the colour."""

Less = Mapping[Key, "Difference"]


@dataclass(frozen=True)
class Over:
    """Another sweep on the same chart; ``less``: its cells less the baseline's, where there is one."""

    label: str
    reading: Reading
    less: Less | None = None


def curve_of(
    board: Board,
    site: str,
    mark: str | None = None,
    *,
    place: Place | None = None,
    over: Sequence[Over] = (),
    less: Less | None = None,
    label: str = "effect",
) -> Plot | None:
    """The effect over strength at a site, the ends of its 95% interval, and the null's bound on both sides;
    ``mark`` is the column under the cursor. None without two strengths.

    With ``less`` it is what is left of the effect, with the null of such differences.
    ``over`` has other sweeps at the same site, in the same place or, where they have one only, in theirs.
    """
    line = {board.scale.value(c): c for (row, _), c in board.cells.items() if row == site}
    shown = {x: line[x] if less is None else less.get(key_of(line[x].point)) for x in sorted(line)}
    cells = [(x, one) for x, one in shown.items() if one is not None and one.effect is not None]
    if len(cells) < 2:
        return None

    def points(get: Callable[[Cell | Difference], float | None]) -> tuple[tuple[float, float], ...]:
        return tuple((x, y) for x, cell in cells if (y := get(cell)) is not None)

    def bound(sign: float) -> tuple[tuple[float, float], ...]:
        known = line if less is None else dict(cells)
        return tuple((x, sign * c.null_bound) for x, c in known.items() if c.null_bound is not None)

    series = [
        Series("95% interval", points(lambda cell: cell.high), "▲" if not over else "╷", "$lab-dim"),
        Series("", points(lambda cell: cell.low), "▼" if not over else "╵", "$lab-dim"),
    ]
    series += [
        Series("null's 95%", bound(1.0), "×", "$lab-second" if not over else "$lab-dim"),
        Series("", bound(-1.0), "×", "$lab-second" if not over else "$lab-dim"),
    ]
    for (symbol, style), one in zip(OVER, over, strict=False):
        series.append(Series(one.label, tuple(_line(one, board, site, place)), symbol, style))
    series.append(Series(f"{label} at {site}", points(lambda cell: cell.effect), "●", "$accent"))
    at = board.cells.get((site, mark or ""))
    unit = "strength %" if board.scale.unit == "%" else f"strength {board.scale.unit}"
    return Plot(tuple(series), unit, mark_x=board.scale.value(at) if at is not None else None)


def place_in(reading: Reading, place: Place | None) -> Place | None:
    """The place of another sweep that is held against one: the same, or the only one it has there."""
    if place in reading.places:
        return place
    there = [other for other in reading.places if place is None or other[1] == place[1]]
    return there[0] if len(there) == 1 else None


def missing_from(one: Over, board: Board, site: str, place: Place | None) -> str:
    """Why a sweep has no line on the chart; empty where it has one."""
    theirs = place_in(one.reading, place)
    if theirs is None:
        return f"{one.label}: other directions"
    return "" if any(True for _ in _line(one, board, site, place)) else f"{one.label}: no {site}"


def _line(one: Over, board: Board, site: str, place: Place | None) -> list[tuple[float, float]]:
    theirs = place_in(one.reading, place)
    if theirs is None:
        return []
    found: list[tuple[float, float]] = []
    for cell in one.reading.cells(theirs):
        shown = cell if one.less is None else one.less.get(key_of(cell.point))
        if cell.point.site == site and shown is not None and shown.effect is not None:
            found.append((board.scale.value(cell), shown.effect))
    return sorted(found)
