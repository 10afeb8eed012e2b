"""Rows with videos: the logits of plain transformers, with its own video arguments, for every family with a tower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, ImageInput, Row
from labtui_kernels.engine.capture import Prompt
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.models.chat import render
from labtui_kernels.models.load import LoadedModel
from labtui_kernels.models.pictures import open_picture
from labtui_kernels.models.pixels import Pixels, prepare_pixels
from tests.support.films import moving, noisy
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision

from .driving import run
from .seeing import patch_size, site, window_order


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
        row_of(loaded, [other, picture, pixels_of(loaded, 2, 2, 2, 4)], "x", "three"),
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


def frame_places(
    loaded: LoadedModel, row: Row, number: int, frames: range, rows: range, cols: range
) -> list[int]:
    """Positions in the prompt of a rectangle of a video, found by counting its tokens alone."""
    image, video = row.images[number], loaded.model.config.video_token_id
    before = sum(len(each.pixels) // 4 for each in row.images[:number] if each.seconds is not None)
    places = [place for place, token in enumerate(row.ids) if token == video][before:]
    down, across = image.grid[1] // 2, image.grid[2] // 2
    return [places[(t * down + r) * across + c] for t in frames for r in rows for c in cols]


def tower_lines(
    loaded: LoadedModel, row: Row, number: int, frames: range, rows: range, cols: range
) -> list[int]:
    """The lines of the same rectangle's patches in the tower's own order, of a pass over this image alone."""
    image = row.images[number]
    down, across = image.grid[1] // 2, image.grid[2] // 2
    order = window_order(loaded, down, across)
    found = []
    for frame in frames:
        for place, patch in enumerate(order):
            if patch // across in rows and patch % across in cols:
                found += [(frame * len(order) + place) * 4 + n for n in range(4)]
    return found


@pytest.mark.parametrize("name", ["vision.1.out", "llm.1.out"])
@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_an_edit_in_some_frames_changes_these_alone(family: str, name: str) -> None:
    """Held against a hook written out by hand: only the rectangle, in the frames that are named."""
    loaded = tiny_vision(family)
    one = pixels_of(loaded, 6, 5, 4, 1)
    base = row_of(loaded, [one], key="plain")
    width = loaded.model.model.visual.config.hidden_size if name == "vision.1.out" else 48
    if family == "qwen2_vl" and name == "vision.1.out":
        width = loaded.model.model.visual.config.embed_dim
    vector = torch.from_numpy(np.random.default_rng(3).standard_normal(width).astype(np.float32))
    where, box = parse_where("image0[1:3,1:3,0:2]"), (range(1, 3), range(1, 3), range(2))
    edited = replace(base, key="edited", edits=(Edit(site(name), "add", vector, 2.0, where),))
    said = (7, 31, 2, 90)
    results = run(Engine(loaded).batch(slots=2), [replace(row, forced=said) for row in (base, edited)])
    if name == "vision.1.out":
        module: Any = loaded.model.model.visual.blocks[1]
        lines = tower_lines(loaded, base, 0, *box)
    else:
        module, lines = loaded.model.model.language_model.layers[1], frame_places(loaded, base, 0, *box)

    def change(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        hidden = output.clone()
        hidden.view(-1, hidden.shape[-1])[lines] += 2.0 * vector
        return hidden

    handle = module.register_forward_hook(change)
    wanted = plain_logprobs(loaded, base, list(said))
    handle.remove()
    found = torch.tensor([each.logprob for each in results["edited"]])
    plain = torch.tensor([each.logprob for each in results["plain"]])
    assert (found - wanted).abs().max() < 3e-4 and (plain - wanted).abs().max() > 1e-3
    assert (plain - plain_logprobs(loaded, base, list(said))).abs().max() < 3e-4


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_states_of_a_frame_are_read_where_it_lies(family: str) -> None:
    """What is read of frame 1 at the merger is what plain transformers gives for it, patch by patch."""
    loaded = tiny_vision(family)
    picture, video = pixels_of(loaded, 0, 2, 2, 5), pixels_of(loaded, 6, 3, 2, 1)
    row = row_of(loaded, [picture, video])
    prompt = Prompt(row.ids, row.content, images=row.images)
    grids = torch.tensor([video.grid])
    features = loaded.model.model.get_video_features(video.values, grids).pooler_output
    wanted = torch.cat(list(features)).view(3, 2, 3, -1)
    where = parse_where("image1[1:2,0:2,1:3]")
    found = Engine(loaded).capture(
        [prompt], [site("vision.merged"), site("llm.embed")], pooling="none", where=where
    )
    merged = found[site("vision.merged")]
    assert torch.allclose(merged, wanted[1, :, 1:3].reshape(4, -1), atol=1e-5)
    assert torch.allclose(found[site("llm.embed")], merged, atol=1e-5)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_videos_are_never_taken_for_each_other(family: str) -> None:
    """Equal tokens, other frames; and in Qwen2.5-VL equal frames at another speed, which its positions tell."""
    loaded = tiny_vision(family)
    one, other = (pixels_of(loaded, 4, 3, 2, seed) for seed in (1, 2))
    rows = [row_of(loaded, [one], key="one"), row_of(loaded, [other], key="other")]
    if family == "qwen2_5_vl":
        slow = replace(rows[0].images[0], seconds=4.0)
        rows.append(replace(rows[0], key="slow", images=(slow,)))
    said = (7, 31, 2, 90)
    results = run(Engine(loaded).batch(slots=4, fill=True), [replace(row, forced=said) for row in rows])
    found = {key: [each.logprob for each in lines] for key, lines in results.items()}
    for row in rows:
        assert found[row.key] == pytest.approx(plain_logprobs(loaded, row, list(said)).tolist(), abs=3e-4)
    assert len({tuple(round(value, 4) for value in line) for line in found.values()}) == len(rows)


def test_a_video_in_the_wrong_place_is_refused() -> None:
    loaded, stamped = tiny_vision("qwen2_vl"), tiny_vision("qwen3_vl")
    row = row_of(loaded, [pixels_of(loaded, 4, 2, 2)])
    (video,) = row.images
    apart = row_of(stamped, [pixels_of(stamped, 4, 2, 2)])
    (told,) = apart.images
    cases = [
        (loaded, row, replace(video, seconds=None), "needs 8 image tokens from position"),
        (loaded, row, replace(video, start=video.start + 1), "needs 8 video tokens"),
        (stamped, apart, replace(told, starts=()), "needs 8 video tokens"),
        (
            stamped,
            apart,
            replace(told, starts=(told.start, told.start + 4)),
            "images in order|the prompt has others",
        ),
    ]
    for model, base, wrong, line in cases:
        with pytest.raises(UsageError, match=line):
            Engine(model).batch(slots=1).add(replace(base, images=(wrong,)))
    with pytest.raises(UsageError, match="belong to no image"):
        Engine(loaded).batch(slots=1).add(replace(row, images=()))
    with pytest.raises(UsageError, match="2 frames; expected one for each"):
        replace(told, starts=(told.start,))
    with pytest.raises(UsageError, match="frames of -1"):
        replace(video, seconds=-1.0)
