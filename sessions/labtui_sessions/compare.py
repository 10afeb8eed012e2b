"""Two sessions side by side: models, specs, tables and texts, and what differs between them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from .events import JobQueued, ModelReady, RowFinished, RowStarted, SessionOpened, typed
from .log import EventLog, each
from .tables import Table, Tables, as_json

KEYS = ("prompt", "prompt_id", "direction", "site", "where", "strength", "seed", "control")
"""Columns that say which grid point a row is; the others are outcomes."""
_QUIET = {"row", "prompt_index", "prompt_set", "prompt_class"}
_MODEL = (
    "name",
    "weight_hash",
    "tokenizer_hash",
    "template_hash",
    "dtype",
    "quantisation",
    "device",
    "revision",
)


class Change(msgspec.Struct):
    """A value that differs; None where it is absent on that side."""

    what: str
    a: Any
    b: Any


class ColumnChange(msgspec.Struct):
    """An outcome over the rows that both tables have."""

    column: str
    compared: int
    differ: int
    mean_difference: float | None
    """Mean of b - a over numbers; None for text."""
    max_difference: float | None


class TableChange(msgspec.Struct):
    """A table that both sessions have, or one of them (then ``matched`` is 0)."""

    table: str
    rows_a: int
    rows_b: int
    matched: int
    columns: list[ColumnChange]


class TextChange(msgspec.Struct):
    """An answer that both sessions have to the same prompt, edits and seed, and that differs."""

    prompt: str
    edits: str
    seed: int
    a: str
    b: str
    at: int
    """Characters that are equal at the start."""


class Comparison(msgspec.Struct):
    """What differs between session ``a`` and session ``b``; empty lists where nothing does."""

    a: str
    b: str
    model: list[Change]
    versions: list[Change]
    specs: list[Change]
    tables: list[TableChange]
    texts: list[TextChange]
    texts_compared: int

    @property
    def same(self) -> bool:
        """Nothing but versions differs."""
        tables = any(t.rows_a != t.rows_b or any(c.differ for c in t.columns) for t in self.tables)
        return not (self.model or self.specs or self.texts or tables)


class _Side:
    """What a comparison needs of one session, gathered in one pass."""

    def __init__(self, log: EventLog) -> None:
        self.name = ""
        self.model: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.specs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.answers: dict[tuple[str, str, int, int], str] = {}
        self.tables = Tables()
        self._started: dict[tuple[str, str], tuple[str, str, int, int]] = {}
        self._seen: dict[tuple[str, str, int], int] = defaultdict(int)
        for event in each(log):
            self.tables.apply(event)
            data = typed(event)
            if isinstance(data, SessionOpened):
                self.name, self.versions = data.title or data.id, data.versions
            elif isinstance(data, ModelReady):
                self.model = data.info
            elif isinstance(data, JobQueued):
                self.specs[data.kind].append(data.spec)
            elif isinstance(data, RowStarted):
                self._start(data)
            elif isinstance(data, RowFinished):
                key = self._started.pop((data.job, data.row), None)
                if key is not None:
                    self.answers[key] = data.text

    def _start(self, data: RowStarted) -> None:
        """The same prompt, edits and seed may come several times: the first is compared to the first."""
        prompt = as_json(data.messages) if data.messages else as_json(data.ids)
        again = self._started.pop((data.job, data.row), None)  # a row that began again after a lost worker
        if again is None:
            number = self._seen[prompt, data.edits, data.seed]
            self._seen[prompt, data.edits, data.seed] += 1
            again = (prompt, data.edits, data.seed, number)
        self._started[data.job, data.row] = again


def compare(a: EventLog, b: EventLog) -> Comparison:
    """Compare two sessions. Jobs are paired in order within their kind, rows by what they were asked."""
    one, two = _Side(a), _Side(b)
    common = [key for key in one.answers if key in two.answers]
    model = {name: one.model.get(name) for name in _MODEL}
    return Comparison(
        a=one.name,
        b=two.name,
        model=list(_changes(model, {name: two.model.get(name) for name in _MODEL})),
        versions=list(_changes(one.versions, two.versions)),
        specs=list(_spec_changes(one, two)),
        tables=list(_table_changes(one.tables, two.tables)),
        texts=[_text_change(key, one, two) for key in common if one.answers[key] != two.answers[key]],
        texts_compared=len(common),
    )


def as_lines(comparison: Comparison) -> list[str]:
    """The comparison as text, a line each."""
    c = comparison
    lines = [f"a  {c.a}", f"b  {c.b}"]
    for title, changes in (("model", c.model), ("versions", c.versions), ("specs", c.specs)):
        lines.append(f"{title}: " + ("the same" if not changes else f"{len(changes)} differences"))
        lines += [f"  {x.what}: {_short(x.a)} -> {_short(x.b)}" for x in changes]
    for table in c.tables:
        lines.append(
            f"table {table.table}: {table.rows_a} and {table.rows_b} rows, {table.matched} of the same"
        )
        for column in table.columns:
            if column.differ:
                lines.append("  " + _column_line(column))
    lines.append(f"texts: {len(c.texts)} of {c.texts_compared} differ")
    for text in c.texts[:20]:
        edits = text.edits or "plain"
        a, b = text.a[text.at :], text.b[text.at :]
        lines.append(f"  {edits}, seed {text.seed}, from character {text.at}: {_short(a)} -> {_short(b)}")
    return lines


def _column_line(column: ColumnChange) -> str:
    line = f"{column.column}: {column.differ} of {column.compared} differ"
    if column.mean_difference is not None and column.max_difference is not None:
        line += f", mean {column.mean_difference:+.4g}, at most {column.max_difference:.4g}"
    return line


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else as_json(value)
    return text if len(text) <= 70 else text[:67] + "..."


def _changes(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> Iterator[Change]:
    for name in [*a, *(name for name in b if name not in a)]:
        one, two = a.get(name), b.get(name)
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _changes(one, two, f"{prefix}{name}.")
        elif as_json(one) != as_json(two):
            yield Change(prefix + name, one, two)


def _spec_changes(one: _Side, two: _Side) -> Iterator[Change]:
    for kind in sorted(one.specs.keys() | two.specs.keys()):
        pairs = zip_longest(one.specs.get(kind, []), two.specs.get(kind, []))
        for number, (a, b) in enumerate(pairs, 1):
            where = f"{kind} {number}"
            if a is None or b is None:
                yield Change(where, a, b)
            else:
                yield from _changes(a, b, f"{where}: ")


def _table_changes(one: Tables, two: Tables) -> Iterator[TableChange]:
    for name in [*one.by_name, *(name for name in two.by_name if name not in one.by_name)]:
        a, b = one.by_name.get(name), two.by_name.get(name)
        if a is None or b is None:
            yield TableChange(name, a.rows if a else 0, b.rows if b else 0, 0, [])
            continue
        keys = [key for key in KEYS if key in a.columns and key in b.columns]
        theirs = _by_key(b, keys)
        pairs = [(i, theirs[key]) for key, i in _by_key(a, keys).items() if key in theirs]
        outcomes = [c for c in a.columns if c in b.columns and c not in keys and c not in _QUIET]
        columns = [_column_change(c, a, b, pairs) for c in outcomes]
        yield TableChange(name, a.rows, b.rows, len(pairs), columns)


def _by_key(table: Table, keys: Iterable[str]) -> dict[str, int]:
    """Index of each row by its grid point; rows of one point are numbered."""
    found: dict[str, int] = {}
    seen: dict[str, int] = defaultdict(int)
    for index in range(table.rows):
        point = as_json([table.columns[key].values[index] for key in keys])
        found[f"{point} {seen[point]}"] = index
        seen[point] += 1
    return found


def _column_change(name: str, a: Table, b: Table, pairs: list[tuple[int, int]]) -> ColumnChange:
    ones = [a.columns[name].values[i] for i, _ in pairs]
    twos = [b.columns[name].values[j] for _, j in pairs]
    differ = sum(as_json(x) != as_json(y) for x, y in zip(ones, twos, strict=True))
    both = [(x, y) for x, y in zip(ones, twos, strict=True) if _is_number(x) and _is_number(y)]
    if not both:
        return ColumnChange(name, len(pairs), differ, None, None)
    gaps = [y - x for x, y in both]
    return ColumnChange(name, len(pairs), differ, math.fsum(gaps) / len(gaps), max(abs(g) for g in gaps))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text_change(key: tuple[str, str, int, int], one: _Side, two: _Side) -> TextChange:
    a, b = one.answers[key], two.answers[key]
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return TextChange(key[0], key[1], key[2], a, b, at)
