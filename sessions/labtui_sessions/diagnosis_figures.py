"""The pictures of a diagnosis: layer anatomy, residual landscapes and cosine maps (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import diagnosis, drawing
from .diagnosis import Cosines, Layer, Plane
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 16
LOOKS = {"positive": ("^", "C0"), "negative": ("v", "C1"), "neutral": ("o", "0.6")}
"""Marker and colour of each group: the poles are told apart without colour."""


def draw(table: Table) -> Iterator[tuple[str, str, Figure]]:
    """Caption, kind and figure of each picture of a diagnosis' table; nothing for another table."""
    kind, rows = diagnosis.kind_of(table.columns), diagnosis.rows_of(table)
    if kind == "anatomy":
        for poles, layers in diagnosis.anatomies(rows).items():
            yield f"Layer anatomy of {poles}", poles, anatomy(poles, layers)
    elif kind == "landscape":
        for poles, planes in diagnosis.planes(rows).items():
            yield f"Residual landscape of {poles}", poles, landscapes(poles, planes)
    elif kind == "cosines":
        maps = diagnosis.cosine_maps(rows)
        if maps:
            yield "Cosines between directions", "map", cosines(maps)


def anatomy(poles: str, layers: Sequence[Layer]) -> Figure:
    """Three panels over the sites: norms and distances, signal to noise, stability."""
    figure = drawing.figure(11.0, 3.4)
    x, what = diagnosis.steps([layer.site for layer in layers])
    panels = (
        ("norm", ("reference", "reference_mean", "separation", "spread")),
        ("SNR: separation / spread", ("snr", "snr_null")),
        ("stability", ("split_half", "accuracy", "cosine")),
    )
    for index, (title, columns) in enumerate(panels):
        axes = figure.add_subplot(1, 3, index + 1)
        for column, marker in zip(columns, "osv^", strict=False):
            y = [drawing.nan(layer.get(column)) for layer in layers]
            if any(map(math.isfinite, y)):
                axes.plot(x, y, marker=marker, markersize=4, label=diagnosis.NUMBERS[column])
        axes.set_title(drawing.text(f"{poles}: {title}"), fontsize=9)
        axes.set_xlabel(what, fontsize=8)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), max(1.02, high) if title == "stability" else high)
        if not what:
            axes.set_xticks(x, [layer.site for layer in layers], rotation=60, ha="right", fontsize=6)
        if axes.has_data():
            axes.legend(fontsize=7)
    return figure


def landscapes(poles: str, planes: Sequence[Plane]) -> Figure:
    """A panel a site, at most ``MAX_PANELS`` of them, spread over the depth."""
    shown = [planes[index] for index in diagnosis.spaced(len(planes), MAX_PANELS)]
    figure, panels = drawing.panels(len(shown), 2.7)
    for number, (axes, plane) in enumerate(zip(panels, shown, strict=True)):
        for group, spots in plane.points.items():
            marker, colour = LOOKS[group]
            x, y = [spot.x for spot in spots], [spot.y for spot in spots]
            axes.scatter(x, y, s=14, marker=marker, color=colour, alpha=0.7, linewidths=0, label=group)
        for group, spot in plane.means.items():
            marker, colour = LOOKS[group]
            axes.scatter(spot.x, spot.y, s=70, marker="X", color=colour, edgecolors="black")
        axes.set_title(drawing.text(f"{poles} at {plane.site}"), fontsize=8)
        axes.set_aspect("equal", "datalim")
        if plane.explained is not None:
            axes.set_xlabel(f"{plane.explained[0]:.0%} of the variance", fontsize=6)
            axes.set_ylabel(f"{plane.explained[1]:.0%}", fontsize=6)
        axes.tick_params(labelsize=6)
        if number == 0:
            axes.legend(fontsize=6)
    return figure


def cosines(maps: Sequence[Cosines]) -> Figure:
    """Directions by directions, a panel a site, at most ``MAX_PANELS`` of them."""
    shown = [maps[index] for index in diagnosis.spaced(len(maps), MAX_PANELS)]
    names = shown[0].names
    figure, panels = drawing.panels(len(shown), max(2.2, 0.42 * len(names) + 1.0))
    for axes, found in zip(panels, shown, strict=True):
        values = np.array([[drawing.nan(found.get(one, other)) for other in names] for one in names])
        axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
        labels = [drawing.text(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", fontsize=6)
        axes.set_yticks(range(len(names)), labels, fontsize=6)
        axes.set_title(drawing.text(found.site), fontsize=8)
    return figure
