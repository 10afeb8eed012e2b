"""A kernel seen from Python: :class:`AsyncLab`, the core that the app, the command line and notebooks share.

It keeps the session's state by the same reducer as everyone else, from a snapshot and then events without a
gap; it reconnects by itself, goes on after the last event it saw, and says all the while how the link is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labtui.link import Connection, Link, make_link
from labtui.projection import Link as LinkState
from labtui_artifacts.errors import LabError, Unreachable, from_code
from labtui_kernels import protocol
from labtui_kernels.build import build_id
from labtui_sessions.events import Event
from labtui_sessions.source import RowText
from labtui_sessions.state import SessionState, from_snapshot, reduce
from labtui_sessions.tables import Page

PING_EVERY = 10.0
SILENT_AFTER = 35.0
HELLO_WITHIN = 30.0
FIRST_DELAY = 0.2
LONGEST_DELAY = 15.0
BACKLOG = 20_000


@dataclass
class Change:
    """What happened since the last change: new events, or a new state altogether (``reset``).

    ``link``, ``telemetry``, ``status`` and ``durable`` say which of the lab's attributes are new.
    """

    events: list[Event] = field(default_factory=list)
    reset: bool = False
    link: bool = False
    telemetry: bool = False
    status: bool = False
    durable: bool = False


class _Subscriber:
    """Changes for one reader; what it does not take in time is merged, and its memory is bounded."""

    def __init__(self) -> None:
        self.pending = Change()
        self.fresh = asyncio.Event()

    def add(self, change: Change) -> None:
        pending = self.pending
        if change.reset or len(pending.events) + len(change.events) > BACKLOG:
            pending.events, pending.reset = [], True
        pending.events.extend(change.events)
        for name in ("link", "telemetry", "status", "durable"):
            setattr(pending, name, getattr(pending, name) or getattr(change, name))
        self.fresh.set()

    async def take(self) -> Change:
        await self.fresh.wait()
        self.fresh.clear()
        change, self.pending = self.pending, Change()
        return change


class AsyncLab:
    """A connection to one kernel, following one session of it. Make one with :meth:`connect`.

    Everything is to be used from the event loop that made it.
    """

    def __init__(self, link: Link, session: str | None = None) -> None:
        self._way = link
        self._wanted = session
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._subscribers: set[_Subscriber] = set()
        self._listeners: list[Callable[[], None]] = []
        self._hurry = asyncio.Event()
        self._heard = 0.0
        self._attached = False
        self.hello = protocol.Hello(0, 0, "", "", "", 0, "")
        self.link = LinkState("connecting")
        self.state = SessionState()
        self.status: dict[str, Any] = {}
        self.telemetry: dict[str, Any] = {}
        self.durable = 0
        self.session = ""

    @classmethod
    async def connect(
        cls,
        name: str | None = None,
        *,
        via: str | None = None,
        session: str | None = None,
        attach: bool = True,
    ) -> AsyncLab:
        """Connect to the kernel ``name`` (None: the only one running) and follow its session.

        Raises Unreachable or UsageError with one line when that cannot be done now.
        """
        lab = cls(make_link(name, via), session)
        await lab._open(again=False)
        if attach:
            try:
                await lab._attach()
            except BaseException:
                await lab.close()
                raise
        lab._runner = asyncio.create_task(lab._run())
        return lab

    # ------------------------------------------------------------ reading

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.hello.kernel

    @property
    def live(self) -> bool:
        """A kernel stands behind this source, so requests make sense."""
        return True

    @property
    def where(self) -> str:
        """The way to it, in words."""
        return self._way.where

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after anything here has changed."""
        self._listeners.append(changed)

    async def changes(self) -> AsyncIterator[Change]:
        """Every change from now on; changes that come faster than they are taken are merged."""
        with self.subscribed() as take:
            while True:
                yield await take()

    def subscribed(self) -> _Subscription:
        """A context whose value waits for the next change; nothing that happens inside it is missed."""
        return _Subscription(self._subscribers)

    async def page(
        self,
        table: str,
        start: int,
        stop: int,
        *,
        sort: str | None = None,
        descending: bool = False,
        filter: str = "",
    ) -> Page:
        """Rows of a table of this session."""
        found = await self.request(
            "table.page",
            session=self.session,
            table=table,
            start=start,
            stop=stop,
            sort=sort,
            descending=descending,
            filter=filter,
        )
        return msgspec.convert(found, Page)

    async def row_text(self, key: str) -> RowText:
        """The whole row of that key (``job/row``)."""
        return msgspec.convert(await self.request("row.text", session=self.session, key=key), RowText)

    async def thumbnail(self, digest: str) -> bytes:
        """The PNG of one of the session's pictures."""
        return await self.request("image.thumbnail", session=self.session, digest=digest)

    async def result(self, job: str) -> dict[str, Any]:
        """All that a job said at its end; empty where it has not ended."""
        return msgspec.convert(
            await self.request("job.result", session=self.session, job=job), dict[str, Any]
        )

    # ------------------------------------------------------------ asking

    async def request(self, method: str, **params: Any) -> Any:
        """Ask the kernel; the answer, or its LabError. Unreachable when the link is or gets lost."""
        if self._connection is None:
            raise Unreachable(f"{self._way.where}: not connected ({self.link.detail or self.link.phase})")
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._connection.send(protocol.Request(number, method, params))
            return await future
        except OSError as error:
            raise Unreachable(f"{self._way.where}: the connection was lost ({error})") from error
        finally:
            self._waiting.pop(number, None)

    def retry_now(self) -> None:
        """Do not wait for the next attempt to reconnect."""
        self._hurry.set()

    async def close(self) -> None:
        """Leave; the kernel goes on."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        await self._drop("closed")
        self._set_link(LinkState("closed"))

    # ------------------------------------------------------------ the link

    async def _open(self, *, again: bool) -> None:
        connection = await self._way.open(again=again)
        try:
            hello = protocol.ClientHello(
                protocol.MIN_VERSION, protocol.VERSION, "labtui", build_id(), os.getpid()
            )
            await connection.send(hello)
            body = await asyncio.wait_for(protocol.read_frame(connection.reader), HELLO_WITHIN)
            self.hello = self._welcome(body)
        except (TimeoutError, OSError) as error:
            await connection.close()
            raise Unreachable(f"{self._way.where}: no hello ({error or 'in time'})") from error
        except BaseException:
            await connection.close()
            raise
        self._heard = time.monotonic()
        self._connection = connection
        self._reader = asyncio.create_task(self._read(connection))
        # Both from now on: an attachment is an answer that the link may owe us for ever.
        self._reader.add_done_callback(lambda reader: self._fail_waiting(_ending(reader)))
        self._pinger = asyncio.create_task(self._ping(connection))
        self._set_link(LinkState("up"))

    def _welcome(self, body: bytes | None) -> protocol.Hello:
        if body is None:
            raise Unreachable(f"{self._way.where}: the kernel closed the connection")
        message = protocol.decode_broker(body)
        if isinstance(message, protocol.Fault):
            raise from_code(message.code, message.message)
        if not isinstance(message, protocol.Hello):
            raise Unreachable(f"{self._way.where}: answered with {type(message).__name__}, expected Hello")
        protocol.negotiate(message.min_version, message.version, message.kernel)
        return message

    async def _attach(self) -> None:
        """Follow the session: from the last event seen when it is the same, else from a snapshot."""
        same = self._attached and self.session == (self._wanted or self.hello.session)
        await self.request("attach", session=self._wanted, after=self.state.seq if same else None)
        self._attached = True

    def _on_attached(self, answer: Any) -> None:
        snapshot = answer.get("snapshot")
        events = msgspec.convert(answer.get("events", []), list[Event])
        self.session = answer["session"]
        self.durable = answer["durable"]
        self.status = answer["status"]
        change = Change(status=True, reset=snapshot is not None)
        if snapshot is not None:
            self.state = from_snapshot(snapshot)
        self._apply(events, change)

    async def switch(self, session: str | None) -> None:
        """Follow another session of the kernel (None: the current one)."""
        await self.request("attach", session=session)
        self._wanted = session

    async def _run(self) -> None:
        """Keep the link up until closed."""
        while True:
            await asyncio.wait([self._reader])  # waits without passing our own cancellation on
            reason = _ending(self._reader)
            await self._drop(reason)
            await self._reconnect(reason)

    async def _reconnect(self, reason: str) -> None:
        for attempt in itertools.count(1):
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)
            self._set_link(LinkState("lost", reason, attempt, time.monotonic() + delay))
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), delay)
            self._set_link(LinkState("connecting", reason, attempt))
            try:
                await self._open(again=True)
                if self._attached:
                    await self._attach()
                return
            except LabError as error:
                reason = str(error)
                await self._drop(reason)

    async def _drop(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        self._fail_waiting(reason)
        if connection is not None:
            self._pinger.cancel()
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            await connection.close()

    def _fail_waiting(self, reason: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unreachable(f"{self._way.where}: {reason}"))

    async def _ping(self, connection: Connection) -> None:
        """A link whose packets vanish looks alive: only answers count."""
        for number in itertools.count(1):
            await asyncio.sleep(PING_EVERY)
            if time.monotonic() - self._heard > SILENT_AFTER:
                self._reader.cancel()
                return
            with contextlib.suppress(OSError):
                await connection.send(protocol.Ping(number))

    async def _read(self, connection: Connection) -> str:
        """Take messages until the connection ends; why it did."""
        try:
            while (body := await protocol.read_frame(connection.reader)) is not None:
                self._heard = time.monotonic()
                message = protocol.decode_broker(body)
                if isinstance(message, protocol.Fault):
                    return message.message
                await self._take(message, connection)
        except (LabError, OSError) as error:
            return str(error)
        return "the kernel closed the connection"

    # ------------------------------------------------------------ messages

    async def _take(self, message: protocol.BrokerMessage, connection: Connection) -> None:
        if isinstance(message, protocol.Publish):
            if message.session == self.session:
                self._apply(message.events, Change())
        elif isinstance(message, protocol.Reply):
            self._on_reply(message)
        elif isinstance(message, protocol.Telemetry):
            self.telemetry.update(message.data)
            self._tell(Change(telemetry=True))
        elif isinstance(message, protocol.Status):
            self.status = message.data
            self._tell(Change(status=True))
        elif isinstance(message, protocol.Durable):
            if message.session == self.session:
                self.durable = max(self.durable, message.seq)
                self._tell(Change(durable=True))
        elif isinstance(message, protocol.Resync):
            self._ask_again(connection)
        elif isinstance(message, protocol.Ping):
            await connection.send(protocol.Pong(message.n))

    def _on_reply(self, reply: protocol.Reply) -> None:
        future = self._waiting.get(reply.id)
        if reply.ok and isinstance(reply.result, dict) and reply.result.keys() >= _ATTACHMENT:
            # Applied here and not where it was asked for: events that follow it are next in the stream.
            self._on_attached(reply.result)
        if future is None or future.done():
            return
        if reply.ok:
            future.set_result(reply.result)
        else:
            error = reply.error or protocol.ErrorInfo(1, "the kernel gave no reason")
            future.set_exception(from_code(error.code, error.message))

    def _ask_again(self, connection: Connection) -> None:
        """We fell behind: ask for what we missed. The answer is applied like any attachment."""
        request = protocol.Request(
            next(self._ids), "attach", {"session": self.session, "after": self.state.seq}
        )
        task = asyncio.get_running_loop().create_task(connection.send(request))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _apply(self, events: list[Event], change: Change) -> None:
        for event in events:
            if event.seq <= self.state.seq:
                continue
            if event.seq != self.state.seq + 1 and self.state.seq:
                raise Unreachable(f"event {event.seq} came after {self.state.seq}: the stream has a gap")
            reduce(self.state, event)
            change.events.append(event)
        self._tell(change)

    def _set_link(self, link: LinkState) -> None:
        self.link = link
        self._tell(Change(link=True))

    def _tell(self, change: Change) -> None:
        for subscriber in self._subscribers:
            subscriber.add(change)
        for listener in self._listeners:
            listener()


def _ending(reader: asyncio.Task[str]) -> str:
    """Why a connection is not read any more."""
    if reader.cancelled():
        return "the kernel fell silent"
    error = reader.exception()
    return reader.result() if error is None else f"internal error {type(error).__name__}: {error}"


_ATTACHMENT = frozenset({"session", "seq", "durable", "snapshot", "events", "status"})


class _Subscription:
    """See :meth:`AsyncLab.subscribed`."""

    def __init__(self, subscribers: set[_Subscriber]) -> None:
        self._all = subscribers
        self._mine = _Subscriber()

    def __enter__(self) -> Callable[[], Any]:
        self._all.add(self._mine)
        return self._mine.take

    def __exit__(self, *exc: object) -> None:
        self._all.discard(self._mine)
