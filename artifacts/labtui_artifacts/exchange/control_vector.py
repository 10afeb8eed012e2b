"""llama.cpp control vectors: a GGUF file with a float32 tensor ``direction.<k>`` for each steered layer.

``direction.<k>`` is added to the residual stream after block k, counted from 0: the loader stores it at
(k - 1) * n_embd and the adapter reads layer il back from (il - 1) * n_embd, so the two shifts cancel. Block 0
cannot be steered there (``direction.0`` is refused). See llama.cpp's ``common_control_vector_load`` and
``llama_adapter_cvec::apply``; the container is described in ggml's docs/gguf.md.

Read and written here byte by byte: every count and length is bounded by the file's size before it is used.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from labtui_artifacts.errors import BadFile
from labtui_artifacts.exchange.base import (
    Imported,
    Reading,
    as_float32,
    block_output,
    block_vectors,
    model_family,
    read_limited,
    text_of,
)
from labtui_artifacts.files import Array, write_atomically
from labtui_artifacts.kinds.direction import DirectionFile

CONVENTION = "direction.<k> is added after block k, counted from 0 (llm.<k>.out); block 0 cannot be steered"
MAX_FILE = 512 << 20
ALIGNMENT = 32
_F32 = 0
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DIRECTION = re.compile(r"direction\.(0|[1-9]\d{0,3})")
_HINTS = {"qwen3_moe": "qwen3moe", "qwen3_next": "qwen3next", "qwen3_5": "qwen35"}


class _Cursor:
    """Reads little-endian values from bytes and refuses to run past their end."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data, self._path, self.at = data, path, 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise BadFile(f"{self._path}: truncated or damaged GGUF: {count} bytes wanted at byte {self.at}")
        self.at += count
        return self._data[self.at - count : self.at]

    def seek(self, place: int) -> None:
        if place > len(self._data):
            raise BadFile(f"{self._path}: truncated or damaged GGUF: a body at byte {place}, past its end")
        self.at = place

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def count(self, smallest: int) -> int:
        """A count of things that take at least ``smallest`` bytes each, so bounded by what is left."""
        value = self.number("Q")
        if value * smallest > len(self._data) - self.at:
            raise BadFile(f"{self._path}: damaged GGUF: {value} entries promised at byte {self.at}, too many")
        return value

    def text(self) -> str:
        return self.take(self.count(1)).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._skip_array()
        if kind not in _FORMATS:
            raise BadFile(f"{self._path}: damaged GGUF: value type {kind} at byte {self.at} is unknown")
        return self.number(_FORMATS[kind])

    def _skip_array(self) -> None:
        kind = self.number("I")
        if kind == _STRING:
            for _ in range(self.count(8)):
                self.text()
        elif kind in _SIZES:
            self.take(self.count(_SIZES[kind]) * _SIZES[kind])
        else:
            raise BadFile(f"{self._path}: damaged GGUF: an array of type {kind} at byte {self.at}")


def read(path: Path, reading: Reading) -> Imported:
    """Read a control vector; BadFile when it is another GGUF file or damaged. ``reading`` is not needed."""
    cursor = _Cursor(read_limited(path, MAX_FILE), path)
    if cursor.take(4) != b"GGUF":
        raise BadFile(f"{path}: not a GGUF file")
    version = cursor.number("I")
    if version not in (2, 3):
        raise BadFile(f"{path}: GGUF version {version}, expected 2 or 3 (little-endian)")
    tensors, pairs = cursor.count(24), cursor.count(13)
    said: dict[str, Any] = {}
    for _ in range(pairs):
        key = cursor.text()
        said[key] = cursor.value(cursor.number("I"))
    if said.get("general.architecture") != "controlvector":
        raise BadFile(
            f"{path}: a GGUF file of architecture {str(said.get('general.architecture'))[:40]!r}, "
            "expected 'controlvector'"
        )
    vectors = _vectors(cursor, path, tensors, said)
    extra = {"model_hint": text_of(said, "controlvector.model_hint")}
    return Imported(vectors, {key: value for key, value in extra.items() if value})


def write(direction: DirectionFile, out: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Write the block outputs from block 1 on as a control vector; returns notes on what was left out."""
    vectors, notes = block_vectors(direction, sites, first=1, what="a control vector")
    family = model_family(direction)
    pairs = [
        _pair("general.architecture", "controlvector"),
        _pair("controlvector.model_hint", _HINTS.get(family, family)),
        _key("controlvector.layer_count") + struct.pack("<Ii", 5, len(vectors)),
    ]
    infos, bodies, offset = [], [], 0
    for block, vector in vectors.items():
        body = vector.astype("<f4").tobytes()
        body += bytes(-len(body) % ALIGNMENT)
        infos.append(_key(f"direction.{block}") + struct.pack("<IQIQ", 1, vector.size, _F32, offset))
        bodies.append(body)
        offset += len(body)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(pairs)) + b"".join([*pairs, *infos])
    head += bytes(-len(head) % ALIGNMENT)

    def pour(handle: IO[bytes]) -> None:
        handle.write(head)
        handle.writelines(bodies)

    write_atomically(out, pour, expected=len(head) + offset)
    return notes


def _vectors(cursor: _Cursor, path: Path, count: int, said: dict[str, Any]) -> dict[str, Array]:
    found: list[tuple[int, int, int]] = []
    for _ in range(count):
        name = cursor.text()
        dimensions = cursor.number("I")
        if dimensions > 4:
            raise BadFile(f"{path}: damaged GGUF: tensor {name[:40]!r} has {dimensions} dimensions")
        shape = [cursor.number("Q") for _ in range(dimensions)]
        kind, offset = cursor.number("I"), cursor.number("Q")
        match = _DIRECTION.fullmatch(name)
        if match is None:
            continue
        if match[1] == "0":
            raise BadFile(f"{path}: has direction.0, which llama.cpp refuses: layers count from 1 there")
        if kind != _F32 or len(shape) != 1 or shape[0] == 0:
            raise BadFile(
                f"{path}: {name} is of type {kind} and shape {shape}, expected float32 (type 0) [d]"
            )
        found.append((int(match[1]), shape[0], offset))
    alignment = said.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise BadFile(
            f"{path}: damaged GGUF: general.alignment is {str(alignment)[:40]!r}, expected a power of 2"
        )
    base = cursor.at + (-cursor.at % alignment)
    return _bodies(cursor, path, found, base)


def _bodies(cursor: _Cursor, path: Path, found: list[tuple[int, int, int]], base: int) -> dict[str, Array]:
    if not found:
        raise BadFile(f"{path}: a control vector without a direction.<k> tensor")
    if len({block for block, _, _ in found}) != len(found):
        raise BadFile(f"{path}: damaged GGUF: a direction occurs twice")
    if len({width for _, width, _ in found}) > 1:
        raise BadFile(f"{path}: its directions differ in width: {sorted({width for _, width, _ in found})}")
    vectors: dict[str, Array] = {}
    for block, width, offset in sorted(found):
        cursor.seek(base + offset)
        raw = np.frombuffer(cursor.take(4 * width), dtype="<f4")
        vectors[block_output(block, str(path))] = as_float32(raw, f"{path}: direction.{block}")
    return vectors


def _key(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _pair(key: str, value: str) -> bytes:
    return _key(key) + struct.pack("<I", _STRING) + _key(value)
