"""The statistics of a sweep's table as text: for the report, the listing and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from .markdown import cell, grid, line
from .stats import Cell, Sheet, Summary, Zone, summarise, zones
from .tables import Table

Deltas = Mapping[str, float]
"""By metric, the size below which an effect counts as none."""

MAX_METRICS = 16
MAX_CELLS = 40
MAX_SENTENCES = 8
_MARKS = {"lower": "≥", "upper": "≤", "unclear": "~"}


def summaries_of(table: Table, deltas: Deltas | None = None) -> list[Summary]:
    """A summary of each metric of a sweep's table, the first ``MAX_METRICS``; none where there is no cell."""
    sheet = Sheet.of(table)
    if not sheet.points:
        return []
    return [summarise(sheet, name, delta=(deltas or {}).get(name)) for name in sheet.metrics()[:MAX_METRICS]]


def ranked(summary: Summary) -> list[Cell]:
    """The grid's cells, those called first, then by p; equals as the sweep has them."""
    return sorted(summary.grid, key=lambda c: (c.verdict != "called", _least(c.p_family), _least(c.p)))


def as_document(table: str, summary: Summary) -> dict[str, Any]:
    """A summary for JSON; the keys of a cell are its place and the fields of ``stats.Cell``."""
    rho = summary.consistency
    return {
        "table": table,
        "metric": summary.metric,
        "rate": summary.rate,
        "prompts": summary.prompts,
        "delta": summary.delta,
        "flips": summary.flips,
        "exact": summary.exact,
        "null_rho": rho.rho,
        "null_rho_upper": rho.upper,
        "cells": [_flat(one) for one in summary.cells],
    }


def as_rows(summary: Summary, most: int) -> list[dict[str, Any]]:
    """The first cells as ranked, for a table on a terminal."""
    return [
        {
            "metric": summary.metric,
            "direction": one.point.direction,
            "site": one.point.site,
            "strength": one.point.strength,
            "%": one.point.strength_pct,
            "effect": effect_text(one),
            "interval": interval_text(one.low, one.high),
            "null": one.null_bound,
            "p": one.p_family,
            "verdict": one.verdict + (", collapsed" if one.collapsed else ""),
        }
        for one in ranked(summary)[:most]
    ]


def effect_text(one: Cell) -> str:
    """The effect with its sign, marked where cut answers make it a bound; empty where there is none."""
    return "" if one.effect is None else f"{_MARKS.get(one.bound, '')}{one.effect:+.3g}"


def interval_text(low: float | None, high: float | None) -> str:
    """``[low, high]``; empty where there is none."""
    return "" if low is None or high is None else f"[{low:+.3g}, {high:+.3g}]"


def page_of(table: Table, deltas: Deltas | None = None, with_zones: bool = True) -> Iterator[str]:
    """The Markdown of a sweep's table: each metric's cells with effect, null, p and verdict, and the zones."""
    found = summaries_of(table, deltas)
    for summary in found:
        yield f"### Effects on {line(summary.metric)}"
        yield ""
        yield _method(summary)
        yield ""
        shown = ranked(summary)[:MAX_CELLS]
        yield from grid(_HEAD, [_row(one) for one in [*shown, *summary.beside]])
        if len(summary.grid) > len(shown):
            yield ""
            yield f"{len(summary.grid) - len(shown)} more cells are below these."
        yield ""
        told = [one for one in shown if one.effect is not None][:MAX_SENTENCES]
        yield from (f"- {line(_place(one))}: {line(one.sentence)}" for one in told)
        if told:
            yield ""
        if with_zones:
            yield from _zones(table, summary)


_HEAD = (
    "direction",
    "site",
    "strength",
    "%",
    "effect",
    "95% interval",
    "prompts",
    "absent",
    "cut",
    "mean here",
    "null 95%",
    "null rows",
    "p",
    "verdict",
)


def _row(one: Cell) -> list[Any]:
    point = one.point
    verdict = point.control or one.verdict
    return [
        point.direction,
        point.site,
        point.strength,
        point.strength_pct,
        effect_text(one),
        interval_text(one.low, one.high),
        one.prompts,
        one.absent or None,
        one.cut or None,
        one.value,
        one.null_bound,
        one.null_rows,
        one.p_family,
        verdict + (", text collapsed" if one.collapsed else ""),
    ]


def _method(summary: Summary) -> str:
    flips = f"{summary.flips:,} sign patterns" if summary.exact else f"{summary.flips:,} random sign patterns"
    rho = summary.consistency
    if not any(one.null_rows for one in summary.grid):
        null = "there are no rows of random or shuffled-label directions to hold effects against"
    elif rho.rho is None:
        null = "the null's bound is that of single rows, since no null direction was run on several prompts"
    else:
        null = f"null directions agree with themselves over prompts by rho = {rho.rho:.2f} (at most {rho.upper:.2f})"
    declared = "" if summary.delta is None else f" Effects inside ±{summary.delta:g} count as none."
    return (
        f"Differences from the zero row of the same prompt and seed. p is family-wise over {len(summary.grid)} "
        f"cells ({flips}); {null}.{declared}"
    )


def _place(one: Cell) -> str:
    percent = f" ({one.point.strength_pct:.3g}%)" if one.point.strength_pct is not None else ""
    return f"{one.point.direction} at {one.point.site}, strength {one.point.strength:.4g}{percent}"


def _zones(table: Table, summary: Summary) -> Iterator[str]:
    found = zones(Sheet.of(table), summary.metric)[:MAX_CELLS]
    if not any(zone.known or zone.collapse is not None for zone in found):
        return
    yield from grid(
        ["direction", "site", "side", "dead zone up to", "effective", "collapse from", "note"],
        [_zone(zone) for zone in found],
    )
    yield ""


def _zone(zone: Zone) -> list[Any]:
    band = f"{cell(zone.effective[0])} to {cell(zone.effective[1])}" if zone.effective else ""
    note = "" if zone.monotone else "not monotone"
    if not zone.known:
        note = ", ".join(filter(None, (note, "fewer than 20 null rows")))
    side = "+" if zone.side > 0 else "-"
    return [zone.direction, zone.site, side, zone.dead, band, zone.collapse, note]


def _flat(one: Cell) -> dict[str, Any]:
    fields = {
        name: getattr(one, name) for name in one.__dataclass_fields__ if name not in ("point", "metric")
    }
    return {**dataclasses.asdict(one.point), **fields}


def _least(p: float | None) -> float:
    return 2.0 if p is None else p
