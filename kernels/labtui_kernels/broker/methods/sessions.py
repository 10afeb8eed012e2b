"""Sessions: make, list, annotate, save and fetch them."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labtui_artifacts import paths
from labtui_artifacts.errors import UsageError
from labtui_kernels.broker.methods.registry import Params, method
from labtui_kernels.broker.sessions import new_id

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

MAX_NOTE = 20_000
CHUNK = 4 * 1024 * 1024


class New(Params):
    """``title`` of the new session."""

    title: str = ""


class Text(Params):
    """``text``, for the current session or the one named."""

    text: str
    session: str | None = None


class Note(Params):
    """A note on the session, or on one job of it."""

    text: str
    session: str | None = None
    job: str | None = None


class NoteId(Params):
    """``id`` of a note."""

    id: str
    session: str | None = None


@method("session.new", New)
async def new(broker: Broker, client: Client, params: New) -> dict[str, Any]:
    """Open a new session and make it the current one; running jobs stay in theirs."""
    live = await broker.sessions.open(new_id(broker.config.name), title=params.title[:400])
    await broker.use(live)
    if broker.keeper.info is not None:
        live.append("model.ready", {"info": broker.keeper.info})
    broker.set_state(broker.state, broker.detail, broker.progress)
    return {"session": live.id}


@method("session.title", Text)
async def title(broker: Broker, client: Client, params: Text) -> None:
    """Give a session a title."""
    broker.sessions.get(params.session).append("session.titled", {"title": params.text[:400]})


@method("session.note", Note)
async def note(broker: Broker, client: Client, params: Note) -> dict[str, str]:
    """Add a note; the answer has its id."""
    if not params.text.strip() or len(params.text) > MAX_NOTE:
        raise UsageError(f"a note has 1 to {MAX_NOTE:,} characters, this one has {len(params.text):,}")
    identity = f"n-{secrets.token_hex(4)}"
    data = {"id": identity, "text": params.text, "job": params.job}
    broker.sessions.get(params.session).append("note.added", data)
    return {"id": identity}


@method("session.unnote", NoteId)
async def unnote(broker: Broker, client: Client, params: NoteId) -> None:
    """Take a note away; the journal keeps that it was there."""
    live = broker.sessions.get(params.session)
    if params.id not in live.state.notes:
        raise UsageError(f"no note {params.id!r} in session {live.id}")
    live.append("note.removed", {"id": params.id})


@method("session.tag", Text)
async def tag(broker: Broker, client: Client, params: Text) -> None:
    """Add a tag."""
    if not params.text.strip() or len(params.text) > 64:
        raise UsageError("a tag has 1 to 64 characters")
    broker.sessions.get(params.session).append("tag.added", {"tag": params.text.strip()})


@method("session.untag", Text)
async def untag(broker: Broker, client: Client, params: Text) -> None:
    """Take a tag away."""
    live = broker.sessions.get(params.session)
    if params.text not in live.state.tags:
        raise UsageError(f"session {live.id} has no tag {params.text!r}")
    live.append("tag.removed", {"tag": params.text})


class Named(Params):
    """``session``: its id; the current one when left out."""

    session: str | None = None


class Save(Params):
    """``path``: a file on the kernel's machine; beside the sessions when left out."""

    session: str | None = None
    path: str | None = None
    replace: bool = False


class Pull(Params):
    """A piece of a session's file from ``offset`` on; the file is made when ``offset`` is 0."""

    session: str | None = None
    offset: int = 0


class Gc(Params):
    """``days`` without a change; ``remove``: do it, else only say what would go."""

    days: float = 90.0
    remove: bool = False


def _folder(broker: Broker, session: str | None) -> Path:
    """The folder of a session, open or not."""
    from labtui_sessions.home import folder_of

    if not session or session == "current" or session in broker.sessions.live:
        return broker.sessions.get(session).folder
    return folder_of(session)


@method("session.list")
async def listing(broker: Broker, client: Client, params: Params) -> list[Any]:
    """Every session on this machine, the last changed first."""
    from labtui_sessions import home

    return await asyncio.to_thread(home.listing)


@method("session.show", Named)
async def show(broker: Broker, client: Client, params: Named) -> dict[str, Any]:
    """A session's line of the listing and its state, as far as its journal goes now."""
    from labtui_sessions.home import describe
    from labtui_sessions.journal import JournalReader
    from labtui_sessions.log import state_at

    folder = _folder(broker, params.session)

    def read() -> dict[str, Any]:
        with JournalReader.open(folder) as log:
            return {"listed": msgspec.to_builtins(describe(folder)), "snapshot": state_at(log).snapshot()}

    return await asyncio.to_thread(read)


@method("session.save", Save)
async def save(broker: Broker, client: Client, params: Save) -> dict[str, Any]:
    """Save a session as one file on the kernel's machine; the answer has its path and summary."""
    folder = _folder(broker, params.session)
    if params.path is None:
        out = paths.secure_folder(paths.home() / "saved") / f"{folder.name}.safetensors"
    else:
        out = Path(params.path).expanduser()
        if not out.is_absolute():
            raise UsageError(
                f"session save: {params.path}: expected an absolute path on the kernel's machine"
            )
    summary = await asyncio.to_thread(_save, folder, out, params.replace or params.path is None)
    return {"path": str(out), "bytes": out.stat().st_size, "summary": summary}


def _save(folder: Path, out: Path, replace: bool) -> dict[str, Any]:
    from labtui_artifacts.store import Store
    from labtui_sessions import bundle

    store = Store(paths.artifacts())
    known = {name: store.path(name) for name in store.names()}
    return msgspec.to_builtins(bundle.save(folder, out, artifacts=known, replace=replace))


@method("session.pull", Pull)
async def pull(broker: Broker, client: Client, params: Pull) -> dict[str, Any]:
    """A session as one file, in pieces: ``data``, ``offset``, ``size`` of the whole."""
    part = paths.runtime() / f".pull-{broker.config.name}-{client.number}"
    if params.offset <= 0:
        await asyncio.to_thread(_save, _folder(broker, params.session), part, True)
    return await asyncio.to_thread(_piece, part, max(0, params.offset))


def _piece(part: Path, offset: int) -> dict[str, Any]:
    try:
        with part.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(offset)
            data = file.read(CHUNK)
    except FileNotFoundError as error:
        raise UsageError("session pull: pieces must be asked for in order, from offset 0") from error
    if offset + len(data) >= size:
        part.unlink(missing_ok=True)
    return {"data": data, "offset": offset, "size": size}


@method("session.gc", Gc)
async def gc(broker: Broker, client: Client, params: Gc) -> list[Any]:
    """The sessions that are empty or old; removed when asked to."""
    from labtui_sessions import home

    doomed = await asyncio.to_thread(lambda: home.candidates(home.listing(), days=params.days))
    if params.remove:
        for one in doomed:
            await asyncio.to_thread(home.remove, Path(one.path))
    return doomed
