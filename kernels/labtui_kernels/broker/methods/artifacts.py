"""The store of artifacts, through the broker that owns it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labtui_artifacts import paths
from labtui_artifacts.errors import UsageError
from labtui_kernels import protocol
from labtui_kernels.broker.methods.registry import Params, method

if TYPE_CHECKING:
    from labtui_artifacts.store import Store
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

CHUNK = 4 * 1024 * 1024
MAX_UPLOAD = 4 * 1024**3


class Kind(Params):
    """``kind``: only artifacts of it."""

    kind: str | None = None


class Named(Params):
    """``name`` of an artifact."""

    name: str


class Rename(Params):
    """``old`` and ``new`` names."""

    old: str
    new: str


class Get(Params):
    """A piece of an artifact's file, from ``offset`` on."""

    name: str
    offset: int = 0


class Put(Params):
    """A piece of a new artifact's file at ``offset``; ``last`` ends it and stores it as ``name``."""

    name: str
    offset: int
    data: bytes
    last: bool = False
    replace: bool = False


def store() -> Store:
    """The store in the home folder."""
    from labtui_artifacts.store import Store

    return Store(paths.artifacts())


def adopt(message: protocol.Saved) -> dict[str, Any]:
    """Move what the worker left into the store; the data of ``artifact.saved``."""
    header = store().adopt(message.name, replace=True)
    return {"name": message.name, "kind": header.kind, "meta": header.meta}


@method("artifact.list", Kind)
async def listing(broker: Broker, client: Client, params: Kind) -> list[dict[str, Any]]:
    """Every artifact: ``name, kind, bytes, modified, meta, problem``."""
    entries = await asyncio.to_thread(lambda: store().list(params.kind))
    return [msgspec.to_builtins(entry) for entry in entries]


@method("artifact.show", Named)
async def show(broker: Broker, client: Client, params: Named) -> dict[str, Any]:
    """An artifact's header: kind, meta, names, dtypes and shapes of its tensors; reference norms too."""
    return await asyncio.to_thread(_show, params.name)


def _show(name: str) -> dict[str, Any]:
    from labtui_artifacts.header import read_header

    path = store().path(name)
    header = read_header(path)
    tensors = {key: {"dtype": dtype, "shape": list(shape)} for key, (dtype, shape) in header.tensors.items()}
    shown = {
        "name": name,
        "kind": header.kind,
        "bytes": path.stat().st_size,
        "meta": header.meta,
        "tensors": tensors,
    }
    return shown | ({"references": _references(path)} if header.kind == "direction" else {})


def _references(path: Path) -> dict[str, dict[str, float | None]]:
    """The reference norms of a direction's sites (median and mean): tensors, so not in the header."""
    from labtui_artifacts.kinds.direction import DirectionFile

    found = DirectionFile.open(path).references
    return {site: {"median": median, "mean": mean} for site, (median, mean) in found.items()}


@method("artifact.get", Get)
async def get(broker: Broker, client: Client, params: Get) -> dict[str, Any]:
    """A piece of the file: ``data``, ``offset``, ``size`` of the whole."""
    return await asyncio.to_thread(_get, params)


def _get(params: Get) -> dict[str, Any]:
    path = store().path(params.name)
    with path.open("rb") as file:
        file.seek(max(0, params.offset))
        data = file.read(CHUNK)
        size = file.seek(0, 2)
    return {"data": data, "offset": params.offset, "size": size}


@method("artifact.put", Put)
async def put(broker: Broker, client: Client, params: Put) -> dict[str, Any] | None:
    """Receive a file in pieces; the last one has it checked, stored and announced."""
    part = paths.runtime() / f".upload-{broker.config.name}-{client.number}"
    if params.offset + len(params.data) > MAX_UPLOAD:
        raise UsageError(f"artifact {params.name!r}: longer than {MAX_UPLOAD:,} bytes")
    await asyncio.to_thread(_receive, part, params)
    if not params.last:
        return None
    try:
        header = await asyncio.to_thread(lambda: store().put_file(params.name, part, replace=params.replace))
    finally:
        part.unlink(missing_ok=True)
    data = {"name": params.name, "kind": header.kind, "meta": header.meta}
    broker.sessions.need_current().append("artifact.saved", data)
    return data


def _receive(part: Path, params: Put) -> None:
    mode = "r+b" if params.offset else "w+b"
    if params.offset and (not part.exists() or part.stat().st_size != params.offset):
        raise UsageError(f"artifact {params.name!r}: pieces must come in order, from offset 0")
    with part.open(mode) as file:
        file.seek(params.offset)
        file.write(params.data)


@method("artifact.rename", Rename)
async def rename(broker: Broker, client: Client, params: Rename) -> None:
    """Rename an artifact."""
    await asyncio.to_thread(lambda: store().rename(params.old, params.new))
    broker.sessions.need_current().append("artifact.renamed", {"old": params.old, "new": params.new})


@method("artifact.delete", Named)
async def delete(broker: Broker, client: Client, params: Named) -> None:
    """Remove an artifact."""
    await asyncio.to_thread(lambda: store().delete(params.name))
    broker.sessions.need_current().append("artifact.deleted", {"name": params.name})
