"""Pixels of videos: which frames, how large, what values; and the tokens of prompts that show them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.lang.positions import Where, parse_where
from labtui_kernels.models.chat import render, require_room
from labtui_kernels.models.pictures import open_picture
from labtui_kernels.models.pixels import prepare_pixels
from labtui_kernels.models.videopixels import patches, prepare_video, video_settings_of
from labtui_kernels.models.videos import Video
from labtui_kernels.models.videosettings import (
    USUAL_FRAMES,
    default_video_settings,
    read_video_settings,
)
from tests.support.films import film, moving, noisy, plain
from tests.support.tiny import tiny
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision, vision_tokenizer

FACTOR = {name: 28 if name.startswith("qwen2") else 32 for name in VISION_FAMILIES}
STAMPED = tuple(name for name in VISION_FAMILIES if name.startswith("qwen3"))


def video_of(data: bytes, name: str = "clip.mp4") -> Video:
    found = open_picture(data, name)
    assert isinstance(found, Video)
    return found


def noise_video(count: int, width: int, height: int, seed: int = 0, rate: int = 10) -> Video:
    return video_of(moving(noisy(count, width, height, seed), "PNG", 1000 // rate), "clip.png")


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_every_patch_of_every_frame_is_found_by_its_colour(name: str) -> None:
    """One merged patch of one pair of frames is painted in a real file: the values of that patch change above all."""
    loaded, side = tiny_vision(name), FACTOR[name]
    width, height = 3 * side, 2 * side
    grey = [plain((128, 128, 128), width, height) for _ in range(6)]
    before = prepare_pixels(loaded, video_of(film(grey)), 1, 6 * side**2, fps=10)
    assert before.grid == (3, 4, 6) and (before.frames, before.rows, before.cols) == (3, 2, 3)
    assert before.resized == (width, height) and before.tokens == 18 and before.video
    for frame, row, col in ((t, r, c) for t in range(3) for r in range(2) for c in range(3)):
        painted = [each.copy() for each in grey]
        x0, y0, x1, y1 = (round(corner) for corner in before.rect(row, col))
        for number in (2 * frame, 2 * frame + 1):
            painted[number][y0:y1, x0:x1] = (255, 0, 0)
        after = prepare_pixels(loaded, video_of(film(painted)), 1, 6 * side**2, fps=10)
        change = (after.values - before.values).abs().mean(-1).view(-1, 4).mean(-1)
        place = (frame * 2 + row) * 3 + col
        assert int(change.argmax()) == place and change.max() > 0.8 * change.sum()
        span = before.span(5)
        where = parse_where(f"image0[{frame}:{frame + 1},{row}:{row + 1},{col}:{col + 1}]")
        assert where.patch_mask([span])[0].index(True) == place
        assert where.prompt_mask(30, images=[span]).index(True) == 5 + place


@pytest.mark.parametrize(
    ("total", "rate", "fps", "most", "wanted"),
    [
        (30, 10.0, 2.0, 32, [0, 6, 12, 17, 23, 29]),
        (100, 25.0, 2.0, 32, [0, 14, 28, 42, 57, 71, 85, 99]),
        (10, 10.0, 2.0, 32, [0, 3, 6, 9]),  # a second: at least four
        (10, 10.0, 3.5, 32, [0, 3, 6, 9]),  # an odd number is one less
        (3, 10.0, 2.0, 32, [0, 2]),
        (2, 10.0, 2.0, 32, [0, 1]),
        (1000, 10.0, 2.0, 8, [0, 143, 285, 428, 571, 714, 856, 999]),
        (1000, 10.0, 2.0, 3, [0, 999]),
        (5, 1000.0, 1000.0, 32, [0, 1, 3, 4]),
    ],
)
def test_frames_are_taken_evenly(total: int, rate: float, fps: float, most: int, wanted: list[int]) -> None:
    settings = default_video_settings(tiny_vision("qwen2_vl").model.config).bounded(fps=fps, max_frames=most)
    assert settings.indices(total, rate) == wanted


def test_long_videos_are_bounded() -> None:
    settings = default_video_settings(tiny_vision("qwen2_vl").model.config)
    assert len(settings.indices(100_000, 30.0)) == USUAL_FRAMES
    many = settings.bounded(max_frames=768)
    assert len(many.indices(100_000, 30.0)) == 768
    width, height = many.resized(768, (1920, 1080))
    assert 768 * width * height <= 1 << 26


def test_values_by_hand() -> None:
    """Two frames as they are: merge groups row by row, in a group four patches, in a patch channel, frame, row, column."""
    frames = noisy(2, 84, 56, 3)
    settings = video_settings_of(tiny_vision("qwen2_vl")).bounded(1)
    found = prepare_video(settings, video_of(moving(frames, "PNG"), "clip.png"))
    scaled = (np.stack(frames) / 255 - (0.48145466, 0.4578275, 0.40821073)) / (
        0.26862954,
        0.26130258,
        0.27577711,
    )
    wanted: list[np.ndarray] = []
    for row, col in ((r, c) for r in range(2) for c in range(3)):
        for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = (2 * row + down) * 14, (2 * col + across) * 14
            wanted.append(scaled[:, y : y + 14, x : x + 14].transpose(3, 0, 1, 2).ravel())
    assert found.grid == (1, 4, 6) and np.abs(found.values.numpy() - np.stack(wanted)).max() < 1e-5


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_times_are_those_of_the_frames(name: str) -> None:
    found = prepare_pixels(tiny_vision(name), noise_video(30, 64, 64), fps=2)
    assert found.grid[0] == 3 and found.seconds == pytest.approx(1.0)
    assert found.when == pytest.approx((0.3, 1.45, 2.6))
    assert found.stamps == (found.when if name in STAMPED else ())


def test_bounds_of_the_area_are_for_one_frame() -> None:
    for name in ("qwen2_vl", "qwen3_vl"):
        loaded, unit = tiny_vision(name), FACTOR[name] ** 2
        video = noise_video(8, 600, 400)
        small = prepare_pixels(loaded, video, max_pixels=10 * unit, fps=10)
        large = prepare_pixels(loaded, video, min_pixels=1000 * unit, max_frames=2)
        assert small.rows * small.cols <= 10 < 1000 <= large.rows * large.cols
        assert small.frames == 4 and large.frames == 1


@pytest.mark.parametrize(
    ("bounds", "line"),
    [
        ({"fps": 0.0}, "fps is 0.0; expected frames a second"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 1e9}, "at most 1000"),
        ({"max_frames": 1}, "max_frames is 1; expected a number of frames from 2 to 768"),
        ({"max_frames": 10_000}, "max_frames is 10000"),
        ({"max_pixels": 5}, "max_pixels is '5'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        prepare_pixels(tiny_vision("qwen2_vl"), noise_video(4, 56, 56), **bounds)


def test_a_text_model_takes_no_video() -> None:
    with pytest.raises(UsageError, match="tiny-qwen3 reads text only: it has no vision tower"):
        prepare_pixels(tiny("qwen3"), noise_video(4, 56, 56))


# What the released checkpoints say of videos.
RELEASED: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
                   "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
                   "image_std": [0.26862954, 0.26130258, 0.27577711], "video_processor_type": "Qwen2VLVideoProcessor"},
    "qwen3_vl": {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "patch_size": 16,
                 "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5],
                 "image_std": [0.5, 0.5, 0.5], "video_processor_type": "Qwen3VLVideoProcessor"},
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_what_released_checkpoints_say_is_read(name: str, tmp_path: Path) -> None:
    config = tiny_vision(name).model.config
    assert read_video_settings(tmp_path, config) == default_video_settings(config)
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(RELEASED[name]))
    settings = read_video_settings(tmp_path, config.to_dict())
    assert settings.whole == (name == "qwen3_vl")
    bounds = (settings.base.min_pixels, settings.base.max_pixels)
    assert bounds == {"qwen2_5_vl": (3136, 12845056), "qwen3_vl": (4096, 25165824)}[name]
    # A frame of an earlier family has at most 768 tokens, as with Qwen's own utilities.
    width, height = settings.resized(16, (1920, 1080))
    tokens = width * height // settings.base.factor**2
    assert tokens <= 768 if name == "qwen2_5_vl" else 16 * width * height <= 25165824
    (tmp_path / "video_preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"video_processor": RELEASED[name]}))
    assert read_video_settings(tmp_path, config) == settings
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(RELEASED[name]))
    assert read_video_settings(tmp_path, config) == settings


@pytest.mark.parametrize("text", ["[1]", "{nope", '{"patch_size": 15}', '{"image_std": [0, 0, 0]}'])
def test_damaged_settings_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "video_preprocessor_config.json").write_text(text)
    with pytest.raises(BadFile, match=r"video_preprocessor_config.json") as caught:
        read_video_settings(tmp_path, tiny_vision("qwen2_vl").model.config)
    assert "\n" not in str(caught.value)


# -- tokens ----------------------------------------------------------------------------------------------

TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "what moves? <|video_pad|> <|vision_start|>", "images": ["a.png", "b.mp4"]},
    {"role": "assistant", "content": "A square."},
    {"role": "user", "content": "and here?", "images": ["c.mp4"]},
]


def shown(name: str) -> list[Any]:
    loaded, unit = tiny_vision(name), FACTOR[name] ** 2
    still = open_picture(moving(noisy(1, 64, 64), "PNG"))
    return [
        prepare_pixels(loaded, still, max_pixels=4 * unit),
        prepare_pixels(loaded, noise_video(30, 160, 96, 1), max_pixels=6 * unit),
        prepare_pixels(loaded, noise_video(8, 96, 96, 2), max_pixels=2 * unit, fps=10),
    ]


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_ids_are_those_of_the_full_processors(name: str) -> None:
    """As their code has it: in the template's text the video's token alone is replaced, by what stands for its frames."""
    tokenizer: Any = vision_tokenizer()
    pixels = shown(name)
    found = render(tokenizer, TURNS, pictures=pixels)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "<U>"}]},
             {"role": "assistant", "content": "A square."},
             {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "and here?"}]}]  # fmt: skip
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    parts = text.split("<|video_pad|>")
    assert len(parts) == 3
    said = parts[0]
    for video, rest in zip(pixels[1:], parts[1:], strict=True):
        each = "<|video_pad|>" * (video.rows * video.cols)
        if name in STAMPED:
            said += "".join(
                f"<{stamp:.1f} seconds><|vision_start|>{each}<|vision_end|>" for stamp in video.when
            )
        else:
            said += each * video.frames
        said += rest
    said = said.replace("<|image_pad|>", "<|image_pad|>" * pixels[0].tokens)
    before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in said.split("<U>"))
    middle = found.ids[len(before) : len(found.ids) - len(after)]
    assert found.ids == before + middle + after
    # What the user wrote stays text: no control token is in it.
    assert not set(middle) & {
        tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in ("video_pad", "vision_start")
    }
    assert "".join(found.pieces) == found.text
    bodies = "".join(piece for piece, own in zip(found.pieces, found.content, strict=True) if own)
    assert bodies == "what moves? <|video_pad|> <|vision_start|>A square.and here?"
    video = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    places = [place for span in found.images[1:] for place in span.positions]
    assert places == [place for place, number in enumerate(found.ids) if number == video]
    assert [span.frames for span in found.images] == [1, 3, 4]
    assert [bool(span.starts) for span in found.images] == [False, name in STAMPED, name in STAMPED]


def test_places_in_frames_that_stand_apart() -> None:
    pixels = shown("qwen3_vl")
    found = render(vision_tokenizer(), TURNS, pictures=pixels)
    span = found.images[1]
    length = len(found.ids)
    middle = Where("image", number=1, rect=(0, 1, 1, 2), frames=(1, 3)).prompt_mask(
        length, images=found.images
    )
    assert [p for p, on in enumerate(middle) if on] == [span.starts[1] + 1, span.starts[2] + 1]
    text = Where("text").prompt_mask(length, images=found.images)
    assert text.count(False) == sum(each.tokens for each in pixels)
    stamp = found.text.index(" seconds>")
    assert found.text[stamp - 4 : stamp] == "<0.3" and text[span.starts[0] - 1]
    for wrong, line in (
        (
            "image1[2:4,0:1,0:1]",
            r"image1 is a video of 3 frames as the tower takes them; expected frames within 0:3",
        ),
        ("image0[0:2,0:1,0:1]", r"image0 is a picture of one frame"),
        ("image1[0:1,0:9,0:1]", r"image1 has \d rows"),
    ):
        with pytest.raises(UsageError, match=line):
            parse_where(wrong).patch_mask(found.images)


def test_a_template_without_videos_says_so() -> None:
    tokenizer: Any = vision_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("'video'", "'film'")
    with pytest.raises(UsageError, match="chat template takes no videos"):
        render(tokenizer, TURNS, pictures=shown("qwen2_vl"))


def test_a_video_too_long_for_the_context_says_so() -> None:
    loaded = tiny_vision("qwen2_vl")
    video = noise_video(40, 280, 280)
    # Left alone, as many frames are taken as fill half of the context; a spec may ask for more.
    alone = prepare_pixels(loaded, video, fps=10)
    assert alone.frames < 16 and alone.tokens <= loaded.info.context_length // 2
    assert alone.tokens * (alone.frames + 1) / alone.frames > loaded.info.context_length // 2
    pixels = prepare_pixels(loaded, video, fps=10, max_frames=32)
    found = render(vision_tokenizer(), [{"role": "user", "content": "x", "images": 1}], pictures=[pixels])
    with pytest.raises(UsageError, match="lower max_pixels or max_frames or lower max_new_tokens"):
        require_room(found, loaded.info)


# -- against transformers' own processors, which need torchvision; it cannot stand beside torch's CPU build ---------------

SIZES = [(640, 480), (333, 517), (56, 56), (200, 1000), (1280, 720), (40, 48)]


def theirs(name: str, settings: Any, **more: Any) -> Any:
    import transformers

    base = settings.base
    kind = "Qwen3VLVideoProcessor" if settings.whole else "Qwen2VLVideoProcessor"
    made: Any = getattr(transformers, kind)(
        patch_size=base.patch,
        size={"shortest_edge": base.min_pixels, "longest_edge": base.max_pixels},
        image_mean=list(base.mean),
        image_std=list(base.std),
        **more,
    )
    return made


@pytest.mark.torchvision
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5_vl"])
@pytest.mark.parametrize("size", SIZES)
def test_the_full_video_processors_give_the_same(name: str, size: tuple[int, int]) -> None:
    """The same size for frames of any size, and of frames that have it the same values, bit by bit."""
    settings = video_settings_of(tiny_vision(name))
    factor = settings.base.factor
    full = theirs(name, settings, do_sample_frames=False)
    for count in (2, 6, 16):
        frames = np.stack(noisy(count, *size, seed=count))
        made = full([torch.from_numpy(frames).permute(0, 3, 1, 2)], return_tensors="pt")
        width, height = settings.resized(count, size)
        assert made["video_grid_thw"][0].tolist() == [count // 2, 2 * height // factor, 2 * width // factor]
    right = np.stack(noisy(count, width, height, 1))
    again = full([torch.from_numpy(right).permute(0, 3, 1, 2)], return_tensors="pt")
    values, grid = patches(settings, right)
    assert again["video_grid_thw"][0].tolist() == list(grid)
    assert torch.equal(again["pixel_values_videos"].cpu(), values)


@pytest.mark.torchvision
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5_vl"])
def test_the_full_processors_give_the_same_tokens(name: str) -> None:
    import transformers
    from transformers.video_utils import VideoMetadata

    kinds = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}
    loaded, tokenizer = tiny_vision(name), vision_tokenizer()
    settings, unit = video_settings_of(loaded), FACTOR[name] ** 2
    area = 6 * unit
    still = transformers.Qwen2VLImageProcessor(
        patch_size=settings.base.patch, size={"shortest_edge": 1, "longest_edge": area}
    )
    films = theirs(name, settings, do_sample_frames=False)
    full: Any = getattr(transformers, kinds.get(name, "Qwen3VLProcessor"))(
        still, tokenizer, films, chat_template=tokenizer.chat_template
    )
    clips = [noise_video(30, 160, 96, 1), noise_video(8, 96, 96, 2)]
    ours = [prepare_pixels(loaded, clip, max_pixels=area) for clip in clips]
    turns = [
        {"role": "user", "content": [{"type": "video"}, {"type": "video"}, {"type": "text", "text": "what?"}]}
    ]
    text = full.apply_chat_template(turns, add_generation_prompt=True)
    taken = [settings.indices(clip.total, clip.rate) for clip in clips]
    # Frames of the size that ours have, so that their processor leaves it alone.
    frames = [
        torch.from_numpy(np.stack(noisy(len(each), *one.resized))).permute(0, 3, 1, 2)
        for each, one in zip(taken, ours, strict=True)
    ]
    about = [
        VideoMetadata(total_num_frames=clip.total, fps=clip.rate, frames_indices=list(each))
        for clip, each in zip(clips, taken, strict=True)
    ]
    size = {"shortest_edge": 1, "longest_edge": 1 << 25}
    made = full(text=[text], videos=frames, video_metadata=about, size=size, return_tensors="pt")
    found = render(tokenizer, [{"role": "user", "content": "what?", "images": 2}], pictures=ours)
    assert made["input_ids"][0].tolist() == found.ids
    assert made["video_grid_thw"].tolist() == [list(one.grid) for one in ours]
    if name == "qwen2_5_vl":
        assert list(made["second_per_grid_ts"]) == pytest.approx([one.seconds for one in ours])


@pytest.mark.torchvision
def test_qwens_own_utilities_take_the_same_frames() -> None:
    from qwen_vl_utils.vision_process import smart_nframes

    settings = video_settings_of(tiny_vision("qwen2_vl"))
    for total, rate in (
        (30, 10.0),
        (100, 25.0),
        (10, 10.0),
        (7, 30.0),
        (299, 29.97),
        (1000, 24.0),
        (2, 10.0),
    ):
        count = smart_nframes({"max_frames": 32}, total, rate)
        wanted = torch.linspace(0, total - 1, count).round().long().tolist()
        assert settings.indices(total, rate) == wanted and math.isclose(count, len(wanted))
