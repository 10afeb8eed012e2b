"""The broker: accepts clients, answers requests, hands jobs to the worker and keeps it alive.

Everything here runs on one thread and never waits for the model, the disk's cache or a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import traceback
from typing import Any

import msgspec

from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels import protocol
from labtui_kernels.broker import registry
from labtui_kernels.broker.clients import Client
from labtui_kernels.broker.config import KernelConfig, Record, write_record
from labtui_kernels.broker.jobs import Jobs
from labtui_kernels.broker.keeper import Keeper
from labtui_kernels.broker.logs import Log
from labtui_kernels.broker.methods import METHODS
from labtui_kernels.broker.sessions import Sessions, new_id
from labtui_kernels.broker.trace import Spans
from labtui_kernels.broker.writer import LiveSession
from labtui_kernels.build import build_id

SILENT_METHODS = frozenset({"info", "logs"})
STATUS_EVERY = 0.2


class Broker:
    """A running kernel. ``run`` returns when it has stopped; True asks for a restart with new code."""

    def __init__(self, config: KernelConfig, record: Record, log: Log) -> None:
        self.config = config
        self.record = record
        self.limits = config.limits
        self.log = log
        self.clients: set[Client] = set()
        self.jobs = Jobs()
        self.spans = Spans()
        self.state = "starting"
        self.detail = ""
        self.progress: float | None = None
        self.started = time.time()
        self.sessions = Sessions(config.name, self.clients, self.jobs, log, self.spans, self.wake)
        self.keeper = Keeper(self)
        self.opened = asyncio.Event()
        self.telemetry: dict[str, Any] = {}
        self._stopping = asyncio.Event()
        self._restart = False
        self._forced = False
        self._numbers = 0
        self._idle_since = time.monotonic()
        self._status_due = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------ life

    async def run(self, listener: socket.socket) -> bool:
        """Serve until told to stop. True: start again with the code that is on disk now."""
        server = await asyncio.start_unix_server(self._connected, sock=listener)
        self.spawn(self._open_session())
        self.spawn(self._look_after())
        try:
            await self._stopping.wait()
        finally:
            server.close()
            await self._shut_down()
        return self._restart

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine beside the rest; its failure is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            text = "".join(traceback.format_exception(error))
            self.log.write("internal.error", level="error", error=str(error), trace=text)

    async def _open_session(self) -> None:
        try:
            identity = self.record.session or new_id(self.config.name)
            live = await self.sessions.open(identity)
        except LabError as error:
            self.log.write("session.refused", level="error", session=self.record.session, error=str(error))
            identity = new_id(self.config.name)
            try:
                live = await self.sessions.open(identity)
            except LabError as second:
                self.set_state("worker-lost", f"no session can be opened: {second}")
                return
        await self.use(live)
        self.opened.set()
        self.set_state("starting")
        self.keeper.start()

    async def use(self, live: LiveSession) -> None:
        """Make ``live`` the current session, also after a restart."""
        self.sessions.current = live
        self.record.session = live.id
        try:
            await asyncio.to_thread(write_record, self.record)
        except OSError as error:
            self.log.write("record.failed", level="error", error=str(error))

    @property
    def draining(self) -> bool:
        """The kernel has begun to stop."""
        return self._stopping.is_set()

    def stop(self, *, force: bool = False, restart: bool = False, reason: str = "") -> None:
        """Begin to stop: running jobs stand still at their next step and go on at the next start."""
        self._forced = self._forced or force
        self._restart = self._restart or restart
        if not self._stopping.is_set():
            self.log.write("stopping", reason=reason, force=force)
            self._stopping.set()
            self.set_state("draining", reason)

    async def _shut_down(self) -> None:
        await self.keeper.stop(0.0 if self._forced else self.limits.quit_grace)
        self.set_state("stopping", self.detail)
        await self.sessions.close()
        self.broadcast_status()
        await asyncio.sleep(0)
        for client in list(self.clients):
            await client.finish()
        for task in list(self._tasks):
            task.cancel()
        self.log.write("stopped")

    async def _look_after(self) -> None:
        """Every so often: retry a full disk, close idle sessions, end an idle kernel."""
        while True:
            await asyncio.sleep(min(self.limits.disk_retry, max(0.05, self.config.idle_ttl / 4 or 1.0)))
            if self.sessions.stalled:
                self.sessions.retry()
            await self.sessions.close_idle()
            if any(client.active for client in self.clients) or self.keeper.at_work:
                self._idle_since = time.monotonic()
            idle = time.monotonic() - self._idle_since
            if self.config.idle_ttl and idle > self.config.idle_ttl:
                self.stop(reason=f"idle for {idle:.0f} s, its time to live")
                return

    # ------------------------------------------------------------ clients

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = registry.peer_uid(writer.get_extra_info("socket"))
        if uid != os.geteuid():
            self.log.write("client.foreign", level="warning", uid=uid)
            writer.transport.abort()
            return
        if len(self.clients) >= self.limits.clients:
            fault = protocol.Fault(
                3, f"kernel {self.config.name!r} has {len(self.clients)} clients, its limit"
            )
            writer.write(protocol.encode(fault))
            writer.close()
            return
        self._numbers += 1
        client = Client(self, self._numbers, reader, writer)
        self.clients.add(client)
        try:
            await client.serve()
        finally:
            self.clients.discard(client)
            self.log.write("client.gone", client=client.label)
            self.wake()

    def hello(self) -> protocol.Hello:
        """The greeting of this kernel."""
        return protocol.Hello(
            protocol.MIN_VERSION,
            protocol.VERSION,
            self.config.name,
            build_id(),
            self.sessions.current.id if self.sessions.current else self.record.session,
            os.getpid(),
            self.state,
        )

    async def call(self, client: Client, method: str, params: dict[str, Any]) -> Any:
        """Answer one request. LabError says what was wrong with it."""
        found = METHODS.get(method)
        if found is None:
            raise UsageError(f"method {method!r} is not known to this kernel (build {build_id()})")
        if method not in SILENT_METHODS:
            client.active = True
        try:
            arguments = msgspec.convert(params, found.params)
        except msgspec.ValidationError as error:
            raise UsageError(f"{method}: {error}") from error
        try:
            return await found.run(self, client, arguments)
        except LabError:
            raise
        except OSError as error:
            raise LabError(
                f"{method}: {error.strerror or error}: {error.filename or ''}".rstrip(": ")
            ) from error
        except Exception as error:
            text = traceback.format_exc()
            self.log.write("internal.error", level="error", method=method, error=str(error), trace=text)
            raise LabError(
                f"{method}: internal error {type(error).__name__}: {error} "
                f"(`labtui kernel logs {self.config.name}` has the trace)"
            ) from error

    # ------------------------------------------------------------ state

    def set_state(self, state: str, detail: str = "", progress: float | None = None) -> None:
        """A new state, journalled in the current session and told to every client."""
        if self.draining and state not in ("draining", "stopping"):
            return  # what the worker still says does not change that it ends
        changed = (state, detail) != (self.state, self.detail)
        self.state, self.detail, self.progress = state, detail, progress
        live = self.sessions.current
        if live is not None and (changed or live.state.kernel.state != state or progress is not None):
            live.post("kernel.state", {"state": state, "detail": detail, "progress": progress})
        if changed:
            self.log.write("state", state=state, detail=detail or None)
        self.wake()

    def status(self) -> dict[str, Any]:
        """What every client is told: state, detail, progress, clients, jobs, session."""
        stalled = self.sessions.stalled
        detail = f"jobs wait, the journal cannot be written: {stalled}" if stalled else self.detail
        current = self.sessions.current
        return {
            "kernel": self.config.name,
            "state": self.state,
            "detail": detail or self.keeper.misfits or self.sessions.sync_error,
            "progress": self.progress,
            "stalled": bool(stalled),
            "session": current.id if current else self.record.session,
            "clients": sum(client.active for client in self.clients),
            "jobs": len(self.jobs.open),
            "model": self.config.model,
        }

    def wake(self) -> None:
        """Something changed: hand out jobs and tell the clients, soon and at a bounded rate."""
        self.keeper.dispatch()
        if not self._status_due:
            self._status_due = True
            asyncio.get_running_loop().call_later(STATUS_EVERY, self.broadcast_status)

    def broadcast_status(self) -> None:
        """Tell every client the status."""
        self._status_due = False
        frame = protocol.encode(protocol.Status(self.status()))
        for client in self.clients:
            if client.active:
                client.offer(frame)

    def broadcast(self, message: protocol.BrokerMessage) -> None:
        """Offer a message to every client that has shown interest."""
        frame = protocol.encode(message)
        for client in self.clients:
            if client.active:
                client.offer(frame)


def bind(name: str) -> socket.socket:
    """The kernel's listening socket, 0600. The caller holds the name's lock, so an old one is stale."""
    path = registry.socket_path(name)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(64)
    return listener
