"""Sites of the vision tower: each is where its name says, in merge-group order, and reads what the tower has there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Prompt, Row, selected, selected_patches
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.lang.sites import Site, all_sites, site_width
from labtui_kernels.models.load import LoadedModel
from tests.support.tiny import tiny
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision

from .driving import prompt, vector
from .seeing import patch_size, picture, pictured, plain_inputs, shown, site, window_order

TOWER = [
    "vision.embed",
    "vision.0.in",
    "vision.0.out",
    "vision.1.in",
    "vision.1.out",
    "vision.2.in",
    "vision.2.out",
    "vision.premerge",
    "vision.merged",
]
"""In the order in which a pass reaches them."""


def own_states(loaded: LoadedModel, row: Row) -> tuple[dict[Site, torch.Tensor], Any]:
    """What plain hooks read in a pass of the tower over the row's images, brought into order by hand, and what it gives."""
    tower, seen = loaded.model.model.visual, {}

    def before(name: str) -> Any:
        return lambda _m, args: seen.__setitem__(name, args[0].clone())

    def after(name: str) -> Any:
        return lambda _m, _a, out: seen.__setitem__(name, out.clone())

    handles = [tower.merger.register_forward_pre_hook(before("vision.premerge"))]
    handles.append(tower.merger.register_forward_hook(after("vision.merged")))
    for number, block in enumerate(tower.blocks):
        handles.append(block.register_forward_pre_hook(before(f"vision.{number}.in")))
        handles.append(block.register_forward_hook(after(f"vision.{number}.out")))
    inputs = plain_inputs(loaded, row, [])
    with torch.no_grad():
        out = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
    for handle in handles:
        handle.remove()
    seen["vision.embed"] = seen["vision.0.in"]
    order, start = [], 0
    for image in row.images:
        windows = window_order(loaded, image.grid[1] // 2, image.grid[2] // 2)
        order += [start + windows.index(patch) for patch in range(len(windows))]
        start += len(windows)
    patches = [place * 4 + n for place in order for n in range(4)]
    found = {site(n): state[order if n == "vision.merged" else patches] for n, state in seen.items()}
    return found, out


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_readings_are_the_towers_own_in_order(family: str) -> None:
    loaded = tiny_vision(family)
    row = pictured(loaded, [(5, 3), (2, 4), (6, 6)], 1)
    wanted, out = own_states(loaded, row)
    found = Engine(loaded).capture([row], [site(name) for name in TOWER], pooling="none")
    for name in TOWER:
        torch.testing.assert_close(found[site(name)], wanted[site(name)], msg=name)
    # The order is proved by what the tower itself gives for the language model.
    torch.testing.assert_close(found[site("vision.merged")], out.pooler_output)
    with torch.no_grad():
        again = loaded.model.model.visual.merger(found[site("vision.premerge")])
    torch.testing.assert_close(again, out.pooler_output)
    assert (family == "qwen2_5_vl") == (window_order(loaded, 5, 3) != list(range(15)))


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_poolings_and_places(family: str) -> None:
    loaded = tiny_vision(family)
    engine = Engine(loaded, chunk_tokens=40)
    rows = [pictured(loaded, [(3, 2), (4, 5)], 1), pictured(loaded, [(2, 2), (6, 3)], 2)]
    rows.append(Prompt(rows[0].ids, images=rows[0].images))  # type: ignore[arg-type]
    states = [own_states(loaded, row)[0] for row in rows]
    sites = [site(name) for name in ("vision.1.out", "vision.merged", "llm.1.out", "llm.norm")]
    whole = engine.capture(rows, sites[2:], pooling="none")
    lengths = np.cumsum([0, *(len(row.ids) for row in rows)])
    for name in ("image", "image1", "image1[1:3,0:2]"):
        where = parse_where(name)
        chosen = [selected_patches(row, where) for row in rows]
        for pooling in ("mean", "max", "none"):
            found = engine.capture(rows, sites, pooling=pooling, where=where)
            for each in sites:
                pieces = []
                for number, row in enumerate(rows):
                    if each.tower == "llm":
                        lines = [lengths[number] + place for place in selected(row, where)]
                        state = whole[each][lines]
                    else:
                        unit = 1 if each.point == "merged" else 4
                        starts = np.cumsum([0, *(len(image.pixels) // 4 for image in row.images)])
                        merged = [starts[image] + place for image, place in chosen[number]]
                        state = states[number][each][[m * unit + n for m in merged for n in range(unit)]]
                    reduce = {
                        "mean": lambda h: h.mean(0)[None],
                        "max": lambda h: h.amax(0)[None],
                        "none": lambda h: h,
                    }
                    pieces.append(reduce[pooling](state))
                torch.testing.assert_close(found[each], torch.cat(pieces), atol=1e-4, rtol=1e-4)
                assert not found[each].is_inference() and found[each].device.type == "cpu"
            alone = engine.capture(rows, sites[:2], pooling=pooling, where=where)
            for each in sites[:2]:
                torch.testing.assert_close(alone[each], found[each], atol=1e-5, rtol=1e-5)
    assert selected_patches(rows[0], parse_where("image1[1:3,0:2]")) == [(1, 4), (1, 5), (1, 8), (1, 9)]
    assert selected(rows[0], parse_where("image0[0:1,1:3]")) == [rows[0].images[0].start + n for n in (1, 2)]


def marked(loaded: LoadedModel, picture: Image.Image) -> list[Image.Image]:
    """Copies of a picture, each with other colours in the square of pixels of one patch, row by row."""
    side = patch_size(loaded)
    copies = []
    for top in range(0, picture.height, side):
        for left in range(0, picture.width, side):
            pixels = np.array(picture)
            pixels[top : top + side, left : left + side] ^= 255
            copies.append(Image.fromarray(pixels))
    return copies


@pytest.mark.parametrize("size", [(2, 3), (5, 2), (4, 4)])
@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_the_odd_patch_is_where_its_pixels_are(family: str, size: tuple[int, int]) -> None:
    loaded = tiny_vision(family)
    cols, rows = size
    base = picture(loaded, cols, rows, 3)
    made = [shown(loaded, [each], 1) for each in (base, *marked(loaded, base))]
    read = Engine(loaded).capture(made, [site("vision.embed")], pooling="none")[site("vision.embed")]
    states = read.reshape(len(made), rows * cols * 4, -1)
    moved = (states[1:] - states[0]).norm(dim=-1) > 1e-4
    for number, lines in enumerate(moved):
        row, col = divmod(number, 2 * cols)
        (odd,) = lines.nonzero().flatten().tolist()
        assert odd == ((row // 2) * cols + col // 2) * 4 + (row % 2) * 2 + col % 2
        # The rectangle of merged patches that has these pixels selects it, and the token that stands for it.
        where = parse_where(f"image[{row // 2}:{row // 2 + 1},{col // 2}:{col // 2 + 1}]")
        assert selected_patches(made[0], where) == [(0, odd // 4)]
        assert selected(made[0], where) == [made[0].images[0].start + odd // 4]


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_edits_change_their_rectangle_and_nothing_upstream(family: str) -> None:
    loaded = tiny_vision(family)
    engine, shape = Engine(loaded), loaded.info.shape
    row = pictured(loaded, [(3, 3), (4, 5)], 1)
    sites = [*(site(name) for name in TOWER), *(s for s in all_sites(shape) if s.tower == "llm")]
    before = engine.capture([row], sites, pooling="none")
    where = parse_where("image1[1:3,2:4]")
    merged = [9 + r * 4 + c for r in (1, 2) for c in (2, 3)]
    for number, name in enumerate(TOWER):
        at = site(name)
        edit = Edit(at, "add", vector(site_width(at, shape), number), 1.5, where)
        after = engine.capture([row], sites, pooling="none", edits=[edit])
        for each in sites[:number]:
            assert torch.equal(after[each], before[each]), f"{name} changed {each}, which comes before it"
        unit = 1 if name == "vision.merged" else 4
        lines = [m * unit + n for m in merged for n in range(unit)]
        moved = after[at] - before[at]
        torch.testing.assert_close(
            moved[lines], (1.5 * edit.vectors).expand(len(lines), -1), atol=1e-4, rtol=1e-4
        )
        others = [n for n in range(len(moved)) if n not in lines]
        assert torch.equal(after[at][others], before[at][others])
        # The other picture is another picture to the very end of the tower, and text before them is never reached.
        for each in sites[number : len(TOWER)]:
            first = 9 if each == site("vision.merged") else 36
            torch.testing.assert_close(after[each][:first], before[each][:first], atol=1e-5, rtol=1e-5)
        tokens = [row.images[1].start + m - 9 for m in merged]
        embed = after[site("llm.embed")] - before[site("llm.embed")]
        assert float(embed[tokens].norm(dim=-1).min()) > 1e-3
        last = after[sites[-1]] - before[sites[-1]]
        assert float(last[: row.images[1].start].abs().max()) < 1e-4 < float(last[-1].abs().max())


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen3_vl_moe"])
def test_both_sides_of_deepstack(family: str) -> None:
    loaded = tiny_vision(family)
    engine = Engine(loaded, chunk_tokens=16)
    row = pictured(loaded, [(3, 3), (2, 4)], 1)
    places = torch.tensor([token == loaded.model.config.image_token_id for token in row.ids])
    inputs = plain_inputs(loaded, row, [])
    with torch.no_grad():
        out = loaded.model.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
    names = ["llm.0.out", "llm.1.in", "llm.1.out", "llm.2.in", "llm.2.out", "llm.3.in"]
    found = engine.capture([row], [site(name) for name in names], pooling="none")
    for level, features in enumerate([*out.deepstack_features, None]):
        added = found[site(f"llm.{level + 1}.in")] - found[site(f"llm.{level}.out")]
        assert not added[~places].any()
        if features is None:
            assert not added.any()
        else:
            torch.testing.assert_close(added[places], features, atol=1e-4, rtol=1e-4)
    # An edit behind a tower block reaches what DeepStack takes there; one before the next block does not.
    for name, reaches in (("vision.0.out", True), ("vision.1.in", False)):
        edit = Edit(site(name), "add", vector(32, 1), 2.0)
        after = engine.capture([row], [site(n) for n in names[:2]], pooling="none", edits=[edit])
        added = after[site("llm.1.in")] - after[site("llm.0.out")]
        assert reaches == (float((added[places] - out.deepstack_features[0]).abs().max()) > 1e-2)


def test_reference_norms() -> None:
    loaded = tiny_vision("qwen2_5_vl")
    rows = [pictured(loaded, [(3, 2), (4, 5)], 1), pictured(loaded, [], 2), pictured(loaded, [(2, 2)], 3)]
    content = [
        tuple(n > 0 and t != loaded.model.config.image_token_id for n, t in enumerate(r.ids)) for r in rows
    ]
    prompts = [Prompt(r.ids, c, images=r.images) for r, c in zip(rows, content, strict=True)]
    sites = [site("vision.1.out"), site("llm.1.out"), site("vision.merged")]
    found = Engine(loaded).reference_norms(prompts, sites)
    assert list(found) == sites
    for each in (sites[0], sites[2]):
        norms = torch.cat([own_states(loaded, row)[0][each].norm(dim=-1) for row in rows if row.images])
        assert found[each].positions == len(norms) == (1 if each == sites[2] else 4) * 30
        assert found[each].median == pytest.approx(float(norms.quantile(0.5)), rel=1e-4)
        assert found[each].mean == found[each].content_mean == pytest.approx(float(norms.mean()), rel=1e-4)
    assert found[sites[1]].positions == sum(map(sum, content))
    whole = Engine(loaded).capture(prompts, [sites[1]], pooling="none")[sites[1]].norm(dim=-1)
    assert found[sites[1]].median == pytest.approx(
        float(whole[torch.tensor([m for marks in content for m in marks])].quantile(0.5)), rel=1e-4
    )


def test_the_audit_knows_the_hooks_in_the_tower() -> None:
    loaded = tiny_vision("qwen2_5_vl")
    engine = Engine(loaded)
    row = pictured(loaded, [(3, 3)], 1)
    edit = Edit(site("vision.0.in"), "add", vector(32, 1), 1.0)
    sites = [
        site(name)
        for name in ("vision.embed", "vision.1.out", "vision.premerge", "vision.merged", "llm.1.out")
    ]
    before = engine.capture([row], sites, pooling="mean", edits=[edit])
    audit = engine.audit()
    assert audit.ok and audit.handles == audit.expected == 5
    loaded.model.model.visual.blocks[1]._forward_hooks.clear()
    assert "vision.1.out" in engine.audit().detail
    engine.close()
    again = Engine(loaded)
    after = again.capture([row], sites, pooling="mean", edits=[edit])
    assert all(torch.equal(before[each], after[each]) for each in sites)
    with torch.no_grad():
        loaded.model.model.visual.blocks[0].mlp.down_proj.weight[0, 0] += 1
    assert "visual.blocks.0" in again.audit().detail


def test_refusals() -> None:
    loaded = tiny_vision("qwen3_vl")
    engine = Engine(loaded)
    row, text = pictured(loaded, [(3, 2)], 1), Prompt(prompt(5, 1))
    at = [site("vision.1.out")]
    for call, words in (
        (lambda: engine.capture([row], at), r"pooling 'last' at vision\.1\.out: patches have no order"),
        (lambda: engine.capture([row], at, pooling="mean", where=parse_where("last")), "patches, not tokens"),
        (lambda: engine.capture([row], at, pooling="mean", where=parse_where("text")), "patches, not tokens"),
        (
            lambda: engine.capture([row], at, pooling="mean", where=parse_where("image[0:3,0:1]")),
            "2 rows and 3 columns",
        ),
        (lambda: engine.capture([row, text], at, pooling="mean"), "prompt has no image"),
        (
            lambda: engine.capture([row], [Site("vision", 3, "out")], pooling="mean"),
            r"a block vision\.0 to vision\.2",
        ),
        (
            lambda: engine.capture([replace(row, images=(row.images[0].span(2),))], at, pooling="mean"),
            "not the pixels of its images",
        ),
        (lambda: engine.reference_norms([text], at), "none of the prompts has an image"),
        (
            lambda: Engine(tiny("qwen2")).capture([text], at, pooling="mean"),
            r"expected llm\.embed, llm\.norm, or a block llm\.0 to llm\.3; this model has no vision tower",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            call()
