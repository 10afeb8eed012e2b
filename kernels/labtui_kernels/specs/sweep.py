"""The spec of a sweep, and the rows that tell whether an effect is real."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from labtui_artifacts.errors import UsageError

from ..lang.algebra import parse_algebra
from ..lang.positions import parse_where
from ..lang.sites import check_sites
from ..lang.strength import parse_strength
from ..metrics.names import check_metrics
from .base import Decoding, Part, Prompts, PromptSource, Seed, Spec, check_prompt
from .fields import Expression, Name, check_name

CONFIRM_ROWS = 20_000
MAX_ROWS = 200_000
SWEEP_METRICS = ("words", "perplexity", "distinct-2", "kl", "coherent")


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
