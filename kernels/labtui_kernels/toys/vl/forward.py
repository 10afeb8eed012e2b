"""The model's forward pass for pictures of one size: the same numbers as its own, in fewer, larger steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids

from .batches import MERGE, Group
from .labels import NAMES

PLACED, SPOTTED = 2, 3


def see(
    model: Qwen2VLForConditionalGeneration, pixels: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(states after the last block [images * patches, width], image features [images * merged patches, d]) of
    ``pixels`` [images * patches, c], all of ``grid`` (h, w).

    The model's own tower goes through the pictures one by one in its attention; this one takes them at once.
    """
    tower: Any = model.model.visual
    patches = grid[0] * grid[1]
    n = len(pixels) // patches
    thw = torch.tensor([[1, *grid]] * n)
    hidden = tower.patch_embed(pixels)
    cos, sin = tower.rotary_pos_emb(hidden, get_vision_position_ids(thw, tower.spatial_merge_size))
    for block in tower.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).reshape(n * patches, 3, attention.num_heads, -1)
        q, k = apply_rotary_pos_emb_vision(qkv[:, 0], qkv[:, 1], cos, sin)
        q, k, v = (x.reshape(n, patches, attention.num_heads, -1).transpose(1, 2) for x in (q, k, qkv[:, 2]))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=attention.scaling)
        hidden = hidden + attention.proj(mixed.transpose(1, 2).reshape(n * patches, -1))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return hidden, tower.merger(hidden)


def logits_of(model: Qwen2VLForConditionalGeneration, group: Group, features: Tensor | None = None) -> Tensor:
    """Logits [answer tokens, vocabulary] where ``group.targets`` is not -100, in row-major order.

    ``features``: those of `see`, where they are known already.
    """
    embeds = model.get_input_embeddings()(group.ids)
    if group.pixels is not None:
        features = see(model, group.pixels, group.grid)[1] if features is None else features
        mask = (group.ids == model.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(mask, features.to(embeds.dtype))
    out = model.model.language_model(
        inputs_embeds=embeds, position_ids=group.positions, attention_mask=group.allowed, use_cache=False
    )
    return model.lm_head(out.last_hidden_state[group.targets >= 0])


class Heads(torch.nn.Module):
    """Two linear readings of what lies under a patch (`labels`), from the last block and from the merger, one of an
    image token's row and column from the decoder's block `PLACED`, and one of where a shape lies from the token that names
    it, after block `SPOTTED`. They only teach and are no part of the model.
    """

    def __init__(self, width: int, merged: int) -> None:
        super().__init__()
        self.patch, self.merged = torch.nn.Linear(width, len(NAMES)), torch.nn.Linear(merged, len(NAMES))
        self.place, self.spot = torch.nn.Linear(merged, 2), torch.nn.Linear(merged, 2)

    def loss(self, states: Tensor, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over names and averaged over patches, of both readings."""
        under = labels.reshape(len(features), -1, labels.shape[-1]).amax(dim=1)
        parts = ((self.patch, states, labels), (self.merged, features, under))
        return torch.stack(
            [
                F.binary_cross_entropy_with_logits(head(x), wanted, reduction="none").sum(-1).mean()
                for head, x, wanted in parts
            ]
        ).sum()

    def places(self, states: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mean squared error, in merged patches, of rows and columns as read from ``states`` [images * tokens, d]."""
        rows, cols = torch.arange(grid[0] // MERGE), torch.arange(grid[1] // MERGE)
        wanted = torch.cartesian_prod(rows, cols).float()
        return F.mse_loss(self.place(states), wanted.repeat(len(states) // len(wanted), 1))

    def spots(self, states: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared error, in merged patches, of the places read from ``states`` [rows, length, d]; ``wanted`` [rows,
        length, 2] is NaN where nothing is to be read.
        """
        known = wanted.isfinite().all(dim=-1)
        if not known.any():
            return torch.zeros(())
        return F.mse_loss(self.spot(states[known]), wanted[known])


@dataclass(frozen=True)
class Losses:
    """``answers``: summed cross-entropy, each question counting once; ``questions``: how many; ``looks``, ``places``,
    ``spots``: those of `Heads`.
    """

    answers: Tensor
    questions: float
    looks: Tensor
    places: Tensor
    spots: Tensor


def losses_of(
    model: Qwen2VLForConditionalGeneration, heads: Heads, group: Group, asks: bool, placed: bool
) -> Losses:
    """The losses of a group; questions about pictures are only asked where ``asks``, those about texts always, and
    places are only read where ``placed``.
    """
    none = torch.zeros(())
    features, looks = None, none
    if group.pixels is not None and group.labels is not None:
        states, features = see(model, group.pixels, group.grid)
        looks = heads.loss(states, features, group.labels)
        if not asks:
            return Losses(none, 0.0, looks, none, none)
    chosen = group.targets >= 0
    kept: list[Any] = []
    hooks = [
        model.model.language_model.layers[block].register_forward_hook(
            lambda module, given, out: kept.append(out)
        )
        for block in (PLACED, SPOTTED)
    ]
    logits = logits_of(model, group, features)
    for hook in hooks:
        hook.remove()
    places = spots = none
    if placed and features is not None:
        places = heads.places(kept[0][group.ids == model.config.image_token_id], group.grid)
        spots = heads.spots(kept[1], group.spots) if group.spots is not None else none
    each = F.cross_entropy(logits, group.targets[chosen], reduction="none")
    weights = group.weights[chosen]
    return Losses((each * weights).sum(), float(weights.sum()), looks, places, spots)


@torch.no_grad()
def right(model: Qwen2VLForConditionalGeneration, group: Group, questions: list[int]) -> list[list[bool]]:
    """For every row, which of its ``questions[row]`` answers greedy decoding gives exactly, end of turn included."""
    chosen = group.targets >= 0
    hit = torch.ones_like(chosen)
    hit[chosen] = logits_of(model, group).argmax(dim=-1) == group.targets[chosen]
    return [
        [bool(hit[row][group.asked[row] == number].all()) for number in range(count)]
        for row, count in enumerate(questions)
    ]
