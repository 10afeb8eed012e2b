"""Live sessions: write an event, put it into the state, then tell the clients; make it durable in a thread.

The order is the promise: an event that anyone was told of is in the operating system's hands, so it survives
the death of every process here. ``Durable`` tells when it also survives the death of the machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import LabError, UsageError
from labtui_artifacts.paths import secure_folder
from labtui_sessions.events import Event, encode
from labtui_sessions.journal import Journal, read_events
from labtui_sessions.state import SessionState, reduce, row_key
from labtui_sessions.tables import Tables

SYNC_EVERY = 1.0
MAX_ROWS = 50_000
PROMPT_KINDS = frozenset({"cell.committed", "artifact.saved", "note.added", "job.finished"})


class Stalled(LabError):
    """The journal cannot be written now, as when the disk is full; nothing of it is lost."""


def fsync(journal: Journal) -> int:
    """Flush the journal to the device; the sequence number up to which events are durable."""
    return journal.sync()


class Syncer:
    """One thread that makes journals durable: at most once a second, and at once for committed cells."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_durable: Callable[[LiveSession, int, float], None],
        on_error: Callable[[LiveSession, LabError], None],
    ) -> None:
        self._loop = loop
        self._on_durable = on_durable
        self._on_error = on_error
        self._condition = threading.Condition()
        self._dirty: dict[LiveSession, bool] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def mark(self, live: LiveSession, *, urgent: bool) -> None:
        """The session has events that are not durable yet; ``urgent`` ones are not kept waiting."""
        with self._condition:
            self._dirty[live] = self._dirty.get(live, False) or urgent
            self._condition.notify()

    def _take(self, last: float) -> LiveSession | None:
        with self._condition:
            while not self._stop:
                urgent = next((live for live, hurry in self._dirty.items() if hurry), None)
                wait = last + SYNC_EVERY - time.monotonic()
                if self._dirty and (urgent is not None or wait <= 0):
                    live = urgent or next(iter(self._dirty))
                    del self._dirty[live]
                    return live
                self._condition.wait(wait if self._dirty else None)
        return None

    def _run(self) -> None:
        last = 0.0
        while (live := self._take(last)) is not None:
            start = time.monotonic()
            try:
                seq = fsync(live.journal)
            except LabError as error:
                self._tell(self._on_error, live, error)
            else:
                self._tell(self._on_durable, live, seq, time.monotonic() - start)
            last = time.monotonic()

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._stop = True  # the loop is closed: the broker ends

    def stop(self) -> None:
        """End the thread after the sync that it may be in."""
        with self._condition:
            self._stop = True
            self._condition.notify()
        self._thread.join(5.0)


class LiveSession:
    """An open session: its journal, its state, and the events not yet told to the clients."""

    def __init__(self, identity: str, journal: Journal) -> None:
        self.id = identity
        self.journal = journal
        self.state = SessionState()
        self.tables = Tables()
        self.rows: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.images: dict[str, int] = {}
        """Which event tells of a picture, by its digest."""
        self.image_names: dict[str, str] = {}
        """What the user calls it."""
        self.durable = 0
        self.stalled = ""
        self._backlog: deque[tuple[str, dict[str, Any]]] = deque()
        self._fresh: list[Event] = []
        self._retry = asyncio.Event()
        self.on_event: Callable[[LiveSession, Event], None] = lambda live, event: None
        self.on_stall: Callable[[LiveSession], None] = lambda live: None

    @classmethod
    def open(cls, folder: Path, observe: Callable[[Event], None]) -> LiveSession:
        """Open the session in ``folder`` (made when missing); ``observe`` gets every event it holds.

        Blocks while it reads; LabError or BadFile when it cannot be opened or another process has it open.
        """
        secure_folder(folder, what="session folder")
        live = cls(folder.name, Journal.open(folder))
        try:
            for event in read_events(folder):
                live._apply(event)
                observe(event)
        except BaseException:
            live.journal.close()
            raise
        return live

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.journal.folder

    def append(self, kind: str, data: dict[str, Any]) -> Event:
        """Write an event now. Raises :class:`Stalled` when the journal cannot be written."""
        self.flush()
        return self._append(kind, data)

    def _append(self, kind: str, data: dict[str, Any]) -> Event:
        try:
            event = self.journal.append(kind, data)
        except LabError as error:
            if not isinstance(error.__cause__, OSError):
                raise  # the event itself is at fault
            self._stall(str(error))
            raise Stalled(str(error)) from error
        if self.stalled:
            self._stall("")
        self._apply(event)
        self._fresh.append(event)
        self.on_event(self, event)
        return event

    def _apply(self, event: Event) -> None:
        reduce(self.state, event)
        self.tables.apply(event)
        if event.kind == "image.added":
            digest = str(event.data.get("digest"))
            self.images[digest], self.image_names[digest] = event.seq, str(event.data.get("name", ""))
        job, row = event.data.get("job"), event.data.get("row")
        if job is not None and row is not None:
            key = row_key(str(job), str(row))
            first = event.seq if event.kind == "row.started" else self.rows.get(key, (event.seq, 0))[0]
            self.rows[key] = (first, event.seq)
            if len(self.rows) > MAX_ROWS:
                self.rows.popitem(last=False)

    def has_cell(self, data: dict[str, Any]) -> bool:
        """The cell of a ``cell.committed`` is here already: it is not written twice."""
        return self.tables.has(str(data.get("job")), str(data.get("cell")), str(data.get("table")))

    def row_events(self, key: str) -> list[Event]:
        """The events of one row (``job/row``); UsageError when the session has no such row."""
        span = self.rows.get(key)
        if span is None:
            raise UsageError(f"row {key!r} is not in session {self.id}, or too long ago")
        job, _, row = key.rpartition("/")
        found = self.journal.read(span[0], span[1] - span[0] + 1)
        return [event for event in found if event.data.get("job") == job and event.data.get("row") == row]

    def post(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event of the broker's own, or keep it until the journal can be written again."""
        try:
            self.append(kind, data)
        except Stalled:
            self._backlog.append((kind, data))

    async def write(self, kind: str, data: dict[str, Any], retry: float) -> Event:
        """Write an event, however long it takes until that is possible (tried every ``retry`` s)."""
        while True:
            try:
                return self.append(kind, data)
            except Stalled:
                self._retry.clear()
            try:
                await asyncio.wait_for(self._retry.wait(), retry)
            except TimeoutError:
                continue

    def flush(self) -> None:
        """Write what was kept back. Raises :class:`Stalled` when that is still impossible."""
        while self._backlog:
            kind, data = self._backlog[0]
            self._append(kind, data)
            self._backlog.popleft()

    def retry(self) -> bool:
        """Try again now; True when nothing is kept back any more."""
        self._retry.set()
        try:
            self.flush()
        except Stalled:
            return False
        return True

    def _stall(self, reason: str) -> None:
        if reason != self.stalled:
            self.stalled = reason
            self.on_stall(self)

    def take_fresh(self) -> list[Event]:
        """The events that no client was told of yet; the caller tells them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def batches(self, events: list[Event], limit: int) -> Iterator[list[Event]]:
        """The events in runs of at most about ``limit`` bytes, so that no frame grows too long."""
        batch: list[Event] = []
        size = 0
        for event in events:
            cost = _size(event)
            if batch and size + cost > limit:
                yield batch
                batch, size = [], 0
            batch.append(event)
            size += cost
        if batch:
            yield batch

    def close(self) -> None:
        """Flush to the device and close; what is kept back is tried a last time."""
        self.retry()
        try:
            self.journal.sync()
        finally:
            self.journal.close()


def _size(event: Event) -> int:
    return len(encode(event))
