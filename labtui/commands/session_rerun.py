"""``labtui session rerun``: the recorded rows once more, on a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options

if TYPE_CHECKING:
    from labtui.client import AsyncLab
    from labtui.running import Outcome
    from labtui_sessions.log import EventLog


@click.command()
@click.argument("file")
@click.option("--job", help="Only the rows of this job.")
@click.option("--rows", type=click.IntRange(min=1), help="Only the first so many rows.")
@click.option("--any-model", is_flag=True, help="Also on a model with other weights.")
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path),
              help="A picture's file, where the kernel does not have it any more (may be repeated).")  # fmt: skip
@json_option
@target_options
def rerun(
    file: str,
    job: str | None,
    rows: int | None,
    any_model: bool,
    images: tuple[Path, ...],
    as_json: bool,
    target: Target,
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
        outcome, rows_off = fetching.with_kernel(
            target, lambda lab: _rerun(lab, log, spec, images), attach=True
        )
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


async def _rerun(
    lab: AsyncLab, log: EventLog, spec: dict[str, Any], images: tuple[Path, ...]
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Submit it and wait; how it ended, and the rows that were off."""
    from labtui import fetching
    from labtui.pictures import send
    from labtui.running import Run

    wanted = {image["digest"] for row in spec["rows"] for image in row.get("images") or ()}
    for path in images:
        if (await send(lab, path)).digest not in wanted:
            output.note(f"labtui: {path}: none of the rows is about this picture")

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
