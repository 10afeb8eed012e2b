"""Recipes on prompts with videos, on tiny random models that see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labtui_artifacts.errors import JobFailed, UsageError
from labtui_artifacts.images import ImageStore
from labtui_artifacts.paths import secure_folder
from labtui_artifacts.store import Store
from labtui_kernels.engine import Engine
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.recipes.pictures import Area
from labtui_kernels.recipes.prompts import rendered
from labtui_kernels.specs import Message
from labtui_sessions.looks import unpack_half
from tests.kernels.recipes.lab import Context, Lab, rerun_of
from tests.support.films import film, moving, noisy
from tests.support.tiny_vision import tiny_vision

MODELS: dict[str, Any] = {}
CLIP = film(noisy(20, 128, 96, 1))
WINK = moving(noisy(6, 128, 96, 2), "GIF", 500)
STILL = moving(noisy(1, 128, 96, 3), "PNG")


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    made = Lab.__new__(Lab)
    if request.param not in MODELS:
        loaded = tiny_vision(request.param, text={"max_position_embeddings": 4096})
        MODELS[request.param] = loaded, Engine(loaded)
    made.loaded, made.engine = MODELS[request.param]
    made.store = Store(tmp_path / "artifacts")
    made.images = ImageStore(secure_folder(tmp_path / "images"))
    made.shape = made.loaded.info.shape
    return made


def asked(lab: Lab, *files: bytes, text: str = "What moves?") -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, "images": [lab.images.put(data) for data in files]}]


def small(lab: Lab) -> dict[str, Any]:
    unit = 28 if lab.loaded.family.name == "qwen2_5_vl" else 32
    return {"max_pixels": 6 * unit * unit, "max_new_tokens": 4}


def generated(lab: Lab, *files: bytes, **fields: Any) -> Context:
    return lab.run({"kind": "generate", "prompt": asked(lab, *files), **small(lab), **fields})[0]


def test_a_row_says_what_it_had_of_a_video(lab: Lab) -> None:
    ctx = generated(lab, STILL, CLIP, edits="60%*random:1@llm.1@image1[1:2,0:1,0:2]", fps=3.0, max_frames=8)
    started = ctx.row("steered")["started"]
    still, clip = started["images"]
    apart = lab.loaded.family.timestamps
    assert "seconds" not in still and still["grid"][0] == 1 and "starts" not in still
    assert clip["grid"] == [3, 2 * clip["rows"], 2 * clip["cols"]] and clip["fps"] == 3.0
    assert clip["seconds"] == pytest.approx(2 / (6 / 20 * 10)) and clip["max_frames"] == 8
    assert len(clip.get("starts", ())) == (3 if apart else 0)
    first = clip["starts"][1] if apart else clip["start"] + clip["rows"] * clip["cols"]
    assert started["edited"] == [first, first + 1]
    video = lab.loaded.model.config.video_token_id
    assert started["ids"][first] == video and started["ids"].count(video) == 3 * clip["rows"] * clip["cols"]
    assert ctx.row("plain")["logprobs"] != pytest.approx(ctx.row("steered")["logprobs"], abs=1e-4)


def test_frames_are_chosen_by_the_spec(lab: Lab) -> None:
    for fields, frames in (
        ({}, 2),
        ({"fps": 10.0}, 10),
        ({"max_frames": 2}, 1),
        ({"fps": 10.0, "max_frames": 7}, 3),
    ):
        (clip,) = generated(lab, CLIP, **fields).row("plain")["started"]["images"]
        assert clip["grid"][0] == frames
    for wrong in ({"fps": 0}, {"max_frames": 1}, {"max_frames": 5000}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            generated(lab, CLIP, **wrong)


def test_frames_that_a_video_does_not_have_are_refused(lab: Lab) -> None:
    with pytest.raises(
        UsageError, match="image0 is a video of 2 frames as the tower takes them; expected frames within 0:2"
    ):
        generated(lab, CLIP, edits="8%*random:1@vision.1@image0[0:3,0:1,0:1]")
    with pytest.raises(UsageError, match="image0 is a picture of one frame"):
        generated(lab, STILL, edits="8%*random:1@llm.1@image0[1:2,0:1,0:1]")


def test_recorded_rows_are_run_again_with_their_videos(lab: Lab) -> None:
    ctx = generated(lab, WINK, CLIP, edits="40%*random:3@vision.1@image1[0:1,0:1,0:2]", fps=2.5)
    spec = rerun_of(lab, ctx, "clip.mp4")
    rows = spec["rows"]
    _, result = lab.run(spec, job="j2")
    assert result["passed"] == 2 and result["max_abs_diff"] < 1e-4
    for row in rows:
        row["images"][0].pop("seconds")
    with pytest.raises(
        JobFailed, match=r"the picture clip.mp4 became .* of a picture then and .* of a video now"
    ):
        lab.run(spec, job="j3")


def test_a_sweep_and_a_direction_take_videos(lab: Lab) -> None:
    spec = {
        "kind": "sweep", "prompts": [asked(lab, CLIP), asked(lab, WINK)], "directions": ["random:1"],
        "sites": "vision.1", "strengths": ["60%"], "where": ["image", "image[0:1,0:1,0:2]"],
        "metrics": ["perplexity", "kl"], "controls": {"zero": True}, **small(lab),
    }  # fmt: skip
    ctx, _ = lab.run(spec)
    rows = [row for data in ctx.of("cell.committed") for row in data["rows"]]
    assert len(rows) == 2 + 2 * 2 and len({row["kl"] for row in rows if not row["control"]}) == 4
    assert len({row["prompt_id"] for row in rows}) == 2
    area = {"max_pixels": spec["max_pixels"]}
    poles = {"positive": [asked(lab, CLIP)], "negative": [asked(lab, STILL)]}
    lab.run({"kind": "direction", "name": "d", "method": "pair", "sites": "vision.1, llm.2", **poles, **area})
    assert lab.store.get("d", kind="direction")


@pytest.mark.parametrize("frame", [0, 1])
def test_a_look_reads_one_frame(lab: Lab, frame: int) -> None:
    spec = {"kind": "look", "prompt": asked(lab, STILL, CLIP), "number": 1, "frame": frame, "system": "",
            "sites": "vision.merged, llm.embed, llm.1", "max_pixels": small(lab)["max_pixels"],
            "edits": "60%*random:1@llm.embed@image1[1:2,0:1,0:2]"}  # fmt: skip
    ctx, result = lab.run(spec)
    prompt = rendered(ctx, [Message(**spec["prompt"][0])], None, area=Area(max_pixels=spec["max_pixels"]))
    span = prompt.images[1]
    each = span.rows * span.cols
    plan = ctx.counts
    assert (plan["frame"], plan["frames"], plan["grid"]) == (frame, 2, [span.rows, span.cols])
    assert plan["start"] == span.positions[frame * each] and result["patches"] == each
    assert plan["when"] == pytest.approx(prompt.pixels[1].when[frame])
    tables = {data["table"].removeprefix("j1-"): [] for data in ctx.of("cell.committed")}
    for data in ctx.of("cell.committed"):
        tables[data["table"].removeprefix("j1-")] += data["rows"]
    norms = [row["norm"] for row in tables["patches"] if row["site"] == "llm.1"]
    site = parse_site("llm.1")
    states = lab.engine.capture([prompt.to_read()], [site], pooling="none", where=Where("image", number=1))[
        site
    ]
    assert norms == pytest.approx(states[frame * each : (frame + 1) * each].norm(dim=1).tolist(), rel=1e-5)
    moved = [row["patch"] for row in tables["effect"] if row["site"] == "llm.embed" and row["change"] > 0]
    assert moved == ([0, 1] if frame == 1 else [])
    weights = tables["attention"][0]
    assert weights["word"] and len(unpack_half(weights["weights"])) == each


def test_what_cannot_be_done_with_videos_is_refused(lab: Lab) -> None:
    spec: dict[str, Any] = {
        "kind": "look",
        "prompt": asked(lab, CLIP, STILL),
        "sites": "llm.1",
        "read": ["norms"],
    }
    for fields, line in (
        ({"frame": 2}, "image0 is a video of 2 frames as the tower takes them; expected 0 to 1"),
        ({"number": 1, "frame": 1}, "image1 is a picture; expected 0"),
    ):
        with pytest.raises(UsageError, match=line):
            lab.run(spec | fields)
    with pytest.raises(UsageError, match="picture 0 is a video; expected pictures"):
        lab.run({"kind": "vision-tokens", "images": [lab.images.put(CLIP)], "sites": "llm.1"})
