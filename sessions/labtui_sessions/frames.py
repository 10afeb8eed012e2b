"""How events lie in a file: a header of 16 bytes, then frames of ``u32 length, u32 crc32, payload``.

All numbers are little-endian. The CRC is that of the payload, the msgpack of one event. ``scan`` walks a
file and says how far it is sound; it never trusts a length that it has not checked.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import dataclass, field

from labtui_artifacts.errors import BadFile

from .events import SCHEMA, Event, decode

MAGIC = b"LABTUI-J"
MIN_READER = 1
"""The oldest reader that understands what this version writes."""
HEADER = struct.Struct("<8sHHI")
FRAME = struct.Struct("<II")
MAX_PAYLOAD = 8 * 1024 * 1024
"""Largest payload of one event: half of the longest frame on the wire."""
_MIN_PAYLOAD = 12  # array header, one-byte seq, double, one-byte kind, map header


@dataclass
class Scan:
    """What was found in a journal file.

    ``offsets[i]`` is where the frame of event ``first + i`` begins; ``end`` is where the sound part ends,
    ``size`` the length of the file. ``resumes`` is the offset of the next sound frame after a damaged
    stretch in the middle of the file, and None when nothing sound follows.
    """

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    first: int = 1
    end: int = HEADER.size
    size: int = 0
    resumes: int | None = None

    @property
    def last(self) -> int:
        """Sequence number of the last sound event; ``first - 1`` where there is none."""
        return self.first + len(self.offsets) - 1

    @property
    def sound(self) -> bool:
        """The file ends with its last sound frame."""
        return self.end == self.size


def header() -> bytes:
    """The first 16 bytes of a journal: magic, schema, oldest reader, reserved."""
    return HEADER.pack(MAGIC, SCHEMA, MIN_READER, 0)


def check_header(data: bytes | memoryview, where: str) -> None:
    """BadFile unless the data begins with the header of a journal that this version can read."""
    if len(data) < HEADER.size or bytes(data[:8]) != MAGIC:
        raise BadFile(f"{where}: not a session journal (it does not begin with {MAGIC.decode()})")
    _, schema, min_reader, _ = HEADER.unpack_from(data)
    if min_reader > SCHEMA:
        raise BadFile(
            f"{where}: journal of schema {schema} needs a reader of schema {min_reader} or newer, "
            f"this labtui reads {SCHEMA}: upgrade labtui"
        )


def frame(payload: bytes) -> bytes:
    """One frame."""
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def payload_at(data: memoryview, offset: int) -> memoryview | None:
    """The payload of the frame at that offset, or None when there is no sound frame."""
    if offset + FRAME.size > len(data):
        return None
    length, crc = FRAME.unpack_from(data, offset)
    start = offset + FRAME.size
    if not _MIN_PAYLOAD <= length <= MAX_PAYLOAD or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if zlib.crc32(payload) == crc else None


def event_at(data: memoryview, offset: int) -> tuple[Event, int] | None:
    """The event of the frame at that offset and the offset after it, or None."""
    payload = payload_at(data, offset)
    if payload is None:
        return None
    try:
        return decode(payload), offset + FRAME.size + len(payload)
    except BadFile:
        return None


def scan(data: memoryview, offset: int = HEADER.size, seq: int = 0) -> Scan:
    """Walk the frames from ``offset`` on; the first event must be ``seq + 1``, and each one more."""
    found = Scan(first=seq + 1, end=offset, size=len(data))
    while (hit := event_at(data, found.end)) is not None and hit[0].seq == seq + 1:
        seq += 1
        found.offsets.append(found.end)
        found.end = hit[1]
    if not found.sound:
        found.resumes = _next_sound(data, found.end, seq)
    return found


def _next_sound(data: memoryview, start: int, seq: int) -> int | None:
    """Offset of the first sound frame after a damaged stretch, with a later sequence number.

    A frame's payload begins with 0x94 (an array of four); every offset where that and the length fit is
    tried, in chunks, until the bytes checked exceed a bound that honest files stay far below.
    """
    checked, limit = 0, 64 * MAX_PAYLOAD
    step = 1 << 20
    for base in range(start + 1, len(data) - FRAME.size - _MIN_PAYLOAD, step):
        for offset in _candidates(data, base, min(base + step, len(data) - FRAME.size)):
            checked += FRAME.unpack_from(data, offset)[0]
            hit = event_at(data, offset)
            # A damaged byte costs at least one frame; fewer bytes than frames were never there.
            if hit is not None and seq < hit[0].seq <= seq + 1 + (offset - start) // _MIN_PAYLOAD:
                return offset
            if checked > limit:
                return None
    return None


def _candidates(data: memoryview, start: int, stop: int) -> list[int]:
    import numpy as np  # here, because only a damaged journal needs it, and a kernel starts without

    raw = np.frombuffer(data[start : stop + FRAME.size], np.uint8)
    count = min(stop - start, len(raw) - FRAME.size)
    if count <= 0:
        return []
    parts = [raw[i : i + count].astype(np.uint32) << (8 * i) for i in range(4)]
    lengths = parts[0] | parts[1] | parts[2] | parts[3]
    ends = np.arange(start, start + count, dtype=np.int64) + FRAME.size + lengths
    fits = (lengths >= _MIN_PAYLOAD) & (lengths <= MAX_PAYLOAD) & (ends <= len(data))
    return (np.flatnonzero(fits & (raw[FRAME.size : FRAME.size + count] == 0x94)) + start).tolist()
