"""The kind ``stroop``: steer what a vision model sees, from embeddings of rendered words in inks to its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from ..lang.positions import parse_where
from ..lang.shape import ModelShape
from ..lang.sites import Site, check_sites, parse_sites
from ..lang.strength import Strength, parse_strength
from .base import Seed, Spec, Text
from .fields import Expression, Name, check_name

INK_QUESTION = "What is the ink color of the text?"
WORD_QUESTION = "What word is written?"
COLORS = ("red", "green", "blue", "yellow", "orange", "purple")
"""The colours that stimuli are drawn in: `vision.stimuli.COLORS`."""
QUESTIONS = ("ink", "word")
DELTAS = ("color", "text", "combined")
CONFIRM_ROWS = 20_000
MAX_ROWS = 200_000
LEAST_NULLS = 20
"""Directions without which there is no 95th percentile."""
GRID_NULLS = 20
"""Null directions at each site and strength of the grid, half random and half with permuted labels."""
GRID_PICTURES = 2
"""Pictures that each of them is run on."""

DeltaName = Literal["color", "text", "combined"]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class Stroop(Spec, frozen=True, kw_only=True, tag="stroop"):
    """Chunks of inks and words in a vision tower, their deltas, and what steering along them does to two answers."""

    name: Name = "stroop"
    folder: Annotated[str, Meta(max_length=4096)] = ""
    colors: Annotated[list[str], Meta(max_length=32)] = field(default_factory=list)
    deltas: Annotated[list[DeltaName], Meta(max_length=3)] = field(default_factory=lambda: [*DELTAS])  # type: ignore[list-item]
    sites: Expression = "vision.*,vision.merged"
    strengths: Annotated[list[float | str], Meta(max_length=64)] = field(
        default_factory=lambda: ["25%", "50%", "100%", "200%"]
    )
    pool: Literal["mean", "ink"] = "mean"
    where: str = ""
    method: Literal["chunks", "mean-difference"] = "chunks"
    clusters: Annotated[int, Meta(ge=1, le=16)] = 2
    build: Count = 24
    references: Count = 12
    choose: Count = 24
    judge: Count = 60
    permutations: Annotated[int, Meta(ge=LEAST_NULLS, le=1000)] = LEAST_NULLS
    nulls: Annotated[int, Meta(ge=LEAST_NULLS, le=1000)] = LEAST_NULLS
    null_pictures: Count = 20
    keep: Annotated[float, Meta(ge=0, le=1)] = 0.8
    ink_question: Text = INK_QUESTION
    word_question: Text = WORD_QUESTION
    system: Text = ""
    thinking: bool | None = None
    prefill: Text = ""
    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 8
    seed: Seed = 0
    batch: Annotated[int, Meta(ge=0, le=4096)] = 0
    table: Name = ""
    embeddings: bool = False
    replace: bool = False
    confirm: bool = False
    force: bool = False

    def check(self) -> None:
        check_name(self.name, "name", self)
        if len(self.name) > 60:
            raise self.refuse(
                "name", f"{len(self.name)} characters; at most 60, other names are made from it"
            )
        if self.table:
            check_name(self.table, "table", self)
        self._check_lists()
        check_sites(self.sites)
        if self.where:
            where = parse_where(self.where)
            if where.kind not in ("all", "image", "ink"):
                raise self.refuse(
                    "where", f"{self.where!r} selects no patches; expected image, ink or image[0:2,0:3]"
                )
        for key in ("ink_question", "word_question"):
            if not getattr(self, key).strip():
                raise self.refuse(key, "the question is empty; expected some text")
        if self.ink_question == self.word_question:
            raise self.refuse("word_question", "it is the question for the ink; expected another")
        if self.permutations < self.nulls:
            raise self.refuse(
                "permutations", f"{self.permutations} for {self.nulls} nulls; expected as many at least"
            )
        if self.choose < 2:
            raise self.refuse("choose", "expected at least 2 pictures to choose by")
        if self.folder and self.folder[0] not in "/~":
            raise self.refuse("folder", f"{self.folder!r}; expected a whole path, on the kernel's machine")

    def _check_lists(self) -> None:
        for key in ("colors", "deltas", "strengths"):
            values = [str(value) for value in getattr(self, key)]
            if len(set(values)) < len(values):
                raise self.refuse(key, "something is named twice")
        if not self.deltas:
            raise self.refuse("deltas", f"the list is empty; expected some of {', '.join(DELTAS)}")
        if not self.strengths:
            raise self.refuse("strengths", 'the list is empty; expected some, as in ["50%", "100%"]')
        for strength in self.percents:
            if strength.unit == "alpha" or strength.value <= 0:
                raise self.refuse(
                    "strengths",
                    f'{strength}: expected more than zero in "50%" (of the reference norm) or "|39|"',
                )
        for color in self.colors:
            if color not in COLORS:
                raise self.refuse("colors", f"{color!r}; expected some of {', '.join(COLORS)}")
        if 0 < len(self.colors) < 4:
            raise self.refuse(
                "colors", "expected at least 4: a target differs from ink and word, and others are left"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The colours, as inks and as words."""
        return tuple(self.colors) or COLORS

    @property
    def percents(self) -> list[Strength]:
        """The strengths, parsed."""
        return [parse_strength(value) for value in self.strengths]

    @property
    def place(self) -> str:
        """Where edits apply: on the patches that are pooled, unless said otherwise."""
        return self.where or ("ink" if self.pool == "ink" else "image")

    @property
    def judged_by(self) -> list[str]:
        """The columns of committed rows from which site and strength are chosen."""
        return ["flip", "stays", "other", "breaks", "right"]

    def question(self, name: str) -> str:
        """The text of a question: ``ink`` or ``word``."""
        return self.ink_question if name == "ink" else self.word_question


def sites_of(spec: Stroop, shape: ModelShape) -> list[Site]:
    """The sites of a Stroop recipe, in the order of a forward pass; UsageError for one outside the vision tower."""
    if not shape.vision_blocks:
        raise spec.refuse(
            "sites", "this model reads no pictures: it has no vision tower; load a Qwen-VL model"
        )
    sites = []
    for first, *others in parse_sites(spec.sites, shape):
        if others or first.tower != "vision":
            raise spec.refuse(
                "sites", f"{first.short}; expected single sites of the vision tower, as vision.3"
            )
        sites.append(first)
    return sorted(sites)


def directions_of(spec: Stroop) -> list[str]:
    """The names under which the chunks are kept as directions: ``stroop-ink-red``, ``stroop-word-red``, ..."""
    return [direction_name(spec.name, sort, label) for sort in QUESTIONS for label in spec.labels]


def direction_name(name: str, sort: str, label: str) -> str:
    """The direction of one ink or word."""
    return f"{name}-{sort}-{label}"


def expression(name: str, delta: str, ink: str, word: str, target: str) -> str:
    """A delta as an expression of those directions."""
    color = f"{direction_name(name, 'ink', target)} - {direction_name(name, 'ink', ink)}"
    text = f"{direction_name(name, 'word', target)} - {direction_name(name, 'word', word)}"
    return {"color": color, "text": text, "combined": f"{color} + {text}"}[delta]


def judged_rows(spec: Stroop, pictures: int, congruent: int) -> int:
    """Rows on the split that is judged: the chosen cells, their negations and nulls, and unsteered answers."""
    nulls = 2 * spec.nulls * min(spec.null_pictures, pictures)
    return 2 * (len(spec.deltas) * (2 * pictures + nulls) + pictures + congruent)


def grid_rows(spec: Stroop, sites: int, pictures: int) -> int:
    """Rows on the split that site and strength are chosen on."""
    points = sites * len(spec.strengths)
    nulls = GRID_NULLS * min(GRID_PICTURES, pictures)
    return 2 * (points * (len(spec.deltas) * pictures + nulls) + pictures)


def count_stroop(spec: Stroop, shape: ModelShape, found: Sequence[int] | None = None) -> dict[str, Any]:
    """How much it is: ``rows`` (generations), ``pictures`` whose embeddings are read, ``sites`` and more.

    ``found``: (choose, judge, congruent) pictures of a folder, where that was looked at; else what the spec asks for.
    UsageError for more rows than are run.
    """
    sites = len(sites_of(spec, shape))
    choose, judge, congruent = found or (spec.choose, spec.judge, spec.judge)
    grid, judged = grid_rows(spec, sites, choose), judged_rows(spec, judge, congruent)
    rows = grid + judged
    if rows > MAX_ROWS:
        raise spec.refuse(
            "sites",
            f"the plan has {rows:,} rows; at most {MAX_ROWS:,} are run: fewer sites, strengths or pictures",
        )
    pictures = 2 * len(spec.labels) * (spec.build + spec.references) + choose
    return {
        "rows": rows,
        "cells": rows + 2 * sites + len(spec.deltas),
        "grid": grid,
        "judged": judged,
        "sites": sites,
        "strengths": len(spec.strengths),
        "directions": len(spec.deltas),
        "labels": len(spec.labels),
        "pictures": pictures,
        "prompts": pictures,
        "tokens": rows * spec.max_new_tokens,
        "confirm": rows > CONFIRM_ROWS and not spec.confirm,
    }
