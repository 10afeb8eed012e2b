"""Pixels: what the processor makes of a picture, and where each patch lies in it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models.pictures import Picture, open_picture
from labtui_kernels.models.pixels import Pixels, prepare, prepare_pixels, settings_of
from labtui_kernels.models.processor import HALF, default_settings, read_settings
from tests.support.tiny import tiny
from tests.support.tiny_vision import VISION_FAMILIES, noise, tiny_vision

FACTOR = {name: 28 if name.startswith("qwen2") else 32 for name in VISION_FAMILIES}


def picture_of(image: Image.Image, name: str = "photo.png") -> Picture:
    out = io.BytesIO()
    image.save(out, "PNG")
    return open_picture(out.getvalue(), name)


@pytest.mark.parametrize("name", VISION_FAMILIES)
@pytest.mark.parametrize("size", [(640, 480), (333, 517), (57, 1000)])
def test_every_patch_is_found_by_its_colour(name: str, size: tuple[int, int]) -> None:
    """One merged patch at a time is painted in the original picture: its four patches, and no others far off, change."""
    loaded = tiny_vision(name)
    grey = Image.new("RGB", size, (128, 128, 128))
    plain = prepare_pixels(loaded, picture_of(grey), 1, 12 * FACTOR[name] ** 2)
    assert plain.resized == (plain.grid[2] * FACTOR[name] // 2, plain.grid[1] * FACTOR[name] // 2)
    assert plain.size == size and plain.values.shape[0] == 4 * plain.tokens and plain.tokens > 4
    for row in range(plain.rows):
        for col in range(plain.cols):
            x0, y0, x1, y1 = plain.rect(row, col)
            painted = grey.copy()
            painted.paste((255, 0, 0), (round(x0), round(y0), round(x1), round(y1)))
            found = prepare_pixels(loaded, picture_of(painted), 1, 12 * FACTOR[name] ** 2)
            change = (found.values - plain.values).abs().mean(-1).view(-1, 4).mean(-1)
            assert int(change.argmax()) == row * plain.cols + col
            assert change.max() > 0.6 * change.sum()
            assert plain.patch_at((x0 + x1) / 2, (y0 + y1) / 2) == (row, col)


def test_patches_tile_the_picture() -> None:
    pixels = prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(333, 517)))
    for x, y in ((0, 0), (332, 516), (332.99, 516.99), (100.5, 7), (0, 516)):
        row, col = pixels.patch_at(x, y)
        x0, y0, x1, y1 = pixels.rect(row, col)
        assert x0 <= x < x1 + 1e-9 and y0 <= y < y1 + 1e-9
    assert pixels.rect(pixels.rows - 1, pixels.cols - 1)[2:] == (333, 517)
    for outside in ((333, 0), (0, 517), (-1, 0), (float("nan"), 0)):
        with pytest.raises(UsageError, match="outside the picture, which is 333 x 517"):
            pixels.patch_at(*outside)
    for row, col in ((pixels.rows, 0), (0, pixels.cols), (-1, 0)):
        with pytest.raises(UsageError, match="counted from 0"):
            pixels.rect(row, col)


def test_a_mask_of_pixels_marks_the_patches_that_it_touches() -> None:
    pixels = prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(140, 56)))
    assert (pixels.rows, pixels.cols, pixels.resized) == (2, 5, (140, 56))
    mask = np.zeros((56, 140), dtype=bool)
    mask[27, 28:57] = True  # the last row of the upper patches: all of the second, one pixel of the third
    assert [i for i, mark in enumerate(pixels.marks(mask)) if mark] == [1, 2]
    mask[28, 139] = True
    assert [i for i, mark in enumerate(pixels.marks(mask)) if mark] == [1, 2, 9]
    assert pixels.span(7, pixels.marks(mask)).ink.count(True) == 3
    # Magnified, a pixel may cover several patches.
    small = prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(20, 20)), min_pixels=112 * 112)
    one = np.zeros((20, 20), dtype=bool)
    one[0, 0] = True
    assert small.rows == 4 and [i for i, mark in enumerate(small.marks(one)) if mark] == [0]
    with pytest.raises(ValueError, match="mask of shape"):
        pixels.marks(mask.T)


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_values_are_those_of_the_processor_that_the_checkpoint_names(name: str, tmp_path: Path) -> None:
    loaded, factor = tiny_vision(name), FACTOR[name]
    theirs = transformers.Qwen2VLImageProcessorPil(
        patch_size=factor // 2,
        size={"shortest_edge": 4 * factor**2, "longest_edge": 30 * factor**2},
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.4],
    )
    theirs.save_pretrained(tmp_path)
    settings = read_settings(tmp_path, loaded.model.config)
    for size in ((640, 480), (333, 517), (40, 30), (4 * factor, 3 * factor)):
        image = noise(*size)
        ours = prepare(settings, picture_of(image))
        wanted = theirs(images=[image], return_tensors="pt")
        assert torch.equal(ours.values, wanted["pixel_values"])
        assert list(ours.grid) == wanted["image_grid_thw"][0].tolist()


def test_values_by_hand() -> None:
    """Without resizing: merge groups row by row, in a group four patches, in a patch channel, frame, row and column."""
    pixels = prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(84, 56, 3)), min_pixels=1)
    image = np.asarray(noise(84, 56, 3)).astype(np.float64) / 255
    scaled = (image - (0.48145466, 0.4578275, 0.40821073)) / (0.26862954, 0.26130258, 0.27577711)
    patches: list[np.ndarray] = []
    for row, col in ((r, c) for r in range(2) for c in range(3)):
        for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = (2 * row + down) * 14, (2 * col + across) * 14
            patch = scaled[y : y + 14, x : x + 14].transpose(2, 0, 1)
            patches.append(np.stack([patch, patch], axis=1).ravel())
    assert pixels.grid == (1, 4, 6)
    assert np.abs(pixels.values.numpy() - np.stack(patches)).max() < 1e-5


def test_bounds_of_the_area_are_obeyed() -> None:
    loaded, picture = tiny_vision("qwen2_vl"), picture_of(noise(600, 400))
    small = prepare_pixels(loaded, picture, max_pixels=10 * 28 * 28)
    large = prepare_pixels(loaded, picture, min_pixels=1000 * 28 * 28)
    assert small.tokens <= 10 < 1000 <= large.tokens
    assert settings_of(loaded).bounded(None, 28 * 28).min_pixels == 28 * 28
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"max_pixels": 5}, "max_pixels is '5'; expected a whole number of pixels from 784"),
        ({"min_pixels": 0}, "min_pixels is '0'"),
        ({"min_pixels": 1 << 40}, "to 33554432"),
        ({"min_pixels": 9000, "max_pixels": 8000}, "min_pixels is 9000, more than max_pixels"),
        ({"max_pixels": True}, "max_pixels is 'True'"),
        ({"max_pixels": "9000"}, "max_pixels is '9000'"),
    ]
    for bounds, line in wrong:
        with pytest.raises(UsageError, match=line):
            prepare_pixels(loaded, picture, **bounds)


@pytest.mark.parametrize("size", [(1, 1), (14, 200), (200, 13)])
def test_pictures_smaller_than_a_patch_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        UsageError, match=rf"photo.png: is {size[0]} x {size[1]} pixels, smaller than a patch"
    ):
        prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(*size)))


def test_pictures_that_are_all_length_are_refused() -> None:
    assert prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(3000, 15))).rows == 1
    with pytest.raises(UsageError, match="at most 200 times"):
        prepare_pixels(tiny_vision("qwen2_vl"), picture_of(noise(3001, 15)))


def test_a_text_model_takes_no_picture() -> None:
    with pytest.raises(UsageError, match="tiny-qwen3 reads text only: it has no vision tower"):
        prepare_pixels(tiny("qwen3"), picture_of(noise(60, 60)))


# What the released checkpoints say of themselves.
RELEASED = {
    "qwen2_vl": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
                 "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
                 "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "Qwen2VLImageProcessor",
                 "processor_class": "Qwen2VLProcessor"},
    "qwen3_vl": {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16,
                 "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5],
                 "image_std": [0.5, 0.5, 0.5], "image_processor_type": "Qwen2VLImageProcessorFast"},
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_what_released_checkpoints_say_is_read(name: str, tmp_path: Path) -> None:
    config = tiny_vision(name).model.config
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(RELEASED[name]))
    settings = read_settings(tmp_path, config.to_dict())
    bounds = {"qwen2_vl": (3136, 12845056), "qwen3_vl": (65536, 16777216)}[name]
    assert (settings.min_pixels, settings.max_pixels) == bounds
    assert settings.std == tuple(RELEASED[name]["image_std"])
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": RELEASED[name]}))
    assert read_settings(tmp_path, config) == settings


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_a_folder_that_says_nothing_takes_the_familys_defaults(name: str, tmp_path: Path) -> None:
    config = tiny_vision(name).model.config
    settings = read_settings(tmp_path, config)
    assert settings == default_settings(config)
    assert settings.factor == FACTOR[name] and (settings.mean == HALF) == (FACTOR[name] == 32)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert read_settings(tmp_path, config) == settings


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"patch_size": 16}, "patch_size is 16, but config.json builds the tower for 14"),
    ({"patch_size": "14"}, "patch_size is '14'; expected a whole number"),
    ({"patch_size": 10**9}, "from 1 to 64"),
    ({"merge_size": 4}, "builds the tower for 2"),
    ({"temporal_patch_size": [2]}, "temporal_patch_size is '[2]'"),
    ({"max_pixels": 10**12}, "max_pixels is '1000000000000'; expected a whole number of pixels from 784"),
    ({"max_pixels": "12845056"}, "max_pixels is '12845056'"),
    ({"max_pixels": 1.5}, "max_pixels is '1.5'"),
    ({"min_pixels": -1}, "min_pixels is '-1'"),
    ({"min_pixels": 100_000, "max_pixels": 50_000}, "more than max_pixels"),
    ({"size": {"shortest_edge": "x", "longest_edge": 50_000}}, "min_pixels is 'x'"),
    ({"size": 448}, "size is '448'; expected shortest_edge"),
    ({"image_mean": [0.5, 0.5]}, "image_mean is"),
    ({"image_mean": [0.5, 0.5, float("nan")]}, "image_mean is"),
    ({"image_std": [0.5, 0, 0.5]}, "image_std is"),
    ({"image_std": "x" * 9999}, "image_std is"),
    ({"resample": "bicubic"}, "resample is 'bicubic'"),
    ({"resample": 17}, "resample is '17'"),
    ({"do_resize": False}, "do_resize is 'False'"),
    ({"rescale_factor": 1}, "rescale_factor is 1"),
]


@pytest.mark.parametrize(("said", "line"), HOSTILE, ids=[line for _, line in HOSTILE])
def test_hostile_settings_are_one_line(said: dict[str, Any], line: str, tmp_path: Path) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(said))
    found = line_of(lambda: read_settings(tmp_path, tiny_vision("qwen2_vl").model.config))
    assert found.startswith(str(file)) and line in found


@pytest.mark.parametrize("text", ["[1]", "{nope", "[" * 99_999, '{"image_processor": 3}'])
def test_damaged_settings_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(text)
    assert "processor_config.json" in line_of(
        lambda: read_settings(tmp_path, tiny_vision("qwen2_vl").model.config)
    )


def line_of(call: Callable[[], Any], kind: type[LabError] = BadFile) -> str:
    with pytest.raises(LabError) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {line}"
    assert "\n" not in line and 20 < len(line) < 400
    return line


def through_pillow_alone(monkeypatch: pytest.MonkeyPatch, settings: Any, picture: Picture) -> Pixels:
    with monkeypatch.context() as patched:
        patched.setattr("labtui_kernels.models.pixels._utils", lambda: None)
        return prepare(settings, picture)


SIZES = [(640, 480), (333, 517), (15, 40), (3000, 15), (56, 56), (2000, 1500)]


@pytest.mark.torchvision
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("size", SIZES)
def test_qwens_own_utilities_give_the_same(
    name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if FACTOR[name] == 32 and min(size) <= 16:
        size = (size[0] + 4, size[1] + 4)
    from qwen_vl_utils import vision_process

    from labtui_kernels.models import pixels

    assert pixels._utils() is vision_process
    settings = settings_of(tiny_vision(name))
    picture = picture_of(noise(*size))
    ours, alone = prepare(settings, picture), through_pillow_alone(monkeypatch, settings, picture)
    assert torch.equal(ours.values, alone.values) and ours.grid == alone.grid


@pytest.mark.torchvision
@pytest.mark.parametrize("size", SIZES)
def test_the_full_image_processor_gives_the_same(size: tuple[int, int]) -> None:
    """The one with torchvision, on a picture of the right size: resizing is where the two libraries' filters part."""
    settings = settings_of(tiny_vision("qwen2_vl"))
    ours = prepare(settings, picture_of(noise(*size)))
    resized = noise(*size).resize(ours.resized, Image.Resampling.BICUBIC)
    full = transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
    )(images=[resized], return_tensors="pt")
    assert list(ours.grid) == full["image_grid_thw"][0].tolist()
    assert (ours.values - full["pixel_values"].cpu()).abs().max() < 1e-5


def test_the_utilities_are_asked_only_where_their_size_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the utilities are not, what they would hand over is; a size of their own is not followed."""
    settings = settings_of(tiny_vision("qwen2_vl"))
    picture = picture_of(noise(333, 517))
    alone = through_pillow_alone(monkeypatch, settings, picture)
    width, height = alone.resized
    given = picture.image.resize((width, height), Image.Resampling.BICUBIC)
    asked: list[int] = []

    def fetch_image(wanted: dict[str, Any], image_patch_size: int) -> Image.Image:
        assert wanted["image"].size == (333, 517)
        asked.append(image_patch_size)
        return given

    for extra, calls in ((0, [14]), (28, [])):
        utils = SimpleNamespace(
            smart_resize=lambda *_, extra=extra: (height, width + extra), fetch_image=fetch_image
        )
        monkeypatch.setattr("labtui_kernels.models.pixels._utils", partial(lambda found: found, utils))
        asked.clear()
        assert torch.equal(prepare(settings, picture).values, alone.values)
        assert asked == calls


def test_neither_torch_nor_transformers_is_needed_to_open_a_picture() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from labtui_kernels.models import pictures, processor, pixels; "
        "assert not {'torch', 'transformers'} & set(sys.modules), 'imported'"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
