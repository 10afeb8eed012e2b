"""The two poles of a contrast as prompts, and what the model's sites hold at them."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from msgspec import convert

from labtui_artifacts import library

from ..lang.positions import parse_where
from ..lang.sites import Site, site_width
from ..models.chat import Rendered
from ..specs import Diagnose, Direction, Message, as_messages
from ..specs.fields import parse_read
from .context import JobContext
from .prompts import rendered

BUDGET = 600.0
"""Seconds within which a step of reading or estimating ends."""


def chats(spec: Direction | Diagnose) -> list[list[list[Message]]]:
    """Every contrast as [positive, negative] chats; UsageError for a style that is not bundled."""
    if spec.style:
        contrasts = library.style(spec.style).contrasts()
        return [[convert(pole, list[Message]) for pole in pair] for pair in contrasts]
    pairs = zip(spec.positive, spec.negative, strict=True)
    return [[as_messages(pole, spec.system) for pole in pair] for pair in pairs]


def pairs(ctx: JobContext, spec: Direction | Diagnose) -> tuple[list[Rendered], list[Rendered]]:
    """The prompts of both poles, paired by index."""
    read = [[rendered(ctx, chat, spec.thinking) for chat in pair] for pair in chats(spec)]
    return [pair[0] for pair in read], [pair[1] for pair in read]


def capture(
    ctx: JobContext, prompts: Sequence[Rendered], sites: Sequence[Site], read: str
) -> Generator[None, None, dict[Site, torch.Tensor]]:
    """Activations [prompts, d] at every site, all in one pass over the prompts."""
    ctx.budget("capture", BUDGET)
    pooling, place = parse_read(read)
    shape = ctx.loaded.info.shape
    table = {site: torch.empty(len(prompts), site_width(site, shape)) for site in sites}
    done = 0
    for members, readings in ctx.engine.capture_parts(
        prompts, sites, pooling=pooling, where=parse_where(place)
    ):
        for site, reading in readings.items():
            table[site][list(members)] = reading
        done += len(members)
        ctx.progress(done, len(prompts), "prompts")
        yield
    return table
