"""Reading the header of a safetensors file without its body, from a file that may be hostile.

A safetensors file is an 8-byte little-endian length, that many bytes of JSON (tensor names with their dtype,
shape and byte range, and a ``__metadata__`` map of strings), and the bodies. The format's own rules are all
checked here, so nothing that reads a body afterwards can be led outside the file: no gaps, no overlaps,
ranges that fit dtype and shape, and exactly as many bytes as the header promises.
Format: https://github.com/huggingface/safetensors (README, "Format").

Our own files add ``labtui.kind``, ``labtui.schema``, ``labtui.min_reader`` and ``labtui.meta`` (JSON).
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from labtui_artifacts import kinds
from labtui_artifacts.errors import BadFile, UsageError

MAX_HEADER = 16 << 20
"""Longest header read, in bytes. Our own stay under 1 MB; the largest models need about 5 MB."""
MAX_META = 1 << 20
"""Longest ``labtui.meta`` accepted, in bytes of JSON."""
MAX_TENSORS = 200_000
MAX_NAME = 512
MAX_DIMENSIONS = 8

DTYPE_BITS: dict[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one element of each safetensors dtype."""


class TensorInfo(NamedTuple):
    """A tensor's safetensors dtype ("F32") and shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What any safetensors file says about itself. ``extents`` are absolute byte ranges ``(start, end)``."""

    path: Path
    size: int
    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    extents: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Header:
    """The header of one of our files; ``tensors`` maps a name to its dtype and shape."""

    path: Path
    kind: str
    schema: int
    min_reader: int
    meta: dict[str, Any]
    tensors: dict[str, TensorInfo]
    extents: dict[str, tuple[int, int]]
    size: int


def read_header(path: str | os.PathLike[str], *, kind: str | Sequence[str] | None = None) -> Header:
    """The header of a labtui file, checked; bodies are not read.

    ``kind`` names the kind (or kinds) that will do. Raises UsageError when there is no such file, BadFile
    with one line when the file is damaged, no labtui file, of another kind, or too new (said by its number).
    """
    return header_of(read_layout(path), kind=kind)


def header_of(layout: Layout, *, kind: str | Sequence[str] | None = None) -> Header:
    """Read the labtui part of a layout; errors as ``read_header``."""
    path, said = layout.path, layout.metadata
    if "labtui.kind" not in said:
        raise BadFile(f"{path}: a safetensors file, but not one of labtui's (its header has no labtui.kind)")
    min_reader = _integer(path, said, "labtui.min_reader")
    if min_reader > kinds.READER:
        raise BadFile(
            f"{path}: needs a reader of version {min_reader}, this labtui has version {kinds.READER}: "
            "update labtui to open it"
        )
    found = said["labtui.kind"]
    if found not in kinds.SCHEMAS:
        raise BadFile(f"{path}: unknown kind {_shown(found)}, expected one of {', '.join(kinds.SCHEMAS)}")
    wanted = (kind,) if isinstance(kind, str) else kind
    if wanted is not None and found not in wanted:
        raise BadFile(f"{path}: holds {_a(found)}, expected {' or '.join(map(_a, wanted))}")
    schema = _integer(path, said, "labtui.schema")
    text = said.get("labtui.meta", "{}")
    if len(text) > MAX_META:
        raise BadFile(f"{path}: labtui.meta has {len(text)} characters, at most {MAX_META} are accepted")
    meta = _object(path, text, "labtui.meta")
    try:
        meta = kinds.upgrade(found, schema, meta)
    except (KeyError, TypeError, ValueError) as problem:
        raise BadFile(
            f"{path}: a {found} of schema {schema} that cannot be upgraded ({problem})"
        ) from problem
    return Header(path, found, schema, min_reader, meta, layout.tensors, layout.extents, layout.size)


def read_layout(path: str | os.PathLike[str]) -> Layout:
    """The layout of any safetensors file (a model's too), fully checked; bodies are not read.

    Raises UsageError when there is no such file and BadFile with one line for anything wrong in it.
    """
    place = Path(path)
    with open_regular(place) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size < 10:
            raise BadFile(
                f"{place}: {size} bytes, too short for a safetensors file (truncated or another format)"
            )
        length = struct.unpack("<Q", _exactly(handle, 8, place))[0]
        if length > MAX_HEADER:
            raise BadFile(
                f"{place}: not a safetensors file (its first 8 bytes promise a header of {length} bytes, "
                f"at most {MAX_HEADER} are accepted)"
            )
        if length < 2 or 8 + length > size:
            raise BadFile(
                f"{place}: truncated: a header of {length} bytes is promised, the file has {size} in all"
            )
        raw = _exactly(handle, length, place)
    return parse_layout(raw, place, size)


def parse_layout(raw: bytes, path: Path, size: int) -> Layout:
    """Check the JSON bytes of a header against the size of its file (both in bytes)."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadFile(f"{path}: damaged header: not UTF-8 at byte {8 + problem.start}") from problem
    entries = _object(path, text, "header")
    metadata = _metadata(path, entries.pop("__metadata__", {}))
    if len(entries) > MAX_TENSORS:
        raise BadFile(f"{path}: {len(entries)} tensors, at most {MAX_TENSORS} are accepted")
    body = 8 + len(raw)
    tensors: dict[str, TensorInfo] = {}
    extents: dict[str, tuple[int, int]] = {}
    for name, entry in entries.items():
        dtype, shape, start, end = _tensor(path, name, entry)
        tensors[name] = TensorInfo(dtype, shape)
        extents[name] = (body + start, body + end)
    _check_extents(path, extents, body, size)
    return Layout(path, size, metadata, tensors, extents)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read bytes; a missing one is a UsageError, a pipe or device a BadFile."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise BadFile(f"{path}: is a folder, expected a file")
        if not stat.S_ISREG(kind):
            raise BadFile(f"{path}: is not a regular file")
        return path.open("rb")
    except FileNotFoundError as problem:
        raise UsageError(f"{path}: no such file") from problem
    except OSError as problem:
        raise BadFile(f"{path}: cannot be read ({problem.strerror})") from problem


def _exactly(handle: Any, count: int, path: Path) -> bytes:
    data = handle.read(count)
    if len(data) != count:
        raise BadFile(f"{path}: truncated while reading its header ({len(data)} of {count} bytes)")
    return data


def _object(path: Path, text: str, what: str) -> dict[str, Any]:
    """Parse JSON that must be an object: duplicate keys, NaN, and runaway depth or digits are refused."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as problem:
        raise BadFile(f"{path}: damaged {what}: JSON nested too deeply") from problem
    except ValueError as problem:
        raise BadFile(f"{path}: damaged {what}: not the JSON expected ({_one_line(problem)})") from problem
    if not isinstance(value, dict):
        raise BadFile(f"{path}: damaged {what}: expected a JSON object, found {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _metadata(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadFile(f"{path}: damaged header: __metadata__ must map names to strings")
    return value


def _tensor(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    where = f"{path}: damaged header: tensor {_shown(name)}"
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise BadFile(f"{where}: its name must be 1 to {MAX_NAME} printable characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadFile(f"{where}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise BadFile(f"{where}: unknown dtype {_shown(dtype)}, expected one of {', '.join(DTYPE_BITS)}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise BadFile(f"{where}: shape must be at most {MAX_DIMENSIONS} whole numbers from 0")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadFile(f"{where}: data_offsets must be two rising whole numbers")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise BadFile(
            f"{where}: {dtype} {shape} needs {bits / 8:g} bytes, its range has {offsets[1] - offsets[0]}"
        )
    return dtype, tuple(shape), offsets[0], offsets[1]


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _check_extents(path: Path, extents: dict[str, tuple[int, int]], body: int, size: int) -> None:
    reached = body
    for name, (start, end) in sorted(extents.items(), key=lambda item: item[1]):
        if start != reached:
            fault = "overlaps another" if start < reached else "leaves a gap before it"
            raise BadFile(f"{path}: damaged header: the range of tensor {_shown(name)} {fault}")
        reached = end
    if reached > size:
        raise BadFile(f"{path}: truncated: its header promises {reached} bytes, it has {size}")
    if reached < size:
        raise BadFile(f"{path}: damaged: {size - reached} bytes after the last tensor that no tensor owns")


def _integer(path: Path, said: dict[str, str], key: str) -> int:
    text = said.get(key, "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadFile(f"{path}: damaged header: {key} must be a whole number, found {_shown(text)}")
    return int(text)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:120]
