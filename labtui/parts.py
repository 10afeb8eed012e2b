"""Parts of a session's tables, brought to a screen as they are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labtui_sessions.source import Source

PAGE = 1_000
MOST_ROWS = 200_000

Part = tuple[str, str]
"""A table, and a filter on its rows."""
NOTHING: list[dict[str, Any]] = []
"""The rows of what is not there."""


class Parts:
    """Parts of a session's tables, fetched when they are first wanted, and anew when the table has changed."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._rows: dict[Part, list[dict[str, Any]]] = {}
        self._asked: dict[Part, int] = {}

    def get(self, table: str, filter: str = "") -> list[dict[str, Any]]:
        """The rows as they were last fetched. The same list as long as nothing new came."""
        return self._rows.get((table, filter), NOTHING)

    def due(self, table: str, filter: str = "") -> bool:
        """Whether :meth:`fetch` is to be called now: the table is there, and has not been asked at this length."""
        view = self.source.state.tables.get(table)
        if view is None:
            self._rows.pop((table, filter), None)
            self._asked.pop((table, filter), None)
            return False
        if self._asked.get((table, filter)) == view.rows:
            return False
        self._asked[table, filter] = view.rows
        return True

    async def fetch(self, table: str, filter: str = "") -> list[dict[str, Any]]:
        """All rows that pass, page by page, at most ``MOST_ROWS``."""
        found: list[dict[str, Any]] = []
        view = self.source.state.tables.get(table)
        if view is not None and not view.rows:
            # It has no columns either, and a filter by one would be refused.
            self._rows[table, filter] = found
            return found
        while len(found) < MOST_ROWS:
            page = await self.source.page(table, len(found), len(found) + PAGE, filter=filter)
            for values, reasons in zip(page.rows, page.reasons, strict=False):
                found.append({**dict(zip(page.columns, values, strict=False)), "reasons": reasons})
            if not page.rows or len(found) >= page.matched:
                break
        self._rows[table, filter] = found
        return found
