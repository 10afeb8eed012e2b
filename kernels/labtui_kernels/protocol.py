"""The wire: messages, their framing and the range of versions this program speaks.

A frame is a little-endian ``u32`` length followed by that many bytes of msgpack; the body is one of
the tagged structs below. The same framing runs on the unix socket, on the stdio of ``labtui kernel
pipe`` (after ``PREAMBLE``, because login banners come first there) and on the socket pair between broker
and worker.

Every body from the other side is hostile until it is decoded here: length, syntax, type and version
are checked and each failure is a :class:`ProtocolError` with one clear line.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from labtui_artifacts.errors import LabError, UsageError
from labtui_sessions.events import Event

MIN_VERSION: Final = 1
VERSION: Final = 1
MAX_FRAME: Final = 16 * 1024 * 1024
PREAMBLE: Final = b"LABTUI\x001\n"
LENGTH: Final = struct.Struct("<I")


class ProtocolError(LabError):
    """The other side sent something that is not this protocol; the connection cannot go on."""

    exit_code = 3


class Message(msgspec.Struct, tag_field="m"):
    """A frame's body. The tag ``m`` says which message it is."""


# ---------------------------------------------------------------- client to broker


class ClientHello(Message, tag="hello"):
    """First frame of a client: the range of versions it speaks and who it is."""

    min_version: int
    version: int
    client: str
    build: str
    pid: int = 0


class Request(Message, tag="request"):
    """Ask for ``method``; the answer is a :class:`Reply` with the same ``id``."""

    id: int
    method: str
    params: dict[str, Any] = {}


class Ping(Message, tag="ping"):
    """Are you there? Answered at once by a :class:`Pong` with the same number."""

    n: int


class Pong(Message, tag="pong"):
    """Answer to :class:`Ping`; both sides send it."""

    n: int


# ---------------------------------------------------------------- broker to client


class Hello(Message, tag="welcome"):
    """The broker's answer to :class:`ClientHello`; ``version`` is what it speaks at most."""

    min_version: int
    version: int
    kernel: str
    build: str
    session: str
    pid: int
    state: str


class ErrorInfo(msgspec.Struct):
    """Why a request failed: ``code`` is the exit code of a command that ends with it."""

    code: int
    message: str


class Reply(Message, tag="reply"):
    """Answer to the request ``id``: ``result`` when ``ok``, else ``error``."""

    id: int
    ok: bool
    result: Any = None
    error: ErrorInfo | None = None


class Fault(Message, tag="fault"):
    """The connection cannot go on, and why. The broker closes it after this frame."""

    code: int
    message: str


class Publish(Message, tag="publish"):
    """Events of a session, contiguous and in order; already written to its journal."""

    session: str
    events: list[Event]


class Durable(Message, tag="durable"):
    """Every event of the session up to ``seq`` has reached the disk."""

    session: str
    seq: int


class Telemetry(Message, tag="telemetry"):
    """Measurements that no journal keeps: device memory, tokens a second, progress of a job."""

    data: dict[str, Any]


class Status(Message, tag="status"):
    """The kernel's own state: ``state``, ``detail``, ``progress``, ``clients``, ``session``..."""

    data: dict[str, Any]


class Resync(Message, tag="resync"):
    """This client fell behind: what was queued for it is gone. Attach again after its last event."""

    session: str
    seq: int


# ---------------------------------------------------------------- broker to worker


class Load(Message, tag="load"):
    """Load a model. ``store`` is the artifacts' folder; ``halvings`` says how often batches must be halved
    because memory ran out; ``budget`` is how many seconds loading may take."""

    source: str
    dtype: str = "auto"
    device: str = "auto"
    quantize: str | None = None
    store: str = ""
    halvings: int = 0
    budget: float = 3600.0


class Run(Message, tag="run"):
    """Start a job, or go on with one.

    ``committed`` are the cells that its journal, and the table that it extends, already hold, the first ``own``
    of them its journal; ``first_row`` is the number of its first row in that table. ``known`` says what the rows of
    those cells measured, by cell, to the kinds of job that go on from it. ``made_with`` are the digests of the
    directions that the job's own cells were made with, ``pictures`` what the user calls its pictures, by digest.
    """

    job: str
    kind: str
    spec: dict[str, Any]
    priority: str
    committed: list[str] = []
    known: dict[str, dict[str, Any]] = {}
    losses: int = 0
    first_row: int = 0
    made_with: dict[str, str] = {}
    own: int = 0
    pictures: dict[str, str] = {}


class Control(Message, tag="control"):
    """``pause``, ``resume`` or ``cancel`` a job at its next step."""

    job: str
    action: str


class Knob(Message, tag="knob"):
    """Turn the strength of one edit of one running row."""

    job: str
    row: str
    edit: int
    strength: float | str


class Query(Message, tag="query"):
    """A short question to the model, answered between two steps."""

    id: int
    method: str
    params: dict[str, Any] = {}


class Trace(Message, tag="trace"):
    """Ask for the spans recorded for a job; answered by an :class:`Answer`."""

    id: int
    job: str


class Quit(Message, tag="quit"):
    """End after the current step."""


# ---------------------------------------------------------------- worker to broker


class Started(Message, tag="started"):
    """The worker's first frame: its build and process id."""

    build: str
    pid: int


class Progress(Message, tag="progress"):
    """How far loading has come: ``fraction`` from 0 to 1 in ``phase``."""

    phase: str
    fraction: float


class Ready(Message, tag="ready"):
    """The model is loaded; ``info`` is ``ModelInfo.to_dict()``."""

    info: dict[str, Any]


class Emit(Message, tag="emit"):
    """An event for the journal."""

    kind: str
    data: dict[str, Any]


class Saved(Message, tag="saved"):
    """An artifact lies in the store's incoming folder; the broker adopts it as ``name``."""

    job: str
    name: str
    kind: str


class Measured(Message, tag="measured"):
    """Telemetry for the clients."""

    data: dict[str, Any]


class Paused(Message, tag="paused"):
    """The job stands still at a step boundary (or goes on again)."""

    job: str
    paused: bool


class Finished(Message, tag="finished"):
    """A job has ended: ``done``, ``failed`` or ``cancelled``."""

    job: str
    status: str
    seconds: float
    error: str | None = None
    code: int = 1
    audit: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


class Answer(Message, tag="answer"):
    """Answer to a :class:`Query`."""

    id: int
    ok: bool
    result: Any = None
    error: ErrorInfo | None = None


class Beat(Message, tag="beat"):
    """A sign of life from the beat thread: the phase, how long it has run and how long it may."""

    phase: str
    elapsed: float
    budget: float


class Fatal(Message, tag="fatal"):
    """The worker cannot go on and ends with this line; ``code`` as for a command."""

    message: str
    code: int = 1


ClientMessage = ClientHello | Request | Ping | Pong
BrokerMessage = Hello | Reply | Fault | Publish | Durable | Telemetry | Status | Resync | Ping | Pong
ToWorker = Load | Run | Control | Knob | Query | Trace | Quit
FromWorker = Started | Progress | Ready | Emit | Saved | Measured | Paused | Finished | Answer | Beat | Fatal

_M = TypeVar("_M")
_ENCODER = msgspec.msgpack.Encoder()
_CLIENT: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_BROKER: msgspec.msgpack.Decoder[BrokerMessage] = msgspec.msgpack.Decoder(BrokerMessage)
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: Message) -> bytes:
    """The message as one frame. Raises :class:`ProtocolError` when it is longer than a frame may be."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(body):,} bytes is over the limit, {MAX_FRAME:,}: ask for less")
    return LENGTH.pack(len(body)) + body


def _decode(decoder: msgspec.msgpack.Decoder[_M], body: bytes | memoryview) -> _M:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a frame holds an unexpected message: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"a frame is not msgpack: {error}") from error


def decode_client(body: bytes | memoryview) -> ClientMessage:
    """A client's message, checked."""
    return _decode(_CLIENT, body)


def decode_broker(body: bytes | memoryview) -> BrokerMessage:
    """A broker's message to a client, checked."""
    return _decode(_BROKER, body)


def decode_to_worker(body: bytes | memoryview) -> ToWorker:
    """A broker's message to its worker, checked."""
    return _decode(_TO_WORKER, body)


def decode_from_worker(body: bytes | memoryview) -> FromWorker:
    """A worker's message, checked."""
    return _decode(_FROM_WORKER, body)


def check_length(length: int, limit: int = MAX_FRAME) -> int:
    """The announced length of a frame, or :class:`ProtocolError` when it is over ``limit`` bytes."""
    if length > limit:
        raise ProtocolError(
            f"a frame announces {length:,} bytes, the limit is {limit:,}: "
            "the other side does not speak this protocol"
        )
    return length


class Frames:
    """Cuts a stream of bytes into frame bodies, however it was chopped up on the way."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add ``data``; yield each complete body. Raises :class:`ProtocolError` on a long frame."""
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            length = check_length(LENGTH.unpack_from(self._buffer)[0], self._limit)
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield body

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)


async def read_frame(reader: asyncio.StreamReader, limit: int = MAX_FRAME) -> bytes | None:
    """The next body, or None at a clean end. Raises :class:`ProtocolError` on a long or a torn frame."""
    try:
        head = await reader.readexactly(LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ProtocolError("the connection ended within a frame") from error
        return None
    try:
        return await reader.readexactly(check_length(LENGTH.unpack(head)[0], limit))
    except asyncio.IncompleteReadError as error:
        raise ProtocolError("the connection ended within a frame") from error


def negotiate(min_version: int, version: int, kernel: str, *, here: str = "labtui") -> int:
    """The version both sides speak, given the range the other side offers.

    ``here`` names this side in the message. Raises :class:`UsageError` that says which side is older
    and what to do.
    """
    common = min(version, VERSION)
    if common >= max(min_version, MIN_VERSION):
        return common
    ranges = f"{here} speaks protocol {MIN_VERSION} to {VERSION}, the other side {min_version} to {version}"
    older = "the other side" if version < MIN_VERSION else here
    raise UsageError(
        f"kernel {kernel!r}: {ranges}; {older} is older: install the same labtui on both, "
        f"then `labtui kernel stop {kernel}` and `labtui kernel start {kernel}`"
    )
