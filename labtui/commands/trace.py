"""``labtui trace``: where the time of a job went."""

from __future__ import annotations

import json
from pathlib import Path

import click

from labtui import output
from labtui.options import Target, target_options
from labtui_artifacts.errors import UsageError


@click.command("trace")
@click.argument("job")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@target_options
def command(job: str, file: Path, target: Target) -> None:
    """Write a Chrome trace of JOB to FILE (open it in ui.perfetto.dev or chrome://tracing)."""
    from labtui_artifacts.files import write_atomically

    with target.connect() as lab:
        found = lab.request("trace", job=job)
        known = job in lab.session.state.jobs
    spans = [event for event in found["traceEvents"] if event["ph"] == "X" and event["cat"] != "sync"]
    if not spans:
        why = "it is too long ago, or the kernel was started again since" if known else "no such job"
        raise UsageError(f"trace: nothing is known of job {job!r}: {why}")
    body = json.dumps(found).encode()
    write_atomically(file, lambda out: out.write(body) and None)
    output.note(f"{len(spans)} spans written to {file}")
