"""Where a screen reads a session from: a live kernel and a replayed file look the same."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from .events import Event, Knob, RowFinished, RowStarted, RowTokens, typed
from .fields import KnobTurn, row_key
from .state import SessionState
from .tables import Page


class RowText(msgspec.Struct):
    """A whole row, read from the journal: prompt, every token, every number."""

    job: str
    row: str
    arm: str = ""
    edits: str = ""
    messages: list[dict[str, Any]] = []
    strengths: list[dict[str, Any]] = []
    prompt_ids: list[int] = []
    prompt_pieces: list[str] = []
    images: list[dict[str, Any]] = []
    """Where the prompt's pictures lie, as in ``row.started``."""
    ids: list[int] = []
    pieces: list[str] = []
    logprobs: list[float] = []
    plain_logprobs: list[float | None] | None = None
    gaps: list[float] = []
    knobs: list[KnobTurn] = []
    text: str = ""
    finish: str = ""

    @property
    def key(self) -> str:
        """``job/row``."""
        return row_key(self.job, self.row)


class Source(Protocol):
    """What every screen needs of a session; times and units as in the events' catalogue."""

    @property
    def state(self) -> SessionState:
        """The state now."""
        ...

    async def page(
        self,
        table: str,
        start: int,
        stop: int,
        *,
        sort: str | None = None,
        descending: bool = False,
        filter: str = "",
    ) -> Page:
        """Rows of a table; ``filter`` as in ``tables.parse_conditions``."""
        ...

    async def row_text(self, key: str) -> RowText:
        """The whole row of that key (``job/row``), where the state keeps only a part."""
        ...

    async def thumbnail(self, digest: str) -> bytes:
        """The PNG of one of the session's pictures; UsageError when it has none of that digest."""
        ...

    async def result(self, job: str) -> dict[str, Any]:
        """All that a job said at its end, where the state keeps only a part; empty before its end."""
        ...


def collect_row(events: list[Event]) -> RowText | None:
    """The whole row out of its events (``row.*`` and ``knob``, in order); None without ``row.started``.

    A row that began again after a lost worker starts anew; a chunk that overlaps adds only what is new.
    """
    found: RowText | None = None
    for event in events:
        data = typed(event)
        if isinstance(data, RowStarted):
            found = RowText(
                job=data.job,
                row=data.row,
                arm=data.arm,
                edits=data.edits,
                messages=data.messages,
                strengths=data.strengths,
                prompt_ids=data.ids,
                prompt_pieces=data.pieces,
                images=data.images,
            )
        elif found is None:
            continue
        elif isinstance(data, RowTokens):
            _extend(found, data)
        elif isinstance(data, Knob):
            found.knobs.append(KnobTurn(data.edit, data.strength, data.strength_text, data.step, event.t))
        elif isinstance(data, RowFinished):
            found.finish = data.finish
            found.text = data.text or "".join(found.pieces)
    if found is not None and not found.finish:
        found.text = "".join(found.pieces)
    return found


def _extend(row: RowText, data: RowTokens) -> None:
    have, count = len(row.pieces), len(data.pieces)
    skip = max(0, have - data.start)
    if skip >= count or data.start > have or not len(data.logprobs) == len(data.ids) == count:
        return
    row.ids.extend(data.ids[skip:])
    row.pieces.extend(data.pieces[skip:])
    row.logprobs.extend(data.logprobs[skip:])
    row.gaps.extend(data.gaps[skip:])
    if data.plain_logprobs is not None and row.plain_logprobs is None:
        row.plain_logprobs = list[float | None]([None] * have)
    if row.plain_logprobs is not None:
        plain = data.plain_logprobs or list[float | None]([None] * count)
        row.plain_logprobs.extend(plain[skip:])
