"""Families with a tower: where its parts lie, and that what they say of patch order is what the tower does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from tests.support.tiny_vision import VISION_FAMILIES, noise, tiny_vision


def pixels(patch: int, *sizes: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel values and grids of noise pictures of so many patches (columns, rows)."""
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=patch, min_pixels=(2 * patch) ** 2, max_pixels=(2 * patch) ** 2 * 400
    )
    pictures = [noise(cols * patch, rows * patch, seed) for seed, (cols, rows) in enumerate(sizes)]
    made = processor(images=pictures, return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_patch_order_follows_the_embedding_and_the_towers_own_output(name: str) -> None:
    loaded = tiny_vision(name)
    family: Any = loaded.family
    tower = family.tower(loaded.model)
    values, grids = pixels(tower.config.patch_size, (10, 6), (4, 14), (12, 12))
    seen: dict[str, torch.Tensor] = {}
    embed = tower.patch_embed.register_forward_hook(lambda _m, _a, out: seen.update(embed=out.clone()))
    first = family.vision_blocks(loaded.model)[0].register_forward_pre_hook(
        lambda _m, args, kwargs: seen.update(first=(args[0] if args else kwargs["hidden_states"]).clone()),
        with_kwargs=True,
    )
    merger = family.merger(loaded.model).register_forward_hook(lambda _m, _a, out: seen.update(merged=out))
    whole = tower(values, grid_thw=grids)
    for handle in (embed, first, merger):
        handle.remove()
    order, merged = family.patch_order(loaded.model, grids), family.merged_order(loaded.model, grids)
    assert (order is None) == (merged is None) == (name != "qwen2_5_vl")
    in_order = seen["merged"] if merged is None else seen["merged"][merged]
    assert torch.equal(in_order, whole.pooler_output)
    if order is not None:  # this family adds nothing to the embeddings before the first block
        assert not torch.equal(seen["first"], seen["embed"])
        assert torch.equal(seen["first"][order], seen["embed"])


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_rope_positions_are_those_that_the_model_uses(name: str) -> None:
    loaded = tiny_vision(name)
    model: Any = loaded.model
    patch = loaded.family.tower(model).config.patch_size  # type: ignore[attr-defined]
    _, grids = pixels(patch, (10, 6), (4, 4))
    token = model.config.image_token_id
    ids = [5, *[token] * 15, 6, 7, *[token] * 4, 8]
    positions, delta = loaded.family.rope_positions(model, ids, [tuple(g) for g in grids.tolist()])  # type: ignore[attr-defined]
    assert positions.shape == (3, len(ids))
    assert positions[:, 0].tolist() == [0, 0, 0]
    assert positions[:, 1].tolist() == [1, 1, 1] and positions[:, 15].tolist() == [1, 3, 5]
    assert positions[:, 16].tolist() == [6, 6, 6]
    assert int(positions[0, -1]) + 1 == len(ids) + delta
    text, zero = loaded.family.rope_positions(model, [5, 6, 7], [])  # type: ignore[attr-defined]
    assert text.tolist() == [[0, 1, 2]] * 3 and zero == 0
