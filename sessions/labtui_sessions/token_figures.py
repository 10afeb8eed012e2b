"""The pictures of a ``vision-tokens`` job (matplotlib): norms and similarity over the depth, readings against what chance
gives, in which layers of the index the nearest are, and the words of each patch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import drawing, token_page
from .diagnosis import number, ordered, rows_of
from .drawing import nan
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURES = 10
"""Pictures with a line of their own."""
MAX_GRIDS = 4
MAX_SITES = 32
_LEFT_OUT = " (not after the final norm)"

Rows = Sequence[Mapping[str, Any]]


def draw(table: Table) -> Iterator[tuple[str, str, Figure]]:
    """Caption, kind and figure of each picture of a table; those that have nothing to show are left out."""
    kind, rows = token_page.kind_of(table), rows_of(table)
    if kind == "norms":
        if len({row.get("site") for row in rows}) > 1:
            yield (
                "Norms and similarity of each picture's tokens over the depth",
                "pictures",
                each_picture(rows),
            )
    elif kind == "depth":
        if len(rows) > 1:
            yield "Norms and similarity of pictures' tokens over the depth", "depth", depth(rows)
    elif kind == "layers":
        if rows:
            yield "How near the nearest are, against shuffled pictures", "scores", scores(rows)
        if any(number(row.get("match")) is not None for row in rows):
            yield "Tokens whose nearest word describes their region, against chance", "match", matches(rows)
        for reading, values, sites, places in _places(rows):
            figure = layers_hit(reading, values, sites, places)
            yield f"Layers of the index that the nearest are from, {reading}", f"layers-{reading}", figure
    elif kind == "tokens":
        for reading in token_page.READINGS:
            own = [row for row in rows if row.get("reading") == reading]
            if own:
                yield (
                    f"Nearest word of each token, {reading}",
                    f"words-{reading}",
                    nearest_words(own, reading),
                )


def each_picture(rows: Rows) -> Figure:
    """A line a picture: the median norm with its ends, and the mean cosine of two of its tokens."""
    figure, (norms, alike) = drawing.panels(2, 4.4, 3.4)
    images = list(dict.fromkeys(row.get("image") for row in rows))
    for count, image in enumerate(images[:MAX_PICTURES]):
        own = _by_site([row for row in rows if row.get("image") == image])
        sites = list(own)
        x = drawing.over_sites(norms, sites)
        drawing.over_sites(alike, sites)
        drawing.line(norms, x, _norms(own, "norm"), f"image {image}", count)
        low, high = _norms(own, "norm_least"), _norms(own, "norm_most")
        norms.fill_between(x, low, high, color=f"C{count % 10}", alpha=0.1, linewidth=0)
        drawing.line(alike, x, [nan(own[site].get("similarity")) for site in sites], f"image {image}", count)
    norms.set_title(f"norm: median, smallest to largest{_LEFT_OUT}", fontsize=8)
    alike.set_title("similarity: mean cosine of two tokens", fontsize=8)
    for axes in (norms, alike):
        drawing.legend(axes)
    return figure


def depth(rows: Rows) -> Figure:
    """Over all pictures: median and mean norm, similarity within pictures and across them."""
    figure, (norms, alike) = drawing.panels(2, 4.4, 3.4)
    own = _by_site(rows)
    for axes, title, columns in (
        (norms, f"norm{_LEFT_OUT}", {"norm": "median", "norm_mean": "mean"}),
        (
            alike,
            "mean cosine of two tokens",
            {"similarity": "of one picture", "similarity_across": "of two pictures"},
        ),
    ):
        x = drawing.over_sites(axes, list(own))
        for count, (column, label) in enumerate(columns.items()):
            y = _norms(own, column) if axes is norms else [nan(row.get(column)) for row in own.values()]
            drawing.line(axes, x, y, label, count)
        axes.set_title(title, fontsize=8)
        drawing.legend(axes)
    return figure


def scores(rows: Rows) -> Figure:
    """A panel a reading: the median of the best scores, and that of shuffled pictures with its 95th percentile."""
    readings = _readings(rows)
    figure, panels = drawing.panels(len(readings), 3.2, 2.8)
    for axes, reading in zip(panels, readings, strict=True):
        own = _by_site([row for row in rows if row.get("reading") == reading])
        x = drawing.over_sites(axes, list(own))
        drawing.line(axes, x, [nan(row.get("score")) for row in own.values()], "pictures, median", 0)
        drawing.line(
            axes, x, [nan(row.get("null")) for row in own.values()], "shuffled, median", 7, null=True
        )
        top = [nan(row.get("null_95")) for row in own.values()]
        drawing.line(axes, x, top, "shuffled, 95%", 3, null=True)
        axes.set_title(drawing.text(reading), fontsize=8)
        axes.set_ylabel("probability" if reading == "lens" else "cosine", fontsize=7)
    drawing.legend(panels[0])
    return figure


def matches(rows: Rows) -> Figure:
    """A panel a reading: the share of labelled tokens whose nearest word describes their region, with its interval, and
    any of the nearest words; dotted, what other pictures' labels and shuffled pictures give."""
    readings = _readings(rows)
    figure, panels = drawing.panels(len(readings), 3.2, 2.8)
    for axes, reading in zip(panels, readings, strict=True):
        own = _by_site([row for row in rows if row.get("reading") == reading])
        x = drawing.over_sites(axes, list(own))
        ends = [[nan(row.get(f"match_{end}")) for row in own.values()] for end in ("low", "high")]
        axes.fill_between(x, ends[0], ends[1], color="C0", alpha=0.15, linewidth=0)
        for count, (column, label) in enumerate(
            {"match": "nearest word", "match_any": "any of them"}.items()
        ):
            drawing.line(axes, x, [nan(row.get(column)) for row in own.values()], label, count)
            chance = [nan(row.get(f"{column}_chance_95")) for row in own.values()]
            drawing.line(axes, x, chance, f"{label}, 95% by chance", count, null=True)
        mixed = [nan(row.get("match_shuffled")) for row in own.values()]
        drawing.line(axes, x, mixed, "nearest word, shuffled picture", 7, null=True)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(drawing.text(reading), fontsize=8)
    drawing.legend(panels[0])
    return figure


def layers_hit(reading: str, values: np.ndarray, sites: Sequence[str], places: Sequence[str]) -> Figure:
    """Where tokens are read by where their nearest lie: shares of tokens."""
    figure = drawing.figure(max(3.2, 0.5 * len(places) + 1.8), max(2.4, 0.3 * len(sites) + 1.2))
    axes = figure.add_subplot()
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, col), share in np.ndenumerate(values):
        if math.isfinite(share):
            colour = "white" if share > 0.6 else "black"
            axes.text(col, row, f"{share:.0%}", ha="center", va="center", fontsize=6, color=colour)
    names = [[drawing.text(site) for site in some] for some in (places, sites)]
    axes.set_xticks(range(len(places)), names[0], rotation=60, ha="right", fontsize=6)
    axes.set_yticks(range(len(sites)), names[1], fontsize=6)
    axes.set_xlabel("layer of the index", fontsize=7)
    axes.set_ylabel("token read at", fontsize=7)
    axes.set_title(drawing.text(f"nearest text, {reading}"), fontsize=8)
    return figure


def nearest_words(rows: Rows, reading: str) -> Figure:
    """The first pictures' words as they lie, at the last site; those that describe their region are marked."""
    site = ordered(str(row.get("site")) for row in rows)[-1]
    images = list(dict.fromkeys(row.get("image") for row in rows))[:MAX_GRIDS]
    grids: list[dict[tuple[int, int], tuple[str, bool]]] = []
    for image in images:
        own = [row for row in rows if (row.get("image"), row.get("site")) == (image, site)]
        grids.append(
            {
                (row["row"], row["col"]): (
                    str(row.get("word") or row.get("token") or ""),
                    row.get("match") is True,
                )
                for row in own
                if type(row.get("row")) is int and type(row.get("col")) is int
            }
        )
    wide = max(len({col for _, col in cells}) for cells in grids)
    tall = max(len({row for row, _ in cells}) for cells in grids)
    figure, panels = drawing.panels(len(images), max(2.6, 0.5 * wide), max(1.8, 0.3 * tall + 0.6))
    for axes, image, cells in zip(panels, images, grids, strict=True):
        drawing.words(axes, cells, f"image {image}, {reading} at {site}")
    return figure


def _places(rows: Rows) -> Iterator[tuple[str, np.ndarray, list[str], list[str]]]:
    """By reading of an index: shares [sites, layers], the sites and the layers."""
    for reading in _readings(rows):
        own = _by_site([row for row in rows if row.get("reading") == reading])
        found = {
            site: shares for site, row in own.items() if isinstance(shares := row.get("hit_sites"), Mapping)
        }
        places = ordered({str(place) for shares in found.values() for place in shares})[:MAX_SITES]
        if found and places:
            values = [[nan(shares.get(place, 0.0)) for place in places] for shares in found.values()]
            yield reading, np.array(values), list(found), places


def _norms(own: Mapping[str, Mapping[str, Any]], column: str) -> list[float]:
    """Norms by site; those after the final norm, which are of another scale, are left out."""
    return [math.nan if site.endswith(".norm") else nan(row.get(column)) for site, row in own.items()]


def _readings(rows: Rows) -> list[str]:
    there = {str(row.get("reading")) for row in rows}
    return [name for name in token_page.READINGS if name in there] or sorted(there)[:8]


def _by_site(rows: Rows) -> dict[str, Mapping[str, Any]]:
    """Rows by site, in the order of a forward pass."""
    found = {str(row["site"]): row for row in rows if row.get("site")}
    return {site: found[site] for site in ordered(found)}
