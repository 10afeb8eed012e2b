"""Markdown from text that is not ours: nothing in it can end a cell, a line or a fence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .tables import as_json


def grid(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """The lines of a table."""
    yield "| " + " | ".join(line(name) for name in head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(line(cell(value)) for value in row) + " |"


def section(
    head: str, method: str, rows: Sequence[Mapping[str, Any]], reasons: Iterable[Mapping[str, str]]
) -> Iterator[str]:
    """The lines of a table under its head, with how it was made, and why what is absent is so (by row and column)."""
    yield f"### {line(head[:1].upper() + head[1:])}"
    yield ""
    if method:
        yield method
        yield ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    yield from grid(names, [[cell(row.get(name)) for name in names] for row in rows])
    yield ""
    absent = {f"{name}: {why}" for each in reasons for name, why in each.items()}
    if absent:
        yield "Absent: " + "; ".join(line(reason) for reason in sorted(absent)[:12]) + "."
        yield ""


def cell(value: Any) -> str:
    """A value as text: floats short, None empty."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else as_json(value)


def line(value: object) -> str:
    """Text from outside as one line of Markdown that means nothing but itself."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return "".join(c for c in text if c.isprintable())


def code(value: object) -> str:
    """Text from outside for between backticks."""
    return "".join(c for c in " ".join(str(value).split()) if c.isprintable()).replace("`", "'")


def fenced(text: str) -> Iterator[str]:
    """A fence longer than any run of backticks in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    yield fence
    yield "".join(c for c in text if c.isprintable() or c == "\n")
    yield fence
