"""The kind ``vision-tokens``: what each patch of a picture means inside the language model."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from ..lang.shape import ModelShape
from ..lang.sites import Site, all_sites, check_sites, parse_sites
from .base import DEFAULT_SYSTEM, Area, Part, Seed, Spec, Text
from .fields import Expression, Name, check_name
from .index import study_sites

MAX_IMAGES = 2_000
Reading = Literal["raw", "centred", "embedding", "unembedding", "lens"]
CONTEXTUAL: tuple[Reading, ...] = ("raw", "centred")
STATIC: tuple[Reading, ...] = ("embedding", "unembedding", "lens")


class Label(Part, frozen=True, kw_only=True):
    """A box of a picture, (left, top, right, bottom) in pixels, and the words that describe what is in it."""

    box: Annotated[list[float], Meta(min_length=4, max_length=4)]
    words: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(min_length=1, max_length=50)
    ]


class VisionTokens(Spec, frozen=True, kw_only=True, tag="vision-tokens"):
    """What each patch of a picture means inside the language model: norms, static readings, neighbours, by layer."""

    images: Annotated[list[Annotated[str, Meta(max_length=4_000)]], Meta(max_length=MAX_IMAGES)] = field(
        default_factory=list
    )
    scenes: Annotated[int, Meta(ge=0, le=MAX_IMAGES)] = 0
    labels: Annotated[list[Annotated[list[Label], Meta(max_length=1_000)]], Meta(max_length=MAX_IMAGES)] = (
        field(default_factory=list)
    )
    index: Name = ""
    layers: Expression = ""
    sites: Expression = ""
    readings: Annotated[list[Reading], Meta(max_length=5)] = field(
        default_factory=lambda: [*CONTEXTUAL, *STATIC]
    )
    k: Annotated[int, Meta(ge=1, le=50)] = 5
    shuffled: Annotated[int, Meta(ge=0, le=20)] = 1
    prompt: Text = "Describe this picture."
    system: Text = DEFAULT_SYSTEM
    thinking: bool | None = None
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    seed: Seed = 0
    table: Name = ""
    name: Name = ""
    replace: bool = False

    def check(self) -> None:
        if not self.images and not self.scenes:
            raise self.refuse("images", "expected at least one picture, or a number of scenes")
        if self.labels and len(self.labels) != len(self.images):
            raise self.refuse(
                "labels",
                f"{len(self.labels)} lists for {len(self.images)} images; expected one for each, or none",
            )
        for number, listed in enumerate(self.labels):
            for one in listed:
                if not (one.box[0] < one.box[2] and one.box[1] < one.box[3]):
                    raise self.refuse(
                        f"labels[{number}]",
                        f"the box {one.box} is empty; expected left < right, top < bottom",
                    )
        if len(set(self.readings)) != len(self.readings):
            raise self.refuse("readings", "one of them is there twice")
        for key in ("sites", "layers"):
            if named := getattr(self, key):
                check_sites(named)
                if "vision." in named:
                    raise self.refuse(
                        key, f"{named!r} is not the decoder's residual stream alone; expected llm.8 or such"
                    )
        if not self.index and (self.layers or not self.read):
            raise self.refuse(
                "index", "contextual neighbours need one; expected the name of an index, or static readings"
            )
        for key in ("index", "table", "name"):
            if value := getattr(self, key):
                check_name(value, key, self)

    @property
    def read(self) -> list[Reading]:
        """The readings that will be made: contextual ones only where there is an index."""
        return [reading for reading in self.readings if self.index or reading in STATIC]


def state_sites(shape: ModelShape) -> list[Site]:
    """Where norms and similarities are measured: the embeddings, every block's output, and after the final norm."""
    return [
        site for site in all_sites(shape) if site.tower == "llm" and site.point in ("embed", "out", "norm")
    ]


def reading_sites(spec: VisionTokens, shape: ModelShape) -> list[Site]:
    """Where tokens are read: by default the study's sites, moved to this model's depth, and both ends.

    UsageError for a site outside the decoder's residual stream.
    """
    if not spec.sites:
        states = state_sites(shape)
        return sorted({states[0], *study_sites(shape), states[-2]})
    sites = sorted({site for group in parse_sites(spec.sites, shape) for site in group})
    for site in sites:
        if site.tower != "llm" or site.point in ("attn", "mlp"):
            raise spec.refuse(
                "sites", f"{site.short} is not the decoder's residual stream; expected llm.8 or such"
            )
    return sites


def index_layers(spec: VisionTokens, shape: ModelShape) -> list[str]:
    """The sites of the index that are searched; none for all that it has."""
    if not spec.layers:
        return []
    return [str(site) for group in parse_sites(spec.layers, shape) for site in group]


def count_vision_tokens(spec: VisionTokens, shape: ModelShape) -> dict[str, int]:
    """How much a job is; tokens are known once the pictures are."""
    pictures = len(spec.images) + spec.scenes
    sites = len(reading_sites(spec, shape))
    return {
        "rows": 0,
        "cells": 2 + pictures + (pictures * sites if spec.read else 0),
        "sites": sites,
        "pictures": pictures,
        "prompts": pictures * (1 + spec.shuffled),
    }
