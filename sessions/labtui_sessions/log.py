"""The events of one session, wherever they lie: what replay, reports and comparisons read.

A journal (``JournalReader``) and a saved file (``Bundle``) are both an ``EventLog``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import short

from .events import Event, ImageAdded, typed
from .fields import ImageView
from .source import RowText, collect_row
from .state import SessionState, reduce
from .tables import Tables, gather

BATCH_BYTES = 4 * 1024 * 1024
ROW_KINDS = ("row.started", "row.tokens", "row.finished", "knob")


def result_in(event: Event) -> dict[str, Any]:
    """The result in a ``job.finished`` event; empty where it has none."""
    found = event.data.get("result")
    return dict(found) if isinstance(found, dict) else {}


class EventLog(Protocol):
    """Events 1 to ``last_seq``, read by range."""

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event; 0 when there is none."""
        ...

    def read(
        self, from_seq: int = 1, limit: int | None = None, limit_bytes: int | None = None
    ) -> list[Event]:
        """Events from ``from_seq`` on; at least one if there is one."""
        ...


def each(log: EventLog, after: int = 0, until: int | None = None) -> Iterator[Event]:
    """Events after ``after`` and up to ``until`` (None: all), a few megabytes at a time."""
    stop = log.last_seq if until is None else min(until, log.last_seq)
    seq = after
    while seq < stop:
        batch = log.read(seq + 1, limit=stop - seq, limit_bytes=BATCH_BYTES)
        if not batch:
            return
        yield from batch
        seq = batch[-1].seq


def state_at(log: EventLog, seq: int | None = None) -> SessionState:
    """The state after event ``seq`` (None: the last), from the start."""
    state = SessionState()
    for event in each(log, until=seq):
        reduce(state, event)
    return state


def tables_of(log: EventLog) -> Tables:
    """All tables, from the events."""
    return gather(each(log))


def thumbnail(log: EventLog, digest: str, known: ImageView | None = None) -> bytes:
    """The PNG of one of the session's pictures; ``known`` is what the state has of it. UsageError when there is none."""
    for event in log.read(known.seq, limit=1) if known is not None else each(log):
        data = typed(event) if event.kind == "image.added" else None
        if isinstance(data, ImageAdded) and data.digest == digest and data.thumbnail:
            return data.thumbnail
    raise UsageError(f"no picture {short(digest)} in this session")


def row_text(log: EventLog, key: str, until: int | None = None) -> RowText:
    """The whole row of that key (``job/row``). UsageError when there is none."""
    found = [
        event
        for event in each(log, until=until)
        if event.kind in ROW_KINDS and f"{event.data.get('job')}/{event.data.get('row')}" == key
    ]
    row = collect_row(found)
    if row is None:
        raise UsageError(f"no row {key!r} in this session (rows are named job/row)")
    return row


def result_of(log: EventLog, job: str, until: int | None = None) -> dict[str, Any]:
    """All that a job said at its end; empty where it has not ended."""
    found: dict[str, Any] = {}
    for event in each(log, until=until):
        if event.kind == "job.finished" and event.data.get("job") == job:
            found = result_in(event)
    return found
