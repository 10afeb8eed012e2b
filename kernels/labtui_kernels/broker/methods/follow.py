"""Following a session: attach, events, table pages and whole rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.broker.methods.registry import Params, method
from labtui_kernels.broker.writer import LiveSession
from labtui_sessions.events import Event
from labtui_sessions.log import result_in
from labtui_sessions.source import RowText, collect_row
from labtui_sessions.tables import Page, parse_conditions

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

EVENT_BYTES = 2 * 1024 * 1024


class Attach(Params):
    """``session``: which one (the current one when left out); ``after``: the last event seen before."""

    session: str | None = None
    after: int | None = None


class Events(Params):
    """A range of events: from ``seq`` on, at most ``limit``."""

    session: str | None = None
    seq: int = 1
    limit: int = 1000


class TablePage(Params):
    """Rows ``start`` to ``stop`` of a table, as sorted and filtered."""

    table: str
    session: str | None = None
    start: int = 0
    stop: int = 100
    sort: str | None = None
    descending: bool = False
    filter: str = ""


class Row(Params):
    """``key``: the row's key, ``job/row``."""

    key: str
    session: str | None = None


class JobResult(Params):
    """``job``: whose result."""

    job: str
    session: str | None = None


@method("attach", Attach)
async def attach(broker: Broker, client: Client, params: Attach) -> dict[str, Any]:
    """Follow a session: a snapshot or the events missed, then every event from there on, without a gap."""
    if not params.session or params.session == "current":
        await asyncio.wait_for(broker.opened.wait(), 60)
        live = broker.sessions.need_current()
    else:
        live = await broker.sessions.open_known(params.session)
    broker.sessions.announce()  # the others get what this snapshot already has
    client.session = live.id
    missed = _missed(live, params.after, broker.limits.catch_up)
    return {
        "session": live.id,
        "seq": live.state.seq,
        "durable": live.durable,
        "snapshot": live.state.snapshot() if missed is None else None,
        "events": missed or [],
        "status": broker.status(),
    }


def _missed(live: LiveSession, after: int | None, most: int) -> list[Event] | None:
    """The events after ``after`` when they are few enough to send; None asks for a snapshot."""
    last = live.state.seq
    if after is None or after < 0 or after > last or last - after > most:
        return None
    if after == last:
        return []
    events = live.journal.read(after + 1, limit_bytes=EVENT_BYTES)
    return events if events and events[-1].seq == last else None


@method("detach")
async def detach(broker: Broker, client: Client, params: Params) -> None:
    """Stop following; the connection stays."""
    client.session = ""


@method("events", Events)
async def events(broker: Broker, client: Client, params: Events) -> list[Event]:
    """Events of an open session by range, at least one when there is one, at most about 2 MB."""
    live = broker.sessions.get(params.session)
    limit = max(1, min(params.limit, 10_000))
    return await asyncio.to_thread(live.journal.read, max(1, params.seq), limit, EVENT_BYTES)


@method("table.page", TablePage)
async def page(broker: Broker, client: Client, params: TablePage) -> Page:
    """A page of a table; at most 1,000 rows, fewer when they are long."""
    live = broker.sessions.get(params.session)
    found = live.tables.page(
        params.table,
        params.start,
        params.stop,
        sort=params.sort,
        descending=params.descending,
        conditions=parse_conditions(params.filter),
    )
    while len(found.rows) > 1 and len(msgspec.msgpack.encode(found.rows)) > EVENT_BYTES:
        half = len(found.rows) // 2
        del found.rows[half:], found.reasons[half:]
    return found


@method("job.result", JobResult)
async def job_result(broker: Broker, client: Client, params: JobResult) -> dict[str, Any]:
    """All that a job said at its end; empty before its end."""
    event = broker.sessions.get(params.session).end_of(params.job)
    return result_in(event) if event is not None else {}


@method("row.text", Row)
async def row_text(broker: Broker, client: Client, params: Row) -> RowText:
    """A whole row, every token and number of it."""
    live = broker.sessions.get(params.session)
    found = collect_row(live.row_events(params.key))
    if found is None:
        raise UsageError(f"row {params.key!r}: its beginning is not in session {live.id}")
    if len(found.pieces) > 1_000_000:
        raise BadFile(f"row {params.key!r} has {len(found.pieces):,} tokens: too many for one answer")
    return found
