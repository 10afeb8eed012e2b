"""A lock for writers that says who holds it: host, boot id, pid and the time that process started.

The lock itself is ``flock``, which the system gives up when its holder dies, so on one machine it is never
stale. The identity written into the file serves the message, and the one case ``flock`` cannot decide: a
file system shared by machines whose locks may be local to each (Lustre's localflock, old NFS). There a holder
named on another machine is believed, and the line says how to remove it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from labtui_artifacts import mounts
from labtui_artifacts.errors import LabError, UsageError

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Holder:
    """A process: its machine's name and boot id, its pid, and when it started (clock ticks since boot)."""

    host: str
    boot: str
    pid: int
    started: int

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), boot_id(), pid, start_time(pid) or 0)

    @property
    def is_local(self) -> bool:
        """Whether it ran on this machine (before a reboot counts too)."""
        return self.boot == boot_id() or self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None when it is on another machine, so that nobody here can know."""
        if not self.is_local:
            return None
        return self.boot == boot_id() and start_time(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lock:
    """An exclusive lock on ``path``, a file that is made when missing; a context manager.

    One ``Lock`` object is one holder: two objects exclude each other, within a process too.
    """

    def __init__(self, path: Path, *, what: str, timeout: float = 10.0) -> None:
        """``what`` names the locked thing in messages; ``timeout`` is how long to wait, in seconds."""
        self.path = path
        self.what = what
        self.timeout = timeout
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock; LabError with one line naming the holder when it is not free in time."""
        if self._fd is not None:
            raise RuntimeError(f"{self.path} is already held by this object")
        fd = self._open()
        deadline = time.monotonic() + self.timeout
        try:
            while not self._try(fd):
                if time.monotonic() >= deadline:
                    raise LabError(self._busy(read_holder(self.path)))
                time.sleep(POLL_SECONDS)
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(asdict(Holder.here())), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; its file stays, emptied."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    @property
    def held(self) -> bool:
        return self._fd is not None

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise LabError(
                f"{self.what}: its lock {self.path} cannot be opened ({problem.strerror})"
            ) from problem

    def _try(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as problem:
            if problem.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise UsageError(
                f"{self.what}: the file system of {self.path} ({mounts.kind(self.path)}) has no file locks: "
                "set LABTUI_HOME to a folder on another one"
            ) from problem
        left = _parse(os.pread(fd, 4096, 0))
        if left is not None and not left.is_local and mounts.is_network(self.path):
            fcntl.flock(fd, fcntl.LOCK_UN)
            return False
        return True

    def _busy(self, holder: Holder | None) -> str:
        if holder is None:
            return f"{self.what}: in use by another process (lock {self.path}): try again"
        if holder.is_alive is None:
            return (
                f"{self.what}: in use by {holder}, another machine, through {mounts.kind(self.path)}: "
                f"if that process is gone, remove {self.path}"
            )
        return f"{self.what}: in use by {holder}: try again when it is done"


def read_holder(path: Path) -> Holder | None:
    """Who the lock file at ``path`` names, or None when it names nobody. It may be dead: see ``is_alive``."""
    try:
        with path.open("rb") as handle:
            return _parse(handle.read(4096))
    except OSError:
        return None


def boot_id() -> str:
    """The id of this boot of this machine, the same in every container on it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When process ``pid`` started, in clock ticks since boot (field 22 of proc(5)); None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _parse(data: bytes) -> Holder | None:
    try:
        value: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        return msgspec.convert(value, Holder)
    except msgspec.DecodeError:
        return None
