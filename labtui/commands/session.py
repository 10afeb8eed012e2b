"""``labtui session``: list, show, save, fetch, check, repeat, compare and export sessions.

SESSION is a saved file, the id of a session on this machine (or, with ``--via``, there), or ``current``: the
session that the kernel has open.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.commands import session_notes, session_reading, session_rerun
from labtui.commands.session_options import force_option, when
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_artifacts.images import Stored
    from labtui_sessions.home import Listed


@click.group("session")
def command() -> None:
    """List, save, verify, repeat, compare and export sessions."""


for _made in (
    session_reading.show,
    session_reading.report,
    session_reading.export,
    session_reading.diff,
    session_notes.new,
    session_notes.note,
    session_notes.tag,
    session_notes.title,
    session_rerun.rerun,
):
    command.add_command(_made)


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
        "changed": when(one.changed),
        "size": output.size(one.bytes),
        "state": state,
    }


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


# -- taking along -------------------------------------------------------------------------------------


@command.command()
@click.argument("session")
@click.argument("file", type=click.Path(path_type=Path))
@force_option
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
@force_option
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


# -- keeping order ------------------------------------------------------------------------------------


@command.command()
@click.option("--older-than", "days", type=click.FloatRange(min=0), default=90.0, show_default=True,
              help="Days without a change.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def gc(days: float, yes: bool, as_json: bool) -> None:
    """Remove empty sessions and those unchanged for long, never an open one or one with notes, and then the pictures
    that no session is about.

    Without --yes it says what would go, and asks where there is a terminal.
    """
    import sys

    import msgspec

    from labtui_sessions.home import candidates, listing

    doomed = candidates(listing(), days=days)
    pictures = _unnamed([one.path for one in doomed])
    rows = [{**msgspec.to_builtins(one), "size": output.size(one.bytes)} for one in doomed]
    some = f"{len(pictures)} picture{'s' if len(pictures) > 1 else ''}"
    what = f"{some} that no session is about ({output.size(sum(one.bytes for one in pictures))})"
    if not as_json:
        if rows:
            output.table(rows, ["id", "why", "size"])
        if pictures:
            output.note(what)
        if not rows and not pictures:
            output.note("nothing to remove")
    if (rows or pictures) and not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        both = " and ".join(
            [*([f"these {len(rows)} sessions"] if rows else []), *([what] if pictures else [])]
        )
        yes = click.confirm(f"Remove {both} for good?", err=True)
    removed = _remove(one.path for one in doomed) if yes else []
    gone = _remove_pictures() if yes else []
    if as_json:
        told = {"candidates": [one.digest for one in pictures], "removed": gone}
        output.emit_json({"candidates": msgspec.to_builtins(doomed), "removed": removed, "pictures": told})
    elif rows or pictures:
        done = f"removed {len(removed)} sessions" + (f" and {len(gone)} pictures" if gone else "")
        output.note(done if yes else "nothing was removed: --yes removes them")


def _unnamed(without: list[str]) -> list[Stored]:
    """The pictures that would go with those sessions; none where a session cannot be read, and that is said."""
    from labtui_artifacts.errors import LabError
    from labtui_sessions.home import unnamed_images

    try:
        return unnamed_images(without=without)
    except LabError as error:
        output.note(f"labtui: no picture is removed, since a session cannot be read: {error}")
        return []


def _remove_pictures() -> list[str]:
    """Remove the pictures that none of the sessions left is about; their digests."""
    from labtui_artifacts.images import ImageStore

    gone = _unnamed([])
    ImageStore().remove(gone)
    return [one.digest for one in gone]


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
