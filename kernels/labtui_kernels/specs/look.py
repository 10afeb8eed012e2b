"""The kind ``look``: what each merged patch of one picture is inside the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, field

from labtui_artifacts.errors import UsageError

from ..lang.algebra import parse_algebra
from ..lang.edits import parse_edits
from ..lang.shape import ModelShape
from ..lang.sites import Site, check_sites, parse_sites
from .base import DEFAULT_SYSTEM, Area, Frames, Prompt, Rate, Spec, Text, check_prompt, shown_prompt
from .diagnose import EVERY
from .fields import Expression, Name, check_name

Part: TypeAlias = Literal["norms", "similarity", "scores", "readings", "neighbours", "effect", "attention"]
PARTS: tuple[Part, ...] = ("norms", "similarity", "scores", "readings", "neighbours", "effect", "attention")
MAX_DIRECTIONS = 32
MOST_HITS = 50


class Look(Spec, frozen=True, kw_only=True, tag="look"):
    """Norms, similarities, scores along directions, static readings and neighbours of every patch of a picture."""

    prompt: Prompt
    number: Annotated[int, Meta(ge=0, le=63)] = 0
    frame: Annotated[int, Meta(ge=0, le=10_000)] = 0
    sites: Expression = "vision.merged,llm.*"
    readings: Expression = ""
    directions: Annotated[list[Expression], Meta(max_length=MAX_DIRECTIONS)] = field(default_factory=list)
    index: Name = ""
    edits: Text = ""
    read: Annotated[list[Part], Meta(max_length=len(PARTS))] = field(default_factory=list)
    top: Annotated[int, Meta(ge=1, le=MOST_HITS)] = 5
    system: Text = DEFAULT_SYSTEM
    thinking: bool | None = None
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None
    table: Name = ""
    force: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is read: what is asked for, else all that these settings allow."""
        if self.read:
            return tuple(part for part in PARTS if part in self.read)
        given = {
            "scores": bool(self.directions),
            "neighbours": bool(self.index),
            "effect": bool(self.edits),
            "attention": bool(shown_prompt(self.prompt).strip()),
        }
        return tuple(part for part in PARTS if given.get(part, True))

    def check(self) -> None:
        check_prompt(self.prompt, "prompt", self)
        pictures = 0 if isinstance(self.prompt, str) else sum(len(turn.images) for turn in self.prompt)
        if not pictures and isinstance(self.prompt, str) and "@" not in self.prompt:
            raise self.refuse("prompt", 'it has no picture; expected one, as in "@photo.png What is this?"')
        if pictures and self.number >= pictures:
            has = f"{pictures} picture{'s' * (pictures > 1)}"
            raise self.refuse("number", f"{self.number}: the prompt has {has}, counted from 0")
        check_sites(self.sites)
        if self.readings not in ("", "none"):
            check_sites(self.readings)
        parse_edits(self.edits)
        along = [text if text == EVERY else str(parse_algebra(text)) for text in self.directions]
        if len(set(along)) != len(along):
            raise self.refuse("directions", "one is named twice")
        for key in ("index", "table"):
            if value := getattr(self, key):
                check_name(value, key, self)
        if len(set(self.read)) != len(self.read):
            raise self.refuse("read", "a part is named twice")
        if "effect" in self.read and not self.edits:
            raise self.refuse(
                "edits", "none, and the effect of one is to be read; expected 8%*terse@llm.3@image0 or such"
            )
        if "scores" in self.read and not self.directions:
            raise self.refuse("directions", 'none, and scores are to be read; expected names, or ["*"]')
        if "neighbours" in self.read and not self.index:
            raise self.refuse("index", "none, and neighbours are to be read; expected the name of an index")


def sites_of(spec: Look, shape: ModelShape) -> list[Site]:
    """The sites that are read, in the order of a forward pass. UsageError for one that the model lacks."""
    return sorted({site for group in parse_sites(spec.sites, shape) for site in group})


def reading_sites(spec: Look, shape: ModelShape) -> list[Site]:
    """The sites of the static readings: those of the decoder among what is read, or the ones asked for."""
    sites = sites_of(spec, shape)
    if spec.readings == "none" or "readings" not in spec.parts:
        return []
    wide = [site for site in sites if in_decoder(site)]
    if not spec.readings:
        return wide
    wanted = sorted({site for group in parse_sites(spec.readings, shape) for site in group})
    for site in wanted:
        if site not in wide:
            why = (
                "is not among the sites that are read"
                if site not in sites
                else "lies in the tower, where no word is read"
            )
            raise spec.refuse("readings", f"{site.short} {why}")
    return wanted


def is_block(site: Site) -> bool:
    """Whether a site is the output of a decoder's block, whose attention can be told."""
    return site.tower == "llm" and site.point == "out"


def in_decoder(site: Site) -> bool:
    """Whether states at a site are as wide as the decoder's, so that words can be read there."""
    return site.tower == "llm" or site.point == "merged"


def count_look(spec: Look, shape: ModelShape) -> dict[str, Any]:
    """How much a look is: its sites, and the cells that it commits."""
    if not shape.vision_blocks:
        raise UsageError(
            f"spec look: prompt: {shape.family or 'this model'} reads no pictures; expected a Qwen-VL model"
        )
    sites, read = sites_of(spec, shape), len(reading_sites(spec, shape))
    parts = set(spec.parts)
    words = sum(in_decoder(site) for site in sites)
    cells = len(sites) * sum(part in parts for part in ("norms", "similarity", "scores", "effect")) + read
    cells += words * ("neighbours" in parts) + ("attention" in parts) * sum(is_block(site) for site in sites)
    return {"rows": 0, "cells": cells, "sites": len(sites), "parts": list(spec.parts)}
