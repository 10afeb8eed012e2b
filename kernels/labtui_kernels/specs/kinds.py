"""Every kind of spec, its fields and their defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from labtui_artifacts.errors import UsageError

from ..lang.algebra import parse_algebra
from ..lang.edits import parse_edits
from ..lang.positions import parse_where
from ..lang.sites import check_sites, parse_site
from ..lang.strength import parse_strength
from ..metrics.names import check_metrics
from .base import (
    MAX_IMAGES,
    MAX_MESSAGES,
    MAX_TEXT,
    Area,
    Decoding,
    Frames,
    Message,
    Part,
    Prompt,
    Prompts,
    PromptSource,
    Rate,
    Seed,
    Spec,
    Text,
    check_prompt,
)
from .calibrate import Calibrate, Match
from .diagnose import Diagnose
from .fields import Expression, Name, check_name, parse_read
from .index import Index
from .look import Look
from .stroop import Stroop
from .vision_tokens import VisionTokens

METHODS = ("pair", "mean-difference", "pca", "logistic", "random")
CONFIRM_ROWS = 20_000
MAX_ROWS = 200_000
ROW_METRICS = ("words", "tokens", "perplexity", "distinct-2")
SWEEP_METRICS = ("words", "perplexity", "distinct-2", "kl", "coherent")


class Generate(Decoding, frozen=True, kw_only=True, tag="generate"):
    """Plain and steered answers to one prompt, side by side."""

    prompt: Prompt
    edits: Expression = ""
    plain: bool = True
    n: Annotated[int, Meta(ge=1, le=64)] = 1
    seed: Seed = 0
    surprise: bool = False
    force: bool = False
    metrics: list[str] = field(default_factory=lambda: list(ROW_METRICS))

    def check(self) -> None:
        check_prompt(self.prompt, "prompt", self)
        parse_edits(self.edits)
        check_metrics(self.metrics, f"spec {self.kind}: metrics")


class Direction(Spec, frozen=True, kw_only=True, tag="direction"):
    """A direction from two poles, read at every site in one pass, kept as an artifact."""

    name: Name
    method: Literal["pair", "mean-difference", "pca", "logistic", "random"] = "mean-difference"
    sites: Expression = "llm.*"
    style: str = ""
    positive: list[Prompt] = field(default_factory=list)
    negative: list[Prompt] = field(default_factory=list)
    system: Text = ""
    read: str = "last"
    norm: str = ""
    seed: Seed = 0
    thinking: bool | None = None
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None
    replace: bool = False

    def check(self) -> None:
        check_name(self.name, "name", self)
        check_sites(self.sites)
        parse_read(self.read)
        if self.method == "random":
            self._check_random()
        elif self.norm:
            raise self.refuse(
                "norm", f"only random directions are given a norm, and the method is {self.method}"
            )
        elif self.style:
            if self.positive or self.negative:
                raise self.refuse("style", "expected a style, or positive and negative, not both")
            if self.method == "pair":
                raise self.refuse(
                    "method", "a style has many pairs; expected mean-difference, pca or logistic"
                )
        else:
            self._check_poles()

    def _check_random(self) -> None:
        if self.style or self.positive or self.negative:
            raise self.refuse(
                "method", "a random direction is read from nothing; leave out style and the poles"
            )
        if not self.norm:
            raise self.refuse("norm", 'a random direction needs one; expected "8%" or "|39|"')
        strength = parse_strength(self.norm)
        if strength.unit == "alpha" or strength.value <= 0:
            raise self.refuse("norm", f'expected "8%" or "|39|", more than zero, found {self.norm!r}')

    def _check_poles(self) -> None:
        if not self.positive or not self.negative:
            raise self.refuse("style", "expected a style, or both positive and negative")
        if len(self.positive) != len(self.negative):
            raise self.refuse(
                "negative", f"{len(self.negative)} of them for {len(self.positive)} positive; expected pairs"
            )
        if self.method == "pair" and len(self.positive) != 1:
            raise self.refuse(
                "method", f"a pair is one of each pole, found {len(self.positive)}; use mean-difference"
            )
        if self.method != "pair" and len(self.positive) < 2:
            raise self.refuse("method", f"{self.method} needs at least two pairs; use pair for one")
        for pole in ("positive", "negative"):
            for index, prompt in enumerate(getattr(self, pole)):
                check_prompt(prompt, f"{pole}[{index}]", self, ends="either")


class Controls(Part, frozen=True, kw_only=True):
    """Rows that tell whether an effect is real.

    ``random`` and ``shuffled`` count directions that mean nothing, at each site and strength; each is run on
    `NULL_PROMPTS` of the prompts, in turn, so that what a direction does can be told from what one answer does.
    """

    zero: bool = True
    random: Annotated[int, Meta(ge=0, le=100_000)] = 0
    shuffled: Annotated[int, Meta(ge=0, le=1_000)] = 0
    negated: bool = False
    prompt: bool = True


NULLS = 20
"""Directions of the null at each site and strength against which an effect can be called."""
NULL_PROMPTS = 2
NO_CONTROLS = Controls(zero=False, prompt=False)


def auto_controls(prompts: int) -> Controls:
    """What ``controls = "auto"`` means: half of `NULLS` random, half shuffled, and the negated direction.

    Under 20 prompts nothing can be called, so a quick look has about as many null rows of each sort as prompts.
    """
    each = NULLS // 2 if prompts >= NULLS else max(1, prompts // 2)
    return Controls(random=each, shuffled=each, negated=True)


class Sweep(Decoding, frozen=True, kw_only=True, tag="sweep"):
    """Directions x sites x strengths x prompts x seeds as rows of one batch, and their table."""

    prompts: Prompts
    directions: list[Expression]
    sites: Expression = "llm.*"
    strengths: list[float | str] = field(default_factory=lambda: [-2.0, -1.0, 1.0, 2.0])
    dose: Literal["each", "total"] = "each"
    where: str | list[str] = "all"
    seeds: list[Seed] = field(default_factory=lambda: [0])
    metrics: list[str] = field(default_factory=lambda: list(SWEEP_METRICS))
    controls: Literal["auto", "none"] | Controls = "auto"
    batch: Annotated[int, Meta(ge=0, le=4096)] = 0
    table: Name = ""
    confirm: bool = False
    force: bool = False

    def controls_for(self, prompts: int) -> Controls:
        """The controls of a sweep over so many prompts, with ``auto`` and ``none`` spelt out."""
        if self.controls == "auto":
            return auto_controls(prompts)
        return self.controls if isinstance(self.controls, Controls) else NO_CONTROLS

    @property
    def places(self) -> list[str]:
        """The positions that are swept, one or several."""
        return [self.where] if isinstance(self.where, str) else self.where

    def check(self) -> None:
        self._check_prompts()
        for key, values in (
            ("directions", self.directions),
            ("strengths", self.strengths),
            ("seeds", self.seeds),
            ("where", self.places),
        ):
            if not values:
                raise self.refuse(
                    key, "the list is empty, so there is nothing to sweep; expected at least one"
                )
            if len(values) > MAX_ROWS:
                raise self.refuse(key, f"{len(values):,} of them; at most {MAX_ROWS:,} are read")
        self._check_strengths()
        directions = [str(parse_algebra(text)) for text in self.directions]
        _once(directions, "directions", self)
        _once(self.seeds, "seeds", self)
        if len(self.seeds) > 1 and self.temperature == 0:
            raise self.refuse(
                "seeds", "with temperature = 0 every seed gives the same answer; expected one seed"
            )
        check_sites(self.sites)
        _once([str(parse_where(place)) for place in self.places], "where", self)
        check_metrics(self.metrics, f"spec {self.kind}: metrics")
        if self.table:
            check_name(self.table, "table", self)

    def _check_prompts(self) -> None:
        if isinstance(self.prompts, PromptSource):
            if (self.prompts.file is None) == (self.prompts.set is None):
                raise self.refuse("prompts", 'expected { file = "p.txt" } or { set = "neutral" }')
            return
        if not self.prompts:
            raise self.refuse(
                "prompts", "the list is empty, so there is nothing to sweep; expected at least one"
            )
        for index, prompt in enumerate(self.prompts):
            check_prompt(prompt, f"prompts[{index}]", self)

    def _check_strengths(self) -> None:
        try:
            strengths = [parse_strength(value) for value in self.strengths]
        except UsageError as refused:
            raise self.refuse("strengths", str(refused)) from None
        _once(strengths, "strengths", self)
        scaled = any(strength.unit == "alpha" and strength.value for strength in strengths)
        for text in self.directions:
            expr = parse_algebra(text)
            if expr.unscaled and scaled:
                raise self.refuse(
                    "strengths",
                    f'{expr} has no norm of its own for α; expected "8%" or "|39|", or {expr}~terse',
                )


def _once(values: list[Any], key: str, spec: Spec) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise spec.refuse(key, f"{value} is there twice")
        seen.add(value)


class RecordedImage(Part, frozen=True, kw_only=True):
    """Where a picture of a recorded prompt lay, and how it was made into patches."""

    digest: Annotated[str, Meta(max_length=100)]
    start: Annotated[int, Meta(ge=0)]
    grid: Annotated[list[Annotated[int, Meta(ge=1, le=1_000_000)]], Meta(min_length=3, max_length=3)]
    rows: int = 0
    cols: int = 0
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None
    seconds: Annotated[float, Meta(gt=0)] | None = None
    starts: list[Annotated[int, Meta(ge=0)]] = field(default_factory=list)
    name: Annotated[str, Meta(max_length=200)] = ""


class RecordedRow(Part, frozen=True, kw_only=True):
    """One row of a session: what went in, and the tokens with their log-probabilities that came out."""

    key: Annotated[str, Meta(max_length=300)]
    arm: Name = ""
    ids: Annotated[list[int], Meta(min_length=1)]
    content: list[bool] = field(default_factory=list)
    edits: Expression = ""
    forced: Annotated[list[int], Meta(min_length=1)]
    logprobs: list[float]
    gaps: list[float] = field(default_factory=list)
    knobs: list[tuple[int, int, float]] = field(default_factory=list)
    sampling: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    max_new_tokens: int = 0
    stop_ids: list[int] = field(default_factory=list)
    images: Annotated[list[RecordedImage], Meta(max_length=MAX_MESSAGES * MAX_IMAGES)] = field(
        default_factory=list
    )


class Rerun(Spec, frozen=True, kw_only=True, tag="rerun"):
    """Teacher-force the recorded tokens of rows and compare their log-probabilities."""

    rows: list[RecordedRow]
    source: str = ""
    dtype: str = ""
    tolerance: Annotated[float, Meta(gt=0)]
    model: dict[str, Any] = field(default_factory=dict)
    any_model: bool = False
    directions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        if not self.rows:
            raise self.refuse("rows", "the list is empty; expected recorded rows")
        for index, row in enumerate(self.rows):
            where = f"rows[{index}]"
            count = len(row.forced)
            if len(row.logprobs) != count or len(row.gaps) not in (0, count):
                raise self.refuse(where, f"expected a log-probability and a gap for each of {count} tokens")
            if row.content and len(row.content) != len(row.ids):
                raise self.refuse(where, f"{len(row.content)} content marks for {len(row.ids)} prompt tokens")
            if any(token < 0 for token in (*row.ids, *row.forced)):
                raise self.refuse(where, "a negative token id")
            if any(step < 0 or edit < 0 for step, edit, _ in row.knobs):
                raise self.refuse(where, "a knob at a negative step or edit")
            parse_edits(row.edits)


class Patch(Decoding, frozen=True, kw_only=True, tag="patch"):
    """Take an activation from one arm and put it in place of the other arm's, at a site and a position."""

    prompt: Prompt
    site: str
    position: int = -1
    edits: Expression = ""
    source: Literal["steered", "plain"] = "steered"
    answer: list[int] = field(default_factory=list)
    row: str = ""
    name: Name = ""
    seed: Seed = 0
    force: bool = False
    metrics: list[str] = field(default_factory=lambda: list(ROW_METRICS))

    def check(self) -> None:
        check_prompt(self.prompt, "prompt", self)
        parse_edits(self.edits)
        parse_site(self.site)
        check_metrics(self.metrics, f"spec {self.kind}: metrics")
        if self.name:
            check_name(self.name, "name", self)
        if self.source == "steered" and not self.edits.strip():
            raise self.refuse(
                "edits", "the steered arm has no edits, so both arms are the same; expected some"
            )
        if len(self.answer) > MAX_TEXT or any(token < 0 for token in self.answer):
            raise self.refuse("answer", "expected token ids")


class Compose(Spec, frozen=True, kw_only=True, tag="compose"):
    """Keep the value of an expression as a direction of its own."""

    name: Name
    expr: Expression
    sites: Expression = ""
    force: bool = False
    replace: bool = False

    def check(self) -> None:
        check_name(self.name, "name", self)
        if parse_algebra(self.expr).unscaled:
            raise self.refuse(
                "expr", 'a random direction has no norm of its own; make one with kind = "direction"'
            )
        if self.sites:
            check_sites(self.sites)


class Reference(Spec, frozen=True, kw_only=True, tag="reference"):
    """Measure the reference norms: the median norm over content positions of a prompt set, per site."""

    sites: Expression = "llm.*"
    set: str = "neutral"

    def check(self) -> None:
        check_sites(self.sites)


KINDS: dict[str, type[Spec]] = {
    "generate": Generate,
    "direction": Direction,
    "sweep": Sweep,
    "rerun": Rerun,
    "patch": Patch,
    "compose": Compose,
    "reference": Reference,
    "diagnose": Diagnose,
    "calibrate": Calibrate,
    "match": Match,
    "index": Index,
    "look": Look,
    "vision-tokens": VisionTokens,
    "stroop": Stroop,
}

__all__ = [
    "KINDS",
    "METHODS",
    "Calibrate",
    "Compose",
    "Controls",
    "Decoding",
    "Diagnose",
    "Direction",
    "Generate",
    "Index",
    "Look",
    "Match",
    "Message",
    "Patch",
    "PromptSource",
    "RecordedImage",
    "RecordedRow",
    "Reference",
    "Rerun",
    "Spec",
    "Stroop",
    "Sweep",
    "VisionTokens",
    "check_name",
    "parse_read",
]
