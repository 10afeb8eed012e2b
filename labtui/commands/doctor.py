"""``labtui doctor``: check the place the lab runs in."""

from __future__ import annotations

import sys
from dataclasses import asdict
from io import TextIOWrapper

import click

from labtui import doctor, output
from labtui.options import json_option

MARKS = {"ok": "✓ ok  ", "warn": "! warn", "fail": "✗ fail"}


@click.command(
    "doctor", help="Check Python, devices, terminal and folders; exit 1 if the lab cannot work here."
)
@click.option("--deep", is_flag=True, help="Also load the bundled model, steer it and audit its hooks.")
@json_option
def command(deep: bool, as_json: bool) -> int:
    """Run the checks, print each as it comes, and return the exit code."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the marks are not in every encoding; each has its word
    found = []
    for check in doctor.run(deep=deep):
        found.append(check)
        if not as_json:
            _show(check, first=len(found) == 1 or found[-2].area != check.area)
    failed = [check for check in found if check.status == "fail"]
    if as_json:
        output.emit_json({"ok": not failed, "checks": [asdict(check) for check in found]})
    else:
        warned = sum(check.status == "warn" for check in found)
        print(f"\n{len(found)} checks: {len(failed)} failed, {warned} warnings")
    return 1 if failed else 0


def _show(check: doctor.Check, *, first: bool) -> None:
    if first:
        print(f"\n{check.area}" if check.area != "machine" else check.area)
    print(f"  {MARKS[check.status]}  {output.clean(check.name)}: {output.clean(check.what)}", flush=True)
    if check.todo:
        print(f"            → {output.clean(check.todo)}", flush=True)
