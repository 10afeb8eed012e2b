"""A program in a pseudo-terminal, its bytes counted and watched for a mark, for the benchmarks of the app."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Self


class PtyProgram:
    """``with PtyProgram([...], 200, 60) as program``: what it writes is read, never shown."""

    def __init__(
        self, command: Sequence[str], width: int, height: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), {**os.environ, "TERM": "xterm-256color", **(env or {})})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.bytes = 0
        self._recent = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)

    def read(self, seconds: float) -> bytes:
        """What comes within ``seconds`` at most; returns at once when something is there."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return b""
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError as error:
            raise AssertionError("the program has ended") from error
        self.bytes += len(data)
        self._recent = (self._recent + data)[-65536:]
        return data

    def wait_for(self, mark: bytes, timeout: float = 60.0) -> float:
        """The moment (``time.perf_counter``) at which ``mark`` was written; looks at what came since the last call."""
        end = time.perf_counter() + timeout
        while mark not in self._recent:
            if time.perf_counter() > end:
                raise AssertionError(f"{mark!r} was not written within {timeout:.0f} s")
            self.read(0.05)
        self._recent = b""
        return time.perf_counter()

    def drain(self, seconds: float) -> int:
        """Read for that long; the number of bytes that came."""
        before, end = self.bytes, time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)
        return self.bytes - before

    def write(self, data: bytes) -> None:
        """Press keys."""
        self._recent = b""
        os.write(self.fd, data)
