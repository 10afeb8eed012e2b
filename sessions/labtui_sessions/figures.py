"""The pictures of a sweep: effects over sites and strengths, and curves with intervals and the null's band.

Drawn by matplotlib, which is optional (``pip install "labtui[report]"``), as PNG files.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labtui_artifacts.errors import UsageError
from labtui_artifacts.files import write_atomically

from . import (
    diagnosis,
    diagnosis_figures,
    drawing,
    look_figures,
    looks,
    stroop_figures,
    token_figures,
    token_page,
)
from .findings import summaries_of
from .stats import Cell, Summary
from .stroop_page import Study
from .tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = 'no figures: matplotlib is not installed (pip install "labtui[report]")'
MAX_FIGURES = 24
MAX_LINES = 8
MAX_SIDE = 64
"""Most sites or strengths in one heatmap."""


def available() -> bool:
    """matplotlib can be imported."""
    return find_spec("matplotlib") is not None


class Album:
    """Writes the figures of tables beside a page, as ``STEM-TABLE-METRIC-KIND.png``."""

    def __init__(self, page: Path, *, replace: bool = False) -> None:
        self.page = page
        self.replace = replace
        self.written: list[Path] = []

    def __call__(self, table: Table | Study) -> Sequence[tuple[str, str]]:
        """Captions and names of the figures of a table, or of a Stroop recipe; at most ``MAX_FIGURES`` in all.

        UsageError when a file of that name is there and must not be replaced.
        """
        made: list[tuple[str, str]] = []
        drawn = _drawn(table)
        if drawn is not None:
            for caption, kind, figure in drawn:
                if len(self.written) >= MAX_FIGURES:
                    break
                made.append((caption, self._write(figure, f"{table.name}-{kind}")))
            return made
        assert isinstance(table, Table)
        for summary in summaries_of(table):
            if len(self.written) + 2 > MAX_FIGURES:
                break
            for kind, draw in (("grid", heatmap), ("curves", curves)):
                figure = draw(summary)
                if figure is not None:
                    name = self._write(figure, f"{table.name}-{summary.metric}-{kind}")
                    what = "over sites and strengths" if kind == "grid" else "over strength"
                    made.append((f"Effect on {summary.metric} {what}", name))
        return made

    def _write(self, figure: Figure, what: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.page.stem}-{what}")[:150]
        place = self.page.with_name(f"{stem}.png")
        if place in self.written:
            place = self.page.with_name(f"{stem}-{len(self.written)}.png")
        if place.exists() and not self.replace:
            raise UsageError(f"{place}: exists already; give another name, or --force to replace it")
        data = png(figure)
        write_atomically(place, lambda out: out.write(data) and None, expected=len(data))
        self.written.append(place)
        return place.name


def _drawn(table: Table | Study) -> Iterator[tuple[str, str, Figure]] | None:
    """Caption, kind and figure of each picture; None for a table that is shown as a sweep's."""
    if isinstance(table, Study):
        return stroop_figures.draw(table)
    if diagnosis.kind_of(table.columns) is not None:
        return diagnosis_figures.draw(table)
    if looks.kind_of(table.columns) is not None:
        return look_figures.draw(table)
    return token_figures.draw(table) if token_page.kind_of(table) is not None else None


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks
        FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def heatmap(summary: Summary) -> Figure | None:
    """Effects as colour and digits, a panel a direction; called cells are framed, collapsed ones hatched.

    None where there is no effect, or only one cell.
    """
    cells = [cell for cell in summary.grid if cell.effect is not None]
    directions = list(dict.fromkeys(cell.point.direction for cell in cells))[:4]
    sites = sorted({cell.point.site for cell in cells}, key=natural)[:MAX_SIDE]
    label = _labels(cells)
    columns = list(dict.fromkeys(label(cell) for cell in sorted(cells, key=lambda c: c.point.strength)))
    columns = columns[:MAX_SIDE]
    if len(sites) * len(columns) < 2:
        return None
    wide = max(4.0, 0.62 * len(columns) + 2.2)
    figure = drawing.figure(wide * len(directions), max(2.6, 0.34 * len(sites) + 1.6))
    largest = max(abs(cell.effect or 0.0) for cell in cells) or 1.0
    for number, direction in enumerate(directions):
        axes = figure.add_subplot(1, len(directions), number + 1)
        values = np.full((len(sites), len(columns)), np.nan)
        for cell in cells:
            if cell.point.direction == direction and cell.point.site in sites and label(cell) in columns:
                at = sites.index(cell.point.site), columns.index(label(cell))
                values[at] = cell.effect
                _mark(axes, at, cell, largest)
        image = axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(len(sites)), [drawing.text(site) for site in sites], fontsize=7)
        axes.set_xlabel("strength")
        axes.set_title(drawing.text(f"{direction}: effect on {summary.metric}"), fontsize=9)
        figure.colorbar(image, ax=axes)
    return figure


def curves(summary: Summary) -> Figure | None:
    """Effect over strength with 95% intervals, a line a direction and site; the null's bound and the
    prompt-only rows beside them. The sites with the largest effects are shown. None without two strengths."""
    lines: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in summary.grid:
        if cell.effect is not None:
            lines.setdefault((cell.point.direction, cell.point.site, cell.point.where), []).append(cell)
    lines = {key: sorted(cells, key=lambda c: c.point.strength) for key, cells in lines.items()}
    chosen = sorted(lines, key=lambda key: -max(abs(cell.effect or 0.0) for cell in lines[key]))[:MAX_LINES]
    if not any(len(lines[key]) > 1 for key in chosen):
        return None
    figure = drawing.figure(7.0, 4.2)
    axes = figure.add_subplot()
    for number, key in enumerate(sorted(chosen, key=lambda k: (k[0], natural(k[1])))):
        _curve(axes, lines[key], drawing.text(f"{key[0]} at {key[1]}"), f"C{number}")
    axes.axhline(0.0, color="black", linewidth=0.7)
    for cell in summary.beside:
        if cell.point.control == "prompt" and cell.effect is not None:
            label = drawing.text(f"prompt only: {cell.point.direction}")
            axes.axhline(cell.effect, color="black", linestyle="--", linewidth=0.9, label=label)
    axes.set_xlabel("strength")
    axes.set_ylabel(drawing.text(f"effect on {summary.metric}"))
    axes.set_title("bands: 95% intervals; dotted: the null's 95%", fontsize=8)
    axes.legend(fontsize=7)
    return figure


def natural(text: str) -> list[tuple[bool, int, str]]:
    """An order in which llm.2 comes before llm.10."""
    parts = re.split(r"(\d{1,9})", text)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _curve(axes: Axes, cells: Sequence[Cell], label: str, colour: str) -> None:
    x = [cell.point.strength for cell in cells]
    axes.plot(
        x, [drawing.nan(cell.effect) for cell in cells], color=colour, marker="o", markersize=3, label=label
    )
    low, high = [drawing.nan(cell.low) for cell in cells], [drawing.nan(cell.high) for cell in cells]
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    for sign in (1, -1):
        bound = [sign * drawing.nan(cell.null_bound) for cell in cells]
        axes.plot(x, bound, color=colour, linestyle=":", linewidth=0.8)
    ruined = [(cell.point.strength, drawing.nan(cell.effect)) for cell in cells if cell.collapsed]
    if ruined:
        axes.plot(*zip(*ruined, strict=True), linestyle="", marker="x", color="black", markersize=6)


def _mark(axes: Axes, at: tuple[int, int], cell: Cell, largest: float) -> None:
    from matplotlib.patches import Rectangle

    place = (at[1] - 0.5, at[0] - 0.5)
    colour = "white" if abs(cell.effect or 0.0) > 0.6 * largest else "black"
    axes.text(at[1], at[0], f"{cell.effect:.2g}", ha="center", va="center", fontsize=6, color=colour)
    if cell.verdict == "called":
        axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.6, zorder=3))
    if cell.collapsed:
        axes.add_patch(Rectangle(place, 1, 1, fill=False, hatch="////", edgecolor="grey", linewidth=0))


def _labels(cells: Sequence[Cell]) -> Callable[[Cell], str]:
    """How strengths are told apart: by alpha or by %, whichever the sites have in common."""

    def alpha(cell: Cell) -> str:
        return f"{cell.point.strength:.3g}"

    def percent(cell: Cell) -> str:
        return f"{cell.point.strength_pct:.3g}%"

    if any(cell.point.strength_pct is None for cell in cells):
        return alpha
    return percent if len(set(map(percent, cells))) < len(set(map(alpha, cells))) else alpha
