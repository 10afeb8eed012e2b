"""The kinds ``calibrate`` and ``match``: how strong a direction has to be, site by site."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from ..lang.algebra import parse_algebra
from ..lang.edits import parse_edits
from ..lang.positions import parse_where
from ..lang.sites import check_sites
from ..lang.strength import Strength
from ..lang.text import shown
from ..metrics.names import check_metrics
from .base import Decoding, Prompts, PromptSource, Seed, check_prompt
from .fields import check_name
from .sweep import Controls, Sweep

COHERENT = "coherent"
LEAST_NULLS = 10
MOST_STEPS = 64
NEUTRAL_TOPICS = "bleed"
"""The bundled set of forty neutral topics."""


class Calibrate(Decoding, frozen=True, kw_only=True, tag="calibrate"):
    """Dead zone, effective band and collapse of a direction at each site, without running the whole grid."""

    direction: Annotated[str, Meta(max_length=2000)]
    sites: Annotated[str, Meta(max_length=2000)] = "llm.*"
    outcome: Annotated[str, Meta(max_length=200)] = "words"
    prompts: Prompts = field(default_factory=lambda: PromptSource(set=NEUTRAL_TOPICS))
    weakest: Annotated[float, Meta(gt=0, le=1e6)] = 4.0
    strongest: Annotated[float, Meta(gt=0, le=1e6)] = 400.0
    steps: Annotated[int, Meta(ge=4, le=MOST_STEPS)] = 16
    few: Annotated[int, Meta(ge=2, le=1000)] = 8
    nulls: Annotated[int, Meta(ge=0, le=1000)] = 20
    share: Annotated[float, Meta(gt=0, le=1)] = 0.33
    dose: Literal["each", "total"] = "each"
    where: str = "all"
    seed: Seed = 0
    metrics: list[str] = field(default_factory=lambda: ["perplexity", "distinct-2"])
    batch: Annotated[int, Meta(ge=0, le=4096)] = 0
    table: Annotated[str, Meta(max_length=100)] = ""
    confirm: bool = False
    force: bool = False

    def check(self) -> None:
        if self.weakest >= self.strongest:
            raise self.refuse(
                "strongest", f"{self.strongest:g}% is not more than weakest, {self.weakest:g}%; expected more"
            )
        if len(set(self.percents)) < self.steps:
            raise self.refuse("steps", f"{self.steps} strengths that near each other are not told apart")
        if 0 < self.nulls < LEAST_NULLS:
            raise self.refuse(
                "nulls",
                f"{self.nulls} directions give no null; expected {LEAST_NULLS} or more, or 0 for none",
            )
        _check_line(self)
        if self.outcome == COHERENT:
            raise self.refuse("outcome", "coherent tells of the collapse already; expected another metric")
        check_metrics(self.measured, f"spec {self.kind}: outcome and metrics")
        if self.table:
            check_name(self.table, "table", self)

    @property
    def percents(self) -> list[float]:
        """The strengths, log-spaced, in % of the reference norm, as they are written."""
        ratio = (self.strongest / self.weakest) ** (1 / (self.steps - 1))
        return [float(f"{self.weakest * ratio**step:.3g}") for step in range(self.steps)]

    @property
    def strengths(self) -> list[Strength]:
        """The same as strengths."""
        return [Strength(value, "pct") for value in self.percents]

    @property
    def measured(self) -> list[str]:
        """All metrics of its rows."""
        return list(dict.fromkeys([self.outcome, *self.metrics, COHERENT]))

    @property
    def judged_by(self) -> list[str]:
        """The metrics that the search goes by."""
        return [self.outcome, COHERENT]

    def grid(self) -> Sweep:
        """The sweep over the whole grid, of whose rows some are run; their cells have the same keys."""
        return Sweep(
            **{name: getattr(self, name) for name in (*Decoding.__struct_fields__, *_SHARED)},
            directions=[self.direction],
            strengths=[str(strength) for strength in self.strengths],
            seeds=[self.seed],
            metrics=self.measured,
            controls=Controls(random=self.nulls - self.nulls // 2, shuffled=self.nulls // 2, prompt=False),
            confirm=True,
        )


_SHARED = ("prompts", "sites", "dose", "where", "batch", "table", "force")


class Match(Decoding, frozen=True, kw_only=True, tag="match"):
    """For each site the strength at which a direction changes the model as much as at the others."""

    direction: Annotated[str, Meta(max_length=2000)]
    sites: Annotated[str, Meta(max_length=2000)] = "llm.*"
    kl: Annotated[float, Meta(ge=0, le=1e3)] = 0.0
    like: Annotated[str, Meta(max_length=2000)] = ""
    tolerance: Annotated[float, Meta(gt=0, le=0.5)] = 0.05
    strongest: Annotated[float, Meta(gt=0, le=1e6)] = 400.0
    prompts: Prompts = field(default_factory=lambda: PromptSource(set=NEUTRAL_TOPICS))
    dose: Literal["each", "total"] = "each"
    where: str = "all"
    seed: Seed = 0
    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    batch: Annotated[int, Meta(ge=0, le=4096)] = 0
    table: Annotated[str, Meta(max_length=100)] = ""
    force: bool = False

    def check(self) -> None:
        if (self.kl > 0) == bool(self.like):
            raise self.refuse("kl", 'expected a target in nats, or like = "8%*terse@llm.4", one of the two')
        if self.like:
            terms = parse_edits(self.like)
            if len(terms) != 1 or terms[0].op != "add":
                raise self.refuse(
                    "like", f'expected one edit such as "8%*terse@llm.4", found {shown(self.like)}'
                )
        _check_line(self)
        if self.table:
            check_name(self.table, "table", self)

    @property
    def judged_by(self) -> list[str]:
        """The columns that a job which goes on needs of what is committed."""
        return ["site", "strength_text", "kl", "note"]


def _check_line(spec: Calibrate | Match) -> None:
    """The fields that say what is steered where."""
    expr = parse_algebra(spec.direction)
    if not expr.names and not expr.unscaled:
        raise spec.refuse("direction", "expected a stored direction or an expression of some")
    check_sites(spec.sites)
    parse_where(spec.where)
    if isinstance(spec.prompts, PromptSource):
        if (spec.prompts.file is None) == (spec.prompts.set is None):
            raise spec.refuse("prompts", 'expected { file = "p.txt" } or { set = "bleed" }')
        return
    if not spec.prompts:
        raise spec.refuse("prompts", "the list is empty; expected at least one")
    for index, prompt in enumerate(spec.prompts):
        check_prompt(prompt, f"prompts[{index}]", spec)
