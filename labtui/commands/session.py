"""``labtui session``: list, show, save, fetch, check, repeat, compare and export sessions.

SESSION is a saved file, the id of a session on this machine (or, with ``--via``, there), or ``current``: the
session that the kernel has open.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui.client import AsyncLab
    from labtui.running import Outcome
    from labtui_sessions.home import Listed
    from labtui_sessions.log import EventLog
    from labtui_sessions.state import SessionState
    from labtui_sessions.tables import Table, Tables

FORMATS = ("csv", "json", "jsonl", "parquet")
SHOWN_ROWS = 12
SHOWN_CELLS = 4
"""Cells of each metric in `show`."""


@click.group("session")
def command() -> None:
    """List, save, verify, repeat, compare and export sessions."""


def _when(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(t)) if 0 < t < 4e9 else ""


def _force(function: Any) -> Any:
    return click.option("--force", is_flag=True, help="Replace a file that is there.")(function)


def _deltas(function: Any) -> Any:
    return click.option(
        "--delta",
        "deltas",
        multiple=True,
        metavar="METRIC=SIZE",
        callback=_parse_deltas,
        help="Effects on METRIC within ±SIZE count as none; may be given again.",
    )(function)


def _parse_deltas(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given:
        name, _, size = text.rpartition("=")
        try:
            found[name] = float(size)
        except ValueError:
            found[name] = -1.0
        if not name or not 0 < found[name] < float("inf"):
            raise UsageError(f"--delta {text}: expected a metric and a size above 0, as words=2")
    return found


# -- looking ------------------------------------------------------------------------------------------


@command.command("ls")
@json_option
@target_options
def list_sessions(as_json: bool, target: Target) -> None:
    """The sessions on this machine (with --via: on the kernel's), the last changed first."""
    import msgspec

    from labtui import fetching
    from labtui_sessions.home import Listed, listing

    found = listing() if not fetching.is_remote(target) else None
    if found is None:
        found = msgspec.convert(fetching.ask(target, "session.list"), list[Listed])
    if as_json:
        output.emit_json(msgspec.to_builtins(found))
        return
    rows = [_listed_row(one) for one in found]
    output.table(rows, ["id", "title", "model", "kernel", "changed", "jobs", "rows", "size", "tags", "state"])


def _listed_row(one: Listed) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(one, name) for name in ("id", "title", "model", "kernel", "jobs")}
    state = one.problem or ("open" if one.open else "")
    return {
        **row,
        "rows": one.rows,
        "tags": one.tags,
        "changed": _when(one.changed),
        "size": output.size(one.bytes),
        "state": state,
    }


@command.command()
@click.argument("session")
@_deltas
@json_option
@target_options
def show(session: str, deltas: dict[str, float], as_json: bool, target: Target) -> None:
    """What SESSION holds: model, jobs, rows, tables, the effects in its sweeps, notes."""
    from labtui import fetching
    from labtui.commands import calibration
    from labtui_sessions import findings
    from labtui_sessions.log import state_at
    from labtui_sessions.phases import results_by_table
    from labtui_sessions.stats import is_sweep

    with fetching.opened(session, target) as log:
        state = state_at(log)
        calibrations = results_by_table(log)
        sweeps = [table for table in _tables(log).by_name.values() if is_sweep(table)]
    found = {table.name: findings.summaries_of(table, deltas) for table in sweeps}
    if as_json:
        effects = [findings.as_document(name, one) for name, many in found.items() for one in many]
        output.emit_json({**_as_document(state), "effects": effects, "calibrations": calibrations})
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
        "begun": _when(state.created),
        "last event": f"{state.seq} at {_when(state.t)}",
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
    if state.rows:
        _section("last answers")
        rows = [
            {"row": r.key, "edits": r.edits or "plain", "words": r.words, "finish": r.finish, "text": r.text}
            for r in list(state.rows.values())[-SHOWN_ROWS:]
        ]
        output.table(rows, ["row", "words", "finish", "edits", "text"])
    for loss in state.losses:
        print(f"worker lost {_when(loss.t)}: {output.clean(loss.reason)}")
    for cut in state.cuts:
        print(f"journal cut {_when(cut.t)}: {cut.bytes} bytes, {cut.lost} events lost")


def _section(title: str) -> None:
    print(f"\n{title}")


@command.command()
@click.argument("file")
@json_option
def verify(file: str, as_json: bool) -> None:
    """Check FILE, a saved session or the id of one here: checksums, structure, tables against events."""
    import msgspec

    from labtui_sessions.home import folder_of
    from labtui_sessions.verify import verify as check

    place = Path(file)
    if not place.exists():
        if place.suffix or len(place.parts) > 1:
            raise UsageError(f"{file}: no such file")
        place = folder_of(file)
    report = check(place)
    if as_json:
        output.emit_json({**msgspec.to_builtins(report), "ok": report.ok})
    else:
        for finding in report.findings:
            print(f"{finding.level}  {output.clean(finding.where)}: {output.clean(finding.message)}")
        if report.ok:
            print(
                f"ok  {output.clean(file)}: {report.events} events, {report.tables} tables, "
                f"{report.keyframes} keyframes, {report.tensors} tensors with their checksums"
            )
    report.raise_if_bad()


@command.command()
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


@command.command()
@click.argument("session")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_deltas
@_force
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


# -- taking along -------------------------------------------------------------------------------------


@command.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path))
@_force
@json_option
@target_options
def save(session: str, file: Path, force: bool, as_json: bool, target: Target) -> None:
    """Write SESSION, with the directions it used, as ONE safetensors FILE."""
    from labtui import fetching
    from labtui_artifacts import paths
    from labtui_artifacts.store import Store
    from labtui_sessions.bundle import save as write

    if fetching.is_remote(target) and not fetching.is_file(session):
        _pull(session, file, force, target, as_json)
        return
    store = Store(paths.artifacts())
    there = {name: store.path(name) for name in store.names()}
    with fetching.opened(session, target) as log:
        summary = write(log, file, artifacts=there, replace=force)
    for name, why in summary.left_out.items():
        output.note(f"labtui: direction {name} is not in the file: {why}")
    _saved(file, summary.events, as_json)


@command.command()
@click.argument("session")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_force
@json_option
@target_options
def pull(session: str, file: Path | None, force: bool, as_json: bool, target: Target) -> None:
    """Bring SESSION of a kernel here as one file (default: SESSION.safetensors)."""
    from labtui import fetching

    if session == fetching.CURRENT:
        session = fetching.current(target)
    _pull(session, file or Path(f"{session}.safetensors"), force, target, as_json)


def _pull(session: str, file: Path, force: bool, target: Target, as_json: bool) -> None:
    from labtui import fetching
    from labtui_sessions.bundle import open_bundle

    with output.Progress("pulling", unit="MB") as progress:
        fetching.pull(session, file, target, replace=force, on_progress=progress.update)
    _saved(file, open_bundle(file).last_seq, as_json)


def _saved(file: Path, events: int, as_json: bool) -> None:
    size = file.stat().st_size
    if as_json:
        output.emit_json({"file": str(file), "events": events, "bytes": size})
    else:
        print(f"{output.clean(file)}: {events} events, {output.size(size)}; `labtui replay` plays it")


@command.command()
@click.argument("session")
@click.option("--table", "name", help="Which table (default: the only one).")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--out", "file", type=click.Path(path_type=Path), help="Default: stdout (not for parquet).")
@_force
@target_options
def export(session: str, name: str | None, kind: str, file: Path | None, force: bool, target: Target) -> None:
    """A table of SESSION for other programs. CSV cells that a spreadsheet would run are made plain text."""
    from labtui import fetching
    from labtui_sessions import export as exports

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


# -- again --------------------------------------------------------------------------------------------


@command.command()
@click.argument("file")
@click.option("--job", help="Only the rows of this job.")
@click.option("--rows", type=click.IntRange(min=1), help="Only the first so many rows.")
@click.option("--any-model", is_flag=True, help="Also on a model with other weights.")
@json_option
@target_options
def rerun(
    file: str, job: str | None, rows: int | None, any_model: bool, as_json: bool, target: Target
) -> None:
    """Run FILE again on a kernel, forcing the recorded tokens, and compare their log-probabilities.

    Passes when the largest difference is within the tolerance of the recorded dtype; else exit code 1, and
    the first differing token with the gap between its top two.
    """
    from labtui import fetching
    from labtui_sessions.home import open_session
    from labtui_sessions.rerun import build

    ref = file if fetching.is_file(file) or Path(file).suffix else fetching.local_id(file, target)
    with open_session(ref) as log:
        spec = build(log, job=job, limit=rows)
        spec["any_model"] = any_model
        outcome, rows_off = fetching.with_kernel(target, lambda lab: _rerun(lab, log, spec), attach=True)
    result = {"job": outcome.job, "session": outcome.session, "status": outcome.status,
              "error": outcome.error or None, "tolerance": spec["tolerance"], "differing": rows_off,
              **outcome.result}  # fmt: skip
    if as_json:
        output.emit_json(result)
    elif rows_off:
        output.table(rows_off, ["row", "max_abs_diff", "at", "tokens", "first_diff", "first_diff_gap"])
    outcome.check()
    if not as_json:
        count, largest = result.get("rows", len(spec["rows"])), output.cell(result.get("max_abs_diff"))
        limit = f"tolerance {spec['tolerance']:g} ({spec['dtype']})"
        print(f"ok  {count} rows, largest difference {largest} nats, {limit}")


async def _rerun(lab: AsyncLab, log: EventLog, spec: dict[str, Any]) -> tuple[Outcome, list[dict[str, Any]]]:
    """Submit it and wait; how it ended, and the rows that were off."""
    from labtui import fetching
    from labtui.running import Run

    for name in await fetching.give_directions(lab, log, spec):
        output.note(f"uploaded the recorded direction as {name}")
    run = Run(lab, spec)
    await run.submit()
    with output.Progress("rerun") as progress:
        outcome = await run.wait(progress.update)
    if outcome.status == "done" or "rerun" not in outcome.tables:
        return outcome, []
    total = lab.state.tables["rerun"].rows  # rows of earlier reruns come first
    page = await lab.page("rerun", max(0, total - len(spec["rows"])), total)
    rows = [dict(zip(page.columns, row, strict=True)) for row in page.rows]
    return outcome, [row for row in rows if row.get("ok") is False]


# -- keeping order ------------------------------------------------------------------------------------


@command.command()
@click.argument("session")
@click.argument("text")
@target_options
def note(session: str, text: str, target: Target) -> None:
    """Add the note TEXT to SESSION."""
    import secrets

    from labtui import fetching

    if not text.strip():
        raise UsageError("note: the text is empty")
    data = {"id": f"n-{secrets.token_hex(4)}", "text": text, "job": None}
    fetching.annotate(session, target, "session.note", "note.added", data, text)


@command.command()
@click.argument("session")
@click.argument("tag")
@click.option("--remove", is_flag=True, help="Take the tag away.")
@target_options
def tag(session: str, tag: str, remove: bool, target: Target) -> None:
    """Give SESSION the tag TAG."""
    from labtui import fetching

    tag = tag.strip()
    if not 0 < len(tag) <= 64:
        raise UsageError("tag: expected 1 to 64 characters")
    method, kind = ("session.untag", "tag.removed") if remove else ("session.tag", "tag.added")
    fetching.annotate(session, target, method, kind, {"tag": tag}, tag)


@command.command()
@click.argument("session")
@click.argument("text")
@target_options
def title(session: str, text: str, target: Target) -> None:
    """Give SESSION the title TEXT."""
    from labtui import fetching

    fetching.annotate(session, target, "session.title", "session.titled", {"title": text[:400]}, text[:400])


@command.command()
@click.option("--older-than", "days", type=click.FloatRange(min=0), default=90.0, show_default=True,
              help="Days without a change.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def gc(days: float, yes: bool, as_json: bool) -> None:
    """Remove empty sessions and those unchanged for long; never an open one, or one with notes.

    Without --yes it says what would go, and asks where there is a terminal.
    """
    import sys

    import msgspec

    from labtui_sessions.home import candidates, listing

    doomed = candidates(listing(), days=days)
    rows = [{**msgspec.to_builtins(one), "size": output.size(one.bytes)} for one in doomed]
    if not as_json:
        output.table(rows, ["id", "why", "size"]) if rows else output.note("nothing to remove")
    if rows and not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        yes = click.confirm(f"Remove these {len(rows)} sessions for good?", err=True)
    removed = _remove(one.path for one in doomed) if yes else []
    if as_json:
        output.emit_json({"candidates": msgspec.to_builtins(doomed), "removed": removed})
    elif rows:
        output.note(f"removed {len(removed)} sessions" if yes else "nothing was removed: --yes removes them")


def _remove(places: Iterable[str]) -> list[str]:
    """Remove these folders; one that was opened meanwhile is left, and said so."""
    from labtui_artifacts.errors import LabError
    from labtui_sessions.home import remove

    removed = []
    for place in places:
        try:
            remove(Path(place))
        except LabError as error:
            output.note(f"labtui: {error}")
        else:
            removed.append(Path(place).name)
    return removed
