"""Ways to reach a kernel: its unix socket, or the stdio of a command such as ``ssh node``.

With a command, ``labtui kernel pipe NAME`` runs at the other end and puts the kernel's socket on its stdio.
Login banners may come first, so the stream is searched for a preamble, within bounds. No terminal is ever
asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from pathlib import PurePath
from typing import Protocol

from labtui_artifacts.errors import LabError, Unreachable, UsageError
from labtui_kernels import protocol
from labtui_kernels.broker import registry

PREAMBLE_BYTES = 256 * 1024
FIRST_TIMEOUT = 180.0
AGAIN_TIMEOUT = 30.0
GOODBYE = 1.0
REMOTE = "LABTUI_REMOTE"


class Connection:
    """An open stream to a kernel. ``process`` is the command behind it, if there is one."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: asyncio.subprocess.Process | None = None,
        errors: asyncio.Task[str] | None = None,
    ) -> None:
        self.reader = reader
        self._writer = writer
        self._process = process
        self._errors = errors

    async def send(self, message: protocol.ClientMessage) -> None:
        """Send one message."""
        self._writer.write(protocol.encode(message))
        await self._writer.drain()

    async def close(self) -> None:
        """Close, and end the command behind it."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)
        process = self._process
        if process is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GOODBYE)
        # A child of the command may hold the pipes open for ever: only the transport closes our ends of them.
        process._transport.close()  # type: ignore[attr-defined]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GOODBYE)
        if self._errors is not None:
            self._errors.cancel()


class Link(Protocol):
    """A way to a kernel."""

    @property
    def where(self) -> str:
        """The way in words, for messages."""
        ...

    async def open(self, *, again: bool = False) -> Connection:
        """A new connection; ``again`` after one was lost, when nobody can be asked for a password."""
        ...


class UnixLink:
    """The socket of a kernel on this machine; the only one running when it is not named."""

    def __init__(self, name: str | None) -> None:
        self.name = name

    @property
    def where(self) -> str:
        """The kernel's name."""
        return f"kernel {self.name!r}" if self.name else "the kernel"

    async def open(self, *, again: bool = False) -> Connection:
        """Connect; Unreachable with what to do."""
        if self.name is None:
            self.name = await asyncio.to_thread(registry.only)
        connected = await asyncio.to_thread(registry.connect, self.name)
        connected.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connected)
        return Connection(reader, writer)


def is_ssh(words: list[str]) -> bool:
    """The command hands what follows to a remote shell, so every word must be quoted for it."""
    return any(PurePath(word).name == "ssh" for word in words)


def remote_program() -> list[str]:
    """How labtui is called at the other end: ``LABTUI_REMOTE``, else the ``remote.command`` setting."""
    from labtui import config

    return shlex.split(os.environ.get(REMOTE) or config.settings().remote_command)


def remote_command(via: str, arguments: list[str], *, batch: bool = False) -> list[str]:
    """The command line that runs ``labtui ARGUMENTS`` at the other end of ``via``.

    ssh gets ``-T`` (no terminal) and, with ``batch``, no way to ask for a password.
    """
    try:
        words = shlex.split(via)
    except ValueError as error:
        raise UsageError(f"--via {via!r}: {error}") from error
    if not words:
        raise UsageError('--via: expected a command such as "ssh node" or "srun --jobid 42 --overlap"')
    program = [*remote_program(), *arguments]
    if not is_ssh(words):
        return [*words, *program]
    at = next(index for index, word in enumerate(words) if PurePath(word).name == "ssh") + 1
    options = ["-T", *(["-o", "BatchMode=yes"] if batch else [])]
    return [*words[:at], *options, *words[at:], *(shlex.quote(word) for word in program)]


class CommandLink:
    """The stdio of a command that reaches another machine."""

    def __init__(self, via: str, name: str | None) -> None:
        self.via = via
        self.name = name

    @property
    def where(self) -> str:
        """The command."""
        return f"via {self.via!r}"

    async def open(self, *, again: bool = False) -> Connection:
        """Run the command and wait for the preamble; Unreachable with the command's own last line."""
        command = remote_command(
            self.via, ["kernel", "pipe", *([self.name] if self.name else [])], batch=again
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                preexec_fn=_deaf_to_interrupt,
            )
        except OSError as error:
            raise Unreachable(f"--via {self.via!r}: {command[0]}: {error.strerror}") from error
        assert process.stdin and process.stdout and process.stderr
        errors = asyncio.create_task(_last_line(process.stderr))
        connection = Connection(process.stdout, process.stdin, process, errors)
        try:
            limit = AGAIN_TIMEOUT if again else FIRST_TIMEOUT
            await asyncio.wait_for(skip_to_preamble(process.stdout), limit)
        except (TimeoutError, LabError) as error:
            raise await self._refusal(connection, process, errors, error) from error
        except BaseException:
            process.kill()
            raise
        return connection

    async def _refusal(
        self,
        connection: Connection,
        process: asyncio.subprocess.Process,
        errors: asyncio.Task[str],
        error: Exception,
    ) -> LabError:
        if isinstance(error, TimeoutError) and process.returncode is None:
            process.kill()
        said = ""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GOODBYE)
            said = await asyncio.wait_for(asyncio.shield(errors), GOODBYE)
        await connection.close()
        code = process.returncode
        ended = f" (exit {code})" if code is not None and code >= 0 else ""
        said = said.removeprefix("labtui: ")
        if code == 127:
            hint = f"set {REMOTE} to its full path there"
            return Unreachable(f"--via {self.via!r}: labtui was not found at the other end: {hint} ({said})")
        if isinstance(error, TimeoutError):
            return Unreachable(f"--via {self.via!r}: no answer in time" + (f": {said}" if said else ""))
        return Unreachable(f"--via {self.via!r}: {said or error}{ended}")


def _deaf_to_interrupt() -> None:
    """Ctrl-C is for us: ssh keeps an ignored SIGINT ignored, so the link lives to tell the kernel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _last_line(stream: asyncio.StreamReader) -> str:
    """Read until the end; the last line that is not empty."""
    last = ""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return last
        last = line.decode("utf-8", "replace").strip()[:500] or last


async def skip_to_preamble(reader: asyncio.StreamReader) -> None:
    """Read past banners up to and with the preamble; Unreachable when it does not come in 256 KiB."""
    seen = b""
    for _ in range(PREAMBLE_BYTES):
        byte = await reader.read(1)
        if not byte:
            raise Unreachable("the command ended before the kernel spoke")
        seen = (seen + byte)[-len(protocol.PREAMBLE) :]
        if seen == protocol.PREAMBLE:
            return
    raise Unreachable(
        f"no kernel spoke within {PREAMBLE_BYTES // 1024} KiB: does a login script print without end?"
    )


def make_link(name: str | None, via: str | None) -> Link:
    """The link to the kernel ``name``, here or by the command ``via``."""
    return CommandLink(via, name) if via else UnixLink(name)
