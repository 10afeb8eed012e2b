"""The kind ``diagnose``: what two poles look like at each site before anything is steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta, field

from labtui_artifacts import library

from ..lang.shape import ModelShape
from ..lang.sites import Site, check_sites, parse_sites
from .base import Area, Frames, Prompt, Rate, Seed, Spec, Text, check_prompt
from .fields import Expression, Name, check_name, parse_read

MAX_PAIRS = 2_000
MAX_DIRECTIONS = 32
NO_SITES = "none"
NEUTRAL_PICTURES = 8
"""How many plain pictures there are: ``recipes.neutral`` draws them."""
EVERY = "*"
"""In place of names: the stored directions that were fitted on the loaded model."""


class Diagnose(Spec, frozen=True, kw_only=True, tag="diagnose"):
    """Layer anatomy, residual landscape and cosine map: how the poles of a direction lie at every site."""

    style: str = ""
    positive: Annotated[list[Prompt], Meta(max_length=MAX_PAIRS)] = field(default_factory=list)
    negative: Annotated[list[Prompt], Meta(max_length=MAX_PAIRS)] = field(default_factory=list)
    direction: Name = ""
    sites: Expression = "llm.*"
    landscape: Expression = ""
    directions: Annotated[list[Name], Meta(max_length=MAX_DIRECTIONS)] = field(default_factory=list)
    method: Literal["mean-difference", "pca", "logistic"] = "mean-difference"
    read: str = "last"
    system: Text = ""
    seed: Seed = 0
    thinking: bool | None = None
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None
    table: Name = ""
    name: Name = ""
    replace: bool = False
    force: bool = False

    @property
    def compared(self) -> list[str]:
        """The stored directions of the cosine map, each once; fewer than two make none. `EVERY` stays as it is."""
        return list(dict.fromkeys([*([self.direction] if self.direction else []), *self.directions]))

    @property
    def label(self) -> str:
        """How the tables call these poles."""
        return self.direction or self.style or "given"

    def check(self) -> None:
        check_sites(self.sites)
        if self.landscape not in ("", NO_SITES):
            check_sites(self.landscape)
        parse_read(self.read)
        self._check_poles()
        self._check_names()

    def _check_poles(self) -> None:
        given = bool(self.positive or self.negative)
        if bool(self.style) + given + bool(self.direction) != 1:
            raise self.refuse("style", "expected one of a style, positive and negative, or a direction")
        if self.direction:
            check_name(self.direction, "direction", self)
            own = Diagnose(direction=self.direction)
            for key in ("method", "read", "system", "thinking"):
                if getattr(self, key) != getattr(own, key):
                    raise self.refuse(key, f"{self.direction} brings its own; leave it out")
            return
        if self.style:
            return
        if len(self.positive) != len(self.negative):
            raise self.refuse(
                "negative", f"{len(self.negative)} of them for {len(self.positive)} positive; expected pairs"
            )
        for pole in ("positive", "negative"):
            for index, prompt in enumerate(getattr(self, pole)):
                check_prompt(prompt, f"{pole}[{index}]", self, ends="either")

    def _check_names(self) -> None:
        if self.directions == [EVERY]:
            return self._check_own_names()
        for index, name in enumerate(self.directions):
            check_name(name, f"directions[{index}]", self)
            if name in self.directions[:index]:
                raise self.refuse("directions", f"{name} is there twice")
        if len(self.compared) == 1 and self.directions:
            raise self.refuse("directions", "a map of cosines needs two; expected another, or none")
        self._check_own_names()

    def _check_own_names(self) -> None:
        for key in ("table", "name"):
            if value := getattr(self, key):
                check_name(value, key, self)


class Poles(Protocol):
    """A spec with poles of its own: a style's, or those that are given."""

    @property
    def style(self) -> str: ...

    @property
    def positive(self) -> Sequence[Any]: ...


def pairs_of(spec: Poles) -> int:
    """How many contrast pairs a spec's poles are. UsageError for a style that is not bundled."""
    if not spec.style:
        return len(spec.positive)
    axis = library.style(spec.style)
    return len(axis.prompts) * len(axis.positive_system)


def neutral_prompts(spec: Diagnose, shape: ModelShape) -> int:
    """How many neutral prompts the landscape shows: texts, or plain pictures where a site lies in the vision tower."""
    if spec.landscape == NO_SITES:
        return 0
    if any(site.tower == "vision" for site in sites_of(spec, shape)):
        return NEUTRAL_PICTURES
    return len(library.prompt_set("neutral").prompts)


def sites_of(spec: Diagnose, shape: ModelShape) -> list[Site]:
    """The sites of the anatomy, in the order of a forward pass."""
    return sorted({site for group in parse_sites(spec.sites, shape) for site in group})


def landscape_sites(spec: Diagnose, shape: ModelShape) -> list[Site]:
    """The sites of the landscape, in the order of a forward pass. UsageError for one that is not read."""
    sites = sites_of(spec, shape)
    if spec.landscape == NO_SITES:
        return []
    if not spec.landscape:
        return sites
    wanted = sorted({site for group in parse_sites(spec.landscape, shape) for site in group})
    for site in wanted:
        if site not in sites:
            raise spec.refuse("landscape", f"{site.short} is not among the sites that are read")
    return wanted


def count_diagnose(
    spec: Diagnose, shape: ModelShape, pairs: int | None = None, compared: int | None = None
) -> dict[str, Any]:
    """How much a diagnosis is. ``pairs`` and ``compared`` (directions of the cosine map) are what only a store
    knows of a stored direction and of ``*``: without them there is no ``prompts``, and ``*`` counts as none."""
    if compared is None:
        compared = len([name for name in spec.compared if name != EVERY])
    if pairs is None and not spec.direction:
        pairs = pairs_of(spec)
    directions = compared if compared > 1 else 0
    sites, shown = len(sites_of(spec, shape)), len(landscape_sites(spec, shape))
    counts = {
        "rows": 0,
        "cells": 1 + shown + (sites if directions else 0),
        "sites": sites,
        "landscape": shown,
        "directions": directions,
    }
    if pairs is None:
        return counts
    return {**counts, "pairs": pairs, "prompts": 2 * pairs + neutral_prompts(spec, shape)}
