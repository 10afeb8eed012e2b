"""Asking before a sweep that is larger than anyone is likely to mean."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.pictures import sent
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui.client import AsyncLab


def size(counts: Mapping[str, Any]) -> str:
    """How much a plan is: rows, tokens, and the time they take at the measured speed, where there is one."""
    text = f"{counts['rows']:,} rows, at most {counts['tokens']:,} tokens"
    if "seconds" in counts:
        by = "at the speed of the last sweep" if counts.get("measured") == "sweep" else "or less"
        text += f" (about {output.duration(counts['seconds'])}, {by})"
    return text


async def agreed(lab: AsyncLab, spec: dict[str, Any], *, yes: bool) -> dict[str, Any]:
    """The spec as it may be run: with ``confirm = true`` where the user said so to a plan of so many rows.

    UsageError when nobody is there to be asked, or the answer is no; also for what is wrong with the plan.
    """
    if spec.get("kind") != "sweep" or spec.get("confirm"):
        return spec
    if yes:
        return {**spec, "confirm": True}
    if (await lab.request("info"))["info"] is None:
        return (
            spec  # without the model's sites nothing can be counted; the job itself refuses what is too much
        )
    ready, _ = await sent(lab, spec)
    counts = await lab.request("plan", spec=ready)
    if not counts["confirm"]:
        return spec
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"the plan has {size(counts)}: --yes (or confirm = true in the spec) runs it")
    question = f"The plan has {size(counts)}. Run it?"
    try:
        wanted = await asyncio.to_thread(click.confirm, question, err=True)
    except click.Abort:
        wanted = False
    if not wanted:
        raise UsageError("nothing was run")
    return {**spec, "confirm": True}
