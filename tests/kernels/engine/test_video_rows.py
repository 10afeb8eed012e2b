"""Rows with videos: the logits of plain transformers, with its own video arguments, for every family with a tower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from labtui_kernels.engine import Engine, ImageInput, Row
from labtui_kernels.models.chat import render
from labtui_kernels.models.load import LoadedModel
from labtui_kernels.models.pictures import open_picture
from labtui_kernels.models.pixels import Pixels, prepare_pixels
from tests.support.films import moving, noisy
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision

from .driving import run
from .seeing import patch_size


def pixels_of(loaded: LoadedModel, count: int, cols: int, rows: int, seed: int = 0, rate: int = 4) -> Pixels:
    """A noise video of so many frames, or a picture (0), of merged patches of which nothing is resized."""
    side = 2 * patch_size(loaded)
    frames = noisy(max(1, count), cols * side, rows * side, seed)
    data = moving(frames, "PNG", 1000 // rate)
    area = cols * rows * side * side
    return prepare_pixels(loaded, open_picture(data), area, area, fps=rate)


def row_of(
    loaded: LoadedModel, shown: list[Pixels], text: str = "what moves?", key: str = "row", **fields: Any
) -> Row:
    said = render(loaded.tokenizer, [{"role": "user", "content": text, "images": len(shown)}], pictures=shown)
    images = tuple(
        ImageInput(p.values, p.grid, span.start, p.digest, seconds=p.seconds, starts=span.starts)
        for p, span in zip(shown, said.images, strict=True)
    )
    return Row(key=key, ids=tuple(said.ids), content=tuple(said.content), images=images, **fields)


def plain_inputs(loaded: LoadedModel, row: Row, answer: list[int]) -> dict[str, Any]:
    """What transformers takes for the row, as its full processors hand it over."""
    config = loaded.model.config
    ids = torch.tensor([[*row.ids, *answer]])
    kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    kinds[:, len(row.ids) :] = 0
    found: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": kinds,
    }
    pictures = [image for image in row.images if image.seconds is None]
    videos = [image for image in row.images if image.seconds is not None]
    for group, values, grids in (
        (pictures, "pixel_values", "image_grid_thw"),
        (videos, "pixel_values_videos", "video_grid_thw"),
    ):
        if group:
            found[values] = torch.cat([image.pixels for image in group])
            found[grids] = torch.tensor([image.grid for image in group])
    if videos and loaded.family.name == "qwen2_5_vl":
        found["second_per_grid_ts"] = [image.seconds for image in videos]
    return found


@torch.no_grad()
def plain_logprobs(loaded: LoadedModel, row: Row, answer: list[int]) -> torch.Tensor:
    loaded.model.model.rope_deltas = None
    logits = loaded.model(**plain_inputs(loaded, row, answer)).logits[0, len(row.ids) - 1 : -1]
    loaded.model.model.rope_deltas = None
    return logits.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)]


@pytest.mark.parametrize("chunk", [None, 24])
@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_rows_with_videos_equal_plain_transformers(family: str, chunk: int | None) -> None:
    """Videos of different lengths and sizes beside pictures, in one batch; answers in the place of one forward pass."""
    loaded = tiny_vision(family)
    one, other = pixels_of(loaded, 6, 3, 2, 1), pixels_of(loaded, 4, 2, 4, 2, rate=2)
    picture = pixels_of(loaded, 0, 3, 3, 3)
    assert one.grid[0] == 3 and one.seconds == pytest.approx(0.5) and other.seconds == pytest.approx(1.0)
    rows = [
        row_of(loaded, [one], key="one"),
        row_of(loaded, [picture, other, one], "and here?", "mixed"),
        row_of(loaded, [other, picture], "x", "two"),
        row_of(loaded, [], "no picture", "none"),
    ]
    said = (7, 31, 2, 90, 55, 12)
    told = [replace(row, key=f"{row.key} told", forced=said) for row in rows]
    free = [replace(row, max_new_tokens=6) for row in rows]
    results = run(Engine(loaded, chunk_tokens=chunk).batch(slots=4), [*told, *free])
    for row in rows:
        wanted = plain_logprobs(loaded, row, list(said))
        found = [each.logprob for each in results[f"{row.key} told"]]
        assert found == pytest.approx(wanted.tolist(), abs=2e-4), row.key
        best = loaded.model.generate(
            **plain_inputs(loaded, row, []),
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
        )
        loaded.model.model.rope_deltas = None
        assert best[0, len(row.ids) :].tolist() == [each.token for each in results[row.key]], row.key
