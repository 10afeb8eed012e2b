"""A table as tensors: what a saved session holds, readable by any safetensors reader.

Numbers are one tensor a column: ``table/<name>/<column>`` as int64, float64 or uint8 (booleans). Text and
JSON are two: ``....bytes``, all values in UTF-8 one after the other, and ``....offsets``, int64 [rows + 1].
Where values are absent, ``....present`` (uint8 [rows]) says which are there. ``<table>/#seq`` is the event
that committed each row, ``<table>/#reasons`` why values are absent.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

import msgspec
import numpy as np

from labtui_artifacts.errors import BadFile

from .tables import Column, ColumnType, Table

Array = np.ndarray[Any, np.dtype[Any]]
Reader = Callable[[str], Array]
"""Gives the tensor of a name; BadFile when there is none."""

_SCALARS: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": np.uint8}


class ColumnInfo(msgspec.Struct):
    """A column in a file's summary: its name, type, and the name of its tensor."""

    name: str
    type: str
    tensor: str


class TableInfo(msgspec.Struct):
    """A table in a file's summary."""

    name: str
    rows: int
    cells: int
    base: str
    """What the names of its own tensors begin with."""
    columns: list[ColumnInfo]
    reasons: bool = False


def to_tensors(table: Table, number: int) -> tuple[TableInfo, dict[str, Array]]:
    """The tensors of a table and what the summary says of it; ``number`` names it if its own name cannot."""
    base = _tensor_name("table", table.name, number)
    info = TableInfo(table.name, table.rows, len(table.cells), base, [], bool(table.reasons))
    tensors: dict[str, Array] = {f"{base}/#seq": np.asarray(table.seqs, np.int64)}
    for index, column in enumerate(table.columns.values()):
        name = _tensor_name(base, column.name, index)
        kind = column.type or "str"
        info.columns.append(ColumnInfo(column.name, kind, name))
        tensors.update(_column_tensors(name, kind, column.stored()))
    if table.reasons:
        texts = [json.dumps(table.reasons.get(i)) if i in table.reasons else None for i in range(table.rows)]
        tensors.update(_column_tensors(f"{base}/#reasons", "str", texts))
    return info, tensors


def from_tensors(info: TableInfo, read: Reader) -> Table:
    """The table of a file. BadFile when its tensors do not fit each other."""
    table = Table(info.name)
    table.rows = info.rows
    seqs = read(f"{info.base}/#seq")
    if seqs.shape != (info.rows,) or seqs.dtype != np.int64 or (np.diff(seqs) < 0).any():
        raise BadFile(f"table {info.name!r}: #seq is not {info.rows} rising int64 numbers")
    table.seqs = seqs.tolist()
    for entry in info.columns:
        column = table.columns[entry.name] = Column(entry.name, 0)
        column.type = cast(ColumnType, entry.type)
        column.values = _values(entry.tensor, entry.type, info.rows, read)
        if entry.type == "json":
            column.values = [None if text is None else _parsed(text, entry.tensor) for text in column.values]
    if info.reasons:
        for index, text in enumerate(_values(f"{info.base}/#reasons", "str", info.rows, read)):
            if text is not None:
                table.reasons[index] = _parsed(text, f"{info.base}/#reasons")
    return table


def tensor_names(info: TableInfo, there: Mapping[str, Any]) -> set[str]:
    """Names of the tensors, of those in the file, that this table uses."""
    bases = [f"{info.base}/#seq", f"{info.base}/#reasons", *(entry.tensor for entry in info.columns)]
    parts = ("", ".bytes", ".offsets", ".present")
    return {base + part for base in bases for part in parts if base + part in there}


def _tensor_name(base: str, name: str, number: int) -> str:
    readable = quote(name, safe=" ").replace(".", "%2E")
    return f"{base}/{readable}" if 0 < len(readable) <= 120 else f"{base}/#{number}"


def _column_tensors(name: str, kind: str, values: list[Any]) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    present = np.array([value is not None for value in values], np.uint8)
    if not present.all():
        tensors[f"{name}.present"] = present
    if kind in _SCALARS:
        empty = float("nan") if kind == "float" else 0
        tensors[name] = np.array([empty if value is None else value for value in values], _SCALARS[kind])
        return tensors
    raw = [b"" if value is None else str(value).encode("utf-8", "replace") for value in values]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(item) for item in raw], out=offsets[1:])
    tensors[f"{name}.bytes"] = np.frombuffer(b"".join(raw), np.uint8)
    tensors[f"{name}.offsets"] = offsets
    return tensors


def _values(name: str, kind: str, rows: int, read: Reader) -> list[Any]:
    values: list[Any]
    if kind in _SCALARS:
        array = read(name)
        if array.shape != (rows,) or array.dtype != _SCALARS[kind]:
            raise BadFile(f"tensor {name!r}: expected {rows} numbers for a column of type {kind}")
        values = array.astype(bool).tolist() if kind == "bool" else array.tolist()
    elif kind in ("str", "json"):
        values = _texts(name, rows, read)
    else:
        raise BadFile(f"tensor {name!r}: unknown column type {kind!r}")
    try:
        present = read(f"{name}.present")
    except KeyError:
        return values
    if present.shape != (rows,):
        raise BadFile(f"tensor {name + '.present'!r}: expected {rows} values")
    return [value if there else None for value, there in zip(values, present.tolist(), strict=True)]


def _texts(name: str, rows: int, read: Reader) -> list[Any]:
    offsets, raw = read(f"{name}.offsets"), read(f"{name}.bytes")
    sound = offsets.shape == (rows + 1,) and offsets.dtype == np.int64 and raw.ndim == 1
    if not sound or offsets[0] != 0 or offsets[-1] != raw.nbytes or (np.diff(offsets) < 0).any():
        raise BadFile(f"tensor {name + '.offsets'!r}: does not cut {name + '.bytes'!r} into {rows} texts")
    data = raw.tobytes()
    cuts = offsets.tolist()
    try:
        return [data[a:b].decode() for a, b in itertools.pairwise(cuts)]
    except UnicodeDecodeError as error:
        raise BadFile(f"tensor {name + '.bytes'!r}: not UTF-8") from error


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"tensor {name!r}: a value is not JSON") from error
