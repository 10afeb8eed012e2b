"""``labtui run``: an experiment from a spec, to its end or left to the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import LabError

if TYPE_CHECKING:
    from labtui.client import AsyncLab
    from labtui.running import Outcome
    from labtui_sessions.tables import Table

MAX_SHOWN = 200


@click.command("run")
@click.argument("spec")
@click.option("--session", help="The session that takes it (default: the kernel's current one).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the spec.")
@click.option("--yes", is_flag=True, help="Run a plan of more than 20,000 rows without being asked.")
@click.option("--force", is_flag=True, help="Take directions that were fitted on another model as wide.")
@click.option("--detach", is_flag=True, help="Do not wait: the kernel goes on by itself.")
@json_option
@target_options
def command(
    spec: str,
    session: str | None,
    settings: tuple[str, ...],
    yes: bool,
    force: bool,
    detach: bool,
    as_json: bool,
    target: Target,
) -> int:
    """Run SPEC: a TOML file, - for standard input, or a kind of spec (then --set gives its fields)."""
    from labtui_kernels import specs

    given = [*settings, "force=true"] if force else settings
    checked = specs.to_dict(specs.read(spec, given))
    return asyncio.run(_run(checked, session, yes, detach, as_json, target.settled()))


async def _run(
    spec: dict[str, Any], session: str | None, yes: bool, detach: bool, as_json: bool, target: Target
) -> int:
    from labtui.client import AsyncLab
    from labtui.consent import agreed
    from labtui.pictures import submit

    lab = await AsyncLab.connect(target.kernel, via=target.via, session=session)
    try:
        spec = await agreed(lab, spec, yes=yes)
        if detach:
            answer = await submit(lab, spec, session=session)
            if as_json:
                output.emit_json(answer)
            else:
                print(answer["job"])
                output.note(
                    f"queued in session {answer['session']}: `labtui kernel info {lab.name}` shows it"
                )
            return 0
        return await _to_the_end(lab, spec, session, as_json)
    finally:
        await lab.close()


async def _to_the_end(lab: AsyncLab, spec: dict[str, Any], session: str | None, as_json: bool) -> int:
    from labtui.running import Run

    job = Run(lab, spec, session=session)
    await job.submit()
    name = job.outcome.job
    interrupted = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # no signals off the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    with output.Progress(name, unit="") as progress:
        waiting = asyncio.create_task(job.wait(progress.update))
        stop = asyncio.create_task(interrupted.wait())
        await asyncio.wait([waiting, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
    if not waiting.done():
        waiting.cancel()
        return await _interrupt(lab, name)
    outcome = waiting.result()
    if as_json:
        output.emit_json(await _document(lab, outcome))
    else:
        await _show(lab, outcome)
    if outcome.status != "done":
        output.note(f"labtui: job {name} {outcome.status}" + (f": {outcome.error}" if outcome.error else ""))
        return outcome.code or 1
    return 0


async def _interrupt(lab: AsyncLab, job: str) -> int:
    """Ctrl-C: have the kernel cancel the job, and say whether it took that."""
    try:
        await asyncio.wait_for(lab.request("job.cancel", job=job), 10.0)
    except (LabError, TimeoutError) as error:
        output.note(
            f"labtui: interrupted; the kernel could not be told ({error}), so job {job} may still run"
        )
    else:
        output.note(f"labtui: interrupted; job {job} is cancelled, its finished cells stay")
    return 130


async def _tables(lab: AsyncLab, outcome: Outcome) -> dict[str, Any]:
    from labtui.running import fetch_table

    return {name: await fetch_table(lab, name) for name in outcome.tables}


async def _document(lab: AsyncLab, outcome: Outcome) -> dict[str, Any]:
    tables = await _tables(lab, outcome)
    return {
        "job": outcome.job,
        "session": outcome.session,
        "status": outcome.status,
        "error": outcome.error or None,
        "seconds": outcome.seconds,
        "result": outcome.result,
        "audit": outcome.audit,
        "tables": {name: [_line(table, i) for i in range(table.rows)] for name, table in tables.items()},
        "rows": [await _row(lab, key) for key in outcome.rows] if not tables else [],
    }


def _line(table: Table, index: int) -> dict[str, Any]:
    """A row with why numbers of it are absent."""
    reasons = table.reasons.get(index)
    return {**table.row(index), **({"reasons": reasons} if reasons else {})}


async def _row(lab: AsyncLab, key: str) -> dict[str, Any]:
    found = await lab.row_text(key)
    view = lab.state.rows.get(key)
    return {
        "row": found.row,
        "arm": found.arm,
        "edits": found.edits,
        "text": found.text,
        "finish": found.finish,
        "tokens": len(found.ids),
        "words": len(found.text.split()),
        "metrics": view.metrics if view is not None else {},
    }


async def _show(lab: AsyncLab, outcome: Outcome) -> None:
    """What was found in a table; tables as tables; answers as text under their arm; else what the job says."""
    from labtui.commands import calibration, steering
    from labtui_sessions import pages

    if calibration.show(outcome.result):
        return
    tables = await _tables(lab, outcome)
    for note in outcome.result.get("notes") or []:
        output.note(str(note))
    if studies := steering.studies_in(tables):
        for study in studies:
            steering.show(study)
        return
    for table in tables.values():
        if (page := pages.of(table)) is not None:
            rows = page.as_rows(table)
            print(output.clean(page.head_of(table)))
            output.table(rows, list(dict.fromkeys(name for row in rows for name in row)))
            continue
        rows = [table.row(i) for i in range(min(table.rows, MAX_SHOWN))]
        output.table(rows, [name for name in table.columns if not name.startswith("prompt_")])
        if table.rows > MAX_SHOWN:
            output.note(f"{MAX_SHOWN} of {table.rows} rows: `labtui session export` writes them all")
    if tables:
        return
    for key in outcome.rows:
        row = await _row(lab, key)
        head = " ".join(part for part in (row["arm"], row["edits"]) if part)
        print(f"── {output.clean(head or row['row'])} · {row['words']} words · {row['finish']}")
        print(output.clean(row["text"], keep="\n\t"))
    if not outcome.rows and outcome.result:
        output.pairs(outcome.result)
