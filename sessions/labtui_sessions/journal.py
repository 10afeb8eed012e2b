"""The journal: where every event of a live session is written before anyone is told of it.

``append`` hands the whole frame to the operating system and returns: the event then survives the death of
the process. ``sync`` makes everything appended so far survive the death of the machine; it may run in
another thread. One process writes a journal; others may read it at any time with ``read_events``.
"""

from __future__ import annotations

import bisect
import mmap
import os
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.lock import Lock

from . import frames
from .events import Data, Event, JournalCut, encode, plain

FILE = "journal.bin"
LOCK = "lock"
LOCK_SECONDS = 2.0
FIRST_SEQ = 1
_CHUNK = 1 << 20


class JournalReader:
    """A journal opened for reading: what was sound when it was opened. Make one with ``open``."""

    def __init__(self, folder: Path, fd: int, offsets: array[int], end: int) -> None:
        self.folder = folder
        self.path = folder / FILE
        self._fd = fd
        self._offsets = offsets
        self._end = end

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the journal of that session folder; nothing is changed, and a writer is not disturbed."""
        folder = Path(folder)
        fd = _open_to_read(folder / FILE)
        try:
            offsets, end = array("Q"), frames.HEADER.size
            for event, start, stop in _walk(fd, folder / FILE):
                if event.seq != len(offsets) + FIRST_SEQ:
                    break
                offsets.append(start)
                end = stop
            return cls(folder, fd, offsets, end)
        except BaseException:
            os.close(fd)
            raise

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event; 0 for an empty journal."""
        return len(self._offsets)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def read(
        self, from_seq: int = FIRST_SEQ, limit: int | None = None, limit_bytes: int | None = None
    ) -> list[Event]:
        """Events from ``from_seq`` on, at most ``limit`` of them and ``limit_bytes`` of file, at least one
        if there is one."""
        start = max(from_seq, FIRST_SEQ) - FIRST_SEQ
        stop = len(self._offsets)
        if start >= stop:
            return []
        begin = self._offsets[start]
        if limit is not None:
            stop = min(stop, start + max(1, limit))
        if limit_bytes is not None:
            # frames that begin within the limit, less the one that ends beyond it
            within = bisect.bisect_right(self._offsets, begin + limit_bytes, start + 1, stop)
            if self._offset(within) - begin > limit_bytes:
                within -= 1
            stop = max(start + 1, within)
        end = self._offset(stop)
        data = memoryview(_pread(self._fd, begin, end - begin))
        return [event for event, _ in _events(data, 0)]

    def close(self) -> None:
        """Close the file. What was appended stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _offset(self, index: int) -> int:
        return self._offsets[index] if index < len(self._offsets) else self._end


class Journal(JournalReader):
    """A journal opened for writing. Make one with ``Journal.open``.

    Appends come from one thread; ``sync`` and ``read`` may come from any.
    """

    def __init__(self, folder: Path, fd: int, offsets: array[int], end: int, lock: Lock) -> None:
        super().__init__(folder, fd, offsets, end)
        self._torn = False
        self._lock = lock

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the journal of that session folder for writing; a missing one is made (0700, 0600).

        Bytes that are no whole frames are moved to a side file and a ``journal.cut`` event says so.
        BadFile when the file is no journal or needs a newer version; LabError when another process has it
        open for writing, or when the folder cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LabError(f"{folder}: session folder not made: {error.strerror}") from error
        lock = Lock(folder / LOCK, what=f"session {folder.name}", timeout=LOCK_SECONDS)
        lock.acquire()
        try:
            return cls._open_locked(folder, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open_locked(cls, folder: Path, lock: Lock) -> Self:
        path = folder / FILE
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size < frames.HEADER.size:
                _begin(fd, path)
            with _mapped(fd) as data:
                frames.check_header(data, str(path))
                found = frames.scan(data)
                rescued = _rescue(data, found)
            journal = cls(folder, fd, found.offsets, found.end, lock)
            if not found.sound:
                journal._repair(found, rescued)
            return journal
        except BaseException:
            os.close(fd)
            raise

    def append(self, kind: str, data: Mapping[str, Any] | Data, t: float | None = None) -> Event:
        """Write one event and return it with its sequence number and time.

        LabError with one line when it cannot be written (a full disk): then nothing of it stays in the
        file, everything before it does, and the next append tries again.
        """
        event = Event(self.last_seq + 1, time.time() if t is None else t, kind, plain(data))
        payload = encode(event)
        if len(payload) > frames.MAX_PAYLOAD:
            raise LabError(
                f"event {kind!r} of {len(payload)} bytes: at most {frames.MAX_PAYLOAD} fit in the journal"
            )
        self._write(frames.frame(payload))
        return event

    def sync(self) -> int:
        """Flush to the device; returns the sequence number up to which events now survive a power cut."""
        seq = self.last_seq
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise LabError(f"{self.path}: cannot be flushed to disk: {error.strerror}") from error
        return seq

    def close(self) -> None:
        """Close the file and let another process write it. What was appended stays."""
        super().close()
        self._lock.release()

    def _write(self, data: bytes) -> None:
        try:
            if self._torn:
                os.ftruncate(self._fd, self._end)
                self._torn = False
            _pwrite(self._fd, data, self._end)
        except OSError as error:
            self._torn = True
            try:
                os.ftruncate(self._fd, self._end)
                self._torn = False
            except OSError:
                pass  # tried again before the next write; a reader cuts at the last good frame anyway
            raise LabError(
                f"{self.path}: event not written: {error.strerror}; earlier events are safe, free some space"
            ) from error
        self._offsets.append(self._end)
        self._end += len(data)

    def _repair(self, found: frames.Scan, rescued: list[Event]) -> None:
        """Set the damaged bytes aside, say so in the journal, keep what was sound behind the damage."""
        try:
            aside = _aside(self.folder, self._fd, found)
            seq, lost = self.last_seq, 0
            tail: list[Event] = []
            for event in rescued:
                gaps = range(seq + 1, event.seq)
                tail += [Event(gap, event.t, "journal.gap", {}) for gap in gaps]
                lost, seq = lost + len(gaps), event.seq
                tail.append(event)
            cut = JournalCut(bytes=found.size - found.end, at=found.end, file=aside.name, lost=lost)
            tail.append(Event(seq + 1, time.time(), "journal.cut", plain(cut)))
            written = [frames.frame(encode(event)) for event in tail]
            if rescued:
                self._replace(b"".join(written))
            else:  # one small frame over the torn one, and then the cut: whole at every moment
                _pwrite(self._fd, written[0], self._end)
                os.ftruncate(self._fd, self._end + len(written[0]))
                os.fsync(self._fd)
        except OSError as error:
            raise LabError(
                f"{self.path}: damaged behind byte {found.end} and not repaired: {error.strerror}"
            ) from error
        for data in written:
            self._offsets.append(self._end)
            self._end += len(data)

    def _replace(self, tail: bytes) -> None:
        """Put a new file of the sound part and ``tail`` in this one's place."""
        path = self.path.with_suffix(".new")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for at in range(0, self._end, _CHUNK):
                _pwrite(fd, _pread(self._fd, at, min(_CHUNK, self._end - at)), at)
            _pwrite(fd, tail, self._end)
            os.fsync(fd)
            path.replace(self.path)
        except BaseException:
            os.close(fd)
            raise
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)


def read_events(folder: Path | str, after: int = 0) -> Iterator[Event]:
    """The sound events of a session folder after that sequence number, without opening it for writing.

    Safe while another process writes or cuts the file: what is not whole yet is not seen. BadFile when it
    is no journal.
    """
    path = Path(folder) / FILE
    fd = _open_to_read(path)
    try:
        for event, _, _ in _walk(fd, path):
            if event.seq > after:
                yield event
    finally:
        os.close(fd)


def _open_to_read(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such session journal") from error
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from error


def _walk(fd: int, path: Path) -> Iterator[tuple[Event, int, int]]:
    """Sound events from the start, each with its offset and the offset after it, a chunk in memory at a time.

    Not mapped: a map would turn a file that its writer cuts into SIGBUS.
    """
    frames.check_header(_pread(fd, 0, frames.HEADER.size), str(path))
    at, wanted = frames.HEADER.size, _CHUNK
    while part := _pread(fd, at, wanted):
        used = 0
        for event, end in _events(memoryview(part), 0):
            yield event, at + used, at + end
            used = end
        if len(part) < wanted or (used == 0 and wanted > frames.MAX_PAYLOAD + frames.FRAME.size):
            return
        at, wanted = at + used, _CHUNK if used else 2 * wanted


def _events(data: memoryview, offset: int) -> Iterator[tuple[Event, int]]:
    """Sound events from the offset on, each with the offset after it."""
    while (hit := frames.event_at(data, offset)) is not None:
        offset = hit[1]
        yield hit


def _begin(fd: int, path: Path) -> None:
    """Write the header of a new journal, or of one whose creation was cut short."""
    present = _pread(fd, 0, frames.HEADER.size)
    if not frames.header().startswith(present):
        raise BadFile(f"{path}: not a session journal ({len(present)} bytes)")
    try:
        _pwrite(fd, frames.header(), 0)
        os.fsync(fd)
    except OSError as error:
        raise LabError(f"{path}: journal not made: {error.strerror}") from error


def _rescue(data: memoryview, found: frames.Scan) -> list[Event]:
    """The sound events behind the first damage, in order, also behind further damage."""
    events: list[Event] = []
    seq, at = found.last, found.resumes
    while at is not None:
        hit = frames.event_at(data, at)
        if hit is None:
            break
        seq = hit[0].seq
        events.append(hit[0])
        more = frames.scan(data, hit[1], seq)
        events.extend(event for event, _ in _events(data[: more.end], hit[1]))
        seq, at = more.last, more.resumes
    return events


def _aside(folder: Path, fd: int, found: frames.Scan) -> Path:
    """Keep everything from the damage on in a new file beside the journal."""
    number = 1
    while (path := folder / f"journal.cut-{number}.bin").exists():
        number += 1
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for at in range(found.end, found.size, _CHUNK):
            _pwrite(target, _pread(fd, at, min(_CHUNK, found.size - at)), at - found.end)
        os.fsync(target)
    finally:
        os.close(target)
    return path


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _pread(fd: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = os.pread(fd, size, offset)
        if not part:
            break
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


@contextmanager
def _mapped(fd: int) -> Iterator[memoryview]:
    """The file's bytes, read-only."""
    if os.fstat(fd).st_size == 0:
        yield memoryview(b"")
        return
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
        yield view
