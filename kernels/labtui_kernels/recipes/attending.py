"""Attention from the words of a prompt to the patches of its picture, block by block.

Fused attention never forms the weights, so the prompt is read once more with the plain ("eager") one, which a block's
attention module then returns. Nothing else changes: the setting is put back after every pass, whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from labtui_sessions.looks import ANSWER

from ..engine.capture import Prompt
from ..engine.forward import layer_types
from ..lang.positions import ImageSpan
from ..lang.sites import Site
from .context import JobContext

MOST_BYTES = 1 << 30
"""Bytes of one block's weights at most: heads x tokens x tokens x 4."""
MOST_WORDS = 48


@dataclass(frozen=True)
class Words:
    """Tokens behind a picture that look at it: their positions in the prompt, and what they are shown as."""

    positions: tuple[int, ...]
    pieces: tuple[str, ...]


def words_of(prompt: Any, span: ImageSpan) -> Words:
    """The content behind a picture, and the prompt's last token, from which the answer begins.

    ``prompt`` is a rendered one. Of a long text the last `MOST_WORDS` count.
    """
    last = len(prompt.ids) - 1
    marked = [place for place in range(span.stop, last) if prompt.content[place]][-MOST_WORDS + 1 :]
    pieces = [prompt.pieces[place] for place in marked]
    return Words((*marked, last), (*pieces, ANSWER))


def too_large(ctx: JobContext, tokens: int) -> bool:
    """Whether the weights of one block would not fit."""
    heads = int(ctx.loaded.model.config.get_text_config().num_attention_heads)
    return heads * tokens * tokens * 4 > MOST_BYTES


def attending(
    ctx: JobContext, prompt: Prompt, sites: Sequence[Site], words: Words, span: ImageSpan
) -> Iterator[dict[Site, torch.Tensor] | None]:
    """Float32 [words, patches] by site: the mean over heads of each word's attention weights to each patch.

    ``sites`` are outputs of blocks; those whose mixer is no attention are left out. Yields None between passes and at
    last the weights.
    """
    loaded = ctx.loaded
    config = loaded.model.config.get_text_config()
    kinds, blocks = layer_types(config), loaded.family.blocks(loaded.model)
    found: dict[Site, torch.Tensor] = {
        site: torch.zeros(len(words.positions), span.stop - span.start)
        for site in sites
        if site.block is not None and kinds[site.block] != "linear_attention"
    }
    seen = dict.fromkeys(found, 0)

    def hook(site: Site) -> Any:
        def take(_module: nn.Module, _args: Any, out: Any) -> None:
            weights = out[1]
            first, seen[site] = seen[site], seen[site] + weights.shape[2]
            for line, position in enumerate(words.positions):
                if first <= position < seen[site] and weights.shape[3] >= span.stop:
                    row = weights[0, :, position - first, span.start : span.stop]
                    found[site][line] = row.float().mean(0).cpu()

        return take

    places: list[Site] = list(found)
    if not places:
        yield {}
        return
    parts = ctx.engine.capture_parts([prompt], [places[-1]], pooling="last")
    while True:
        handles = [blocks[site.block or 0].self_attn.register_forward_hook(hook(site)) for site in places]  # type: ignore[union-attr]
        try:
            with _eager(config):
                part = next(parts, None)
        finally:
            for handle in handles:
                handle.remove()
        if part is None:
            break
        yield None
    yield found


@contextmanager
def _eager(config: Any) -> Iterator[None]:
    """Plain attention, for one pass."""
    kept = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = kept
