"""Structured, rotating logs: one JSON object a line, with the kernel's name and the ids of job and row.

Prompts and answers never go into a log; their sessions have them.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labtui_artifacts import paths

MAX_BYTES = 4_000_000
KEEP = 3
LINE = 4_000


def log_path(kernel: str) -> Path:
    """Where the kernel of that name logs; its rotated files have ``.1``, ``.2``... behind."""
    return paths.logs() / f"{kernel}.jsonl"


class _Private(logging.handlers.RotatingFileHandler):
    """Log files are 0600, whatever the umask of the process is, and a full disk never raises."""

    def _open(self) -> Any:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written must not stop the kernel; the record is dropped."""


class Log:
    """The kernel's log. ``tail`` answers from memory, also when the disk is full."""

    def __init__(self, kernel: str, path: Path | None = None) -> None:
        self.kernel = kernel
        self.path = path or log_path(kernel)
        self._handler = _Private(str(self.path), maxBytes=MAX_BYTES, backupCount=KEEP)
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        self._recent: deque[str] = deque(maxlen=500)

    def write(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """One line: time, level, kernel, event and the given fields (``job``, ``row``, ``client``...)."""
        moment = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
        record = {"time": stamp, "level": level, "kernel": self.kernel, "event": event}
        record.update((key, _short(value)) for key, value in fields.items() if value is not None)
        line = json.dumps(record, ensure_ascii=False, default=str)
        self._recent.append(line)
        self._handler.emit(logging.makeLogRecord({"msg": line}))

    def tail(self, count: int) -> list[str]:
        """The last ``count`` lines."""
        return list(self._recent)[-count:]

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


def _short(value: Any) -> Any:
    return value[:LINE] + "…" if isinstance(value, str) and len(value) > LINE else value


def read_tail(path: Path, count: int) -> list[str]:
    """The last ``count`` lines of a log file, over its newest rotated one where needed."""
    lines: deque[str] = deque(maxlen=count)
    for part in (path.with_name(path.name + ".1"), path):
        if part.exists():
            with part.open(encoding="utf-8", errors="replace") as file:
                lines.extend(line.rstrip("\n") for line in file)
    return list(lines)


def follow(path: Path, *, interval: float = 0.25) -> Iterator[str]:
    """New lines of a log file as they come, over rotations; never ends by itself."""
    position = path.stat().st_size if path.exists() else 0
    inode = path.stat().st_ino if path.exists() else 0
    partial = ""
    while True:
        try:
            found = path.stat()
        except FileNotFoundError:
            time.sleep(interval)
            continue
        if found.st_ino != inode or found.st_size < position:
            inode, position, partial = found.st_ino, 0, ""
        if found.st_size > position:
            with path.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                text = partial + file.read()
                position = file.tell()
            *whole, partial = text.split("\n")
            yield from whole
        else:
            time.sleep(interval)
