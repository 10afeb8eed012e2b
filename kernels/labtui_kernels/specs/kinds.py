"""Every kind of spec, its fields and their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from ..lang.algebra import parse_algebra
from ..lang.edits import parse_edits
from ..lang.sites import check_sites, parse_site
from ..lang.strength import parse_strength
from ..metrics.names import check_metrics
from .base import (
    MAX_TEXT,
    Area,
    Decoding,
    Frames,
    Message,
    Prompt,
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
from .rerun import RecordedImage, RecordedRow, Rerun
from .stroop import Stroop
from .sweep import Controls, Sweep
from .vision_tokens import VisionTokens

METHODS = ("pair", "mean-difference", "pca", "logistic", "random")
ROW_METRICS = ("words", "tokens", "perplexity", "distinct-2")


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
