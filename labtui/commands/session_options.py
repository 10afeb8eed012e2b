"""What the commands of ``labtui session`` share."""

from __future__ import annotations

import time
from typing import Any

import click

from labtui_artifacts.errors import UsageError


def when(t: float) -> str:
    """A time of day for a listing, empty for one that cannot be."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(t)) if 0 < t < 4e9 else ""


def force_option(function: Any) -> Any:
    """Give a command ``--force``: it receives ``force: bool``."""
    return click.option("--force", is_flag=True, help="Replace a file that is there.")(function)


def deltas_option(function: Any) -> Any:
    """Give a command ``--delta``: it receives ``deltas``, sizes above 0 by metric."""
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
