"""The pictures of a look (matplotlib): norms over the depth, maps of the picture's patches, and their nearest words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import drawing, looks
from .diagnosis import number, ordered, rows_of, spaced
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 8
MAX_DIRECTIONS = 4
MAX_PATCHES = 256
"""Patches of a matrix of cosines."""

Rows = Sequence[Mapping[str, Any]]


def draw(table: Table) -> Iterator[tuple[str, str, Figure]]:
    """Caption, kind and figure of each picture of a look's table; those that have nothing to show are left out."""
    kind, rows = looks.kind_of(table.columns), rows_of(table)
    if kind == "depth":
        if len(found := looks.depths(rows)) > 1:
            yield "Norms and similarity of the patches over the depth", "depth", depth(found)
    elif kind == "patches":
        yield from _mapped(rows, "norm", "Norm of each patch", "norms")
    elif kind == "scores":
        names = list(dict.fromkeys(str(row["direction"]) for row in rows if row.get("direction")))
        for count, name in enumerate(names[:MAX_DIRECTIONS]):
            own = [row for row in rows if row.get("direction") == name]
            yield from _mapped(own, "projection", f"Projection of each patch on {name}", f"scores-{count}")
    elif kind == "effect":
        yield from _mapped(rows, "change", "What the edit moved each patch by", "effect")
    elif kind == "similar":
        matrices = {site: found for site, own in _sites(rows).items() if (found := _cosines(own)) is not None}
        if matrices:
            yield "Cosines between patches, site by site", "similar", matrices_of(matrices)
    elif kind == "attention":
        sums = _attention(rows)
        if sums:
            yield "Attention to the picture over the depth", "attention", attention(sums)


def depth(found: Sequence[looks.Depth]) -> Figure:
    """The median norm from the smallest to the largest, and the patches' mean cosine to each other."""
    figure, (norms, alike) = drawing.panels(2, 4.4, 3.4)
    sites = [one.site for one in found]
    x = drawing.over_sites(norms, sites)
    drawing.over_sites(alike, sites)
    drawing.line(norms, x, [one.median for one in found], "", 0)
    norms.fill_between(
        x, [one.lowest for one in found], [one.highest for one in found], color="C0", alpha=0.15, linewidth=0
    )
    drawing.line(alike, x, [drawing.nan(one.alike) for one in found], "", 0)
    norms.set_title("norm: median, smallest to largest", fontsize=8)
    alike.set_title("mean cosine of two patches", fontsize=8)
    return figure


def maps(grids: Mapping[str, np.ndarray]) -> Figure:
    """A panel a site: the picture's patches as they lie in it."""
    figure, panels = drawing.panels(len(grids), 2.8, 2.4)
    for axes, (site, values) in zip(panels, grids.items(), strict=True):
        drawing.heat(axes, values, site)
    return figure


def matrices_of(found: Mapping[str, np.ndarray]) -> Figure:
    """A panel a site: patches by patches."""
    shown = [list(found)[index] for index in spaced(len(found), MAX_PANELS)]
    figure, panels = drawing.panels(len(shown), 2.8, 2.6)
    for axes, site in zip(panels, shown, strict=True):
        drawing.heat(axes, found[site], site, low=-1, high=1)
    return figure


def attention(sums: Mapping[str, Mapping[str, float]]) -> Figure:
    """The share of its attention that each word gives the picture, over the depth."""
    figure = drawing.figure(6.0, 3.6)
    axes = figure.add_subplot()
    sites = list(sums)
    x = drawing.over_sites(axes, sites)
    words = list(dict.fromkeys(word for each in sums.values() for word in each))
    words.sort(key=lambda word: (word != looks.ANSWER, -max(each.get(word, 0.0) for each in sums.values())))
    for count, word in enumerate(words[:8]):
        drawing.line(axes, x, [drawing.nan(sums[site].get(word)) for site in sites], word.strip(), count)
    axes.set_ylabel("attention to the picture", fontsize=8)
    drawing.legend(axes)
    return figure


def _mapped(rows: Rows, column: str, caption: str, kind: str) -> Iterator[tuple[str, str, Figure]]:
    grids: dict[str, np.ndarray] = {}
    for site, own in _sites(rows).items():
        cells = {
            (row["row"], row["col"]): value
            for row in own
            if type(row.get("row")) is int
            and type(row.get("col")) is int
            and (value := number(row.get(column))) is not None
        }
        if cells:
            grids[site] = drawing.grid_of(cells)
    shown = [list(grids)[index] for index in spaced(len(grids), MAX_PANELS)]
    if shown:
        yield caption, kind, maps({site: grids[site] for site in shown})


def _cosines(rows: Rows) -> np.ndarray | None:
    """The matrix of a site's cosines; None where it is not whole, or too large to draw."""
    found: dict[int, tuple[float, ...]] = {}
    for row in rows:
        patch = row.get("patch")
        if type(patch) is int:
            found[patch] = looks.unpack(row.get("cosines"))
    count = len(found)
    whole = set(found) == set(range(count)) and all(len(values) == count for values in found.values())
    return np.array([found[patch] for patch in range(count)]) if whole and 1 < count <= MAX_PATCHES else None


def _attention(rows: Rows) -> dict[str, dict[str, float]]:
    return {
        site: {str(row.get("word")): sum(looks.unpack_half(row.get("weights"))) for row in own}
        for site, own in _sites(rows).items()
    }


def _sites(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("site"):
            found.setdefault(str(row["site"]), []).append(row)
    return {site: found[site] for site in ordered(found)}
