"""Recipes on prompts with pictures, on a tiny random model that sees."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import ImageStore
from labtui_artifacts.kinds import direction
from labtui_artifacts.kinds.direction import DirectionFile
from labtui_artifacts.paths import secure_folder
from labtui_artifacts.store import Store
from labtui_kernels import recipes, specs
from labtui_kernels.engine import Engine
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.models.pictures import open_picture
from labtui_kernels.recipes import norms
from labtui_kernels.recipes.context import KnobTurn
from labtui_kernels.recipes.neutral import neutral_pictures, neutral_prompted
from labtui_kernels.recipes.pictures import keep
from labtui_kernels.recipes.prompts import rendered
from labtui_kernels.specs import Message
from labtui_kernels.specs.diagnose import NEUTRAL_PICTURES
from tests.kernels.recipes.lab import Lab, rerun_of
from tests.support.tiny_vision import noise, tiny_vision


def png(seed: int, size: tuple[int, int] = (112, 56)) -> bytes:
    out = io.BytesIO()
    noise(*size, seed).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def model() -> tuple[Any, Engine]:
    loaded = tiny_vision("qwen2_vl")
    return loaded, Engine(loaded)


@pytest.fixture
def lab(model: tuple[Any, Engine], tmp_path: Path) -> Lab:
    made = Lab.__new__(Lab)
    made.loaded, made.engine = model
    made.store = Store(tmp_path / "artifacts")
    made.images = ImageStore(secure_folder(tmp_path / "images"))
    made.shape = made.loaded.info.shape
    return made


def asked(lab: Lab, *seeds: int, text: str = "What?") -> list[dict[str, Any]]:
    """A chat about pictures that are in the store."""
    return [{"role": "user", "content": text, "images": [lab.images.put(png(seed)) for seed in seeds]}]


def test_a_row_says_which_pictures_it_had_and_where(lab: Lab) -> None:
    prompt = asked(lab, 1, 2)
    ctx, _ = lab.run(
        {
            "kind": "generate",
            "prompt": prompt,
            "edits": "50%*random:1@vision.1@image1[0:1,1:3]",
            "max_new_tokens": 4,
        }
    )
    started = ctx.row("steered")["started"]
    one, two = started["images"]
    assert [one["digest"], two["digest"]] == prompt[0]["images"]
    assert (one["rows"], one["cols"], one["grid"]) == (2, 4, [1, 4, 8])
    pad = lab.loaded.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for image in (one, two):
        stop = image["start"] + 8
        assert set(started["ids"][image["start"] : stop]) == {pad} and started["ids"][stop] != pad
    assert started["edited"] == [two["start"] + 1, two["start"] + 2]
    assert started["messages"][-1]["images"] == prompt[0]["images"]
    assert not any(started["content"][one["start"] : one["start"] + 8])
    plain, steered = ctx.row("plain"), ctx.row("steered")
    assert plain["logprobs"] != pytest.approx(steered["logprobs"], abs=1e-4)
    smaller, _ = lab.run(
        {"kind": "generate", "prompt": asked(lab, 1), "max_pixels": 28 * 28 * 4, "max_new_tokens": 2}
    )
    (image,) = smaller.row("plain")["started"]["images"]
    assert image["rows"] * image["cols"] <= 4 and image["max_pixels"] == 28 * 28 * 4


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ("8%*random:1@vision.1@image[0:3,0:1]", r"within \[0:2,0:4\]"),
        ("8%*random:1@llm.1@image[0:1,0:5]", r"within \[0:2,0:4\]"),
        ("8%*random:1@vision.1@last", "has patches, not tokens"),
        ("8%*random:1@vision.1@image1", "has 1 picture, counted from 0"),
        ("8%*random:1@vision.1@ink", "is not known, it is no stimulus"),
        ("8%*random:1@vision.9", "block 9 does not exist"),
    ],
)
def test_places_that_the_picture_does_not_have_are_refused_before_anything_runs(
    lab: Lab, edits: str, said: str
) -> None:
    spec = {"kind": "generate", "prompt": asked(lab, 1), "edits": edits, "max_new_tokens": 2}
    ctx = lab.context()
    with pytest.raises(UsageError, match=said) as refused:
        ctx.run(spec)
    assert "\n" not in str(refused.value) and not ctx.events


def test_a_picture_that_is_gone_is_named(lab: Lab) -> None:
    prompt = asked(lab, 1)
    lab.images.path(prompt[0]["images"][0]).unlink()
    ctx = lab.context()
    ctx.picture_names = {prompt[0]["images"][0]: "cat.png"}
    with pytest.raises(UsageError, match=r"picture cat\.png"):
        ctx.run(
            {
                "kind": "generate",
                "prompt": [{**prompt[0], "content": "gone"}],
                "max_new_tokens": 2,
                "min_pixels": 3137,
            }
        )


def test_a_sweep_tells_pictures_and_places_apart(lab: Lab) -> None:
    prompts = [asked(lab, 1), asked(lab, 2)]
    spec = {
        "kind": "sweep",
        "prompts": prompts,
        "directions": ["random:1"],
        "sites": "vision.0,2",
        "strengths": ["60%"],
        "where": ["image", "image[0:1,0:1]"],
        "metrics": ["perplexity", "kl", "kl-mean"],
        "controls": {"zero": True},
        "max_new_tokens": 5,
    }
    ctx = lab.context()
    ctx.picture_names = {prompts[0][0]["images"][0]: "one.png"}
    ctx.run(spec)
    rows = [row for data in ctx.of("cell.committed") for row in data["rows"]]
    assert len(rows) == 2 + 2 * 2 * 2
    assert {row["picture"] for row in rows if row["prompt_index"] == 0} == {"one.png"}
    assert {row["prompt_images"] for row in rows if row["prompt_index"] == 1} == {prompts[1][0]["images"][0]}
    # Same text, same number of tokens: only the pixels differ, and every number has to.
    zeros = [row for row in rows if row["control"] == "zero"]
    assert zeros[0]["perplexity"] != pytest.approx(zeros[1]["perplexity"], rel=1e-6)
    grid = {(row["prompt_index"], row["site"], row["where"]): row for row in rows if not row["control"]}
    for prompt in (0, 1):
        for site in ("vision.0", "vision.2"):
            whole, patch = grid[prompt, site, "image"], grid[prompt, site, "image[0:1,0:1]"]
            assert whole["kl"] != pytest.approx(patch["kl"], rel=1e-6)
    # Each as it is alone.
    for (prompt, site, where), row in grid.items():
        alone, result = lab.run(
            {
                "kind": "generate", "prompt": prompts[prompt], "plain": True, "max_new_tokens": 5,
                "edits": f"60%*random:1@{site}@{where}", "metrics": ["perplexity", "kl"],
            }
        )  # fmt: skip
        assert alone.row("steered")["text"] == row["text"]
        metrics = next(one for one in result["rows"] if one["arm"] == "steered")["metrics"]
        assert metrics["kl"] == pytest.approx(row["kl"], abs=1e-5)
        assert metrics["perplexity"] == pytest.approx(row["perplexity"], rel=1e-4)


def test_a_direction_in_the_tower_is_the_difference_of_mean_patches(lab: Lab) -> None:
    pairs = {"positive": [asked(lab, 1), asked(lab, 2)], "negative": [asked(lab, 3), asked(lab, 4)]}
    ctx, _ = lab.run({"kind": "direction", "name": "d", "sites": "vision.1, vision.merged, llm.2", **pairs})
    file = DirectionFile.view(lab.store.get("d", kind="direction"), "d")
    assert file.meta["read"] == "last"
    means: dict[str, list[torch.Tensor]] = {"positive": [], "negative": []}
    last: dict[str, list[torch.Tensor]] = {"positive": [], "negative": []}
    for pole, chats in pairs.items():
        for (turn,) in chats:
            prompt = rendered(ctx, [Message(**turn)], None).to_read()
            site, late = parse_site("vision.1"), parse_site("llm.2")
            patches = lab.engine.capture([prompt], [site], pooling="none", where=Where("image"))[site]
            assert len(patches) == 4 * 8  # patches, not merged ones
            means[pole].append(patches.mean(0))
            last[pole].append(
                lab.engine.capture([prompt], [late], pooling="last", where=Where("prompt"))[late][0]
            )
    for site, found in (("vision.1.out", means), ("llm.2.out", last)):
        wanted = torch.stack(found["positive"]).mean(0) - torch.stack(found["negative"]).mean(0)
        assert np.allclose(file.vector(site), wanted.numpy(), atol=1e-5)
    (told,) = [data["rows"] for data in ctx.of("cell.committed")]
    assert [row["site"] for row in told] == ["vision.1", "vision.merged", "llm.2"]
    assert all(row["reference"] > 0 for row in told)


def test_reference_norms_of_the_tower_are_over_plain_pictures(lab: Lab) -> None:
    drawn = neutral_pictures()
    assert len(drawn) == NEUTRAL_PICTURES and len({one.digest for one in drawn}) == len(drawn)
    assert drawn[0].digest == "sha256:" + _digest_of_gradient()
    ctx = lab.context()
    site = parse_site("vision.2")
    steps = norms.measure(ctx, [site])
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
    found = ended.value.value[site]
    prompts = [prompt.to_read() for _, prompt in neutral_prompted(ctx)]
    patches = lab.engine.capture(prompts, [site], pooling="none", where=Where("image"))[site]
    assert found.median == pytest.approx(float(np.median(patches.norm(dim=-1).numpy())), rel=1e-5)


def _digest_of_gradient() -> str:
    """The first plain picture by the definition of a gradient, not by the code that draws it."""
    pixels = bytearray()
    for _ in range(224):
        for column in range(224):
            x = (column + 0.5) / 224
            pixels += bytes((round(x * 255), 128, round((1 - x) * 255)))
    return hashlib.sha256(bytes(pixels)).hexdigest()


def test_a_diagnosis_compares_with_plain_pictures_in_the_tower(lab: Lab) -> None:
    pairs = {"positive": [asked(lab, 1), asked(lab, 2)], "negative": [asked(lab, 3), asked(lab, 4)]}
    ctx, result = lab.run({"kind": "diagnose", "sites": "vision.*", **pairs})
    assert ctx.counts["prompts"] == 4 + NEUTRAL_PICTURES
    assert result["neutral"] == NEUTRAL_PICTURES


def test_a_knob_that_is_half_in_the_tower_turns_nothing(lab: Lab) -> None:
    spec = {"kind": "generate", "prompt": asked(lab, 1), "edits": "20%*random:1@llm.2+vision.1"}
    spec |= {"plain": False, "max_new_tokens": 6, "metrics": []}
    ctx = lab.context()
    steps = recipes.recipe(specs.load(spec)).run(ctx)
    while not ctx.of("row.started"):
        next(steps)
    next(steps)
    next(steps)
    ctx.turns.append(KnobTurn("steered", 0, 9.0))
    for _ in steps:
        pass
    assert [text for *_, text in ctx.told if "the picture has been read" in text]
    assert not ctx.of("knob")
    unturned, turned = lab.run(spec)[0].row("steered"), ctx.row("steered")
    assert (turned["ids"], turned["logprobs"]) == (unturned["ids"], unturned["logprobs"])


def test_a_direction_of_another_tower_is_refused_before_anything_runs(lab: Lab) -> None:
    lab.direction("seen", 3)  # as wide as the decoder at every site, and so it is at vision.merged alone
    spec = {"kind": "generate", "prompt": asked(lab, 1), "max_new_tokens": 2, "metrics": []}
    recipe = recipes.recipe(specs.load({**spec, "edits": "2*seen@vision.merged"}))
    assert recipe.plan(lab.context())["rows"] == 2
    with pytest.raises(UsageError, match=r"seen has width 48 at vision.1, but vision.1 has width 32"):
        recipes.recipe(specs.load({**spec, "edits": "2*seen@vision.1"})).plan(lab.context())
    theirs = {**lab.loaded.info.to_dict(), "vision_width": 64, "weight_hash": "other"}
    made = {"vision.1.out": np.ones(64, np.float32)}
    lab.store.put("theirs", "direction", *direction.build(made, meta={"name": "theirs", "model": theirs}))
    for force in (False, True):
        with pytest.raises(UsageError, match="64") as refused:
            recipes.recipe(specs.load({**spec, "edits": "2*theirs@vision.1", "force": force})).plan(
                lab.context()
            )
        assert ("tower width 64" in str(refused.value)) == (not force) and "--force" not in str(refused.value)


def test_recorded_rows_are_run_again_with_their_pictures(lab: Lab) -> None:
    prompt = asked(lab, 1)
    ctx, _ = lab.run(
        {
            "kind": "generate",
            "prompt": prompt,
            "edits": "40%*random:3@vision.1@image[0:1,0:2]",
            "max_new_tokens": 6,
        }
    )
    spec = rerun_of(lab, ctx, "cat.png")
    rows = spec["rows"]
    _, result = lab.run(spec, job="j2")
    assert result["passed"] == 2 and result["max_abs_diff"] < 1e-4
    swapped = [{**row, "images": [{**row["images"][0], "digest": lab.images.put(png(9))}]} for row in rows]
    with pytest.raises(Exception, match="2 of 2 rows differ"):
        lab.run(spec | {"rows": swapped}, job="j3")
    lab.images.path(prompt[0]["images"][0]).unlink()
    with pytest.raises(UsageError, match=r"picture cat.png \(\w+\) is not in this kernel's store"):
        lab.run(spec, job="j4")


def test_a_recipes_own_picture_is_stored_and_told_of(lab: Lab) -> None:
    ctx = lab.context()
    picture = keep(ctx, png(5), "drawn.png")
    (event,) = ctx.of("image.added")
    assert event["digest"] == picture.digest and picture.digest in lab.images
    assert open_picture(event["thumbnail"]).size == (112, 56)
