"""A session as a page of Markdown: what ran, on what, and what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from . import diagnosis, diagnosis_page, lenses, looks
from .compare import KEYS
from .events import JobQueued, typed
from .fields import JobView, RowView
from .findings import Deltas, page_of
from .log import EventLog, each, state_at, tables_of
from .markdown import cell, code, fenced, grid, line
from .phases import page as page_of_phases
from .phases import results_by_table
from .state import SessionState
from .stats import is_sweep
from .tables import Table, as_json

Figures = Callable[[Table], Sequence[tuple[str, str]]]
"""Draws a table's pictures; gives their captions and the names of the files, as the page links to them."""

MAX_TEXTS = 12
MAX_LINES = 40
_GRID = ("direction", "site", "strength", "strength_pct", "control")
_ASKED = {*KEYS, "strength_abs", "strength_pct", "row"}


def report(log: EventLog, *, deltas: Deltas | None = None, figures: Figures | None = None) -> str:
    """The report. Tables are summarised by direction, site and strength; texts are the last ones kept.

    A sweep's table has its effects with their nulls and verdicts; ``deltas`` gives by metric what counts as
    no effect. ``figures`` draws the pictures of a table and gives their file names, which the page shows.
    """
    state = state_at(log)
    specs = _specs(log)
    found = results_by_table(log)
    parts = [
        *_head(state),
        *_model(state),
        *_jobs(state, specs),
        *(
            text
            for table in tables_of(log).by_name.values()
            for text in _table(table, deltas or {}, figures, found.get(table.name, []))
        ),
        *_texts(state),
        *_incidents(state),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _specs(log: EventLog) -> dict[str, JobQueued]:
    found: dict[str, JobQueued] = {}
    for event in each(log):
        if event.kind == "job.queued" and isinstance(data := typed(event), JobQueued):
            found[data.job] = data
    return found


def _head(state: SessionState) -> Iterator[str]:
    yield f"# {line(state.title or state.id or 'session')}"
    yield ""
    created = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(0.0, min(state.created, 4e9))))
    where = f"Session `{code(state.id)}`, kernel `{code(state.kernel_name)}`"
    yield f"{where}, begun {created}, {state.seq} events."
    if state.tags:
        yield "Tags: " + ", ".join(line(tag) for tag in state.tags) + "."
    for note in state.notes.values():
        yield ""
        yield "> " + line(note.text) + (f" (job {line(note.job)})" if note.job else "")
    yield ""


def _model(state: SessionState) -> Iterator[str]:
    yield "## Model"
    yield ""
    if state.model is None:
        yield "No model was loaded."
    else:
        yield from grid(["", ""], [[name, value] for name, value in state.model.items()])
    if state.versions:
        yield ""
        yield "Packages: " + ", ".join(f"{line(n)} {line(v)}" for n, v in state.versions.items()) + "."
    yield ""


def _jobs(state: SessionState, specs: dict[str, JobQueued]) -> Iterator[str]:
    yield "## Jobs"
    yield ""
    rows = [[j.job, j.kind, _status(j), _audit(j), j.seconds, j.rows or None] for j in state.jobs.values()]
    yield from grid(["job", "kind", "status", "hook audit", "seconds", "rows"], rows)
    for queued in list(specs.values())[-MAX_LINES:]:
        yield ""
        yield f"Spec of {line(queued.job)} ({line(queued.kind)}" + (
            f", repeats {line(queued.parent)}):" if queued.parent else "):"
        )
        yield ""
        yield from fenced("\n".join(f"{name} = {as_json(value)}" for name, value in queued.spec.items()))
    yield ""


def _status(job: JobView) -> str:
    return f"{job.status}: {job.error}" if job.error else job.status


def _audit(job: JobView) -> str:
    if job.audit is None:
        return ""
    return "clean" if job.audit.get("ok") else f"FAILED: {job.audit.get('detail', '')}"


def _table(
    table: Table, deltas: Deltas, figures: Figures | None, found: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    yield f"## Table {line(table.name)}"
    yield ""
    yield f"{table.rows} rows in {len(table.cells)} cells."
    yield ""
    if diagnosis.kind_of(table.columns) is not None:
        yield from diagnosis_page.page_of(table)
        yield from _pictures(table, figures)
        return
    if looks.kind_of(table.columns) is not None:
        yield from looks.page_of(table)
        return
    keys = [
        key for key in ("direction", "site", "strength", "strength_pct", "control") if key in table.columns
    ]
    outcomes = [
        column.name
        for column in table.columns.values()
        if column.type in ("int", "float")
        and column.name not in (*KEYS, "strength_abs", "strength_pct", "row")
    ]
    if not keys or not outcomes:
        return
    if is_sweep(table):
        for result in found:
            yield from page_of_phases(result)
        yield from page_of(table, deltas, with_zones=not found)
        yield from lenses.page_of(table)
        yield from _pictures(table, figures)
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in range(table.rows):
        point = tuple(cell(table.columns[key].values[index]) for key in keys)
        groups.setdefault(point, []).append(index)
    rows = [
        [*point, len(members), *(_mean(table.columns[name].values[i] for i in members) for name in outcomes)]
        for point, members in list(groups.items())[:MAX_LINES]
    ]
    yield from grid([*keys, "rows", *(f"mean {name}" for name in outcomes)], rows)
    if len(groups) > MAX_LINES:
        yield ""
        yield f"{len(groups) - MAX_LINES} more grid points are in the table itself."
    yield ""


def _pictures(table: Table, figures: Figures | None) -> Iterator[str]:
    for caption, name in figures(table) if figures is not None else ():
        yield f"![{line(caption)}]({name})"
        yield ""


def _mean(values: Iterator[Any]) -> float | None:
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    return fmean(numbers) if numbers else None


def _texts(state: SessionState) -> Iterator[str]:
    rows = [row for row in state.rows.values() if row.text][-MAX_TEXTS:]
    if not rows:
        return
    yield "## Texts"
    yield ""
    for row in rows:
        yield f"**{line(row.arm or row.row)}** {_row_line(row)}"
        yield ""
        yield from fenced(("…" if row.text_from else "") + row.text)
        yield ""


def _row_line(row: RowView) -> str:
    parts = [f"`{code(row.edits)}`" if row.edits else "no edits", f"seed {row.seed}"]
    if row.words is not None:
        bound = "at least " if row.finish == "length" else ""
        parts.append(f"{bound}{row.words} words")
    parts += [f"{line(name)} {cell(value)}" for name, value in row.metrics.items() if value is not None]
    parts += [f"knob to {line(k.text or k.strength)} from token {k.step}" for k in row.knobs]
    return ", ".join(parts)


def _incidents(state: SessionState) -> Iterator[str]:
    lines = [f"The worker was lost: {line(loss.reason)}." for loss in state.losses]
    lines += [
        f"{cut.bytes} bytes of a damaged journal were cut ({cut.lost} events lost)." for cut in state.cuts
    ]
    if state.skipped:
        lines.append(f"{state.skipped} malformed events were skipped.")
    if lines:
        yield "## Incidents"
        yield ""
        yield from (f"- {line}" for line in lines)
