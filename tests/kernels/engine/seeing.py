"""Rows with pictures for tests, and what they must equal: plain transformers with hooks written out by hand.

Nothing here comes from the engine or from what the families say of patch order: the order of Qwen2.5-VL's windows is worked
out again, and hooks sit on modules by their transformers paths.
"""

from __future__ import annotations

import random
from typing import Any

import torch
import transformers

from labtui_kernels.engine import ImageInput, Row
from labtui_kernels.lang.sites import Site
from labtui_kernels.models.load import LoadedModel
from tests.support.tiny_vision import noise


def vision_site(text: str) -> Site:
    """``vision.1.in``, ``llm.embed``: split by hand, apart from the grammar."""
    words = text.split(".")
    if len(words) == 2:
        return Site(words[0], None, words[1])  # type: ignore[arg-type]
    return Site(words[0], int(words[1]), words[2])  # type: ignore[arg-type]


def patch_size(loaded: LoadedModel) -> int:
    return int(loaded.model.model.visual.config.patch_size)


def processed(loaded: LoadedModel, pictures: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel values and grids by the processor alone; pictures are of whole merged patches already."""
    side = patch_size(loaded)
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=side, min_pixels=(2 * side) ** 2, max_pixels=(2 * side) ** 2 * 400
    )
    made = processor(images=pictures, return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


def picture(loaded: LoadedModel, cols: int, rows: int, seed: int) -> Any:
    """A noise picture of so many merged patches."""
    side = 2 * patch_size(loaded)
    return noise(cols * side, rows * side, seed)


def pictured(
    loaded: LoadedModel, sizes: list[tuple[int, int]], seed: int = 0, key: str = "row", **fields: Any
) -> Row:
    """A row with noise pictures of so many merged patches (columns, rows), and text around each."""
    return shown(
        loaded,
        [picture(loaded, cols, rows, 100 * seed + n) for n, (cols, rows) in enumerate(sizes)],
        seed,
        key,
        **fields,
    )


def shown(loaded: LoadedModel, pictures: list[Any], seed: int = 0, key: str = "row", **fields: Any) -> Row:
    """A row with these pictures, and random text around each."""
    config, chooser = loaded.model.config, random.Random(seed)
    ids = [chooser.randrange(250) for _ in range(3 + seed % 4)]
    images: list[ImageInput] = []
    for each in pictures:
        values, grids = processed(loaded, [each])
        grid = tuple(grids[0].tolist())
        ids.append(config.vision_start_token_id)
        images.append(ImageInput(values, grid, len(ids)))  # type: ignore[arg-type]
        ids += [config.image_token_id] * (grid[1] * grid[2] // 4)
        ids.append(config.vision_end_token_id)
        ids += [chooser.randrange(250) for _ in range(2 + seed % 3)]
    fields = {"max_new_tokens": 8, **fields}
    return Row(key=key, ids=tuple(ids), images=tuple(images), **fields)


def plain_inputs(loaded: LoadedModel, row: Row, generated: list[int]) -> dict[str, Any]:
    """What a transformers call takes for the row: ids, pixels, grids and token types."""
    ids = torch.tensor([[*row.ids, *generated]])
    found: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if row.images:
        kinds = (ids == loaded.model.config.image_token_id).int()
        kinds[:, len(row.ids) :] = 0
        found |= {
            "pixel_values": torch.cat([image.pixels for image in row.images]),
            "image_grid_thw": torch.tensor([image.grid for image in row.images]),
            "mm_token_type_ids": kinds,
        }
    return found


def generate(loaded: LoadedModel, row: Row) -> list[int]:
    """What ``generate`` gives for the row without edits, greedy."""
    model = loaded.model
    made = model.generate(
        **plain_inputs(loaded, row, []),
        max_new_tokens=row.max_new_tokens,
        min_new_tokens=row.max_new_tokens,
        do_sample=False,
        eos_token_id=None,
    )
    model.model.rope_deltas = None
    return made[0, len(row.ids) :].tolist()
