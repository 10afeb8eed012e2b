"""A session played back: the same reducer, the same screens, fed from a file.

``Replay`` is a ``Source``. It stands at a sequence number; ``seek``, ``step`` and ``advance`` move it, and
``delay`` says how long the next event lets wait, so that whoever draws the screen keeps the clock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import BadFile

from .events import Event
from .log import EventLog, each, result_of, row_text, tables_of, thumbnail
from .source import RowText
from .state import SessionState, from_snapshot, reduce
from .tables import Page, Tables, parse_conditions

if TYPE_CHECKING:
    from .bundle import Bundle

MAX_GAP = 2.0
"""Longest pause between two events in seconds, at speed 1: a night without events is not replayed."""
_KEEP_EVERY = 5_000


class Replay:
    """A session at one of its sequence numbers, 0 to ``last_seq``."""

    def __init__(self, log: EventLog, *, speed: float = 1.0, max_gap: float = MAX_GAP) -> None:
        """``speed`` is how many times faster than it happened; ``max_gap`` caps pauses, in seconds."""
        from .bundle import Bundle  # here, because it needs numpy, and an app that replays nothing does not

        self.log = log
        self._bundle: Bundle | None = log if isinstance(log, Bundle) else None
        self.speed = speed
        self.max_gap = max_gap
        self._state = SessionState()
        self._ahead: deque[Event] = deque()
        self._kept: dict[int, bytes] = {}
        self._tables: Tables | None = None

    @property
    def state(self) -> SessionState:
        """The state after event ``seq``."""
        return self._state

    @property
    def seq(self) -> int:
        """Where it stands."""
        return self._state.seq

    @property
    def last_seq(self) -> int:
        """The session's last sequence number."""
        return self.log.last_seq

    @property
    def at_end(self) -> bool:
        """Nothing comes after."""
        return self.seq >= self.last_seq

    def seek(self, seq: int) -> SessionState:
        """Go to that sequence number (clamped to what there is), forwards or back; the state there."""
        seq = max(0, min(seq, self.last_seq))
        near = self._nearest(seq)
        if seq < self.seq or near.seq > self.seq:
            self._state = near
        for event in each(self.log, self.seq, seq):
            self._put(event)
        return self._state

    def step(self, count: int = 1) -> SessionState:
        """Go ``count`` events on, or back where it is negative."""
        return self.seek(self.seq + count)

    def next_event(self) -> Event | None:
        """The event that comes next; None at the end."""
        if self.at_end:
            return None
        if not self._ahead or self._ahead[0].seq != self.seq + 1:
            self._ahead = deque(self.log.read(self.seq + 1, limit=256, limit_bytes=1 << 20))
        return self._ahead[0]

    def delay(self) -> float | None:
        """Seconds to wait before the next event, at this speed, pauses capped; None at the end."""
        event = self.next_event()
        if event is None:
            return None
        gap = event.t - self._state.t if self.seq else 0.0
        return max(0.0, min(gap, self.max_gap)) / max(self.speed, 1e-6)

    def advance(self) -> Event | None:
        """Put the next event into the state and return it; None at the end."""
        event = self.next_event()
        if event is not None:
            self._ahead.popleft()
            self._put(event)
        return event

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
        """Rows of a table as it was at this point."""
        if self._tables is None:
            self._tables = self._bundle.tables() if self._bundle is not None else tables_of(self.log)
        return self._tables.page(
            table,
            start,
            stop,
            sort=sort,
            descending=descending,
            conditions=parse_conditions(filter),
            until=self.seq,
        )

    async def row_text(self, key: str) -> RowText:
        """The whole row, as far as it had come at this point."""
        return row_text(self.log, key, until=self.seq)

    async def thumbnail(self, digest: str) -> bytes:
        """The PNG of one of the session's pictures."""
        return thumbnail(self.log, digest, self._state.images.get(digest))

    async def result(self, job: str) -> dict[str, Any]:
        """All that a job said at its end; empty where it had not ended at this point."""
        return result_of(self.log, job, until=self.seq)

    def _put(self, event: Event) -> None:
        reduce(self._state, event)
        if event.seq % _KEEP_EVERY == 0 and self._bundle is None and event.seq not in self._kept:
            self._kept[event.seq] = self._state.snapshot()

    def _nearest(self, seq: int) -> SessionState:
        """The nearest kept state at or before ``seq``; the empty one where there is none."""
        if self._bundle is not None:
            try:
                return self._bundle.keyframe(seq) or SessionState()
            except BadFile:
                return SessionState()  # the events themselves tell it as well, only slower
        before = [kept for kept in self._kept if kept <= seq]
        return from_snapshot(self._kept[max(before)]) if before else SessionState()
