"""Lens rates of a sweep's cells: hits per 100 words pooled over topics, against the unsteered answers.

A table has a lens as a rate per row (column ``lens:NAME``); with the words of the row's text that gives its hits
back, so a page can be made where the lens itself is not at hand. A pooled rate is stated from 500 words on; its
band only where the lens, looked up by name on this machine, says that it was calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labtui_artifacts import library
from labtui_artifacts.errors import LabError

from .markdown import grid, line
from .stats import Point, Sheet, is_sweep

if TYPE_CHECKING:
    from .tables import Table

HEAD = "lens:"
FEWEST_WORDS = 500
BANDS: tuple[tuple[float, str], ...] = ((1.0, "clean"), (3.0, "ambient"), (5.0, "captured"))
"""Upper ends in hits per 100 words; beyond the last it is contaminated."""
MAX_LENSES = 16
MAX_CELLS = 40
TOO_FEW = "too few words"
_COLUMNS = ("lens", "direction", "site", "where", "strength", "%", "answers", "words", "hits",
            "per 100", "unsteered", "difference", "band")  # fmt: skip


@dataclass(frozen=True)
class Pooled:
    """A lens over many texts: ``rate`` in hits per 100 words, None under 500 words.

    ``excess`` is the rate minus that of the unsteered texts, None unless both are stated; ``band`` is empty
    for a lens that was not calibrated.
    """

    hits: int
    words: int
    rate: float | None
    excess: float | None
    band: str
    reason: str = ""


@dataclass(frozen=True)
class LensCell:
    """A cell of a sweep as one lens sees it; the ``point`` of the unsteered answers is None."""

    lens: str
    point: Point | None
    answers: int
    pooled: Pooled
    unsteered: float | None
    """The rate of the unsteered answers to the same prompts, None under 500 words."""


def pool(hits: int, words: int, base_hits: int, base_words: int, *, calibrated: bool) -> Pooled:
    """Counts over texts on many topics together, and over the unsteered ones beside them."""
    if words < FEWEST_WORDS:
        return Pooled(hits, words, None, None, "", f"{words} words; a rate is stated from {FEWEST_WORDS} on")
    rate = 100.0 * hits / words
    base = _rate(base_hits, base_words)
    return Pooled(hits, words, rate, None if base is None else rate - base, band(rate) if calibrated else "")


def band(rate: float) -> str:
    """What a rate in hits per 100 words is called: below 1 clean, below 3 ambient, up to 5 captured."""
    for end, name in BANDS[:-1]:
        if rate < end:
            return name
    return BANDS[-1][1] if rate <= BANDS[-1][0] else "contaminated"


def lens_cells(table: Table) -> list[LensCell]:
    """Every lens of a sweep's table: its unsteered answers, then its cells in the order of the sweep.

    Answers without a value count nowhere. A cell is held against the unsteered answers to its own prompts.
    Empty for a table that is no sweep's or has no texts.
    """
    if not is_sweep(table) or "text" not in table.columns:
        return []
    sheet = Sheet.of(table)
    names = [name for name in sheet.metrics() if name.startswith(HEAD)][:MAX_LENSES]
    rows = np.ones(sheet.rows, bool)
    return [one for name in names for one in _cells_of(_Tally.of(sheet, name, rows))]


def at_point(sheet: Sheet, point: Point, names: Sequence[str]) -> list[LensCell]:
    """The lenses with these ``lens:`` columns at one cell of a sheet, without a look at other rows; empty where the
    table has no texts."""
    if "text" not in sheet.columns:
        return []
    number = sheet.points.index(point)
    mine = sheet.cell == number
    rows = mine | (sheet.zero & np.isin(sheet.pair, sheet.pair[mine]))
    return [_cell_of(_Tally.of(sheet, name, rows), number) for name in names[:MAX_LENSES]]


@dataclass(frozen=True)
class _Tally:
    """What a lens counted in the rows of a sheet; arrays with one entry a row, 0 where it counted nothing."""

    sheet: Sheet
    name: str
    calibrated: bool
    known: Any
    words: Any
    hits: Any

    @classmethod
    def of(cls, sheet: Sheet, column: str, rows: Any) -> _Tally:
        """The column of a lens, in those of the rows that are True."""
        known, words, hits = np.zeros(sheet.rows, bool), *np.zeros((2, sheet.rows), np.int64)
        rates, texts = sheet.columns[column], sheet.columns["text"]
        for row in rows.nonzero()[0].tolist():
            rate, text = rates[row], texts[row]
            if isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate):
                known[row] = True
                words[row] = len(text.split()) if isinstance(text, str) else 0
                hits[row] = round(rate * int(words[row]) / 100.0)
        name = column.removeprefix(HEAD)
        return cls(sheet, name, is_calibrated(name), known, words, hits)

    def counted(self, rows: Any) -> tuple[int, int]:
        """Hits and words of the rows that are True."""
        return int(self.hits[rows].sum()), int(self.words[rows].sum())


def _cells_of(tally: _Tally) -> Iterator[LensCell]:
    plain = tally.sheet.zero & tally.known
    pooled = pool(*tally.counted(plain), 0, 0, calibrated=tally.calibrated)
    yield LensCell(tally.name, None, int(plain.sum()), pooled, None)
    for number in range(len(tally.sheet.points)):
        yield _cell_of(tally, number)


def _cell_of(tally: _Tally, number: int) -> LensCell:
    sheet = tally.sheet
    rows = (sheet.cell == number) & tally.known
    base = tally.counted(sheet.zero & tally.known & np.isin(sheet.pair, sheet.pair[rows]))
    pooled = pool(*tally.counted(rows), *base, calibrated=tally.calibrated)
    return LensCell(tally.name, sheet.points[number], int(rows.sum()), pooled, _rate(*base))


def is_calibrated(name: str) -> bool:
    """The lens of that name on this machine says so. A file named by its path in a table is not opened."""
    if name.endswith(".toml"):
        return False
    try:
        return library.find("lenses", name, "lens").said.get("calibrated") is True
    except LabError:
        return False


def as_document(table: str, one: LensCell) -> dict[str, Any]:
    """A lens at a cell for JSON; the unsteered answers have no point."""
    point = asdict(one.point) if one.point is not None else None
    return {"table": table, "lens": one.lens, "point": point, "answers": one.answers,
            "unsteered": one.unsteered, **asdict(one.pooled)}  # fmt: skip


def in_short(cells: Sequence[LensCell]) -> str:
    """Lenses at a cell on one line, those that differ most first; empty for none."""
    stated = [one for one in cells if one.pooled.rate is not None]
    stated.sort(key=lambda one: -abs(one.pooled.excess or 0.0))
    if not stated:
        few = f"under {FEWEST_WORDS} words here, so no rate is stated" if cells else ""
        return f"lenses: {few}" if few else ""
    return "lenses per 100 words: " + " · ".join(map(_in_short, stated))


def _in_short(one: LensCell) -> str:
    pooled = one.pooled
    excess = "" if pooled.excess is None else f" ({pooled.excess:+.1f})"
    return f"{one.lens} {pooled.rate:.1f}{excess}" + (f" {pooled.band}" if pooled.band else "")


def as_rows(cells: Sequence[LensCell], most: int) -> list[dict[str, Any]]:
    """Lenses for a table on a terminal: of each the unsteered answers, then the ``most`` cells that differ most."""
    return [dict(zip(_COLUMNS, _row(one), strict=True)) for one in _ranked(cells, most)]


def page_of(table: Table) -> Iterator[str]:
    """The Markdown of a sweep's lenses; nothing where it has none."""
    cells = lens_cells(table)
    if not cells:
        return
    yield "### Lens rates"
    yield ""
    yield (
        f"Words of a vocabulary per 100 words of the answers, pooled over prompts and seeds; stated from "
        f"{FEWEST_WORDS} words on. The difference is from the unsteered answers to the same prompts. Bands are "
        "named only for lenses that were calibrated."
    )
    yield ""
    shown = _ranked(cells, MAX_CELLS)
    yield from grid(_COLUMNS, [_row(one) for one in shown])
    yield ""
    if len(shown) < len(cells):
        yield line(f"{len(cells) - len(shown)} more cells differ less.")
        yield ""


def _ranked(cells: Sequence[LensCell], most: int) -> list[LensCell]:
    found: list[LensCell] = []
    for name in dict.fromkeys(one.lens for one in cells):
        mine = [one for one in cells if one.lens == name]
        found += mine[:1]
        found += sorted(mine[1:], key=lambda one: -abs(one.pooled.excess or 0.0))[:most]
    return found


def _row(one: LensCell) -> list[Any]:
    point, pooled = one.point, one.pooled
    place = ["unsteered", "", "", None, None]
    if point is not None:
        direction = f"{point.direction} ({point.control})" if point.control else point.direction
        place = [direction, point.site, point.where, point.strength, point.strength_pct]
    stated = TOO_FEW if pooled.rate is None else round(pooled.rate, 2)
    unsteered = None if one.unsteered is None else round(one.unsteered, 2)
    if point is not None and unsteered is None:
        unsteered = TOO_FEW
    difference = "" if pooled.excess is None else f"{pooled.excess:+.2f}"
    return [
        one.lens,
        *place,
        one.answers,
        pooled.words,
        pooled.hits,
        stated,
        unsteered,
        difference,
        pooled.band,
    ]


def _rate(hits: int, words: int) -> float | None:
    return 100.0 * hits / words if words >= FEWEST_WORDS else None
