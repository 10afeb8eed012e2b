"""The header of a GGUF file, read without its weights and checked against the file's size. Torch-free.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.header import open_regular

MAX_TENSORS = 200_000
MAX_ENTRIES = 10_000
MAX_ARRAY = 4_000_000
MAX_STRING = 16 << 20
MAX_TEXT = 512 << 20  # bytes of all strings together

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Array:
    """An array of the metadata, of which only the length is kept."""

    length: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself; ``tensors``: name to ggml type and shape (fastest axis last)."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    size: int

    def count(self, key: str) -> int:
        """A positive integer of the metadata; BadFile where it is absent or something else."""
        value = self.metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise BadFile(f"{self.path}: its metadata gives {key}={value!r}; expected a positive integer")
        return value


def read_header(path: Path) -> GgufHeader:
    """Read and check the header. BadFile for anything wrong: magic, version, bounds, extents."""
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        reader = _Reader(path, handle)
        if reader.take(4) != b"GGUF":
            raise BadFile(f"{path}: not a GGUF file (it does not begin with GGUF)")
        version = reader.number("I")
        if version not in (2, 3):
            order = " (big-endian?)" if version >= 1 << 16 else ""
            raise BadFile(f"{path}: GGUF version {version}{order}; versions 2 and 3 are read")
        tensors, entries = reader.number("Q"), reader.number("Q")
        if tensors > MAX_TENSORS or entries > MAX_ENTRIES:
            raise BadFile(
                f"{path}: damaged: {tensors} tensors and {entries} metadata entries cannot be right"
            )
        metadata = dict(_entry(reader) for _ in range(entries))
        infos = [_tensor(reader) for _ in range(tensors)]
        _check_extents(path, metadata, infos, handle.tell(), size)
    return GgufHeader(path, metadata, {name: (kind, shape) for name, kind, shape, *_ in infos}, size)


class _Reader:
    """Bounded reads from the front of the file."""

    def __init__(self, path: Path, handle: BufferedReader) -> None:
        self.path, self._handle = path, handle
        self._text = MAX_TEXT

    def take(self, count: int) -> bytes:
        data = self._handle.read(count)
        if len(data) != count:
            raise BadFile(f"{self.path}: truncated: the file ends inside its header")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        length = self.number("Q")
        self._text -= length
        if length > MAX_STRING or self._text < 0:
            raise BadFile(f"{self.path}: damaged: a string of {length} bytes in its header")
        return self.take(length).decode("utf-8", errors="replace")


def _entry(reader: _Reader) -> tuple[str, Any]:
    key, kind = reader.string(), reader.number("I")
    return key, _value(reader, kind, depth=0)


def _value(reader: _Reader, kind: int, depth: int) -> Any:
    if kind in _SCALARS:
        return reader.number(_SCALARS[kind])
    if kind == _STRING:
        return reader.string()
    if kind != _ARRAY or depth > 2:
        raise BadFile(f"{reader.path}: damaged: metadata of unknown type {kind}")
    inner, length = reader.number("I"), reader.number("Q")
    if length > MAX_ARRAY:
        raise BadFile(f"{reader.path}: damaged: an array of {length} entries in its header")
    if inner in _SCALARS:
        reader.take(length * struct.calcsize("<" + _SCALARS[inner]))
    else:
        for _ in range(length):
            _value(reader, inner, depth + 1)
    return Array(length)


def _tensor(reader: _Reader) -> tuple[str, str, tuple[int, ...], int, int]:
    """Name, ggml type, shape, offset in the data and length in bytes of one tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name, rank = reader.string(), reader.number("I")
    if rank > 8:
        raise BadFile(f"{reader.path}: damaged: tensor {name[:80]!r} has {rank} dimensions")
    shape = tuple(reader.number("Q") for _ in range(rank))
    code, offset = reader.number("I"), reader.number("Q")
    try:
        kind = GGMLQuantizationType(code)
        block, width = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        raise BadFile(f"{reader.path}: tensor {name[:80]!r} has the unknown ggml type {code}") from error
    elements = math.prod(shape)
    if elements > 1 << 48 or (shape and shape[0] % block):
        raise BadFile(f"{reader.path}: damaged: tensor {name[:80]!r} of shape {shape} cannot be {kind.name}")
    return name, kind.name, shape[::-1], offset, elements // block * width


def _check_extents(path: Path, metadata: dict[str, Any], infos: list[Any], header: int, size: int) -> None:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16:
        raise BadFile(f"{path}: damaged: an alignment of {alignment!r}")
    start = -(-header // alignment) * alignment
    reached = 0
    for name, _, _, offset, length in sorted(infos, key=lambda info: info[3]):
        if offset < reached or offset % alignment:
            raise BadFile(f"{path}: damaged: tensor {name[:80]!r} overlaps another or is not aligned")
        reached = offset + length
    if start + reached > size:
        raise BadFile(f"{path}: truncated: its header promises {start + reached} bytes, it has {size}")


def refuse_parts(header: GgufHeader) -> None:
    """UsageError for one file of several: a model must be one file."""
    if header.metadata.get("split.count", 0) not in (0, 1):
        raise UsageError(
            f"{header.path}: is one part of {header.metadata['split.count']}; join them first "
            "(llama-gguf-split --merge)"
        )
