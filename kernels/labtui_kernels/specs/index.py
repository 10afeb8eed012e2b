"""The kind ``index``: contextual activations of captions, kept to search neighbours in."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, field

from labtui_artifacts import library

from ..lang.shape import ModelShape
from ..lang.sites import Site, parse_sites
from .base import MAX_PROMPTS, PromptSource, Spec, Text
from .fields import Expression, Name, check_name

STUDY_DEPTH = 28
STUDY_STATES = (1, 2, 4, 8, 16, 24, 26, 27)
"""The hidden states of the study, of a decoder of 28 blocks: state N is the output of block N - 1."""
CAPTIONS = "plain"
Captions = Annotated[list[Text], Meta(min_length=1, max_length=MAX_PROMPTS)] | PromptSource


class Index(Spec, frozen=True, kw_only=True, tag="index"):
    """An index of what this model's decoder makes of captions, token by token, to search neighbours in."""

    name: Name
    captions: Captions = field(default_factory=lambda: PromptSource(set=CAPTIONS))
    vectors: Annotated[str, Meta(max_length=4096)] = ""
    sites: Expression = ""
    first: Annotated[int, Meta(ge=0, le=100)] = 1
    shard: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    table: Name = ""
    replace: bool = False

    def check(self) -> None:
        check_name(self.name, "name", self)
        if self.table:
            check_name(self.table, "table", self)
        if self.sites:
            index_sites(self, None)
        if self.vectors:
            if self.vectors[0] not in "/~":
                raise self.refuse(
                    "vectors", f"{self.vectors!r}; expected a whole path, on the kernel's machine"
                )
            if self.captions != PromptSource(set=CAPTIONS):
                raise self.refuse("captions", "the folder of vectors brings its own; expected one of the two")
        if isinstance(self.captions, PromptSource):
            if (self.captions.file is None) == (self.captions.set is None):
                raise self.refuse("captions", "expected a file or a set, one of them")
            if self.captions.set is not None:
                library.captions(self.captions.set)
            return
        for number, caption in enumerate(self.captions):
            if not caption.strip():
                raise self.refuse(f"captions[{number}]", "is empty; expected some text")


def texts_of(spec: Index) -> list[str]:
    """The captions of a spec whose file has been read; each once, in order."""
    if not isinstance(spec.captions, PromptSource):
        found = spec.captions
    elif spec.captions.set is not None:
        found = list(library.captions(spec.captions.set))
    else:
        raise spec.refuse("captions", f"the file {spec.captions.file} was not read; send its lines")
    return list(dict.fromkeys(caption.strip() for caption in found))


def study_sites(shape: ModelShape) -> list[Site]:
    """The study's sites, moved to the depth of this model: ``llm.0,1,3,7,15,23,25,26`` of 28 blocks."""
    blocks = {max(0, math.ceil(state * shape.blocks / STUDY_DEPTH) - 1) for state in STUDY_STATES}
    return [Site("llm", block, "out") for block in sorted(blocks)]


def index_sites(spec: Index, shape: ModelShape | None) -> list[Site]:
    """The sites of an index, in the order of a forward pass. UsageError for one outside the residual stream."""
    if not spec.sites:
        return study_sites(shape) if shape is not None else []
    if shape is None and "*" in spec.sites:
        return []
    sites = sorted({site for group in parse_sites(spec.sites, shape) for site in group})
    for site in sites:
        if site.tower != "llm" or site.point in ("attn", "mlp"):
            raise spec.refuse(
                "sites", f"{site.short} is not the decoder's residual stream; expected llm.8 or such"
            )
    return sites


def count_index(spec: Index, shape: ModelShape) -> dict[str, int]:
    """How much building an index is; of given vectors nothing is known before their folder is read."""
    if spec.vectors:
        return {"rows": 0, "cells": 1, "sites": 0, "prompts": 0}
    return {"rows": 0, "cells": 1, "sites": len(index_sites(spec, shape)), "prompts": len(texts_of(spec))}
