"""Which kernels run here. The only proof that one does is that its socket answers HELLO.

A kernel named ``toy`` has ``toy.sock`` and ``toy.lock`` in the runtime folder. The lock is held
(``flock``) as long as its broker lives and keeps two brokers from one name; process ids are not trusted.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, Unreachable, UsageError
from labtui_kernels import protocol
from labtui_kernels.broker.config import check_name
from labtui_kernels.build import build_id

TIMEOUT = 3.0


@dataclass(frozen=True)
class Entry:
    """A name in the registry; ``hello`` is None where nobody answers, ``problem`` says why.

    ``silent``: something holds the socket and takes connections, but does not say hello.
    """

    name: str
    path: Path
    hello: protocol.Hello | None
    problem: str = ""
    silent: bool = False


def socket_path(name: str) -> Path:
    """The socket of the kernel of that name."""
    return paths.socket_path(check_name(name))


def lock_path(name: str) -> Path:
    """The lock file of the kernel of that name."""
    return socket_path(name).with_suffix(".lock")


def names() -> list[str]:
    """Every name with a socket, alive or not."""
    return sorted(path.name.removesuffix(".sock") for path in paths.runtime().glob("*.sock"))


def peer_uid(connection: socket.socket) -> int:
    """The user id of the process at the other end of a unix socket, as the system knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", raw)[1]


def connect(name: str, timeout: float = TIMEOUT) -> socket.socket:
    """A connected socket to the kernel; Unreachable with what to do when nobody listens."""
    path = socket_path(name)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(str(path))
        uid = peer_uid(connection)
    except OSError as error:
        connection.close()
        raise Unreachable(_absent(name, error)) from error
    if uid not in (os.geteuid(), 0):
        connection.close()
        raise Unreachable(
            f"the process behind {path} belongs to uid {uid}, expected {os.geteuid()}: not spoken to"
        )
    return connection


def _absent(name: str, error: OSError) -> str:
    others = [other for other in names() if other != name]
    running = f"; sockets here: {', '.join(others)}" if others else ""
    if isinstance(error, FileNotFoundError):
        return f"no kernel {name!r} here{running}: `labtui kernel start {name} --model ...` starts one"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"kernel {name!r} is not running any more{running}: "
            f"`labtui kernel start {name}` goes on where it was"
        )
    return f"kernel {name!r} cannot be reached ({error.strerror or error}){running}"


def exchange_hello(connection: socket.socket, name: str) -> protocol.Hello:
    """Say hello on a connected socket; the kernel's answer. Unreachable or UsageError with one line."""
    frames = protocol.Frames()
    hello = protocol.ClientHello(protocol.MIN_VERSION, protocol.VERSION, "labtui", build_id(), os.getpid())
    try:
        connection.sendall(protocol.encode(hello))
        while data := connection.recv(65536):
            for body in frames.feed(data):
                return _welcome(protocol.decode_broker(body), name)
    except OSError as error:
        raise Unreachable(
            f"kernel {name!r} does not answer ({error}): `labtui kernel logs {name}`"
        ) from error
    raise Unreachable(f"kernel {name!r} closed the connection: `labtui kernel logs {name}`")


def _welcome(message: protocol.BrokerMessage, name: str) -> protocol.Hello:
    if isinstance(message, protocol.Hello):
        protocol.negotiate(message.min_version, message.version, name)
        return message
    if isinstance(message, protocol.Fault):
        raise Unreachable(message.message)
    raise Unreachable(f"kernel {name!r} answered with {type(message).__name__}, expected Hello")


def probe(name: str, timeout: float = TIMEOUT) -> Entry:
    """Connect and say hello."""
    path = socket_path(name)
    try:
        connection = connect(name, timeout)
    except LabError as error:
        return Entry(name, path, None, str(error))
    with connection:
        try:
            return Entry(name, path, exchange_hello(connection, name))
        except LabError as error:
            return Entry(name, path, None, str(error), silent=True)


def entries(timeout: float = TIMEOUT) -> Iterator[Entry]:
    """Every name in the registry, each asked for its HELLO."""
    for name in names():
        yield probe(name, timeout)


def alive() -> list[str]:
    """The names of the kernels that answer."""
    return [entry.name for entry in entries() if entry.hello is not None]


def only() -> str:
    """The name of the only kernel that answers; Unreachable lists them when there is not exactly one."""
    found = alive()
    if len(found) == 1:
        return found[0]
    if not found:
        raise Unreachable(
            "no kernel is running here: `labtui kernel start toy --model toy-qwen3` starts one, "
            "--via reaches another machine"
        )
    raise Unreachable(f"several kernels are running: choose one with --kernel: {', '.join(found)}")


class Lock:
    """The lock of one kernel's name, held until :meth:`release` or the end of the process."""

    def __init__(self, name: str) -> None:
        self.path = lock_path(name)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._handle)
            raise UsageError(
                f"a kernel {name!r} is already running or starting: `labtui kernel info {name}`, "
                "or choose another name"
            ) from error

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold locks on two files of one name."""
        os.close(self._handle)


def clean() -> list[str]:
    """Remove the sockets of kernels that are gone, and say which. A locked name is never touched."""
    removed = []
    for name in names():
        if probe(name).hello is not None:
            continue
        try:
            lock = Lock(name)
        except UsageError:
            continue
        try:
            socket_path(name).unlink(missing_ok=True)
            removed.append(name)
        finally:
            lock.release()
    return removed
