"""A table as a file for other programs: CSV, JSON, JSON lines or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from labtui_artifacts import files
from labtui_artifacts.errors import UsageError

from . import looks
from .tables import Table, as_json, finite

FORMATS = ("csv", "json", "jsonl", "parquet")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(table: Table, path: Path | str, kind: str, *, replace: bool = False) -> int:
    """Write the table to ``path`` whole or not at all; returns its number of rows.

    Absent values are empty (CSV) or null. Where a recipe said why a value is absent, a last column
    ``reasons`` holds that as JSON. UsageError for an unknown format or a file that is in the way.
    """
    place = Path(path)
    if kind not in FORMATS:
        raise UsageError(f"format {kind!r}: expected one of {', '.join(FORMATS)}")
    if place.exists() and not replace:
        raise UsageError(f"{place}: exists already; give another name, or --force to replace it")
    if not place.parent.is_dir():
        raise UsageError(f"{place}: no folder {place.parent}")

    def pour(out: IO[bytes]) -> None:
        if kind == "parquet":
            _parquet(table, out)
            return
        for part in text_parts(table, kind):
            out.write(part.encode("utf-8", "replace"))

    files.write_atomically(place, pour)
    return table.rows


def text_parts(table: Table, kind: str) -> Iterator[str]:
    """The table as text in one of the text formats, piece by piece."""
    table = looks.unpacked(table)
    if kind == "csv":
        yield from _csv(table)
    elif kind == "jsonl":
        for row in _rows(table):
            yield json.dumps(row, ensure_ascii=False) + "\n"
    elif kind == "json":
        document = {"table": table.name, "columns": columns(table), "rows": list(_rows(table))}
        yield json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    else:
        raise UsageError(f"format {kind!r}: expected one of csv, json, jsonl")


def columns(table: Table) -> list[dict[str, str]]:
    """Names and types of the columns."""
    return [{"name": column.name, "type": column.type or "str"} for column in table.columns.values()]


def guarded(text: str) -> str:
    """Text that a spreadsheet would take for a formula, with an apostrophe before it.

    A cell is data from a model or a prompt: ``=HYPERLINK(...)`` must not run when the file is opened.
    """
    return "'" + text if text.startswith(_FORMULA) else text


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    for index in range(table.rows):
        row = {name: finite(column.values[index]) for name, column in table.columns.items()}
        if index in table.reasons:
            row["reasons"] = table.reasons[index]
        yield row


def _csv(table: Table) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out)
    reasons = ["reasons"] if table.reasons else []
    writer.writerow([guarded(name) for name in table.columns] + reasons)
    for index in range(table.rows):
        line = [_csv_cell(column.values[index]) for column in table.columns.values()]
        if reasons:
            line.append(as_json(table.reasons[index]) if index in table.reasons else "")
        writer.writerow(line)
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return guarded(value if isinstance(value, str) else as_json(value))


def _parquet(table: Table, out: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = looks.unpacked(table)
    arrow = table.to_arrow()
    if table.reasons:
        texts = [as_json(table.reasons[i]) if i in table.reasons else None for i in range(table.rows)]
        arrow = arrow.append_column("reasons", pa.array(texts, pa.string()))
    pq.write_table(arrow, out)
