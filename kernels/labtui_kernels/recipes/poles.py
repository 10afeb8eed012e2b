"""The two poles of a contrast as prompts, and what the model's sites hold at them."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from msgspec import convert

from labtui_artifacts import library

from ..lang.positions import parse_where
from ..lang.sites import Site, site_width
from ..specs import Diagnose, Direction, Message, as_messages
from ..specs.fields import parse_read
from .context import JobContext
from .pictures import Area
from .prompts import Prompted, rendered

BUDGET = 600.0
"""Seconds within which a step of reading or estimating ends."""


def chats(spec: Direction | Diagnose) -> list[list[list[Message]]]:
    """Every contrast as [positive, negative] chats; UsageError for a style that is not bundled."""
    if spec.style:
        contrasts = library.style(spec.style).contrasts()
        return [[convert(pole, list[Message]) for pole in pair] for pair in contrasts]
    pairs = zip(spec.positive, spec.negative, strict=True)
    return [[as_messages(pole, spec.system) for pole in pair] for pair in pairs]


def pairs(ctx: JobContext, spec: Direction | Diagnose) -> tuple[list[Prompted], list[Prompted]]:
    """The prompts of both poles, paired by index."""
    read = [[rendered(ctx, chat, spec.thinking, area=Area.of(spec)) for chat in pair] for pair in chats(spec)]
    return [pair[0] for pair in read], [pair[1] for pair in read]


def capture(
    ctx: JobContext, prompts: Sequence[Prompted], sites: Sequence[Site], read: str
) -> Generator[None, None, dict[Site, torch.Tensor]]:
    """Activations [prompts, d] at every site, all in one pass over the prompts; in two where ``read`` means one thing in
    the vision tower and another behind it."""
    ctx.budget("capture", BUDGET)
    shape = ctx.loaded.info.shape
    table = {site: torch.empty(len(prompts), site_width(site, shape)) for site in sites}
    inputs = [prompt.to_read() for prompt in prompts]
    groups: dict[str, list[Site]] = {}
    for site in sites:
        groups.setdefault(read_at(site, read), []).append(site)
    done, total = 0, len(prompts) * len(groups)
    for how, members_of in groups.items():
        pooling, place = parse_read(how)
        for members, readings in ctx.engine.capture_parts(
            inputs, members_of, pooling=pooling, where=parse_where(place)
        ):
            for site, reading in readings.items():
                table[site][list(members)] = reading
            done += len(members)
            ctx.progress(done, total, "prompts")
            yield
    return table


def read_at(site: Site, read: str) -> str:
    """How a site is read: the tower has no last token, so there ``last`` stands for the mean over its patches."""
    return "mean@image" if site.tower == "vision" and read == "last" else read
