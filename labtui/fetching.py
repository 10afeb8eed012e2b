"""Sessions for commands: from a file, from this machine, or fetched from a kernel over a link."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from labtui.options import Target
from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, UsageError

if TYPE_CHECKING:
    from labtui.client import AsyncLab
    from labtui_sessions.bundle import Bundle
    from labtui_sessions.log import EventLog

CURRENT = "current"
PIECE = 4 * 1024 * 1024
MAX_PULL = 64 * 1024**3
T = TypeVar("T")
OnProgress = Callable[[float, float, str], None]


def with_kernel(target: Target, work: Callable[[AsyncLab], Awaitable[T]], *, attach: bool = False) -> T:
    """Connect, do the work, and leave; errors as ``AsyncLab.connect`` and those of the work."""

    async def go() -> T:
        from labtui.client import AsyncLab

        settled = target.settled()
        lab = await AsyncLab.connect(settled.kernel, via=settled.via, attach=attach)
        try:
            return await work(lab)
        finally:
            await lab.close()

    return asyncio.run(go())


def ask(target: Target, method: str, **params: Any) -> Any:
    """One request to the kernel."""
    return with_kernel(target, lambda lab: lab.request(method, **params))


def is_remote(target: Target) -> bool:
    """Sessions are at the other end of a link."""
    return bool(target.settled().via)


def is_file(ref: str) -> bool:
    """The reference is a file or a session's folder that is here, not an id."""
    place = Path(ref)
    return place.is_file() or (place / "journal.bin").is_file()


@contextlib.contextmanager
def opened(ref: str, target: Target) -> Iterator[EventLog]:
    """A session to read: a file, a folder, an id (here, or with ``--via`` there), or ``current``."""
    from labtui_sessions.bundle import open_bundle
    from labtui_sessions.home import open_session

    if is_remote(target) and not is_file(ref):
        with tempfile.TemporaryDirectory(prefix="labtui-") as folder:
            place = Path(folder) / "session.safetensors"
            pull(ref, place, target)
            yield open_bundle(place)
        return
    with open_session(ref if is_file(ref) else local_id(ref, target)) as log:
        yield log


def local_id(ref: str, target: Target) -> str:
    """The id meant by ``ref``: itself, the kernel's current session, or the only one that begins so."""
    if ref == CURRENT:
        return current(target)
    root = paths.sessions()
    if (root / ref).is_dir() or not ref or not root.is_dir():
        return ref
    near = [place.name for place in root.iterdir() if place.name.startswith(ref) and not ref.startswith(".")]
    return near[0] if len(near) == 1 else ref


def current(target: Target) -> str:
    """The id of the kernel's current session."""

    async def name(lab: AsyncLab) -> str:
        return lab.hello.session

    return with_kernel(target, name)


def pull(
    ref: str, place: Path, target: Target, *, replace: bool = False, on_progress: OnProgress | None = None
) -> int:
    """Fetch a session of the kernel as one file, checked before it is put in place; returns its bytes."""
    from labtui_artifacts.files import write_atomically
    from labtui_sessions.bundle import open_bundle

    if place.exists() and not replace:
        raise UsageError(f"{place}: exists already; give another name, or --force to replace it")
    if not place.parent.is_dir():
        raise UsageError(f"{place}: no folder {place.parent}")
    session = None if ref == CURRENT else ref
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=place.parent) as folder:
        part = Path(folder) / "part"
        with part.open("xb") as out:
            size = with_kernel(target, lambda lab: _receive(lab, session, out.write, on_progress))
        open_bundle(part)  # what came is a session, before anything here is replaced by it

        def pour(out: Any) -> None:
            with part.open("rb") as source:
                while piece := source.read(PIECE):
                    out.write(piece)

        write_atomically(place, pour, expected=size)
    return size


async def _receive(
    lab: AsyncLab, session: str | None, write: Callable[[bytes], Any], on_progress: OnProgress | None
) -> int:
    offset = 0
    while True:
        answer = await lab.request("session.pull", session=session, offset=offset)
        data, size = answer["data"], answer["size"]
        if not isinstance(data, bytes) or not isinstance(size, int) or not 0 < size <= MAX_PULL:
            raise LabError("session pull: the kernel's answer is not a piece of a file")
        write(data)
        offset += len(data)
        if on_progress is not None:
            on_progress(offset / 2**20, size / 2**20, "")
        if offset >= size:
            return offset
        if not data:
            raise LabError(f"session pull: the kernel stopped at {offset} of {size} bytes; try again")


def annotate(ref: str, target: Target, method: str, kind: str, data: dict[str, Any], text: str) -> None:
    """Write a note, tag or title: through the kernel that has the session open, else into its journal."""
    from labtui_sessions.home import folder_of, is_open
    from labtui_sessions.journal import Journal
    from labtui_sessions.log import state_at

    if Path(ref).is_file():
        raise UsageError(f"{ref}: a saved file is not changed; annotate the session and save it again")
    if is_remote(target) or ref == CURRENT:
        ask(target, method, text=text, session=None if ref == CURRENT else ref)
        return
    folder = folder_of(local_id(ref, target))
    if is_open(folder):
        from labtui_sessions.journal import JournalReader

        with JournalReader.open(folder) as log:
            owner = state_at(log).kernel_name
        ask(Target(owner), method, text=text, session=folder.name)
        return
    with Journal.open(folder) as journal:
        journal.append(kind, data)
        journal.sync()


async def give_directions(lab: AsyncLab, log: EventLog, spec: dict[str, Any]) -> list[str]:
    """See that the kernel has the directions of a rerun: those that the file includes are uploaded where
    the kernel's are missing or differ, and ``spec`` names them. Returns the names that were uploaded."""
    from labtui_sessions.bundle import Bundle

    there = {entry["name"] for entry in await lab.request("artifact.list", kind=None)}
    included = {info.name for info in log.summary.artifacts} if isinstance(log, Bundle) else set()
    given: list[str] = []
    for name in spec["directions"]:
        if name not in included or not isinstance(log, Bundle):
            if name not in there:
                raise UsageError(
                    f"rerun: direction {name!r} is neither in the file nor in the store of kernel "
                    f"{lab.name!r}: import it there first"
                )
            continue
        stored = await _settle(lab, log, name, there)
        if stored != name or name not in there:
            given.append(stored)
        spec["directions"][name] = stored
    return given


async def _settle(lab: AsyncLab, bundle: Bundle, name: str, there: set[str]) -> str:
    """The name under which the kernel has this very direction, after uploading it if need be."""
    with tempfile.TemporaryDirectory(prefix="labtui-") as folder:
        part = Path(folder) / "direction.safetensors"
        bundle.extract(name, part)
        raw = part.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if name in there and hashlib.sha256(await _fetch(lab, name)).hexdigest() == digest:
        return name
    free = name if name not in there else f"{name}.rerun-{digest[:8]}"
    if free not in there:
        for offset in range(0, len(raw), PIECE):
            piece = raw[offset : offset + PIECE]
            last = offset + len(piece) == len(raw)
            await lab.request("artifact.put", name=free, offset=offset, data=piece, last=last)
    return free


async def _fetch(lab: AsyncLab, name: str) -> bytes:
    parts: list[bytes] = []
    while True:
        answer = await lab.request("artifact.get", name=name, offset=sum(map(len, parts)))
        parts.append(answer["data"])
        if not answer["data"] or sum(map(len, parts)) >= answer["size"]:
            return b"".join(parts)
