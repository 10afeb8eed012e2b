"""Which rows of a grid a calibration runs next, from what the rows so far have measured. No torch, no model.

Rows are asked for in rounds, and a round follows from the rows of the rounds before it alone, not from their
order nor from others that may be there: so a calibration that was cut off takes the same way again, and what
is committed is looked up in place of being run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from labtui_sessions.stats.null import MIN_ROWS, Size
from labtui_sessions.stats.search import Finding, Frame, Search, Want
from labtui_sessions.stats.sheet import Sheet
from labtui_sessions.stats.zones import Level, Line, lines

from ..lang.sites import format_group
from ..specs.calibrate import COHERENT, Calibrate
from ..specs.plan import Plan, PlannedRow

Values = Mapping[str, Any]
"""What a row measured, by metric."""


@dataclass
class _Cell:
    """The rows of one strength at a site: by prompt, and the null's in the order in which they are asked for."""

    rows: list[PlannedRow] = field(default_factory=list)
    nulls: list[PlannedRow] = field(default_factory=list)


class Rounds:
    """The search of a calibration over the rows of its grid's plan."""

    def __init__(self, spec: Calibrate, plan: Plan) -> None:
        self.spec, self.plan = spec, plan
        self.percents = [strength.value for strength in spec.strengths]
        self.zeros = [row for row in plan.rows if row.control == "zero"]
        self._cells = _cells(plan, self.percents)
        whole = next(iter(next(iter(self._cells.values())).values()))
        nulls = len(whole.nulls) if len(whole.nulls) >= MIN_ROWS else 0
        prompts = len(whole.rows)
        frame = Frame(len(self.percents), min(spec.few, prompts), prompts, min(MIN_ROWS, nulls), nulls)
        self.grid = len(self.zeros) + len(self._cells) * frame.steps * (prompts + len(whole.nulls))
        self.most = int(spec.share * self.grid)
        self.search = Search(frame, list(self._cells), self.most - len(self.zeros))
        self._asked: list[PlannedRow] = list(self.zeros)
        self._begun = False

    @property
    def rows(self) -> int:
        """How many rows have been asked for, the zero rows included."""
        return len(self._asked)

    def next(self, known: Mapping[str, Values]) -> list[PlannedRow]:
        """The rows of the next round; none when the search has ended. ``known``: values of all rows so far, by cell."""
        levels = self.levels(known) if self._begun else {}
        granted = self.search.ask(levels)
        found = [row for line, wants in granted.items() for want in wants for row in self._of(line, want)]
        there = {row.cell for row in self._asked}
        fresh = [row for row in dict.fromkeys(found) if row.cell not in there]
        first = [] if self._begun else list(self.zeros)
        self._begun = True
        self._asked += fresh
        return [*first, *fresh]

    def _of(self, line: Line, want: Want) -> list[PlannedRow]:
        cell = self._cells[line][want.index]
        return [*cell.rows[: want.prompts], *cell.nulls[: want.nulls]]

    def levels(self, known: Mapping[str, Values]) -> dict[Line, dict[int, Level]]:
        """What the rows that were asked for say of every line, by number of the strength."""
        frame = self.search.frame
        whole = Size(frame.prompts, frame.nulls) if frame.nulls else None
        sheet = Sheet.from_rows([self._line(row, known[row.cell]) for row in self._asked], "calibration")
        number = {percent: index for index, percent in enumerate(self.percents)}
        return {
            line: {number[level.point.strength]: level for level in levels}
            for line, levels in lines(sheet, self.spec.outcome, whole).items()
        }

    def _line(self, row: PlannedRow, values: Values) -> dict[str, Any]:
        """The row as statistics read it; its strength is the % of the plan, the same on every machine."""
        return {
            "prompt": row.prompt,
            "direction": row.direction,
            "site": row.site,
            "where": str(row.where),
            "strength": row.strength.value,
            "seed": row.seed,
            "control": row.control,
            self.spec.outcome: values.get(self.spec.outcome),
            COHERENT: values.get(COHERENT),
        }

    def findings(self, known: Mapping[str, Values]) -> list[Finding]:
        """What was found at every site, strengths in %."""
        levels = self.levels(known)
        return [self.search.finding(line, levels.get(line, {})) for line in self._cells]

    def steered(self, line: Line) -> dict[float, PlannedRow]:
        """A steered row of each strength in %, for its edits."""
        return {self.percents[index]: cell.rows[0] for index, cell in self._cells[line].items()}


def _cells(plan: Plan, percents: Sequence[float]) -> dict[Line, dict[int, _Cell]]:
    """The cells of every line.

    Null rows are put so that any first part of them is random and shuffled alike, and that neighbouring strengths
    begin with different directions: together a few rows of each are then as various as all rows of one.
    """
    number = {percent: index for index, percent in enumerate(percents)}
    found: dict[Line, dict[int, _Cell]] = {}
    nulls: dict[tuple[str, str, int], dict[str, list[PlannedRow]]] = defaultdict(lambda: defaultdict(list))
    for row in plan.rows:
        if row.control == "":
            line = (row.direction, format_group(row.sites), str(row.where), 1)
            cells = found.setdefault(line, {})
            cells.setdefault(number[row.strength.value], _Cell()).rows.append(row)
        elif row.control in ("random", "shuffled"):
            place = (format_group(row.sites), str(row.where), number[row.strength.value])
            nulls[place][row.control].append(row)
    for (_, site, where, _), cells in found.items():
        for index, cell in cells.items():
            sorts = nulls[site, where, index]
            pairs = [_by_direction(rows) for rows in (sorts["random"], sorts["shuffled"])]
            mixed = [rows for both in zip_longest(*pairs, fillvalue=[]) for rows in both]
            turn = len(mixed) // 2 * (index % 2)
            cell.nulls = [row for rows in (*mixed[turn:], *mixed[:turn]) for row in rows]
    return found


def _by_direction(rows: Sequence[PlannedRow]) -> list[list[PlannedRow]]:
    found: dict[str, list[PlannedRow]] = defaultdict(list)
    for row in rows:
        found[row.direction].append(row)
    return list(found.values())
