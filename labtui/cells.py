"""What the Sweep screen makes of a sweep's table: the statistics of its cells as a map, curves, texts and lines.

All numbers come from :mod:`labtui_sessions.stats`; here they are only put where they are shown. NumPy is
imported when there is a table to read, since the app starts without it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labtui.widgets.heatmap import NOTHING, Map, Tile
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_sessions.phases import Phase
    from labtui_sessions.source import Source
    from labtui_sessions.stats import Cell, Difference, Flips, Point, Sheet, Summary, Zone
    from labtui_sessions.tables import Table

PAGE = 1_000
"""Rows asked for at a time."""
FIRST_METRIC = "words"
BOUNDS = {"lower": "≥", "upper": "≤", "unclear": "~"}
"""How an effect is marked that cut answers make a bound."""
CALLED, COLLAPSED, PINNED = "*", "!", "•"
ABSENT = "–"
"""What a tile shows that the baseline has no counterpart of."""
LEGEND = f"{CALLED} called  {COLLAPSED} collapsed  ≥ bound"

_CHEAP, _REST = 0.05, 4.0
"""Seconds that a reading may take without a rest after it, and how many times as long the rest is."""

Wanted = tuple[int, str, bool] | tuple[int, str, bool, str]
"""Rows, metric, whether the permutation test is run, and the class of the prompts that are looked at."""
Place = tuple[str, str]
"""A direction, and where along the text it acts: what one map shows."""
Key = tuple[str, str, str, str]
"""A cell's direction, site, positions and strength, the same in every table."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A table's rows up to some moment, and the statistics of one metric of them. Equal only to itself."""

    sheet: Sheet
    summary: Summary
    zones: tuple[Zone, ...]
    metrics: tuple[str, ...]

    @property
    def places(self) -> list[Place]:
        """The directions and positions of the grid, in the order of the sweep."""
        return list(dict.fromkeys(place_of(cell.point) for cell in self.summary.grid))

    def cells(self, place: Place) -> list[Cell]:
        """The grid's cells of one place."""
        return [cell for cell in self.summary.grid if place_of(cell.point) == place]

    def find(self, key: Key) -> Cell | None:
        """The grid's cell of that key."""
        return next((cell for cell in self.summary.grid if key_of(cell.point) == key), None)


class SweepTable:
    """The rows of one table of one session, fetched as they come, and what was last read out of them.

    Rows are only ever added to a table, so a replay that goes back has the first ones of those fetched before.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name
        self.rows: list[dict[str, Any]] = []
        self.reading: Reading | None = None
        self._asked: Wanted | None = None
        self._busy = False
        self._cost = self._ended = 0.0
        self._flips: dict[tuple[int, str, str], Flips] = {}

    def due(self, wanted: Wanted) -> bool:
        """Whether :meth:`read` is to be called now: something else is wanted than was read last, nothing is being
        read, and what more rows would change has not just been looked at, where that takes long."""
        if self._busy or wanted == self._asked:
            return False
        more = self._asked is not None and wanted[1:] == self._asked[1:]
        if more and self._cost > _CHEAP and time.monotonic() - self._ended < _REST * self._cost:
            return False
        self._asked, self._busy = wanted, True
        return True

    async def read(self, rows: int, metric: str, tested: bool, group: str = "") -> None:
        """Bring the first ``rows`` rows here and read ``metric``; the permutation test is run if ``tested``, once
        for a metric and a number of rows. ``group`` looks at the prompts of one class only. The statistics are made
        beside the event loop."""
        began = time.monotonic()
        try:
            found = self.rows[:rows]
            while len(found) < rows:
                page = await self.source.page(self.name, len(found), min(rows, len(found) + PAGE))
                found.extend(rows_of(page.columns, page.rows, page.reasons))
                if not page.rows:
                    break
            reading = await asyncio.to_thread(self._analyse, found, metric, tested, group)
            self.rows, self.reading = found, reading
        finally:
            self._busy, self._ended = False, time.monotonic()
            self._cost = self._ended - began

    def _analyse(
        self, rows: Sequence[Mapping[str, Any]], metric: str, tested: bool, group: str
    ) -> Reading | None:
        """The statistics of rows; None where they are no sweep's, or no cell of the grid is there yet."""
        from labtui_sessions.stats import Sheet, permute, summarise, zones

        try:
            of_group = [row for row in rows if group_of(row) == group] if group else rows
            sheet = Sheet.from_rows(of_group, self.name)
        except UsageError:
            return None
        metrics = sheet.metrics()
        if not metrics or not any(not point.control for point in sheet.points):
            return None
        shown = chosen(metrics, metric)
        key = (len(rows), shown, group)
        if tested and key not in self._flips:
            self._flips = {known: flips for known, flips in self._flips.items() if known[0] == len(rows)}
            self._flips[key] = permute(sheet, shown)
        flips = self._flips.get(key) if tested else None
        summary = summarise(sheet, shown, flips=flips, run_test=False)
        return Reading(sheet, summary, tuple(zones(sheet, shown)), tuple(metrics))


def group_of(row: Mapping[str, Any]) -> str:
    """The class of a row's prompt: ``code``; the bundled set that it is of where that has no classes; else empty."""
    return str(row.get("prompt_class") or row.get("prompt_set") or "")


def chosen(metrics: Sequence[str], wanted: str) -> str:
    """The metric asked for, or what is shown where the table lacks it."""
    if wanted in metrics:
        return wanted
    return FIRST_METRIC if FIRST_METRIC in metrics else metrics[0]


def rows_of(
    columns: Sequence[str], values: Iterable[Sequence[Any]], reasons: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """A page's rows as maps; why values are absent stays with them under ``reasons``."""
    found = [dict(zip(columns, row, strict=False)) for row in values]
    for row, why in zip(found, reasons, strict=False):
        if why:
            row["reasons"] = dict(why)
    return found


def as_table(name: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows as a table, to be exported."""
    from labtui_sessions.tables import Table

    table = Table(name)
    table.add("", "", rows)
    return table


def place_of(point: Point) -> Place:
    return point.direction, point.where


def key_of(point: Point) -> Key:
    """The strength is rounded, so that the key is the same after a restart on another machine."""
    return point.direction, point.site, point.where, f"{point.strength:.3e}"


def natural(text: str) -> list[tuple[bool, int, str]]:
    """An order in which llm.2 comes before llm.10."""
    parts = re.split(r"(\d{1,9})", text)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


# -- strengths ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """The unit that a map's strengths are told apart in: the one that the sites have most in common."""

    unit: str
    digits: int

    def value(self, cell: Cell) -> float:
        """The strength, with its sign. Only for cells that have it in this unit."""
        point = cell.point
        amount = {"%": point.strength_pct, "norm": point.strength_abs}.get(self.unit, point.strength)
        return math.copysign(amount if amount is not None else math.nan, point.strength)

    def label(self, cell: Cell) -> str:
        return f"{self.value(cell):.{self.digits}g}{'%' if self.unit == '%' else ''}"


def scale_of(cells: Sequence[Cell]) -> Scale:
    """%, α or norm, whichever gives the fewest columns; % before the others, and as few digits as keep the
    strengths of a site apart."""
    units = ["α"]
    if all(cell.point.strength_abs is not None for cell in cells):
        units.insert(0, "norm")
    if all(cell.point.strength_pct is not None for cell in cells):
        units.insert(0, "%")
    scales = [_apart(unit, cells) for unit in units]
    return min(scales, key=lambda scale: (len({scale.label(c) for c in cells}), units.index(scale.unit)))


def _apart(unit: str, cells: Sequence[Cell]) -> Scale:
    for digits in (3, 4, 5):
        scale = Scale(unit, digits)
        if len({(cell.point.site, scale.label(cell)) for cell in cells}) == len(cells):
            return scale
    return Scale(unit, 6)


def strength_text(point: Point) -> str:
    """A strength in all its units: ``8% · α 2 · norm 39``."""
    parts = [f"{point.strength_pct:.3g}%"] if point.strength_pct is not None else []
    parts.append(f"α {point.strength:.3g}")
    parts += [f"norm {abs(point.strength_abs):.3g}"] if point.strength_abs is not None else []
    return " · ".join(parts)


# -- map ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Board:
    """A map, and the cell behind each of its tiles, by row and column head."""

    map: Map = NOTHING
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict)
    scale: Scale = field(default_factory=lambda: Scale("α", 3))

    def heads(self, key: Key) -> tuple[str, str] | None:
        """The row and column of a cell."""
        return next((heads for heads, cell in self.cells.items() if key_of(cell.point) == key), None)


def board_of(
    reading: Reading,
    place: Place,
    pinned: Iterable[Key] = (),
    less: Mapping[Key, Difference] | None = None,
) -> Board:
    """Sites by strengths, effects as digits; with ``less``, what is left of them less a baseline's."""
    cells = reading.cells(place)
    if not cells:
        return Board()
    scale, held = scale_of(cells), set(pinned)
    columns = {scale.label(cell): scale.value(cell) for cell in cells}
    by_heads = {(cell.point.site, scale.label(cell)): cell for cell in cells}
    rows = sorted({cell.point.site for cell in cells}, key=natural)
    heads = sorted(columns, key=lambda label: columns[label])
    shown = cells if less is None else [less[key] for cell in cells if (key := key_of(cell.point)) in less]
    largest = max((abs(one.effect) for one in shown if one.effect is not None), default=0.0) or 1.0
    tiles = tuple(
        tuple(_tile(by_heads.get((row, head)), largest, held, less) for head in heads) for row in rows
    )
    corner = "site" if scale.unit == "%" else f"site, {scale.unit}"
    return Board(Map(tuple(rows), tuple(heads), tiles, corner), by_heads, scale)


def _tile(
    cell: Cell | None, largest: float, held: set[Key], less: Mapping[Key, Difference] | None = None
) -> Tile | None:
    if cell is None:
        return None
    if less is not None:
        left = less.get(key_of(cell.point))
        mark = PINNED if key_of(cell.point) in held else ""
        if left is None or left.effect is None:
            return Tile(ABSENT, 0.0, mark)
        return Tile(BOUNDS.get(left.bound, "") + digits(left.effect), left.effect / largest, mark)
    marks = CALLED if cell.verdict == "called" else ""
    marks += COLLAPSED if cell.collapsed else ""
    marks += PINNED if key_of(cell.point) in held else ""
    if cell.effect is None:
        return Tile("?", 0.0, marks)
    return Tile(BOUNDS.get(cell.bound, "") + digits(cell.effect), cell.effect / largest, marks)


def digits(value: float) -> str:
    """A signed number in at most five characters, so that a map of them is narrow: ``+1.23``, ``-12.3``,
    ``+4.6k``, ``-3e7``."""
    size = abs(value)
    if size < 0.005:
        return "0" if size == 0 else f"{'+' if value > 0 else '-'}0"
    if size < 999.5:
        return f"{value:+.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
    if size < 99_500:
        return f"{value / 1000:+.{1 if size < 9_950 else 0}f}k"
    power = math.floor(math.log10(size))
    lead = round(value / 10**power)
    return f"{lead // 10 if abs(lead) == 10 else lead:+d}e{power + (abs(lead) == 10)}"


# -- zones -------------------------------------------------------------------------------------------


def phase_text(phases: Iterable[Phase], cell: Cell) -> str:
    """The same as a calibration found it, from the rows that it chose; empty where it says nothing of the cell's line."""
    from labtui_sessions.phases import in_short

    point = cell.point
    wanted = (point.direction, point.site, point.where)
    found = (p for p in phases if (p.get("direction"), p.get("site"), p.get("where")) == wanted)
    one = next(found, None)
    return "" if one is None or point.strength < 0 else f"calibrated: {in_short(one)}"


def zone_text(reading: Reading, cell: Cell) -> str:
    """Where along the strengths nothing happens, where it works, where text collapses."""
    point = cell.point
    side = 1 if point.strength > 0 else -1
    wanted = (point.direction, point.site, point.where, side)
    zone = next((z for z in reading.zones if (z.direction, z.site, z.where, z.side) == wanted), None)
    if zone is None:
        return ""
    line = [p for p in reading.sheet.points if not p.control and (p.direction, p.site, p.where) == wanted[:3]]
    shown = {p.strength: f"{p.strength_pct:.3g}%" for p in line if p.strength_pct is not None}

    def said(alpha: float) -> str:
        return shown.get(alpha, f"α {alpha:.3g}")

    parts = [f"dead zone to {said(zone.dead)}"] if zone.dead is not None else []
    if zone.effective is not None:
        parts.append(f"effective {said(zone.effective[0])} to {said(zone.effective[1])}")
    parts += [f"collapse from {said(zone.collapse)}"] if zone.collapse is not None else []
    parts += ["not monotone"] if parts and not zone.monotone else []
    return " · ".join(parts)


def lens_text(reading: Reading, cell: Cell) -> str:
    """The lenses of the table at the cell, pooled over its answers; empty where it has none."""
    names = [name for name in reading.metrics if name.startswith("lens:")]
    if not names:
        return ""
    from labtui_sessions.lenses import at_point, in_short

    return in_short(at_point(reading.sheet, cell.point, names))


def written_strength(reading: Reading, cell: Cell) -> str | float:
    """A cell's strength as the spec had it: ``8%``; α where the table does not say."""
    sheet = reading.sheet
    row = int((sheet.cell == sheet.points.index(cell.point)).argmax())
    text = sheet.columns["strength_text"][row] if "strength_text" in sheet.columns else None
    return text if isinstance(text, str) and text else cell.point.strength


# -- lines --------------------------------------------------------------------------------------------


def effect_text(cell: Cell) -> str:
    """The effect with its sign, marked where cut answers make it a bound; empty where there is none."""
    return "" if cell.effect is None else f"{BOUNDS.get(cell.bound, '')}{cell.effect:+.3g}"


def interval_text(cell: Cell) -> str:
    """``[low, high]``; empty where there is none."""
    return "" if cell.low is None or cell.high is None else f"[{cell.low:+.3g}, {cell.high:+.3g}]"


def less_text(one: Difference | None, base: str) -> str:
    """What is left of a cell less the baseline's, or why nothing is said of it."""
    if one is None or one.effect is None:
        return f"less {base}: absent, {one.reason if one is not None else 'not read yet'}"
    ends = "" if one.low is None or one.high is None else f" [{one.low:+.3g}, {one.high:+.3g}]"
    shared = f"{one.prompts} shared prompt{'s' if one.prompts > 1 else ''}"
    null = "" if one.null_bound is None else f"; two directions that mean nothing: ±{one.null_bound:.3g}"
    both = f"{one.here:+.3g} here, {one.there:+.3g} there"
    return f"less {base}: {one.effect:+.3g}{ends} over {shared} ({both}{null})"


def row_text(row: Mapping[str, Any]) -> str:
    """Where a row of the table stands: site, strength, and its direction where that is a control's."""
    percent = row.get("strength_pct")
    parts = [str(row.get("site") or ""), f"{percent:.3g}%" if isinstance(percent, float | int) else ""]
    parts += [str(row.get("control") or ""), str(row.get("direction") or "") if row.get("control") else ""]
    return " ".join(part for part in parts if part)


def beside(reading: Reading, cell: Cell) -> list[str]:
    """Sentences of what stands beside a cell: the negated direction there, and asking for it in the prompt."""
    point = cell.point
    found = []
    for other in reading.summary.beside:
        same = other.point.direction == point.direction
        there = (other.point.site, other.point.where) == (point.site, point.where)
        mirrored = there and math.isclose(other.point.strength, -point.strength, rel_tol=1e-3)
        if same and (mirrored or other.point.control == "prompt"):
            found.append(other.sentence)
    return found
