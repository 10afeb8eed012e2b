"""A connected client: a bounded queue of frames out, a bounded number of requests in work.

Nothing that a client does or fails to do can slow another one: its queue is its own, and when it is full the
events in it are dropped, the client is told to attach again (``Resync``), and it gets no more until it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from labtui_artifacts.errors import LabError
from labtui_kernels import protocol

if TYPE_CHECKING:
    from labtui_kernels.broker.server import Broker

OUTSTANDING = 16
CHUNK = 256 * 1024
HIGH_WATER = 128 * 1024


class Client:
    """One connection. ``session`` is the id of the session it follows, empty when it follows none."""

    def __init__(
        self, broker: Broker, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.name = "?"
        self.session = ""
        self.active = False
        self._broker = broker
        self._reader = reader
        self._writer = writer
        self._limit = broker.limits.client_bytes
        self._queue: deque[tuple[bytes, bool]] = deque()
        self.queued_bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._heard = time.monotonic()
        self._requests: set[asyncio.Task[None]] = set()
        self._closing = False
        writer.transport.set_write_buffer_limits(high=HIGH_WATER)

    @property
    def label(self) -> str:
        """How jobs and logs name this client."""
        return f"{self.name}#{self.number}"

    # ------------------------------------------------------------ out

    def send(self, message: protocol.BrokerMessage) -> None:
        """Queue a message that must arrive: a reply or a fault."""
        self._put(protocol.encode(message), droppable=False)

    def offer(self, frame: bytes) -> None:
        """Queue a frame of telemetry or status, unless the client is slow: a newer one will come."""
        if self.queued_bytes + len(frame) <= self._limit // 4:
            self._put(frame, droppable=True)

    def publish(self, frame: bytes, session: str, seq: int) -> None:
        """Queue events of ``session`` that end at ``seq``; a client that is full is told to attach again."""
        if self.queued_bytes + len(frame) <= self._limit:
            self._put(frame, droppable=True)
            return
        kept = [(body, droppable) for body, droppable in self._queue if not droppable]
        self._queue = deque(kept)
        self.queued_bytes = sum(len(body) for body, _ in kept)
        self.session = ""
        self._broker.log.write("client.behind", level="warning", client=self.label, seq=seq)
        self._put(protocol.encode(protocol.Resync(session, seq)), droppable=False)

    def _put(self, frame: bytes, *, droppable: bool) -> None:
        if self._closing:
            return
        self._queue.append((frame, droppable))
        self.queued_bytes += len(frame)
        if self.queued_bytes > self._limit:
            self._room.clear()
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            while self._queue:
                chunk = bytearray()
                while self._queue and len(chunk) < CHUNK:
                    chunk += self._queue.popleft()[0]
                self.queued_bytes -= len(chunk)
                self._writer.write(bytes(chunk))
                await self._writer.drain()
                if self.queued_bytes <= self._limit:
                    self._room.set()
            self._wake.clear()
            if self._closing:
                return

    # ------------------------------------------------------------ in

    async def serve(self) -> None:
        """Speak with the client until it leaves, falls silent or breaks the protocol."""
        tasks = [asyncio.create_task(self._write())]
        try:
            if await self._greet():
                tasks.append(asyncio.create_task(self._keep_alive()))
                await self._listen()
        except LabError as error:
            self._broker.log.write("client.refused", level="warning", client=self.label, error=str(error))
            self.send(protocol.Fault(error.exit_code, str(error)))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            await self._leave(tasks)

    async def _greet(self) -> bool:
        try:
            body = await asyncio.wait_for(protocol.read_frame(self._reader), self._broker.limits.hello_within)
        except TimeoutError as error:
            raise protocol.ProtocolError("no hello came in time: is that a labtui client?") from error
        if body is None:
            return False
        message = protocol.decode_client(body)
        if not isinstance(message, protocol.ClientHello):
            raise protocol.ProtocolError(f"the first frame must be a hello, not {type(message).__name__}")
        kernel = self._broker.config.name
        protocol.negotiate(message.min_version, message.version, kernel, here="the kernel")
        self.name = message.client[:40] or "?"
        self._broker.log.write("client.hello", client=self.label, pid=message.pid, build=message.build)
        self.send(self._broker.hello())
        return True

    async def _listen(self) -> None:
        while True:
            await self._room.wait()
            body = await protocol.read_frame(self._reader)
            if body is None:
                return
            self._heard = time.monotonic()
            message = protocol.decode_client(body)
            if isinstance(message, protocol.Request):
                await self._accept(message)
            elif isinstance(message, protocol.Ping):
                self.send(protocol.Pong(message.n))
            elif isinstance(message, protocol.ClientHello):
                raise protocol.ProtocolError("a second hello on one connection")

    async def _accept(self, request: protocol.Request) -> None:
        if len(self._requests) >= OUTSTANDING:
            await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(request))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, request: protocol.Request) -> None:
        try:
            result = await self._broker.call(self, request.method, request.params)
            reply = protocol.encode(protocol.Reply(request.id, True, result))
        except LabError as error:
            info = protocol.ErrorInfo(error.exit_code, str(error))
            reply = protocol.encode(protocol.Reply(request.id, False, None, info))
        self._broker.sessions.announce()  # the events that a request caused come before its answer
        self._put(reply, droppable=False)

    async def _keep_alive(self) -> None:
        limits = self._broker.limits
        number = 0
        while True:
            await asyncio.sleep(limits.ping_every)
            if time.monotonic() - self._heard > limits.silent_after:
                self._broker.log.write("client.silent", level="warning", client=self.label)
                self._writer.transport.abort()
                return
            number += 1
            self.offer(protocol.encode(protocol.Ping(number)))

    async def _leave(self, tasks: list[asyncio.Task[None]]) -> None:
        self._closing = True
        self.session = ""
        for task in [*self._requests, *tasks[1:]]:
            task.cancel()
        self._wake.set()
        with contextlib.suppress(TimeoutError, OSError, asyncio.CancelledError):
            await asyncio.wait_for(tasks[0], 2.0)  # what is queued, such as the fault, goes out first
        tasks[0].cancel()
        if self.queued_bytes:
            self._writer.transport.abort()
        else:
            self._writer.close()

    async def finish(self) -> None:
        """End the connection from this side, after what is queued, if the client takes it soon."""
        for _ in range(20):
            if not self._queue:
                break
            await asyncio.sleep(0.01)
        self._closing = True
        self._writer.close()
