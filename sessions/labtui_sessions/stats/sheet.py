"""A sweep's table as coded arrays: which cell, prompt, seed and control each row is.

A *cell* is a grid point (direction, site, where, strength) and what stands beside the grid: the negated and
the prompt-only rows. *Zero* rows (control ``zero``, or strength 0 in the grid itself) are what the rows of the
same prompt and seed are paired with. *Null* rows are those of random and shuffled-label directions.

Rows of one prompt are told by ``prompt_id``, a digest of the whole chat, since different chats may have the same
last turn. Rows without it, of older sessions, go by the text: that of the one prompt with it, where there is one.

Strengths of one point may differ in their last digits, as after a restart on another machine: those within
1e-4 of each other are one point. A null row belongs to the cells of its site, positions and *norm*
(``strength_abs``; where the table lacks it, ``strength``), because a random direction is compared at equal norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from ..tables import Table

Array = np.ndarray[Any, np.dtype[Any]]

NULLS = ("random", "shuffled")
BESIDE = ("negated", "prompt")
KEYS = ("prompt", "direction", "site", "where", "strength", "control")
"""Columns without which a table is no sweep's."""
PROMPT = ("prompt_id", "prompt_index", "prompt_set", "prompt_class")
"""Columns that say more of the prompt than its text."""
ASKED = frozenset((*KEYS, *PROMPT, "row", "seed", "strength_abs", "strength_pct", "strength_text"))
"""Columns that say what a row is; numeric ones beyond them are metrics."""
_NEAR = 1e-4


@dataclass(frozen=True)
class Point:
    """A cell's place. ``control`` is empty for the grid, ``negated`` or ``prompt`` for what stands beside it."""

    direction: str
    site: str
    where: str
    strength: float
    strength_abs: float | None
    strength_pct: float | None
    control: str = ""


@dataclass(frozen=True)
class Sheet:
    """Rows of a sweep, coded; arrays have one entry a row unless said otherwise."""

    columns: Mapping[str, Sequence[Any]]
    rows: int
    prompts: tuple[str, ...]
    """The text of each prompt; prompts of different chats may have the same."""
    prompt_ids: tuple[str, ...]
    """What tells them apart, the same in every table: the id of each, its text where the table has no ids."""
    prompt: Array
    pair: Array
    """Code of (prompt, seed): rows and zero rows with the same one are paired."""
    cell: Array
    """Index into ``points``; -1 for zero and null rows."""
    points: tuple[Point, ...]
    zero: Array
    null: Array
    direction: Array
    level: Array
    """Code of (site, where, norm), shared by cells and their null rows."""
    point_level: Array
    """[points] The level of each cell."""
    cut: Array
    """The answer was cut off by the length limit."""

    @classmethod
    def of(cls, table: Table, until: int | None = None) -> Sheet:
        """A table's rows (the first ``until``). UsageError when it lacks a column that a sweep has."""
        return cls.from_columns({n: c.values[:until] for n, c in table.columns.items()}, table.name)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], name: str = "sweep") -> Sheet:
        """Rows as maps, as a screen keeps them."""
        names = dict.fromkeys(key for row in rows for key in row)
        return cls.from_columns({key: [row.get(key) for row in rows] for key in names}, name)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]], name: str = "sweep") -> Sheet:
        """Columns of equal length, None where a value is absent."""
        missing = [key for key in KEYS if key not in columns]
        if missing:
            raise UsageError(f"table {name}: not a sweep's, it has no column {missing[0]!r}")
        return _sheet(columns)

    def metrics(self) -> list[str]:
        """Columns with outcomes: those that hold numbers or yes and no."""
        return [
            name
            for name, values in self.columns.items()
            if name not in ASKED and any(isinstance(v, bool | int | float) for v in values)
        ]

    def is_rate(self, metric: str) -> bool:
        """The column says yes or no."""
        values = [v for v in self.columns[metric] if v is not None]
        return bool(values) and all(isinstance(v, bool) for v in values)

    def values(self, metric: str) -> Array:
        """The column as float64, NaN where it is absent, not a number or not finite."""
        if metric not in self.columns:
            raise UsageError(f"no metric {metric!r} in this table; it has {', '.join(self.metrics())}")
        numbers = np.array([_number(v) for v in self.columns[metric]], float)
        numbers[~np.isfinite(numbers)] = np.nan
        return numbers


def is_sweep(table: Table) -> bool:
    """The table has the columns of a sweep."""
    return all(key in table.columns for key in KEYS)


def _sheet(columns: Mapping[str, Sequence[Any]]) -> Sheet:
    texts = columns["prompt"]
    rows = len(texts)
    blank: Sequence[Any] = [None] * rows
    prompt, ids = _codes(prompt_ids(texts, columns.get("prompt_id", blank)))
    text_of = dict(zip(reversed(prompt.tolist()), reversed(texts), strict=True))
    seed, seeds = _codes(columns.get("seed", blank))
    direction, directions = _codes(columns["direction"])
    site, sites = _codes(columns["site"])
    where, wheres = _codes(columns["where"])
    control, controls = _codes(columns["control"])
    strength = np.array([_number(v) for v in columns["strength"]], float)
    norm = np.array([_number(v) for v in columns.get("strength_abs", blank)], float)
    size = np.abs(np.where(np.isfinite(norm), norm, strength))  # a strength below 0 has a norm below 0
    is_control = {name: control == code for code, name in enumerate(controls)}
    none = np.zeros(rows, bool)
    plain = is_control.get("", none) | is_control.get(None, none)
    zero = is_control.get("zero", none) | (plain & (strength == 0))
    null: Array = np.logical_or.reduce([is_control.get(name, none) for name in NULLS])
    kinds = [plain & ~zero, *(is_control.get(name, none) for name in BESIDE)]
    member: Array = np.logical_or.reduce(kinds)
    known = np.select(kinds, range(len(kinds)), -1)
    cell, first = _points((known, direction, site, where), strength, member)
    level, _ = _points((site, where), size, member | null)
    percent = columns.get("strength_pct", blank)
    points = tuple(
        Point(
            str(directions[direction[i]] or ""),
            str(sites[site[i]] or ""),
            str(wheres[where[i]] or ""),
            float(strength[i]),
            _given(float(norm[i])),
            _given(_number(percent[i])),
            ("", *BESIDE)[known[i]],
        )
        for i in first
    )
    finish = columns.get("finish", blank)
    return Sheet(
        columns=columns,
        rows=rows,
        prompts=tuple(str(text_of[code]) for code in range(len(ids))),
        prompt_ids=tuple(ids),
        prompt=prompt,
        pair=prompt * max(1, len(seeds)) + seed,
        cell=cell,
        points=points,
        zero=zero,
        null=null,
        direction=direction,
        level=level,
        point_level=level[first],
        cut=np.fromiter((value == "length" for value in finish), bool, rows),
    )


def prompt_ids(texts: Sequence[Any], ids: Sequence[Any]) -> list[str]:
    """For each row what tells its prompt from others. A row without an id has that of the one prompt with its
    text; where none has it, or several do, its text stands for it."""
    known: dict[str, set[str]] = {}
    for text, id in zip(texts, ids, strict=True):
        if id:
            known.setdefault(str(text), set()).add(str(id))
    only = {text: next(iter(found)) for text, found in known.items() if len(found) == 1}
    return [str(id) if id else only.get(str(text), str(text)) for text, id in zip(texts, ids, strict=True)]


def _codes(values: Sequence[Any]) -> tuple[Array, list[Any]]:
    """A number for each different value, in order of appearance, and the values."""
    known: dict[Any, int] = {}
    codes = np.fromiter(
        (known.setdefault(v if v.__hash__ is not None else repr(v), len(known)) for v in values),
        np.int64,
        len(values),
    )
    return codes, list(known)


def _points(keys: Sequence[Array], amount: Array, member: Array) -> tuple[Array, Array]:
    """Codes of the members' points (-1 elsewhere), equal where all keys are and the amounts are near.

    Codes are in order of appearance; also the index of the first row of each.
    """
    rows = np.flatnonzero(member)
    codes = np.full(len(member), -1, np.int64)
    if not len(rows):
        return codes, rows
    amount = np.nan_to_num(amount, nan=0.0, posinf=0.0, neginf=0.0)
    order = rows[np.lexsort((amount[rows], *(key[rows] for key in keys)))]
    new = np.ones(len(order), bool)
    gap = np.abs(np.diff(amount[order]))
    new[1:] = gap > _NEAR * np.abs(amount[order][1:])
    for key in keys:
        new[1:] |= np.diff(key[order]) != 0
    sorted_code = np.cumsum(new) - 1
    first = np.minimum.reduceat(order, np.flatnonzero(new))
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    codes[order] = rank[sorted_code]
    return codes, np.sort(first)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, bool | int | float) else float("nan")


def _given(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
