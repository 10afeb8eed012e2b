"""The sessions that a broker has open, and telling its clients what happens in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels import protocol
from labtui_kernels.broker.clients import Client
from labtui_kernels.broker.jobs import Jobs
from labtui_kernels.broker.logs import Log
from labtui_kernels.broker.trace import Spans
from labtui_kernels.broker.writer import PROMPT_KINDS, LiveSession, Syncer
from labtui_kernels.build import build_id
from labtui_sessions.events import Event
from labtui_sessions.journal import FILE as JOURNAL
from labtui_sessions.versions import package_versions

FRAME_BYTES = 1024 * 1024


def session_folder(identity: str) -> Path:
    """The folder of a session; UsageError when the id could lead elsewhere."""
    plain = identity.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or identity.startswith(".") or len(identity) > 128:
        raise UsageError(f"session {identity!r}: not a session id: `labtui session ls` lists them")
    return paths.sessions() / identity


def new_id(kernel: str) -> str:
    """An id that no session here has: the time and the kernel's name."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{kernel}"
    identity, number = stem, 1
    while (paths.sessions() / identity).exists():
        number += 1
        identity = f"{stem}-{number}"
    return identity


class Sessions:
    """Open sessions by id; ``current`` is where new jobs go when they do not say."""

    def __init__(
        self,
        kernel: str,
        clients: Iterable[Client],
        jobs: Jobs,
        log: Log,
        spans: Spans,
        wake: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._clients = clients
        self._jobs = jobs
        self._log = log
        self._spans = spans
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._syncer = Syncer(self._loop, self._durable, self._sync_failed)
        self._announcing = False
        self.live: dict[str, LiveSession] = {}
        self.current: LiveSession | None = None
        self.sync_error = ""

    async def open(self, identity: str, *, title: str = "") -> LiveSession:
        """Open a session for writing (made when missing) and journal that it was opened."""
        if identity in self.live:
            return self.live[identity]
        folder = session_folder(identity)
        seen: list[Event] = []
        live = await asyncio.to_thread(LiveSession.open, folder, seen.append)
        if identity in self.live:  # opened by another request meanwhile
            live.journal.close()
            return self.live[identity]
        for event in seen:
            self._jobs.observe(identity, event)
        live.on_event = self._written
        live.on_stall = self._stalled
        self.live[identity] = live
        data: dict[str, Any] = {
            "id": identity,
            "title": title or live.state.title,
            "kernel": self._kernel,
            "versions": {**package_versions(), "build": build_id()},
            "created": live.state.created or time.time(),
        }
        live.post("session.opened", data)
        for cut in live.state.cuts[-1:]:
            self._log.write("journal.cut", level="warning", session=identity, bytes=cut.bytes, at=cut.at)
        return live

    async def open_known(self, identity: str) -> LiveSession:
        """Open a session that exists; UsageError when it does not."""
        if identity not in self.live and not (session_folder(identity) / JOURNAL).exists():
            raise UsageError(f"no session {identity!r} here: `labtui session ls` lists them")
        return await self.open(identity)

    def of_job(self, job: str | None) -> LiveSession:
        """The session of an unfinished job, else the current one."""
        found = self._jobs.open.get(job or "")
        live = self.live.get(found.session) if found is not None else None
        return live or self.need_current()

    def need_current(self) -> LiveSession:
        """The current session; LabError while the kernel is still opening it."""
        if self.current is None:
            raise LabError("the kernel is still opening its session: try again in a moment")
        return self.current

    def get(self, identity: str | None) -> LiveSession:
        """The open session of that id (None: the current one); UsageError when it is not open."""
        if not identity or identity == "current":
            return self.need_current()
        live = self.live.get(identity)
        if live is None:
            raise UsageError(
                f"session {identity!r} is not open in this kernel: `labtui session ls` lists them"
            )
        return live

    # ------------------------------------------------------------ events out

    def _written(self, live: LiveSession, event: Event) -> None:
        self._jobs.observe(live.id, event)
        self._syncer.mark(live, urgent=event.kind in PROMPT_KINDS)
        if not self._announcing:
            self._announcing = True
            self._loop.call_soon(self.announce)

    def announce(self) -> None:
        """Tell the clients what was written since the last time."""
        self._announcing = False
        for live in self.live.values():
            fresh = live.take_fresh()
            if not fresh:
                continue
            followers = [client for client in self._clients if client.session == live.id]
            if followers:
                for batch in live.batches(fresh, FRAME_BYTES):
                    frame = protocol.encode(protocol.Publish(live.id, batch))
                    for client in followers:
                        if client.session == live.id:
                            client.publish(frame, live.id, batch[-1].seq)
        self._wake()

    def _durable(self, live: LiveSession, seq: int, seconds: float) -> None:
        live.durable = max(live.durable, seq)
        self.sync_error = ""
        self._spans.add("", "journal.sync", seconds)
        frame = protocol.encode(protocol.Durable(live.id, seq))
        for client in self._clients:
            if client.session == live.id:
                client.offer(frame)

    def _sync_failed(self, live: LiveSession, error: LabError) -> None:
        if str(error) != self.sync_error:
            self.sync_error = str(error)
            self._log.write("journal.sync_failed", level="error", session=live.id, error=str(error))
        self._wake()

    def _stalled(self, live: LiveSession) -> None:
        event = "journal.stalled" if live.stalled else "journal.goes_on"
        self._log.write(event, level="error" if live.stalled else "info", session=live.id, error=live.stalled)
        self._wake()

    @property
    def stalled(self) -> str:
        """Why a journal cannot be written now; empty when all can."""
        return next((live.stalled for live in self.live.values() if live.stalled), "")

    def retry(self) -> None:
        """Try all that was kept back again."""
        for live in self.live.values():
            live.retry()

    async def close_idle(self) -> None:
        """Close the sessions that nobody follows and that have no unfinished job."""
        used = {client.session for client in self._clients} | {
            job.session for job in self._jobs.open.values()
        }
        for live in [live for live in self.live.values() if live is not self.current and live.id not in used]:
            del self.live[live.id]
            await asyncio.to_thread(live.close)

    async def close(self) -> None:
        """Make everything durable and close it."""
        self.announce()
        await asyncio.to_thread(self._syncer.stop)
        for live in self.live.values():
            try:
                await asyncio.to_thread(live.close)
            except LabError as error:
                self._log.write("journal.close_failed", level="error", session=live.id, error=str(error))
        self.live.clear()
