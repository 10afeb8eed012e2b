"""What all figures have in common (matplotlib): their size, their text, panels, lines over sites and pictures' grids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .diagnosis import steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osv^DPX*"
MOST_COLUMNS = 4
MOST_ROWS = 64
"""Rows or columns of a picture's grid that are drawn."""


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, within bounds."""
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, 40.0), min(height, 40.0)), dpi=120, layout="constrained")


def panels(count: int, width: float, height: float | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of so many inches, at most `MOST_COLUMNS` beside each other."""
    columns = min(MOST_COLUMNS, count)
    rows = math.ceil(count / columns)
    made = figure(width * columns, (width if height is None else height) * rows)
    return made, [made.add_subplot(rows, columns, index + 1) for index in range(count)]


def nan(value: Any) -> float:
    """The number, or NaN for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def text(value: str) -> str:
    """Text from outside: printable, short, and no formula."""
    plain = "".join(c for c in value if c.isprintable()).replace("$", r"\$")
    return plain if len(plain) <= 60 else plain[:59] + "…"


def over_sites(axes: Axes, sites: Sequence[str]) -> list[float]:
    """Names the sites along the horizontal axis; where each of them stands."""
    x, what = steps(sites)
    axes.set_xlabel(what, fontsize=8)
    axes.tick_params(labelsize=7)
    if not what:
        axes.set_xticks(x, [text(site) for site in sites], rotation=60, ha="right", fontsize=6)
    return x


def line(
    axes: Axes, x: Sequence[float], y: Sequence[float], label: str, number: int, *, null: bool = False
) -> None:
    """A line over sites; a ``null``'s is dotted and without marks. Nothing is drawn of values that are all absent."""
    if any(map(math.isfinite, y)):
        marker = "" if null else MARKERS[number % len(MARKERS)]
        axes.plot(
            x,
            y,
            marker=marker,
            markersize=4,
            color=f"C{number % 10}",
            linestyle=":" if null else "-",
            label=text(label) or None,
        )


def legend(axes: Axes) -> None:
    """A legend, where there is something to tell apart."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6)


def grid_of(cells: Mapping[tuple[int, int], float]) -> np.ndarray:
    """Values by (row, column) of a picture as a matrix, NaN where there is none; at most `MOST_ROWS` a side."""
    kept = {at: value for at, value in cells.items() if min(at) >= 0 and max(at) < MOST_ROWS}
    rows = max((row for row, _ in kept), default=0) + 1
    cols = max((col for _, col in kept), default=0) + 1
    values = np.full((rows, cols), np.nan)
    for at, value in kept.items():
        values[at] = value
    return values


def heat(
    axes: Axes, values: np.ndarray, title: str, *, low: float | None = None, high: float | None = None
) -> None:
    """A matrix as colours, with its own scale unless one is given."""
    from matplotlib.ticker import MaxNLocator

    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high)
    axes.set_title(text(title), fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.tick_params(labelsize=6)
    axes.figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=6)


def words(axes: Axes, cells: Mapping[tuple[int, int], tuple[str, bool]], title: str) -> None:
    """A word in each cell of a picture's grid; those that are marked stand on green."""
    values = grid_of({at: float(mark) for at, (_, mark) in cells.items()})
    axes.imshow(values, cmap="Greens", vmin=0, vmax=2, aspect="auto")
    for (row, col), (word, _) in cells.items():
        if min(row, col) >= 0 and max(row, col) < MOST_ROWS:
            axes.text(col, row, text(word.strip())[:12], ha="center", va="center", fontsize=6)
    axes.set_title(text(title), fontsize=8)
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    axes.tick_params(labelsize=6)
