"""A Stroop recipe's tables together, as text: what its report answers, and rows for a terminal.

Which blocks can be changed, whether ink or word steers more, whether cosines predict behaviour, and how much words
and inks interfere without any edit. Every share has its interval; nulls stand beside what they judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import stroop
from .diagnosis import ordered
from .markdown import cell, grid, line
from .stroop import AIMS, QUESTIONS, Cell, Interference, Null, Prediction, Rate
from .tables import Table

PARTS = ("chunks", "cosines", "choice", "judged")
NAMES = {"color": "Δcolor", "text": "Δtext", "combined": "Δcombined"}
TO = {"text_only": "words of the target", "color_only": "ink of the target"}
MAX_SITES = 64


@dataclass(frozen=True)
class Judged:
    """A chosen cell on held-out pictures: its answers, its nulls by question, and the negated edit's flips."""

    cell: Cell
    feasible: bool
    random: Mapping[str, Null]
    permuted: Mapping[str, Null]
    negated: Mapping[str, Rate]

    def beyond(self, question: str) -> bool:
        """The interval of its flips lies above the random null's 95th percentile."""
        low, bound = self.cell.rate(question, "flip").low, self.random[question].percentile
        return low is not None and bound is not None and low > bound


@dataclass(frozen=True)
class Study:
    """The tables of one recipe, read."""

    name: str
    tables: tuple[str, ...]
    cells: tuple[Cell, ...]
    nulls: Mapping[tuple[str, str, str], Mapping[str, Null]]
    """By delta, site and strength, the random null of the grid's cells by question."""
    judged: tuple[Judged, ...]
    interference: tuple[Interference, ...]
    cosines: tuple[Mapping[str, Any], ...]
    predictions: tuple[Prediction, ...]
    pictures: Mapping[str, int] = field(default_factory=dict)
    """How many pictures were asked about, by split."""

    @property
    def sites(self) -> list[str]:
        """The sites of the grid, in the order of a forward pass."""
        return ordered({one.site for one in self.cells})

    @property
    def deltas(self) -> list[str]:
        return [delta for delta in AIMS if any(one.delta == delta for one in self.cells)]

    def best(self, delta: str, site: str) -> Cell | None:
        """The cell of a site in which most answers flip, the weakest edit of equals."""
        mine = [
            one for one in self.cells if one.delta == delta and one.site == site and one.flips is not None
        ]
        return max(mine, key=lambda one: (one.flips or 0.0, -one.norm), default=None)

    def null(self, one: Cell, question: str) -> Null:
        return self.nulls.get((one.delta, one.site, one.text), {}).get(question, Null(None, None, 0, 0))


def studies(tables: Mapping[str, Table]) -> list[Study]:
    """The Stroop recipes whose tables are among these, by the name of their first table."""
    kinds = {name: stroop.kind_of(table.columns) for name, table in tables.items()}
    names: dict[str, None] = {}
    for name, kind in kinds.items():
        base, _, part = name.rpartition("-")
        if kind is not None:
            names[base if base and part in PARTS else name] = None
    return [_study(name, tables, kinds) for name in names]


def _study(name: str, tables: Mapping[str, Table], kinds: Mapping[str, str | None]) -> Study:
    there = [part for part in (name, *(f"{name}-{part}" for part in PARTS)) if kinds.get(part) is not None]
    rows = {part: stroop.rows_of(tables[part]) for part in there}
    answers, held = rows.get(name, []), rows.get(f"{name}-judged", [])
    cells = stroop.cells(answers)
    cosines = rows.get(f"{name}-cosines", [])
    pictures = {
        split: len(
            {row.get("picture") or row.get("prompt_id") for row in found if row.get("question") == "ink"}
        )
        for split, found in (("choose", answers), ("judge", held))
    }
    return Study(
        name=name,
        tables=tuple(there),
        cells=tuple(cells),
        nulls={
            (one.delta, one.site, one.text): {q: stroop.null_of(answers, one, q) for q in QUESTIONS}
            for one in cells
        },
        judged=tuple(_judged(held, rows.get(f"{name}-choice", []))),
        interference=tuple(stroop.interference(held or answers)),
        cosines=tuple(cosines),
        predictions=tuple(stroop.predictions(cells, cosines)) if cells and cosines else (),
        pictures=pictures,
    )


def _judged(rows: Sequence[Mapping[str, Any]], choice: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
    feasible = {
        (one.get("delta"), one.get("site"), one.get("strength_text")): one.get("feasible") for one in choice
    }
    negated = stroop.cells(rows, "negated")
    for one in stroop.cells(rows):
        other = next((n for n in negated if (n.delta, n.site) == (one.delta, one.site)), None)
        yield Judged(
            one,
            bool(feasible.get((one.delta, one.site, one.text), True)),
            {q: stroop.null_of(rows, one, q) for q in QUESTIONS},
            {q: stroop.null_of(rows, one, q, "shuffled") for q in QUESTIONS},
            {q: other.rate(q, "flip") for q in QUESTIONS} if other is not None else {},
        )


# -- sentences ------------------------------------------------------------------------------------------


def sentences(study: Study) -> Iterator[str]:
    """What the tables say, a sentence a finding."""
    for one in study.judged:
        yield _said_of(one)
    yield from _compared(study)
    for found in study.predictions:
        yield _predicted(found)
    for seen in study.interference:
        yield _interfered(seen)


def _said_of(one: Judged) -> str:
    delta, parts = NAMES[one.cell.delta], []
    for question in AIMS[one.cell.delta]:
        null = one.random[question]
        parts.append(
            f"{one.cell.rate(question, 'flip')} right {question} answers become the target (the 95th percentile of "
            f"{null.directions} random directions of that norm: {_share(null.percentile)})"
        )
    for question in QUESTIONS:
        if question not in AIMS[one.cell.delta]:
            parts.append(f"{one.cell.rate(question, 'stays')} right {question} answers stay")
    where = f"{delta} at {one.cell.site}, {one.cell.text}, on held-out pictures: "
    note = "" if one.feasible else " No cell of the grid spared enough of the other answers."
    return where + "; ".join(parts) + "." + note


def _compared(study: Study) -> Iterator[str]:
    """Whether ink or word is steered more, by the chosen cells on held-out pictures."""
    by = {one.cell.delta: one.cell for one in study.judged}
    if "color" not in by or "text" not in by:
        return
    ink, word = by["color"].rate("ink", "flip"), by["text"].rate("word", "flip")
    gap = difference(ink, word)
    if gap is None:
        return
    middle, low, high = gap
    verdict = (
        "the ink is steered more" if low > 0 else "the word is steered more" if high < 0 else "undecided"
    )
    yield (
        f"Ink against word: {_share(ink.share)} of ink answers flip under Δcolor and {_share(word.share)} of word "
        f"answers under Δtext, a difference of {middle:+.0%} [{low:+.0%}, {high:+.0%}]: {verdict}."
    )


def difference(one: Rate, other: Rate) -> tuple[float, float, float] | None:
    """The difference of two shares with Newcombe's 95% interval; None where one is absent."""
    found = [(rate.share, rate.low, rate.high) for rate in (one, other)]
    if any(value is None for triple in found for value in triple):
        return None
    (p, low_p, high_p), (q, low_q, high_q) = (np.array(triple, float) for triple in found)
    gap = float(p - q)
    return gap, gap - float(np.hypot(p - low_p, high_q - q)), gap + float(np.hypot(high_p - p, q - low_q))


def _predicted(found: Prediction) -> str:
    head = f"Cosine towards the {TO.get(found.to, found.to)}"
    if found.rho is None:
        return f"{head}: no rank correlation with flips can be given ({found.cells} cells)."
    low, high = found.within_low, found.within_high
    within = ""
    if found.within is not None:
        within = f" At equal delta and strength, over sites: {_with_interval(found.within, low, high)}."
    if low is None or high is None:
        verdict = ""
    elif low > 0:
        verdict = " It predicts which sites can be changed."
    elif high < 0:
        verdict = " It ranks sites the other way round."
    else:
        verdict = " Whether it predicts which sites can be changed stays open."
    few = (
        f" No interval is given for fewer than {stroop.LEAST_SITES} sites."
        if found.sites < stroop.LEAST_SITES
        else ""
    )
    return (
        f"{head}: rank correlation of net gain and flips over {found.cells} cells at {found.sites} sites "
        f"{_with_interval(found.rho, found.low, found.high)}.{within}{verdict}{few}"
    )


def _interfered(seen: Interference) -> str:
    head = (
        f"Without edits, {seen.question} answers are right on {seen.congruent} congruent and {seen.incongruent} "
        "incongruent pictures"
    )
    if seen.difference is None or seen.low is None or seen.high is None:
        return head + "."
    verdict = "words and inks interfere" if seen.low > 0 else "no interference is shown"
    return (
        f"{head}: Stroop interference {seen.difference:+.1%} [{seen.low:+.1%}, {seen.high:+.1%}], {verdict}."
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


# -- tables ---------------------------------------------------------------------------------------------


def site_rows(study: Study) -> Iterator[dict[str, Any]]:
    """By site and delta the strongest cell of the grid: flips, what is spared, the null, the cosine gain."""
    nets = {
        (row.get("delta"), row.get("site"), row.get("strength_text"), row.get("to")): row
        for row in study.cosines
    }
    for site in study.sites[:MAX_SITES]:
        for delta in study.deltas:
            one = study.best(delta, site)
            if one is None:
                continue
            flips = " · ".join(f"{question} {one.rate(question, 'flip')}" for question in AIMS[delta])
            nulls = " · ".join(_share(study.null(one, question).percentile) for question in AIMS[delta])
            row = {
                "site": site,
                "delta": NAMES[delta],
                "strength": one.text,
                "flips": flips,
                "null 95%": nulls,
            }
            row["other stays"] = _share(one.spared) if one.spared is not None else ""
            for to, name in (("text_only", "net cosine, word"), ("color_only", "net cosine, ink")):
                found = nets.get((delta, site, one.text, to))
                net = found.get("net") if found else None
                mark = "*" if found and found.get("beyond") else ""
                row[name] = f"{net:+.3f}{mark}" if isinstance(net, int | float) else ""
            yield row


def judged_rows(study: Study) -> Iterator[dict[str, Any]]:
    """The chosen cells on held-out pictures, a row a question."""
    for one in study.judged:
        for question in QUESTIONS:
            yield {
                "delta": NAMES[one.cell.delta],
                "site": one.cell.site,
                "strength": one.cell.text,
                "question": question + (" (aim)" if question in AIMS[one.cell.delta] else ""),
                **{outcome: str(one.cell.rate(question, outcome)) for outcome in stroop.OUTCOMES},
                "right": str(one.cell.rate(question, "right")),
                "random 95%": _share(one.random[question].percentile),
                "permuted 95%": _share(one.permuted[question].percentile),
                "negated flips": _share(one.negated[question].share) if question in one.negated else "",
            }


def page_of(study: Study) -> Iterator[str]:
    """The Markdown of a Stroop recipe."""
    yield f"## Stroop steering {line(study.name)}"
    yield ""
    splits = [f"{count} to {split}" for split, count in study.pictures.items() if count]
    yield (
        "Site and strength of each delta were chosen on one split of the pictures and judged on another, of held-out "
        f"fonts, places and pairs (pictures asked about: {', '.join(splits) or 'none yet'}). A flip is an answer that was "
        "right without the edit and is the target with it. Shares have Wilson's 95% interval."
    )
    yield ""
    for sentence in sentences(study):
        yield f"- {line(sentence)}"
    yield ""
    for head, rows in (
        ("### Which blocks can be changed", list(site_rows(study))),
        ("### Chosen cells on held-out pictures", list(judged_rows(study))),
    ):
        if rows:
            yield head
            yield ""
            heads = list(rows[0])
            yield from grid(heads, [[cell(row.get(name)) for name in heads] for row in rows])
            yield ""
    if study.cosines:
        yield (
            "Net cosine: the gain towards the target less the mean gain towards the other labels, on pooled embeddings; "
            "\\* above the 95th percentile of chunks with permuted labels. Null 95%: the 95th percentile of the flips of "
            "random directions at that site and strength, on few pictures each in the grid."
        )
        yield ""
