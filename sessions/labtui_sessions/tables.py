"""The tables of a session: rows of committed cells, gathered into columns.

``Tables.apply`` takes every event of a session; a cell counts once, however often it was committed. A
column's type is stable: the columns that the lab promises have the type given in ``TYPES``, others take the
narrowest of bool, int, float, str and json that holds all their values. An absent value is None, and
``reasons`` says why where the recipe said so.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from labtui_artifacts.errors import UsageError

from .events import CellCommitted, Event, typed

if TYPE_CHECKING:
    import pyarrow

ColumnType = Literal["bool", "int", "float", "str", "json"]

TYPES: dict[str, ColumnType] = {
    "prompt": "str",
    "prompt_index": "int",
    "prompt_id": "str",
    "prompt_set": "str",
    "prompt_class": "str",
    "direction": "str",
    "site": "str",
    "where": "str",
    "strength": "float",
    "strength_abs": "float",
    "strength_pct": "float",
    "seed": "int",
    "control": "str",
    "text": "str",
    "tokens": "int",
    "finish": "str",
    "words": "int",
    "perplexity": "float",
    "kl": "float",
}
"""Types of the columns that every table with them shares."""

MAX_PAGE = 1_000
"""Rows in one page at most."""
MAX_COLUMNS = 1_000


class Page(msgspec.Struct):
    """Rows ``start``, ``start + 1``, ... of a table as it is sorted and filtered."""

    table: str
    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    """One list a row, in the order of ``columns``; None where a value is absent."""
    reasons: list[dict[str, str]]
    """For each row, why values are absent."""
    start: int
    total: int
    """Rows in the table."""
    matched: int
    """Rows that pass the filter."""


class Condition(msgspec.Struct, frozen=True):
    """A filter on one column: ``op`` is one of ``= != < <= > >= ~`` (``~``: contains, case aside). Nothing after ``=``
    stands for values that are absent or empty."""

    column: str
    op: str
    value: Any


class Column:
    """One column: its type so far and its values."""

    def __init__(self, name: str, absent: int) -> None:
        self.name = name
        self.type: ColumnType | None = TYPES.get(name)
        self.values: list[Any] = [None] * absent

    def put(self, value: Any) -> None:
        """Add one value; a column that cannot hold it becomes wider."""
        value = _plain(value)
        if value is not None:
            kind = _type_of(value)
            if self.type is None:
                self.type = kind
            elif kind != self.type:
                self.type = _wider(self.type, kind)
        self.values.append(value)

    def stored(self) -> list[Any]:
        """The values in the column's type: all floats, all text, ..."""
        if self.type == "float":
            return [None if value is None else float(value) for value in self.values]
        if self.type == "json":
            return [None if value is None else as_json(value) for value in self.values]
        return list(self.values)


class Table:
    """The rows of one table, as columns of equal length."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.columns: dict[str, Column] = {}
        self.reasons: dict[int, dict[str, str]] = {}
        self.rows = 0
        self.seqs: list[int] = []
        """For each row, the sequence number of the event that committed it."""
        self.began = 0.0
        """When its first cell was committed, in seconds since the epoch; 0 while it is empty."""
        self._owners: list[str] = []
        self.ask_owners: Callable[[], list[str]] | None = None
        """Where the table came without its rows' owners: finds them when they are asked for."""
        self.cells: set[tuple[str, str]] = set()
        self.keys: list[str] = []
        """For each row, the key of its cell."""

    @property
    def owners(self) -> list[str]:
        """For each row, the job that committed it."""
        if self.ask_owners is not None and len(self._owners) < self.rows:
            self._owners = self.ask_owners()
        return self._owners

    def measured(self, cells: Collection[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What the columns ``names`` have, as far as they are there, of the rows of these cells, by cell."""
        columns = [self.columns[name] for name in names if name in self.columns]
        return {
            key: {column.name: column.values[row] for column in columns}
            for row, key in enumerate(self.keys)
            if key in cells
        }

    def earlier(self, job: str) -> tuple[list[str], int]:
        """What other jobs put here: the keys of their cells, and the first ``row`` number after theirs."""
        cells = [cell for owner, cell in self.cells if owner != job]
        numbers = self.columns["row"].values if "row" in self.columns else []
        taken = [
            n for n, owner in zip(numbers, self.owners, strict=False) if owner != job and isinstance(n, int)
        ]
        return sorted(cells), max(taken, default=-1) + 1

    def add(self, job: str, cell: str, rows: Iterable[Mapping[str, Any]], seq: int = 0) -> bool:
        """Add the rows of a cell; False (and nothing added) when it is in the table already."""
        if (job, cell) in self.cells:
            return False
        self.cells.add((job, cell))
        for row in rows:
            self._add_row(row)
            self.seqs.append(seq)
            self._owners.append(job)
            self.keys.append(cell)
        return True

    def until(self, seq: int) -> int:
        """How many rows had been committed by that event."""
        return bisect.bisect_right(self.seqs, seq)

    def row(self, index: int) -> dict[str, Any]:
        """One row as a map."""
        return {name: column.values[index] for name, column in self.columns.items()}

    def select(
        self,
        conditions: Sequence[Condition] = (),
        sort: str | None = None,
        descending: bool = False,
        until: int | None = None,
    ) -> list[int]:
        """Indices of the rows that meet all conditions, in the order asked for (absent values last).

        ``until`` looks at the table as it was after the event of that sequence number.
        """
        rows = self.rows if until is None else self.until(until)
        tests = [(self._column(c.column), _test(c)) for c in conditions]
        chosen = [i for i in range(rows) if all(test(column.values[i]) for column, test in tests)]
        if sort is not None:
            chosen = _sorted(chosen, self._column(sort).values, descending)
        return chosen

    def page(
        self,
        start: int,
        stop: int,
        *,
        sort: str | None = None,
        descending: bool = False,
        conditions: Sequence[Condition] = (),
        until: int | None = None,
    ) -> Page:
        """Rows ``start`` up to ``stop`` of the table as sorted and filtered; at most ``MAX_PAGE``."""
        total = self.rows if until is None else self.until(until)
        order: Sequence[int] = range(total)
        if conditions or sort is not None:
            order = self.select(conditions, sort, descending, until)
        start = max(0, start)
        wanted = order[start : min(stop, start + MAX_PAGE)]
        columns = list(self.columns.values())
        return Page(
            table=self.name,
            columns=[column.name for column in columns],
            types=[column.type or "str" for column in columns],
            rows=[[column.values[i] for column in columns] for i in wanted],
            reasons=[self.reasons.get(i, {}) for i in wanted],
            start=start,
            total=total,
            matched=len(order),
        )

    def to_arrow(self) -> pyarrow.Table:
        """The table as an Arrow table; json columns hold JSON text."""
        import pyarrow as pa

        kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
        arrays = [
            pa.array(c.stored(), type=kinds.get(c.type or "str", pa.string())) for c in self.columns.values()
        ]
        return pa.table(arrays, names=list(self.columns))

    def _add_row(self, row: Mapping[str, Any]) -> None:
        for name in row:
            if name not in self.columns and name != "reasons" and len(self.columns) < MAX_COLUMNS:
                self.columns[name] = Column(name, self.rows)
        for name, column in self.columns.items():
            column.put(row.get(name))
        reasons = row.get("reasons")
        if isinstance(reasons, dict) and reasons:
            self.reasons[self.rows] = {str(name): str(why) for name, why in reasons.items()}
        self.rows += 1

    def _column(self, name: str) -> Column:
        column = self.columns.get(name)
        if column is None:
            known = ", ".join(list(self.columns)[:30]) or "none yet"
            raise UsageError(f"table {self.name}: no column {name!r}; it has {known}")
        return column


class Tables:
    """All tables of a session."""

    def __init__(self) -> None:
        self.by_name: dict[str, Table] = {}

    def apply(self, event: Event) -> bool:
        """Take one event; False for a cell that is here already, so that it need not be written again."""
        if event.kind != "cell.committed":
            return True
        data = typed(event)
        if not isinstance(data, CellCommitted):
            return True
        table = self.by_name.get(data.table)
        if table is None:
            table = self.by_name[data.table] = Table(data.table)
        table.began = table.began or event.t
        return table.add(data.job, data.cell, data.rows, event.seq)

    def has(self, job: str, cell: str, table: str) -> bool:
        """The cell has been committed."""
        known = self.by_name.get(table)
        return known is not None and (job, cell) in known.cells

    def committed(self, job: str) -> set[str]:
        """Keys of the cells of a job that are committed, in any table."""
        return {cell for table in self.by_name.values() for owner, cell in table.cells if owner == job}

    def table(self, name: str) -> Table:
        """The table of that name. UsageError, which lists those there are, when there is none."""
        table = self.by_name.get(name)
        if table is None:
            known = ", ".join(sorted(self.by_name)[:30]) or "none"
            raise UsageError(f"no table {name!r} in this session; it has {known}")
        return table

    def page(self, name: str, start: int, stop: int, **how: Any) -> Page:
        """A page of one table: see ``Table.page``."""
        return self.table(name).page(start, stop, **how)


def gather(events: Iterable[Event]) -> Tables:
    """The tables of these events."""
    tables = Tables()
    for event in events:
        tables.apply(event)
    return tables


def choose(
    rows: Sequence[Mapping[str, Any]],
    conditions: Sequence[Condition] = (),
    sort: str | None = None,
    descending: bool = False,
) -> list[int]:
    """``Table.select`` for rows as maps: indices of those that meet all conditions, absent values last."""
    tests = [(condition.column, _test(condition)) for condition in conditions]
    found = [i for i, row in enumerate(rows) if all(test(row.get(name)) for name, test in tests)]
    return found if sort is None else _sorted(found, [row.get(sort) for row in rows], descending)


def parse_conditions(text: str) -> list[Condition]:
    """Conditions from text such as ``strength>1 direction=terse text~mutex``; all must hold.

    UsageError when a part is not ``column``, operator, value.
    """
    found = []
    for part in text.split():
        for op in ("!=", "<=", ">=", "=", "<", ">", "~"):
            column, sign, value = part.partition(op)
            if sign and column and not any(c in column for c in "=<>~!"):
                found.append(Condition(column, op, _value(value)))
                break
        else:
            raise UsageError(f"filter {part!r}: expected a column, one of = != < <= > >= ~, and a value")
    return found


def as_json(value: Any) -> str:
    """A value as one line of JSON, the same on every run; NaN and infinities become null."""
    return json.dumps(finite(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def finite(value: Any) -> Any:
    """The value with NaN and infinities, which JSON has no word for, as None; bytes as hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return value


def _plain(value: Any) -> Any:
    """Values as they come back from msgpack; integers beyond 64 bits signed become floats."""
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return list(value) if isinstance(value, tuple) else value


def _type_of(value: Any) -> ColumnType:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "str" if isinstance(value, str) else "json"


def _wider(one: ColumnType, other: ColumnType) -> ColumnType:
    return "float" if {one, other} == {"int", "float"} else "json"


def _value(text: str) -> Any:
    lowered = {"true": True, "false": False, "null": None, "none": None, "": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _sorted(chosen: list[int], values: Sequence[Any], descending: bool) -> list[int]:
    present = [i for i in chosen if not _missing(values[i])]
    present.sort(key=lambda i: _sort_key(values[i]), reverse=descending)
    return present + [i for i in chosen if _missing(values[i])]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _sort_key(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool | int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, as_json(value))


def _test(condition: Condition) -> Callable[[Any], bool]:
    op, wanted = condition.op, condition.value
    if op == "~":
        needle = str("" if wanted is None else wanted).lower()
        return lambda value: value is not None and needle in _text(value).lower()
    if op in ("=", "!="):
        same = _equals(wanted)
        return same if op == "=" else lambda value: not same(value)
    if op not in ("<", "<=", ">", ">="):
        raise UsageError(f"filter on {condition.column}: unknown operator {op!r}")
    key = _sort_key(wanted)

    def compare(value: Any) -> bool:
        if _missing(value) or _missing(wanted) or _sort_key(value)[0] != key[0]:
            return False
        ours = _sort_key(value)
        return (ours < key or (op == "<=" and ours == key)) if op[0] == "<" else (
            ours > key or (op == ">=" and ours == key)
        )  # fmt: skip

    return compare


def _equals(wanted: Any) -> Callable[[Any], bool]:
    def same(value: Any) -> bool:
        if wanted is None:
            return _missing(value) or value == ""
        if value is None:
            return False
        if isinstance(wanted, bool) or isinstance(value, bool):
            return value is wanted
        return value == wanted or (isinstance(value, str) and value == str(wanted))

    return same


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)
