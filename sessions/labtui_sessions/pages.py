"""Tables that are shown in a way of their own, in terminals and reports, each known by its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from . import diagnosis, diagnosis_page, looks, token_page
from .tables import Table


class Page(Protocol):
    """How one kind of table is shown."""

    def head_of(self, table: Table) -> str:
        """What it is, on one line."""
        ...

    def as_rows(self, table: Table) -> list[dict[str, Any]]:
        """It for a terminal."""
        ...

    def page_of(self, table: Table) -> Iterator[str]:
        """It as Markdown."""
        ...


def of(table: Table) -> Page | None:
    """How a table is shown; None where it is no table with a page of its own."""
    if diagnosis.kind_of(table.columns) is not None:
        return diagnosis_page
    if looks.kind_of(table.columns) is not None:
        return looks
    return token_page if token_page.kind_of(table) is not None else None
