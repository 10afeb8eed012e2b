"""``labtui session``, the reading side: what a session holds, on a terminal, as a page, or for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.commands.session_options import deltas_option, force_option, when
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import short

if TYPE_CHECKING:
    from labtui_sessions.log import EventLog
    from labtui_sessions.state import SessionState
    from labtui_sessions.tables import Table, Tables

FORMATS = ("csv", "json", "jsonl", "parquet")
SHOWN_ROWS = 12
SHOWN_CELLS = 4
"""Cells of each metric in `show`."""


@click.command()
@click.argument("session")
@deltas_option
@json_option
@target_options
def show(session: str, deltas: dict[str, float], as_json: bool, target: Target) -> None:
    """What SESSION holds: model, jobs, rows, tables, the effects in its sweeps, notes."""
    from labtui import fetching
    from labtui.commands import calibration, steering
    from labtui_sessions import diagnosis, diagnosis_page, findings, lenses, stroop_page
    from labtui_sessions.log import state_at
    from labtui_sessions.phases import results_by_table
    from labtui_sessions.stats import is_sweep

    with fetching.opened(session, target) as log:
        state = state_at(log)
        calibrations = results_by_table(log)
        tables = list(_tables(log).by_name.values())
    studies = steering.studies_in({table.name: table for table in tables})
    told = {name for study in studies for name in study.tables}
    sweeps = [table for table in tables if is_sweep(table) and table.name not in told]
    found = {table.name: findings.summaries_of(table, deltas) for table in sweeps}
    seen = {table.name: lenses.lens_cells(table) for table in sweeps}
    if as_json:
        effects = [findings.as_document(name, one) for name, many in found.items() for one in many]
        rates = [lenses.as_document(name, one) for name, many in seen.items() for one in many]
        said = {study.name: list(stroop_page.sentences(study)) for study in studies}
        output.emit_json(
            {
                **_as_document(state),
                **{"effects": effects, "lenses": rates, "calibrations": calibrations, "stroop": said},
            }
        )
        return
    _print_state(state)
    for name, results in calibrations.items():
        for result in results:
            _section(f"thresholds in table {output.clean(name)}")
            calibration.show(result)
    for name, summaries in found.items():
        rows = [row for one in summaries for row in findings.as_rows(one, SHOWN_CELLS)]
        if rows:
            _section(f"effects in table {output.clean(name)} (all of them: `labtui session report`)")
            output.table(rows, list(rows[0]))
    for name, cells in seen.items():
        if rows := lenses.as_rows(cells, SHOWN_CELLS):
            _section(f"lens rates in table {output.clean(name)}, hits per 100 words pooled over prompts")
            output.table(rows, list(rows[0]))
    for table in tables:
        rows = diagnosis_page.as_rows(table) if diagnosis.kind_of(table.columns) is not None else []
        if rows:
            _section(f"{output.clean(diagnosis_page.head_of(table))} (table {output.clean(table.name)})")
            output.table(rows, list(dict.fromkeys(name for row in rows for name in row)))
    for study in studies:
        print()
        steering.show(study)


def _as_document(state: SessionState) -> dict[str, Any]:
    import msgspec

    document = msgspec.to_builtins(state)
    for row in document["rows"].values():
        for name in ("head_bytes", "detail_bytes", "text_bytes"):
            del row[name]
    for table in document["tables"].values():
        del table["recent"]
    return document


def _print_state(state: SessionState) -> None:
    model = state.model or {}
    facts = {
        "session": state.id,
        "title": state.title,
        "kernel": state.kernel_name,
        "begun": when(state.created),
        "last event": f"{state.seq} at {when(state.t)}",
        "model": model.get("name"),
        "dtype": model.get("dtype"),
        "device": model.get("device"),
        "tags": list(state.tags),
    }
    output.pairs({name: value for name, value in facts.items() if value})
    for note in state.notes.values():
        print(f"note  {output.clean(note.text)}" + (f"  ({output.clean(note.job)})" if note.job else ""))
    _section("jobs")
    jobs = [
        {
            "job": j.job,
            "kind": j.kind,
            "status": j.status,
            "seconds": j.seconds,
            "rows": j.rows,
            "error": j.error,
        }
        for j in state.jobs.values()
    ]
    output.table(jobs, ["job", "kind", "status", "seconds", "rows", "error"])
    if state.tables:
        _section("tables")
        tables = [{"table": t.name, "rows": t.rows, "columns": t.columns} for t in state.tables.values()]
        output.table(tables, ["table", "rows", "columns"])
    if state.images:
        _section("pictures")
        pictures = [
            {"picture": image.name, "size": f"{image.width}×{image.height}", "digest": short(digest)}
            for digest, image in state.images.items()
        ]
        output.table(pictures, ["picture", "size", "digest"])
    if state.rows:
        _section("last answers")
        rows = [
            {"row": r.key, "edits": r.edits or "plain", "words": r.words, "finish": r.finish, "text": r.text}
            for r in list(state.rows.values())[-SHOWN_ROWS:]
        ]
        output.table(rows, ["row", "words", "finish", "edits", "text"])
    for loss in state.losses:
        print(f"worker lost {when(loss.t)}: {output.clean(loss.reason)}")
    for cut in state.cuts:
        print(f"journal cut {when(cut.t)}: {cut.bytes} bytes, {cut.lost} events lost")


def _section(title: str) -> None:
    print(f"\n{title}")


@click.command()
@click.argument("a")
@click.argument("b")
@json_option
@target_options
def diff(a: str, b: str, as_json: bool, target: Target) -> None:
    """What differs between sessions A and B: models, specs, tables, texts."""
    import msgspec

    from labtui import fetching
    from labtui_sessions.compare import as_lines, compare

    with fetching.opened(a, target) as one, fetching.opened(b, target) as two:
        comparison = compare(one, two)
    if as_json:
        output.emit_json({**msgspec.to_builtins(comparison), "same": comparison.same})
        return
    for line in as_lines(comparison):
        print(output.clean(line))


@click.command()
@click.argument("session")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@deltas_option
@force_option
@target_options
def report(session: str, file: Path | None, deltas: dict[str, float], force: bool, target: Target) -> None:
    """SESSION as a page of Markdown, on stdout or into FILE, then with figures of its sweeps beside it."""
    from labtui import fetching
    from labtui_artifacts.files import write_atomically
    from labtui_sessions import figures
    from labtui_sessions.report import report as page

    if file is not None and file.exists() and not force:
        raise UsageError(f"{file}: exists already; give another name, or --force to replace it")
    album = figures.Album(file, replace=force) if file is not None and figures.available() else None
    with fetching.opened(session, target) as log:
        text = page(log, deltas=deltas, figures=album)
    if file is None:
        print(output.clean(text, keep="\n"), end="")
        return
    write_atomically(file, lambda out: out.write(text.encode()) and None)
    drawn = len(album.written) if album is not None else 0
    output.note(f"wrote {file}" + (f" and {drawn} figures beside it" if drawn else ""))
    if album is None:
        output.note(figures.MISSING)


@click.command()
@click.argument("session")
@click.option("--table", "name", help="Which table (default: the only one).")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--out", "file", type=click.Path(path_type=Path), help="Default: stdout (not for parquet).")
@click.option(
    "--stroop",
    "folder",
    type=click.Path(path_type=Path),
    help="A Stroop recipe as a folder, under its study's names.",
)
@force_option
@target_options
def export(
    session: str,
    name: str | None,
    kind: str,
    file: Path | None,
    folder: Path | None,
    force: bool,
    target: Target,
) -> None:
    """A table of SESSION for other programs. CSV cells that a spreadsheet would run are made plain text."""
    from labtui import fetching
    from labtui_sessions import export as exports

    if folder is not None:
        _export_stroop(session, name or "", folder, force, target)
        return

    with fetching.opened(session, target) as log:
        table = _choose(log, name)
    if file is not None:
        rows = exports.export(table, file, kind, replace=force)
        output.note(f"wrote {rows} rows of table {table.name} to {file}")
        return
    if kind == "parquet":
        raise UsageError("--format parquet: give the file with --out")
    for part in exports.text_parts(table, kind):
        print(part, end="")


def _export_stroop(session: str, name: str, folder: Path, force: bool, target: Target) -> None:
    """Results as JSON, and the chunks where the store of this machine has them."""
    from labtui import fetching
    from labtui_artifacts import paths
    from labtui_artifacts.kinds.chunks import ChunksFile
    from labtui_artifacts.store import Store
    from labtui_sessions import stroop_export
    from labtui_sessions.log import state_at

    with fetching.opened(session, target) as log:
        tables, state = _tables(log).by_name, state_at(log)
    known = [
        str(job.result.get("chunks")) for job in state.jobs.values() if job.kind == "stroop" and job.result
    ]
    store = Store(paths.artifacts())
    there = next((one for one in reversed(known) if one in store), None)
    chunks = None if there is None else ChunksFile.view(store.get(there, kind="chunks"), there)
    written = stroop_export.export(tables, folder, chunks, name=name, replace=force)
    output.note(f"wrote {len(written)} files to {folder}")
    if chunks is None:
        output.note("without the chunks: they are not in the store of this machine")


def _tables(log: EventLog) -> Tables:
    from labtui_sessions.bundle import Bundle
    from labtui_sessions.log import tables_of

    return log.tables() if isinstance(log, Bundle) else tables_of(log)


def _choose(log: EventLog, name: str | None) -> Table:
    tables = _tables(log)
    if name is None and len(tables.by_name) == 1:
        return next(iter(tables.by_name.values()))
    if name is None:
        known = ", ".join(sorted(tables.by_name)) or "none"
        raise UsageError(f"--table: say which table; this session has {known}")
    return tables.table(name)
