"""Sessions: make, list, annotate, save and fetch them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.broker.methods.registry import Params, method
from labtui_kernels.broker.sessions import new_id

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

MAX_NOTE = 20_000


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
