"""The store of artifacts from the command line: through the kernel that owns it, or here under its lock."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from labtui.client import AsyncLab
from labtui.options import Target
from labtui_artifacts import exchange, paths
from labtui_artifacts.errors import Unreachable
from labtui_artifacts.exchange import Reading
from labtui_artifacts.files import write_atomically
from labtui_artifacts.kinds.direction import DirectionFile
from labtui_artifacts.store import Store

PIECE = 1024 * 1024
ANSWER_SECONDS = 120.0
"""Longest wait for one answer: a piece may have to cross a slow line."""
T = TypeVar("T")


class Shelf(Protocol):
    """What the commands need of a store, wherever it is."""

    def list(self, kind: str | None) -> list[dict[str, Any]]: ...

    def show(self, name: str) -> dict[str, Any]: ...

    def bring(
        self, path: Path, name: str | None, format: str | None, reading: Reading, replace: bool
    ) -> tuple[str, str, tuple[str, ...]]:
        """Import a local file: (name, kind, notes)."""
        ...

    def take(
        self, name: str, out: Path, format: str, sites: Sequence[str] | None, replace: bool
    ) -> tuple[str, ...]:
        """Export to a local file: notes."""
        ...

    def rename(self, old: str, new: str) -> None: ...

    def delete(self, name: str) -> None: ...


def find(target: Target, *, changing: bool = False) -> Shelf:
    """The shelf for a command: a kernel's when one was named, is reached with ``--via``, or (for a change, so
    that its session notes it) is the only one running here; else the store of this home folder, locked.
    """
    settled = target.settled()
    if target.kernel or settled.via:
        return KernelShelf(settled.kernel, settled.via)
    if changing:
        from labtui_kernels.broker import registry

        alive = registry.alive()
        if settled.kernel in alive or len(alive) == 1:
            return KernelShelf(settled.kernel if settled.kernel in alive else alive[0], None)
    return LocalShelf(Store(paths.artifacts()))


class LocalShelf:
    """The store of this home folder; its lock guards every change."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def list(self, kind: str | None) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(entry) for entry in self.store.list(kind)]

    def show(self, name: str) -> dict[str, Any]:
        file = self.store.get(name)
        header = file.header
        tensors = {
            key: {"dtype": info.dtype, "shape": list(info.shape)} for key, info in header.tensors.items()
        }
        shown = {
            "name": name,
            "kind": header.kind,
            "bytes": header.size,
            "meta": header.meta,
            "tensors": tensors,
        }
        if header.kind == "direction":
            known = DirectionFile.view(file, name).references
            shown["references"] = {site: {"median": low, "mean": mean} for site, (low, mean) in known.items()}
        return shown

    def bring(
        self, path: Path, name: str | None, format: str | None, reading: Reading, replace: bool
    ) -> tuple[str, str, tuple[str, ...]]:
        stored, header, notes = exchange.import_into(
            self.store, path, name=name, format=format, reading=reading, replace=replace
        )
        return stored, header.kind, notes

    def take(
        self, name: str, out: Path, format: str, sites: Sequence[str] | None, replace: bool
    ) -> tuple[str, ...]:
        return exchange.export_from(self.store, name, out, format=format, sites=sites, replace=replace)

    def rename(self, old: str, new: str) -> None:
        self.store.rename(old, new)

    def delete(self, name: str) -> None:
        self.store.delete(name)


class KernelShelf:
    """The store of a kernel, maybe on another machine: files are converted here and travel in pieces."""

    def __init__(self, kernel: str | None, via: str | None) -> None:
        self.kernel = kernel
        self.via = via

    def list(self, kind: str | None) -> list[dict[str, Any]]:
        return self._ask(lambda lab: _request(lab, "artifact.list", kind=kind))

    def show(self, name: str) -> dict[str, Any]:
        return self._ask(lambda lab: _request(lab, "artifact.show", name=name))

    def bring(
        self, path: Path, name: str | None, format: str | None, reading: Reading, replace: bool
    ) -> tuple[str, str, tuple[str, ...]]:
        with tempfile.TemporaryDirectory(prefix="labtui-") as folder:
            store = Store(Path(folder) / "store")
            stored, header, notes = exchange.import_into(
                store, path, name=name, format=format, reading=reading
            )
            self._ask(lambda lab: _send(lab, stored, header.path, replace))
        return stored, header.kind, notes

    def take(
        self, name: str, out: Path, format: str, sites: Sequence[str] | None, replace: bool
    ) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory(prefix="labtui-") as folder:
            store = Store(Path(folder) / "store")
            fetched = Path(folder) / "fetched.safetensors"
            self._ask(lambda lab: _fetch(lab, name, fetched))
            store.put_file(name, fetched)
            return exchange.export_from(store, name, out, format=format, sites=sites, replace=replace)

    def rename(self, old: str, new: str) -> None:
        self._ask(lambda lab: _request(lab, "artifact.rename", old=old, new=new))

    def delete(self, name: str) -> None:
        self._ask(lambda lab: _request(lab, "artifact.delete", name=name))

    def _ask(self, work: Callable[[AsyncLab], Awaitable[T]]) -> T:
        async def conversation() -> T:
            lab = await AsyncLab.connect(self.kernel, via=self.via, attach=False)
            try:
                return await work(lab)
            finally:
                await lab.close()

        return asyncio.run(conversation())


async def _request(lab: AsyncLab, method: str, **params: Any) -> Any:
    try:
        return await asyncio.wait_for(lab.request(method, **params), ANSWER_SECONDS)
    except TimeoutError as problem:
        raise Unreachable(
            f"kernel {lab.name!r} did not answer {method} within {ANSWER_SECONDS:.0f} s: "
            f"`labtui kernel logs {lab.name}` may say why"
        ) from problem


async def _send(lab: AsyncLab, name: str, path: Path, replace: bool) -> None:
    size = path.stat().st_size
    with path.open("rb") as handle:
        while True:
            offset = handle.tell()
            data = handle.read(PIECE)
            last = offset + len(data) >= size
            await _request(
                lab, "artifact.put", name=name, offset=offset, data=data, last=last, replace=replace
            )
            if last:
                return


async def _fetch(lab: AsyncLab, name: str, out: Path) -> None:
    pieces: list[bytes] = []
    got = 0
    while True:
        piece = await _request(lab, "artifact.get", name=name, offset=got)
        data = piece["data"]
        pieces.append(data)
        got += len(data)
        if got >= piece["size"] or not data:
            break
    write_atomically(out, lambda handle: handle.writelines(pieces), expected=got)
