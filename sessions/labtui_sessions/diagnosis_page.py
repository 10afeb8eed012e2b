"""A diagnosis as text: tables for a terminal, and its part of a session's report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import diagnosis
from .diagnosis import NUMBERS
from .markdown import section
from .tables import Table

MAX_SITES = 64
MAX_COLUMNS = 8
"""Sites beside each other in a table of cosines."""


def head_of(table: Table) -> str:
    """What a table of a diagnosis is, on one line."""
    kind = diagnosis.kind_of(table.columns)
    rows = diagnosis.rows_of(table)
    if kind == "anatomy":
        return f"layer anatomy of {', '.join(diagnosis.anatomies(rows))}"
    if kind == "landscape":
        found = diagnosis.planes(rows)
        sites = sum(len(planes) for planes in found.values())
        return f"residual landscape of {', '.join(found)} at {sites} site{'' if sites == 1 else 's'}"
    return "cosines between directions"


def as_rows(table: Table) -> list[dict[str, Any]]:
    """A table of a diagnosis for a terminal: layers, means of the groups, or pairs by site."""
    kind = diagnosis.kind_of(table.columns)
    rows = diagnosis.rows_of(table)
    if kind == "anatomy":
        return list(_layers(rows))
    return list(_means(rows)) if kind == "landscape" else list(_pairs(rows))


def _layers(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    found = diagnosis.anatomies(rows)
    for poles, layers in found.items():
        for layer in layers[:MAX_SITES]:
            numbers = {head: layer.get(name) for name, head in NUMBERS.items() if name in table_columns(rows)}
            yield {**({"poles": poles} if len(found) > 1 else {}), "site": layer.site, **numbers}


def table_columns(rows: list[dict[str, Any]]) -> set[str]:
    """The columns in which some row has a value."""
    return {name for row in rows for name, value in row.items() if value is not None}


def _means(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for poles, planes in diagnosis.planes(rows).items():
        for plane in planes[:MAX_SITES]:
            where = {f"{group} mean": f"{at.x:.4g}, {at.y:.4g}" for group, at in plane.means.items()}
            count = sum(len(points) for points in plane.points.values())
            shares = "" if plane.explained is None else " + ".join(f"{one:.0%}" for one in plane.explained)
            yield {"poles": poles, "site": plane.site, "points": count, "variance": shares, **where}


def _pairs(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    maps = diagnosis.cosine_maps(rows)
    shown = [maps[index] for index in diagnosis.spaced(len(maps), MAX_COLUMNS)]
    names = maps[0].names if maps else ()
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            yield {"a": one, "b": other, **{found.site: found.get(one, other) for found in shown}}


def page_of(table: Table) -> Iterator[str]:
    """The Markdown of a table of a diagnosis."""
    method = _METHOD[diagnosis.kind_of(table.columns) or "cosines"]
    yield from section(head_of(table), method, as_rows(table), table.reasons.values())


_METHOD = {
    "anatomy": (
        "Norm: the median over content positions of the neutral prompts; beside it the mean over all positions, "
        "sinks in. Separation: the distance between the poles' means. Spread: the root-mean-square distance of "
        "prompts to the mean of their own pole. SNR: separation over spread; by chance: the 95th percentile of the "
        "separation with shuffled labels, over the same spread. Split-half: the mean cosine of the directions from "
        "random halves of the pairs (pairs that share a wording or a question make it larger); accuracy: held-out "
        "prompts on their side of the middle. PC1, PC2: shares of the variance that the landscape shows."
    ),
    "landscape": (
        "The first two principal components of both poles' prompts and the neutral prompts, centred on their "
        "common mean; each points to where the positive pole's mean lies above the negative's."
    ),
    "cosines": "Cosine of the stored vectors at each site; empty where one has none there.",
}
