"""The pictures of a Stroop recipe: flips over sites and strengths, cosines against their null, one against the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from . import drawing
from .stroop import AIMS, QUESTIONS, Rate
from .stroop_page import NAMES, TO, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {"color": "o", "text": "s", "combined": "^"}
BARS = (("flip", "flips to the target", "C3"), ("stays", "stays", "C2"), ("other", "another colour", "C1"))


def draw(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Caption, kind and figure of each picture of a recipe; those that have nothing to show are left out."""
    if study.cells:
        yield f"Flips over sites and strengths of {study.name}", "flips", flips(study)
    if study.judged:
        yield f"Chosen cells of {study.name} on held-out pictures", "judged", judged(study)
    if study.cosines:
        yield f"Cosine gains of {study.name} against permuted labels", "cosines", cosines(study)
    if study.cells and study.cosines:
        yield f"Cosine gain against flips of {study.name}", "prediction", prediction(study)


def flips(study: Study) -> Figure:
    """A panel a delta and question: sites by strengths, shares of flips as colour and digits."""
    sites, deltas = study.sites, study.deltas
    texts = list(
        dict.fromkeys(one.text for one in sorted(study.cells, key=lambda one: one.percent or one.norm))
    )
    figure = drawing.figure(
        max(3.2, 0.55 * len(texts) + 1.6) * len(deltas), 2 * max(2.2, 0.28 * len(sites) + 1.0)
    )
    for row, question in enumerate(QUESTIONS):
        for column, delta in enumerate(deltas):
            axes = figure.add_subplot(2, len(deltas), row * len(deltas) + column + 1)
            values = np.full((len(sites), len(texts)), np.nan)
            for one in study.cells:
                if one.delta == delta:
                    share = one.rate(question, "flip").share
                    values[sites.index(one.site), texts.index(one.text)] = (
                        math.nan if share is None else share
                    )
            axes.imshow(values, cmap="Reds", vmin=0, vmax=1, aspect="auto")
            for (y, x), value in np.ndenumerate(values):
                if np.isfinite(value):
                    colour = "white" if value > 0.6 else "black"
                    axes.text(x, y, f"{value:.0%}", ha="center", va="center", fontsize=6, color=colour)
            axes.set_xticks(
                range(len(texts)), [drawing.text(text) for text in texts], rotation=45, ha="right", fontsize=7
            )
            axes.set_yticks(range(len(sites)), [drawing.text(site) for site in sites], fontsize=7)
            aim = " (aim)" if question in AIMS[delta] else ""
            axes.set_title(f"{NAMES[delta]}: flips of {question} answers{aim}", fontsize=8)
    return figure


def judged(study: Study) -> Figure:
    """A panel a chosen cell: what became of the answers to both questions, with the nulls of the flips."""
    figure = drawing.figure(3.6 * len(study.judged), 3.2)
    for number, one in enumerate(study.judged):
        axes = figure.add_subplot(1, len(study.judged), number + 1)
        for step, (outcome, label, colour) in enumerate(BARS):
            for place, question in enumerate(QUESTIONS):
                _bar(
                    axes,
                    place + 0.25 * (step - 1),
                    one.cell.rate(question, outcome),
                    colour,
                    label if not place else "",
                )
        for place, question in enumerate(QUESTIONS):
            bound = one.random[question].percentile
            if bound is not None:
                left, right = place - 0.37, place - 0.13
                axes.hlines(
                    bound,
                    left,
                    right,
                    color="black",
                    linestyle=":",
                    label="_" if place else "random, 95%",
                )
        axes.set_xticks(range(len(QUESTIONS)), [f"{question} answers" for question in QUESTIONS], fontsize=8)
        axes.set_ylim(0, 1.03)
        axes.set_title(
            drawing.text(f"{NAMES[one.cell.delta]} at {one.cell.site}, {one.cell.text}"), fontsize=8
        )
        if number == 0:
            axes.legend(fontsize=6, loc="upper center")
    return figure


def _bar(axes: Axes, at: float, rate: Rate, colour: str, label: str) -> None:
    if rate.share is None or rate.low is None or rate.high is None:
        return
    reach = [[max(0.0, rate.share - rate.low)], [max(0.0, rate.high - rate.share)]]
    axes.bar(at, rate.share, width=0.23, color=colour, yerr=reach, capsize=2, label=label or None)


def cosines(study: Study) -> Figure:
    """A panel a delta and reference: net gain over sites, a line a strength, and the null's 95th percentile dotted."""
    references = list(dict.fromkeys(str(row.get("to")) for row in study.cosines))
    figure = drawing.figure(3.8 * len(study.deltas), 2.6 * len(references))
    sites = study.sites
    for row, to in enumerate(references):
        for column, delta in enumerate(study.deltas):
            axes = figure.add_subplot(
                len(references), len(study.deltas), row * len(study.deltas) + column + 1
            )
            mine = [one for one in study.cosines if one.get("delta") == delta and one.get("to") == to]
            texts = list(dict.fromkeys(str(one.get("strength_text")) for one in mine))
            for number, text in enumerate(texts):
                by = {str(one.get("site")): one for one in mine if one.get("strength_text") == text}
                for name, style in (("net", "-"), ("null_95", ":")):
                    y = [drawing.nan(by.get(site, {}).get(name)) for site in sites]
                    label = drawing.text(text) if name == "net" else None
                    axes.plot(range(len(sites)), y, style, color=f"C{number % 10}", linewidth=1, label=label)
            axes.axhline(0, color="black", linewidth=0.6)
            axes.set_xticks(
                range(len(sites)), [drawing.text(site) for site in sites], rotation=60, ha="right", fontsize=6
            )
            axes.set_title(drawing.text(f"{NAMES[delta]}: net cosine to the {TO.get(to, to)}"), fontsize=8)
            if row == column == 0:
                axes.legend(fontsize=6, title="dotted: permuted, 95%", title_fontsize=6)
    return figure


def prediction(study: Study) -> Figure:
    """A panel a reference: the cells' net gains against their flips."""
    references = list(dict.fromkeys(str(row.get("to")) for row in study.cosines))
    figure = drawing.figure(4.2 * len(references), 3.4)
    for number, to in enumerate(references):
        axes = figure.add_subplot(1, len(references), number + 1)
        nets = {
            (row.get("delta"), row.get("site"), row.get("strength_text")): row.get("net")
            for row in study.cosines
            if row.get("to") == to
        }
        for delta in study.deltas:
            points = [
                (drawing.nan(nets.get((delta, one.site, one.text))), one.flips)
                for one in study.cells
                if one.delta == delta and one.flips is not None
            ]
            x, y = [point[0] for point in points], [point[1] for point in points]
            axes.scatter(x, y, s=16, marker=MARKS[delta], alpha=0.7, label=NAMES[delta])
        found = next((one for one in study.predictions if one.to == to), None)
        rho = "" if found is None or found.rho is None else f": rank correlation {found.rho:+.2f}"
        axes.set_title(drawing.text(f"{TO.get(to, to)}{rho}"), fontsize=8)
        axes.set_xlabel("net cosine gain", fontsize=8)
        axes.set_ylabel("flips", fontsize=8)
        axes.legend(fontsize=6)
    return figure
