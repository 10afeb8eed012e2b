"""A session as plain text: what ``labtui replay`` writes where there is no terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from labtui.output import clean
from labtui_sessions.home import open_session
from labtui_sessions.log import each, tables_of
from labtui_sessions.state import SessionState, reduce

if TYPE_CHECKING:
    from labtui_sessions.events import Event
    from labtui_sessions.fields import RowView

TABLE_ROWS = 40


def write(file: Path, at: int | None, out: TextIO) -> None:
    """Write the session's story up to event ``at`` (None: all of it), a line or a few an event that
    matters."""
    with open_session(file) as log:
        state = SessionState()
        for event in each(log, until=at):
            reduce(state, event)
            for line in lines(state, event):
                out.write(clean(line) + "\n")
        for name, table in tables_of(log).by_name.items() if at is None else ():
            page = table.page(0, TABLE_ROWS)
            out.write(f"table {clean(name)}: {page.total} rows\n")
            out.write("  " + "\t".join(clean(c) for c in page.columns) + "\n")
            for row in page.rows:
                out.write("  " + "\t".join(clean("" if v is None else _short(v)) for v in row) + "\n")
        out.write(f"{state.seq} of {log.last_seq} events\n")


def lines(state: SessionState, event: Event) -> list[str]:
    """What an event says to a reader; empty for those that only matter to a screen."""
    data, clock = event.data, time.strftime("%H:%M:%S", time.localtime(event.t))
    said: str | None = None
    if event.kind == "session.opened":
        said = f"session {data.get('id')}  {data.get('title', '')}"
    elif event.kind == "model.ready":
        info = data.get("info", {})
        name = info.get("name") or info.get("source")
        said = f"model {name}  {info.get('dtype', '')}  {info.get('device', '')}"
    elif event.kind == "job.queued":
        spec = data.get("spec", {})
        asked = spec.get("prompt") if isinstance(spec.get("prompt"), str) else ""
        said = f"{data.get('kind')} {data.get('job')}  {spec.get('edits', '')}"
        said += f"  {asked[:200]!r}" if asked else ""
    elif event.kind == "job.finished":
        said = f"{data.get('job')} {data.get('status')}  {data.get('error') or ''}"
    elif event.kind == "row.finished":
        row = state.rows.get(f"{data.get('job')}/{data.get('row')}")
        if row is not None:
            return _row(clock, row)
    elif event.kind == "knob":
        strength = data.get("strength_text") or data.get("strength")
        said = f"knob {data.get('row')}: {strength} from token {data.get('step')}"
    elif event.kind == "note.added":
        said = f"note  {data.get('text')}"
    elif event.kind == "artifact.saved":
        said = f"saved {data.get('kind')} {data.get('name')}"
    elif event.kind == "worker.lost":
        said = f"worker lost: {data.get('reason')}"
    return [f"{clock}  {said}".rstrip()] if said is not None else []


def _row(clock: str, row: RowView) -> list[str]:
    head = f"{clock}  {row.arm or row.row}"
    if row.edits:
        head += f"  {row.edits}"
    facts = [f"{row.words} words" if row.words is not None else "", row.finish]
    return [
        f"{head}  ({', '.join(f for f in facts if f)})",
        *(f"          {line}" for line in row.text.split("\n")),
    ]


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
