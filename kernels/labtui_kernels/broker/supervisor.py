"""The worker as the broker sees it: a child process that may die at any moment.

Two things end the child with its parent, both in place before a model is loaded: a parent-death signal and
a pipe that closes. The child beats from a thread and declares a time budget for the phase it is in; it is
killed when that budget is exceeded or when no beat comes, never for honest slow work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from labtui_kernels import protocol
from labtui_kernels.broker.config import Limits
from labtui_kernels.broker.logs import Log

OUTPUT_LINE = 2_000
TICK = 1.0
COMMAND = [sys.executable, "-P", "-m", "labtui_kernels.worker.main"]
"""``-P``: what lies in the folder that the kernel was started in is not imported, whatever it is called."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads of the worker that sleep while they wait: spinning ones hold the cores that their peers, the app
and the broker need, and made a step ten times slower on a machine that is busy."""


class Worker:
    """One worker process and the connection to it.

    ``on_message`` gets each of its messages, awaited one after the other, so that a journal that cannot be
    written holds the worker back. ``on_lost`` is called once, with a reason and the exit status.
    """

    def __init__(
        self,
        log: Log,
        limits: Limits,
        on_message: Callable[[protocol.FromWorker], object],
        on_lost: Callable[[Worker, str, int | None], None],
    ) -> None:
        self._log = log
        self._limits = limits
        self._on_message = on_message
        self._on_lost = on_lost
        self._reason = ""
        self._output: deque[str] = deque(maxlen=20)
        self._early: list[protocol.ToWorker] = []
        self._writer: asyncio.StreamWriter | None = None
        self._beat_at = time.monotonic()
        self._beat: protocol.Beat | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._flow = asyncio.Event()
        self._flow.set()
        self._ended = False
        self._spawn()

    def _spawn(self) -> None:
        # The parent-death signal fires when the spawning THREAD ends, so this must be the main one.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a worker must be spawned from the main thread")
        ours, theirs = socket.socketpair()
        death_read, self._death_write = os.pipe2(os.O_CLOEXEC)
        arguments = [str(theirs.fileno()), str(death_read), str(os.getpid())]
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(), death_read),
            start_new_session=True,
            env={**PATIENT, **os.environ},
        )
        theirs.close()
        os.close(death_read)
        self._socket = ours
        self.pid = self._process.pid
        self._log.write("worker.spawned", pid=self.pid)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._read()),
            loop.create_task(self._drain_output()),
            loop.create_task(self._watch()),
        ]

    async def _connect(self) -> asyncio.StreamReader:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        for message in self._early:
            self._writer.write(protocol.encode(message))
        self._early.clear()
        return reader

    def send(self, message: protocol.ToWorker) -> None:
        """Send a message; silently nothing when the worker has gone, since its loss is reported apart."""
        if self._ended:
            return
        if self._writer is None:
            self._early.append(message)
        else:
            self._writer.write(protocol.encode(message))

    async def _read(self) -> None:
        try:
            reader = await self._connect()
            while (body := await protocol.read_frame(reader)) is not None:
                message = protocol.decode_from_worker(body)
                if isinstance(message, protocol.Beat):
                    self._beat_at, self._beat = time.monotonic(), message
                    continue
                result = self._on_message(message)
                if asyncio.iscoroutine(result):
                    await result
        except (protocol.ProtocolError, OSError) as error:
            self._reason = self._reason or f"its connection broke: {error}"
        await self._end()

    async def _drain_output(self) -> None:
        """What the worker prints goes into the log; its last lines explain a death."""
        assert self._process.stdout is not None
        reader = asyncio.StreamReader(limit=64 * 1024)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout)
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                continue  # a line over the limit: dropped
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()[:OUTPUT_LINE]
            if text:
                self._output.append(text)
                self._log.write("worker.output", text=text)

    async def _watch(self) -> None:
        expected = time.monotonic() + TICK
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if now - expected > 5 * TICK or not self._flow.is_set():
                self._beat_at = now  # this process stood still, or holds the worker back: no verdict
            expected = now + TICK
            self._judge(now)

    def _judge(self, now: float) -> None:
        beat = self._beat
        if now - self._beat_at > self._limits.beat_timeout:
            self.kill(f"no sign of life for {self._limits.beat_timeout:g} s")
        elif beat is not None and beat.budget > 0 and beat.elapsed > beat.budget:
            self.kill(f"phase {beat.phase!r} took longer than its budget of {beat.budget:g} s")

    def hold(self, holding: bool) -> None:
        """While the journal stands still no verdict is passed on a worker that waits for it."""
        if holding:
            self._flow.clear()
        else:
            self._beat_at = time.monotonic()
            self._beat = None
            self._flow.set()

    def kill(self, reason: str) -> None:
        """End the process at once; ``on_lost`` follows with that reason."""
        if self._process.poll() is None:
            self._reason = self._reason or reason
            self._log.write("worker.killed", level="warning", reason=reason, pid=self.pid)
            self._process.kill()

    async def quit(self, grace: float) -> None:
        """Ask the worker to end after its step; kill it when it has not after ``grace`` seconds."""
        self._reason = self._reason or "asked to quit"
        self.send(protocol.Quit())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._tasks[0]), grace)
        self.kill("asked to quit")
        await asyncio.gather(self._tasks[0], return_exceptions=True)

    async def _end(self) -> None:
        self._ended = True
        exit_status = await self._wait()
        for task in self._tasks[1:]:
            if task is not asyncio.current_task():
                await self._finish(task)
        if self._writer is not None:
            self._writer.close()
        os.close(self._death_write)
        self._on_lost(self, self._reason or self._explain(exit_status), exit_status)

    async def _wait(self) -> int:
        """Its exit status; a worker that closed its connection but lives on is killed."""
        for _ in range(40):
            status = self._process.poll()
            if status is not None:
                return status
            await asyncio.sleep(0.05)
        self._process.kill()
        return await asyncio.to_thread(self._process.wait)

    async def _finish(self, task: asyncio.Task[None]) -> None:
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, 0.2)

    def _explain(self, status: int | None) -> str:
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            if -status == signal.SIGKILL:
                return f"killed by {name}, as the system does when memory runs out"
            return f"killed by {name}{self._last_words()}"
        return f"ended with status {status}{self._last_words()}"

    def _last_words(self) -> str:
        return f": {self._output[-1]}" if self._output else ""
