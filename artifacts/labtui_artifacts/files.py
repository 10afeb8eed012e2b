"""Writing and reading artifact files: whole or not at all, private, without torch.

A file is written beside its place under a temporary name, fsynced, renamed over it, and the folder is
fsynced: whoever looks sees the old file or the new one. Bodies are read tensor by tensor, not mapped: a map
would turn a file that shrinks under us (on a shared file system) into SIGBUS.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from labtui_artifacts import kinds
from labtui_artifacts.errors import BadFile, JobFailed, UsageError
from labtui_artifacts.header import MAX_META, Header, Layout, open_regular, read_header

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}
"""The NumPy dtype of each safetensors dtype that can be read and written (bf16 and fp8 through ml_dtypes)."""

NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class ArtifactFile:
    """An artifact on disk: its header in memory, its tensors read when asked for."""

    header: Header

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def kind(self) -> str:
        return self.header.kind

    @property
    def meta(self) -> dict[str, Any]:
        return self.header.meta

    def __contains__(self, name: object) -> bool:
        return name in self.header.tensors

    def tensor(self, name: str) -> Array:
        """The whole tensor ``name``; BadFile when the file lacks it or has changed since it was opened."""
        return read_tensor(self.header, name)

    def rows(self, name: str, start: int, stop: int) -> Array:
        """Rows ``start:stop`` (axis 0) of tensor ``name``, reading only their bytes."""
        return read_tensor(self.header, name, start, stop)

    def tensors(self) -> dict[str, Array]:
        """Every tensor by name."""
        return {name: self.tensor(name) for name in self.header.tensors}


def read(path: str | os.PathLike[str], *, kind: str | Sequence[str] | None = None) -> ArtifactFile:
    """Open an artifact; errors as ``header.read_header``."""
    return ArtifactFile(read_header(path, kind=kind))


def read_tensor(
    source: Header | Layout, name: str, start: int | None = None, stop: int | None = None
) -> Array:
    """Tensor ``name`` of a file whose header was read, or its rows ``start:stop``; a writable copy."""
    if name not in source.tensors:
        raise BadFile(f"{source.path}: has no tensor {name!r}")
    stored, shape = source.tensors[name]
    if stored not in DTYPES:
        raise BadFile(f"{source.path}: tensor {name!r} is {stored}, which this program does not read")
    dtype = DTYPES[stored]
    begin, end = source.extents[name]
    if start is not None or stop is not None:
        if not shape:
            raise UsageError(f"{source.path}: tensor {name!r} is a scalar and has no rows")
        first, last, _ = slice(start, stop).indices(shape[0])
        last = max(first, last)
        row = math.prod(shape[1:]) * dtype.itemsize
        begin, end = begin + first * row, begin + last * row
        shape = (last - first, *shape[1:])
    with open_regular(source.path) as handle:
        if os.fstat(handle.fileno()).st_size != source.size:
            raise BadFile(f"{source.path}: has changed since its header was read, open it again")
        handle.seek(begin)
        data = bytearray(end - begin)
        if handle.readinto(data) != end - begin:
            raise BadFile(f"{source.path}: truncated while reading tensor {name!r}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def write(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, Array],
    meta: Mapping[str, Any],
    *,
    min_reader: int = 1,
) -> Header:
    """Write one artifact, atomically and durably, mode 0600; returns its header.

    ``tensors`` are NumPy arrays of any dtype in ``DTYPES``, ``meta`` what JSON can hold (at most 1 MB of it).
    Raises UsageError for what cannot be stored, and JobFailed with one line when the disk is full: the file
    that was there before is then still whole.
    """
    place = Path(path)
    if kind not in kinds.SCHEMAS:
        raise UsageError(f"{place}: unknown kind {kind!r}, expected one of {', '.join(kinds.SCHEMAS)}")
    text = meta_json(meta, place)
    said = {
        "labtui.kind": kind,
        "labtui.schema": str(kinds.SCHEMAS[kind]),
        "labtui.min_reader": str(min_reader),
        "labtui.meta": text,
    }
    write_safetensors(place, tensors, said)
    return read_header(place, kind=kind)


def write_safetensors(place: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write any safetensors file atomically; errors as ``write``."""
    arrays = {name: _storable(place, name, array) for name, array in tensors.items()}
    # The order of the reference writer: wide elements first, so that every body is aligned to its dtype.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    reached = 0
    for name in order:
        array = arrays[name]
        end = reached + array.nbytes
        shape = list(array.shape)
        entries[name] = {"dtype": NAMES[array.dtype], "shape": shape, "data_offsets": [reached, end]}
        reached = end
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)

    def pour(out: IO[bytes]) -> None:
        out.write(struct.pack("<Q", len(raw)))
        out.write(raw)
        for name in order:
            out.write(arrays[name].reshape(-1).view(np.uint8).data)

    write_atomically(place, pour, expected=8 + len(raw) + reached)


def write_atomically(
    place: Path, pour: Callable[[IO[bytes]], object], *, expected: int | None = None
) -> None:
    """Create or replace ``place`` with what ``pour`` writes, mode 0600, fsynced with its folder.

    ``expected`` is the size in bytes, for the message of a full disk.
    """
    part = place.parent / f".{place.name[:80]}.{secrets.token_hex(6)}.part"
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as out:
                pour(out)
                out.flush()
                os.fsync(out.fileno())
            part.replace(place)
        except BaseException:
            with suppress(FileNotFoundError):
                part.unlink()
            raise
        sync_folder(place.parent)
    except OSError as problem:
        raise _write_failed(place, problem, expected) from problem


def copy(source: Path, out: Path) -> None:
    """Copy a regular file atomically and durably to ``out``, mode 0600; errors as ``write_atomically``."""
    with open_regular(source) as handle:

        def pour(target: IO[bytes]) -> None:
            while block := handle.read(1 << 20):
                target.write(block)

        write_atomically(out, pour, expected=os.fstat(handle.fileno()).st_size)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as problem:  # some file systems have no fsync for folders
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def meta_json(meta: Mapping[str, Any], place: Path | str = "artifact") -> str:
    """``meta`` as the text of ``labtui.meta``; UsageError when it has NaN, strange types or is over 1 MB."""
    try:
        text = _dumps(dict(meta), ascii_only=False)
        if not _encodable(text):  # half of a surrogate pair, from a token cut in two, survives as an escape
            text = _dumps(dict(meta), ascii_only=True)
    except (TypeError, ValueError) as problem:
        raise UsageError(f"{place}: meta cannot be stored as JSON ({problem})") from problem
    if len(text) > MAX_META:
        raise UsageError(
            f"{place}: meta has {len(text)} characters, at most {MAX_META} fit in a header: "
            "store the long part as a tensor"
        )
    return text


def _dumps(value: Any, *, ascii_only: bool) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False, default=_plain)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _storable(place: Path, name: str, array: Array) -> Array:
    value = np.asarray(array)
    if not name or name == "__metadata__" or not name.isprintable():
        raise UsageError(f"{place}: {name!r} cannot name a tensor")
    if value.dtype.byteorder == ">":
        value = value.astype(value.dtype.newbyteorder("<"))
    if value.dtype not in NAMES:
        raise UsageError(
            f"{place}: tensor {name!r} has dtype {value.dtype}, expected one of {', '.join(DTYPES)}"
        )
    return np.ascontiguousarray(value).reshape(value.shape)


def _write_failed(place: Path, problem: OSError, expected: int | None) -> JobFailed:
    if problem.errno in _FULL:
        need = "" if expected is None else f", it needs {expected} bytes"
        status = os.statvfs(place.parent)
        room = "the quota or the disk is full" if problem.errno != errno.ENOSPC else "the disk is full"
        free = f"{status.f_bavail * status.f_frsize} bytes are free in {place.parent}"
        return JobFailed(f"{place}: not written, {room}{need} ({free}): make room and try again")
    return JobFailed(f"{place}: not written ({problem.strerror}): check the folder {place.parent}")
