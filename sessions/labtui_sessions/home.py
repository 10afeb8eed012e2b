"""The sessions on this machine: one folder each, under ``$LABTUI_HOME/sessions``."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from labtui_artifacts import files, paths
from labtui_artifacts.errors import LabError, UsageError
from labtui_artifacts.images import ImageStore, Stored
from labtui_artifacts.lock import Lock, read_holder

from .bundle import Bundle, open_bundle
from .journal import FILE, LOCK, JournalReader, read_events
from .log import EventLog, each, state_at
from .state import SessionState, reduce

CACHE = "listed.json"
OLD_DAYS = 90.0
EMPTY_HOURS = 1.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class Listed(msgspec.Struct):
    """One line of a listing. Times are seconds since the epoch, ``bytes`` the journal's."""

    id: str
    title: str = ""
    kernel: str = ""
    model: str = ""
    created: float = 0.0
    changed: float = 0.0
    events: int = 0
    jobs: int = 0
    rows: int = 0
    """Rows in tables."""
    notes: int = 0
    tags: list[str] = []
    bytes: int = 0
    open: bool = False
    """A kernel on this machine has it open for writing."""
    problem: str = ""
    """Why it could not be read."""
    path: str = ""


class Doomed(msgspec.Struct):
    """A session that ``gc`` would remove, and why."""

    id: str
    why: str
    bytes: int
    path: str


def folder_of(identity: str, root: Path | None = None) -> Path:
    """The folder of a session of that id. UsageError when the id is not one or there is none."""
    if not _ID.fullmatch(identity):
        raise UsageError(f"session {identity!r}: expected an id (letters, digits, - . _) or a file")
    place = (paths.sessions() if root is None else root) / identity
    if not (place / FILE).is_file():
        raise UsageError(
            f"no session {identity!r} in {place.parent}; `labtui session ls` lists those there are"
        )
    return place


@contextlib.contextmanager
def open_session(ref: str | Path, root: Path | None = None) -> Iterator[EventLog]:
    """A saved file, a session folder, or the id of a session on this machine, open for reading."""
    place = Path(ref)
    if place.is_file():
        if place.name == FILE:
            place = place.parent
        else:
            yield open_bundle(place)
            return
    elif not (place / FILE).is_file():
        if place.suffix == ".safetensors" or len(place.parts) > 1:
            raise UsageError(f"{place}: no such file")
        place = folder_of(str(ref), root)
    with JournalReader.open(place) as log:
        yield log


def listing(root: Path | None = None) -> list[Listed]:
    """Every session on this machine, the last changed first."""
    root = paths.sessions() if root is None else root
    folders = [place for place in root.iterdir() if (place / FILE).is_file()] if root.is_dir() else []
    return sorted((describe(place) for place in folders), key=lambda one: -one.changed)


def describe(folder: Path) -> Listed:
    """One session for a listing; a long journal is read once and remembered until it grows."""
    stat = (folder / FILE).stat()
    found = _remembered(folder, stat.st_size, stat.st_mtime_ns)
    if found is None:
        state = SessionState()
        problem = ""
        try:
            for event in read_events(folder):
                reduce(state, event)
        except LabError as error:
            problem = str(error)
        found = _listed(folder, state, stat.st_size, stat.st_mtime, problem)
        _remember(folder, found, stat.st_mtime_ns)
    found.open = is_open(folder)
    return found


def describe_bundle(bundle: Bundle) -> Listed:
    """A saved file for a listing."""
    listed = _listed(bundle.path, state_at(bundle), bundle.header.size, bundle.summary.saved, "")
    listed.id = bundle.summary.id
    return listed


def is_open(folder: Path) -> bool:
    """Some process has the session open for writing (for one on another machine: as far as one can know)."""
    holder = read_holder(folder / LOCK)
    return holder is not None and holder.is_alive is not False


def candidates(listed: Iterable[Listed], *, days: float = OLD_DAYS, now: float | None = None) -> list[Doomed]:
    """The sessions that may go: empty ones after an hour, and those unchanged for ``days``.

    One that is open, has notes, or cannot be read is never among them.
    """
    now = time.time() if now is None else now
    doomed = []
    for one in listed:
        age = now - one.changed
        if one.open or one.notes or one.problem:
            continue
        if one.jobs == 0 and one.rows == 0 and age > EMPTY_HOURS * 3600:
            doomed.append(Doomed(one.id, "empty", one.bytes, one.path))
        elif age > days * 86400:
            doomed.append(Doomed(one.id, f"unchanged for {age / 86400:.0f} days", one.bytes, one.path))
    return doomed


def named_images(root: Path | None = None, without: Collection[str] = ()) -> set[str]:
    """The digests of the pictures that some session on this machine is about, but for the sessions ``without`` (their
    paths). LabError when one cannot be read."""
    root = paths.sessions() if root is None else root
    found: set[str] = set()
    for place in root.iterdir() if root.is_dir() else ():
        if (place / FILE).is_file() and str(place) not in without:
            with JournalReader.open(place) as log:
                found |= {str(e.data.get("digest")) for e in each(log) if e.kind == "image.added"}
    return found


def unnamed_images(root: Path | None = None, without: Collection[str] = ()) -> list[Stored]:
    """The kernel's pictures that no session is about and that nobody has sent lately; see `named_images`.

    LabError when a session cannot be read: its pictures are not known, so none may go.
    """
    store = ImageStore()
    return store.unnamed(named_images(root, without)) if any(True for _ in store) else []


def remove(folder: Path) -> None:
    """Remove a session for good. LabError when a process has it open."""
    lock = Lock(folder / LOCK, what=f"session {folder.name}", timeout=0.0)
    with lock:
        aside = folder.with_name(f".{folder.name}.gone")  # whole or gone: a half-removed one is never listed
        try:
            folder.rename(aside)
            shutil.rmtree(aside)
        except OSError as error:
            raise LabError(f"{folder}: not removed: {error.strerror}") from error


def _listed(place: Path, state: SessionState, size: int, changed: float, problem: str) -> Listed:
    model: dict[str, Any] = state.model or {}
    return Listed(
        id=state.id or place.name,
        title=state.title,
        kernel=state.kernel_name,
        model=str(model.get("name", "")),
        created=state.created,
        changed=state.t or changed,
        events=state.seq,
        jobs=len(state.jobs) + state.jobs_dropped,
        rows=sum(table.rows for table in state.tables.values()),
        notes=len(state.notes),
        tags=list(state.tags),
        bytes=size,
        problem=problem,
        path=str(place),
    )


class _Cached(msgspec.Struct):
    size: int
    mtime_ns: int
    listed: Listed


def _remembered(folder: Path, size: int, mtime_ns: int) -> Listed | None:
    try:
        cached = msgspec.json.decode((folder / CACHE).read_bytes(), type=_Cached)
    except (OSError, msgspec.MsgspecError):
        return None
    fits = (cached.size, cached.mtime_ns, cached.listed.path) == (size, mtime_ns, str(folder))
    return cached.listed if fits else None


def _remember(folder: Path, listed: Listed, mtime_ns: int) -> None:
    if listed.bytes < 1 << 20:
        return
    data = msgspec.json.encode(_Cached(listed.bytes, mtime_ns, listed))
    with contextlib.suppress(LabError):  # a listing does not fail because its memory cannot be written
        files.write_atomically(folder / CACHE, lambda out: out.write(data) and None)
