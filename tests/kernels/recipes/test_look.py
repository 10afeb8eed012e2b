"""The recipe ``look`` on a tiny Qwen2-VL, against transformers' own states and NumPy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds import direction
from labtui_kernels import specs
from labtui_kernels.specs import Message
from labtui_sessions import looks
from labtui_sessions.tables import Table
from tests.kernels.recipes.lab import Context, Lab
from tests.support.tiny_vision import noise, tiny_vision

ROWS, COLS = 3, 4
SITES = "vision.1,vision.merged,llm.0-2"
NAMES = ["vision.1", "vision.merged", "llm.0", "llm.1", "llm.2"]
INDEX = {
    "kind": "index",
    "name": "text",
    "captions": ["A red circle.", "Blue squares and a cat."],
    "sites": "llm.0,2",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("look"), loaded=tiny_vision("qwen2_vl"))
    made.run(INDEX)
    made.direction("odd", 1)
    return made


@pytest.fixture(scope="module")
def odd(lab: Lab) -> float:
    """The norm of the stored direction at llm.1."""
    from labtui_artifacts.kinds.direction import DirectionFile

    return float(np.linalg.norm(DirectionFile.open(lab.store.path("odd")).vector("llm.1.out")))


def put(lab: Lab, width: int, height: int, seed: int = 0) -> str:
    out = io.BytesIO()
    noise(width, height, seed).save(out, "PNG")
    return lab.images.put(out.getvalue())


@pytest.fixture(scope="module")
def picture(lab: Lab) -> str:
    return put(lab, 28 * COLS, 28 * ROWS)


def spec_of(*pictures: str, **fields: Any) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "What is this?", "images": list(pictures)}]
    return {"kind": "look", "prompt": prompt, "sites": SITES, **fields}


def table(ctx: Context, name: str) -> list[dict[str, Any]]:
    return [row for cell in ctx.of("cell.committed") if cell["table"] == f"j1-{name}" for row in cell["rows"]]


def grid(ctx: Context, name: str, column: str) -> dict[str, np.ndarray]:
    """A column by site, in the order of the patches."""
    rows = table(ctx, name)
    return {
        site: np.array(
            looks.by_patch([row for row in rows if row["site"] == site], column, ROWS * COLS), dtype=float
        )
        for site in NAMES
    }


def reference(lab: Lab, ctx: Context, picture: str) -> dict[str, np.ndarray]:
    """The picture's tokens by transformers' own forward pass, float64 [patches, d]; vision.1 its four patches' mean."""
    from labtui_kernels.recipes.prompts import rendered

    chat = [Message(role="system", content=specs.base.DEFAULT_SYSTEM)]
    chat.append(Message(role="user", content="What is this?", images=[picture]))
    prompt = rendered(ctx, chat, None)
    ids, model, caught = torch.tensor([prompt.ids]), lab.loaded.model, {}

    def catch(name: str):
        def hook(_module, _args, out):
            caught[name] = out

        return hook

    parts = {"vision.1": model.model.visual.blocks[1], "vision.merged": model.model.visual.merger}
    parts |= {f"llm.{n}": block for n, block in enumerate(model.model.language_model.layers)}
    handles = [part.register_forward_hook(catch(name)) for name, part in parts.items()]
    pixels = prompt.pixels[0]
    image = model.config.image_token_id
    with torch.no_grad():
        model(
            input_ids=ids, pixel_values=pixels.values, image_grid_thw=torch.tensor([pixels.grid]),
            mm_token_type_ids=(ids == image).int(),
        )  # fmt: skip
    for handle in handles:
        handle.remove()
    model.model.rope_deltas = None
    found = {name: caught[name][0, ids[0] == image] for name in NAMES if name.startswith("llm")}
    found["vision.merged"] = caught["vision.merged"]
    found["vision.1"] = caught["vision.1"].reshape(ROWS * COLS, 4, -1).mean(1)
    return {name: found[name].double().numpy() for name in NAMES}


def test_norms_and_cosines_are_transformers_own(lab: Lab, picture: str) -> None:
    ctx, result = lab.run(spec_of(picture))
    assert result["patches"] == ROWS * COLS
    assert ctx.counts["grid"] == [ROWS, COLS] and ctx.counts["size"] == [28 * COLS, 28 * ROWS]
    assert ctx.counts["at"] == NAMES and ctx.counts["digest"] == picture
    states = reference(lab, ctx, picture)
    norms = grid(ctx, "patches", "norm")
    every = {one.site: one for one in looks.depths(table(ctx, "depth"))}
    for site, values in states.items():
        own = np.linalg.norm(values, axis=1)
        assert np.allclose(norms[site], own, rtol=1e-4)
        assert every[site].median == pytest.approx(np.median(own), rel=1e-4)
        assert (every[site].lowest, every[site].highest) == pytest.approx((own.min(), own.max()), rel=1e-4)
        units = values / own[:, None]
        cosines = units @ units.T
        rows = [row for row in table(ctx, "similar") if row["site"] == site]
        for patch in range(ROWS * COLS):
            assert looks.similar_to(rows, patch, ROWS * COLS) == pytest.approx(cosines[patch], abs=1 / 127)
        n = len(own)
        assert every[site].alike == pytest.approx((cosines.sum() - n) / (n * n - n), abs=1e-5)


def test_the_plan_says_which_token_each_patch_is(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, read=["norms"]))
    from labtui_kernels.recipes.prompts import rendered

    checked = specs.load(spec_of(picture))
    assert isinstance(checked, specs.Look)
    prompt = rendered(ctx, specs.as_messages(checked.prompt, checked.system), None)
    image = lab.loaded.model.config.image_token_id
    assert [n for n, one in enumerate(prompt.ids) if one == image] == [
        ctx.counts["start"] + patch for patch in range(ROWS * COLS)
    ]


def test_scores_are_numpys_own(lab: Lab, picture: str) -> None:
    from labtui_artifacts.kinds.direction import DirectionFile

    ctx, _ = lab.run(spec_of(picture, directions=["odd", "odd - 2*random:3~odd"]))
    states, rows = reference(lab, ctx, picture), table(ctx, "scores")
    stored = DirectionFile.open(lab.store.path("odd"))
    wide = [site for site in NAMES if site != "vision.1"]  # what is stored there is of the decoder's width
    assert {row["site"] for row in rows} == set(wide)
    assert {row["direction"] for row in rows} == {"odd", "odd - 2*random:3~odd"}
    for site in wide:
        vector = np.asarray(stored.vector(f"{site}.out" if "merged" not in site else site), dtype=float)
        along = states[site] @ (vector / np.linalg.norm(vector))
        cosines = along / np.linalg.norm(states[site], axis=1)
        order = np.argsort(-along)
        for patch in range(ROWS * COLS):
            own = looks.scores([row for row in rows if row["site"] == site], patch)["odd"][site]
            assert own.projection == pytest.approx(along[patch], rel=1e-3, abs=1e-4)
            assert own.cosine == pytest.approx(cosines[patch], rel=1e-3, abs=1e-5)
            assert own.rank == 1 + list(order).index(patch)
            assert own.percentile == pytest.approx(
                100 * (along < along[patch]).sum() / (ROWS * COLS - 1), abs=0.01
            )


def test_every_direction_of_the_model_is_scored_and_another_models_is_not(lab: Lab, picture: str) -> None:
    lab.direction("foreign", 4, model={**lab.loaded.info.to_dict(), "weight_hash": "f" * 64})
    ctx, _ = lab.run(spec_of(picture, directions=["*"], read=["scores"]))
    assert {row["direction"] for row in table(ctx, "scores")} == {"odd"}
    with pytest.raises(UsageError, match="foreign"):
        lab.run(spec_of(picture, directions=["foreign"]))
    none, result = lab.run(spec_of(picture, directions=["*"], read=["scores"], sites="vision.1"))
    assert not table(none, "scores") and "nothing is scored" in result["notes"][0]


def test_more_directions_than_are_scored_are_told_of(
    lab: Lab, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without a vector at the sites that are read take no place from others."""
    from labtui_kernels.recipes import look, scores

    tower = {"vision.1.out": np.ones(lab.shape.vision_width, np.float32)}
    tensors, meta = direction.build(tower, meta={"name": "a", "model": lab.loaded.info.to_dict()})
    lab.store.put("a", "direction", tensors, meta)
    lab.direction("zzz", 9)
    monkeypatch.setattr(scores, "MOST_SCORED", 1)
    asked = spec_of(picture, directions=["*"], read=["scores"], sites="llm.1")
    try:
        ctx, result = lab.run(asked)
        assert {row["direction"] for row in table(ctx, "scores")} == {"odd"}
        assert "the first 1 are scored" in result["notes"][0]
        monkeypatch.setattr(look, "MOST_ROWS", ROWS * COLS - 1)
        with pytest.raises(UsageError, match="12 patches at 1 sites make 12 rows"):
            lab.run(asked)
        monkeypatch.setattr(look, "MOST_ROWS", ROWS * COLS)
        lab.store.delete("zzz")
        _, alone = lab.run(asked)
        assert not alone["notes"]
    finally:
        for name in ("a", "zzz"):
            if name in lab.store:
                lab.store.delete(name)


def test_equal_scores_share_their_place_and_one_patch_has_none() -> None:
    from labtui_kernels.recipes.scores import score

    states = torch.tensor([[1.0, 0.0], [3.0, 4.0], [1.0, 2.0], [-2.0, 0.0]])
    rows = score(states, torch.tensor([5.0, 0.0]))
    assert [row["projection"] for row in rows] == [1.0, 3.0, 1.0, -2.0]
    assert [row["rank"] for row in rows] == [2, 1, 2, 4]
    assert [row["percentile"] for row in rows] == [50.0, 100.0, 50.0, 0.0]
    assert rows[1]["cosine"] == pytest.approx(0.6)
    (alone,) = score(states[:1], torch.tensor([0.0, 1.0]))
    assert alone["percentile"] is None and alone["reasons"]["percentile"] == "there is one patch"
    with pytest.raises(ValueError, match="not zero"):
        score(states, torch.zeros(2))


def test_readings_are_the_nearest_words(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, readings="vision.merged,llm.1", top=3))
    states = reference(lab, ctx, picture)
    rows = table(ctx, "readings")
    assert {row["site"] for row in rows} == {"vision.merged", "llm.1"}
    matrix = lab.loaded.model.get_output_embeddings().weight.detach().double().numpy()
    known = sorted({n for n in lab.loaded.tokenizer.get_vocab().values() if n < len(matrix)})
    for site in ("vision.merged", "llm.1"):
        units = states[site] / np.linalg.norm(states[site], axis=1, keepdims=True)
        words = matrix[known] / np.linalg.norm(matrix[known], axis=1, keepdims=True)
        cosines = np.sort(units @ words.T, axis=1)[:, ::-1][:, :3]
        for patch in range(ROWS * COLS):
            found = looks.readings([row for row in rows if row["site"] == site], patch)
            assert list(found) == list(looks.READINGS)
            assert np.allclose([value for _, value in found["unembedding"]], cosines[patch], atol=1e-4)


def test_neighbours_are_found_in_all_layers_of_the_index(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, index="text", top=2))
    from labtui_artifacts.kinds.index import IndexFile

    index = IndexFile.open(lab.store.path("text"), "text")
    states = reference(lab, ctx, picture)
    vectors = {
        site: np.concatenate([np.asarray(shard.vectors(site), dtype=float) for shard in index.shards])
        for site in index.sites
    }
    rows = table(ctx, "neighbours")
    assert {row["site"] for row in rows} == set(NAMES) - {"vision.1"}
    for how in looks.HOW:
        less = {site: np.asarray(index.mean(site), dtype=float) * (how == "centred") for site in index.sites}
        keys = np.concatenate([vectors[site] - less[site] for site in index.sites])
        keys /= np.linalg.norm(keys, axis=1, keepdims=True)
        for site in ("vision.merged", "llm.2"):
            queries = states[site] - (states[site].mean(0) if how == "centred" else 0)
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            best = np.sort(queries @ keys.T, axis=1)[:, ::-1][:, :2]
            for patch in range(ROWS * COLS):
                own = [row for row in rows if row["site"] == site and row["patch"] == patch]
                hits = looks.neighbours(own, how)[site]
                assert np.allclose([hit.cosine for hit in hits], best[patch], atol=1e-4)
                for hit in hits:
                    assert hit.span is not None and hit.site in ("llm.0", "llm.2")
                    assert hit.caption[hit.span[0] : hit.span[1]] == hit.token.strip()


def test_attention_is_transformers_own(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, sites="vision.merged,llm.0-2"))
    from labtui_kernels.recipes.prompts import rendered

    checked = specs.load(spec_of(picture))
    assert isinstance(checked, specs.Look)
    prompt = rendered(ctx, specs.as_messages(checked.prompt, checked.system), None)
    ids, model, pixels = torch.tensor([prompt.ids]), lab.loaded.model, prompt.pixels[0]
    config = model.config.get_text_config()
    assert config._attn_implementation == "sdpa"
    caught = {}
    blocks = model.model.language_model.layers
    handles = [
        block.self_attn.register_forward_hook(
            lambda _m, _a, out, n=n: caught.__setitem__(n, out[1][0].mean(0))
        )
        for n, block in enumerate(blocks)
    ]
    config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            model(
                input_ids=ids, pixel_values=pixels.values, image_grid_thw=torch.tensor([pixels.grid]),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
            )  # fmt: skip
    finally:
        config._attn_implementation = "sdpa"
        model.model.rope_deltas = None
        for handle in handles:
            handle.remove()
    rows = table(ctx, "attention")
    assert {row["site"] for row in rows} == {"llm.0", "llm.1", "llm.2"}
    start = ctx.counts["start"]
    words = looks.words(rows)
    assert list(words)[-1] == len(prompt.ids) - 1 and words[len(prompt.ids) - 1] == looks.ANSWER
    assert "".join(list(words.values())[:-1]) == "What is this?"
    for block in range(3):
        own = [row for row in rows if row["site"] == f"llm.{block}"]
        for position in words:
            told = looks.attention_of(own, position, ROWS * COLS)
            expected = caught[block][position, start : start + ROWS * COLS].tolist()
            assert told == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert not any(block.self_attn._forward_hooks for block in blocks)


def test_an_edit_moves_its_rectangle_and_only_what_comes_after(lab: Lab, picture: str, odd: float) -> None:
    ctx, result = lab.run(spec_of(picture, edits="2.0*odd@llm.1@image0[1:2,1:3]"))
    assert result["edits"] == "2.0*odd@llm.1@image0[1:2,1:3]"
    change, share = grid(ctx, "effect", "change"), grid(ctx, "effect", "share")
    inside = np.zeros((ROWS, COLS), dtype=bool)
    inside[1:2, 1:3] = True
    inside = inside.ravel()
    moved = 2.0 * odd
    for site in ("vision.1", "vision.merged", "llm.0"):
        assert not change[site].any()
    assert np.allclose(change["llm.1"][inside], moved, rtol=1e-4) and not change["llm.1"][~inside].any()
    norms = grid(ctx, "patches", "norm")["llm.1"]
    assert np.allclose(share["llm.1"][inside], moved / norms[inside], rtol=1e-4)
    first = np.flatnonzero(inside)[0]
    assert not change["llm.2"][:first].any() and change["llm.2"][first:].all()


def test_an_edit_in_the_tower_reaches_the_decoder(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, edits="1.0*odd@vision.merged@image0[0:1,0:1]", read=["effect"]))
    assert {cell["table"] for cell in ctx.of("cell.committed")} == {"j1-effect"}
    change = grid(ctx, "effect", "change")
    assert not change["vision.1"].any() and change["llm.0"][0] > 0
    assert change["vision.merged"][0] > 0 and not change["vision.merged"][1:].any()


def test_the_second_picture_of_a_prompt(lab: Lab, picture: str) -> None:
    other = put(lab, 56, 84, seed=3)
    both, _ = lab.run(spec_of(other, picture, number=1, read=["norms"], sites="vision.merged"))
    alone, _ = lab.run(spec_of(picture, read=["norms"], sites="vision.merged"))
    assert both.counts["grid"] == [ROWS, COLS] and both.counts["start"] > alone.counts["start"]
    assert np.allclose(
        [row["norm"] for row in table(both, "patches")],
        [row["norm"] for row in table(alone, "patches")],
        rtol=1e-4,
    )


def test_a_job_that_goes_on_commits_what_is_missing(lab: Lab, picture: str) -> None:
    whole, _ = lab.run(spec_of(picture))
    cells = [cell["cell"] for cell in whole.of("cell.committed")]
    rest, _ = lab.run(spec_of(picture), committed=cells[:7])
    assert [cell["cell"] for cell in rest.of("cell.committed")] == cells[7:]
    assert len(cells) == whole.counts["cells"] + len(NAMES)  # the table over the depth comes with the norms


def test_what_it_commits_is_known_as_a_look(lab: Lab, picture: str) -> None:
    ctx, _ = lab.run(spec_of(picture, index="text", edits="1.0*odd@llm.1@image0", directions=["odd"]))
    kinds = {}
    for cell in ctx.of("cell.committed"):
        made = Table(cell["table"])
        made.add("j1", cell["cell"], cell["rows"])
        kinds[cell["table"].removeprefix("j1-")] = looks.kind_of(made.columns)
    assert kinds == {
        name: name
        for name in ("patches", "depth", "similar", "scores", "readings", "neighbours", "attention", "effect")
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"number": 1}, "number: 1: the prompt has 1 picture"),
        ({"index": "none-such"}, "none-such"),
        ({"edits": "1.0*odd@llm.1@image0[0:9,0:1]"}, "has 3 rows and 4 columns"),
        ({"edits": "1.0*odd@llm.1@image1"}, "image1"),
        ({"read": ["effect"]}, "edits: none, and the effect of one"),
        ({"read": ["scores"]}, "directions: none, and scores"),
        ({"directions": ["odd", "odd"]}, "directions: one is named twice"),
        ({"directions": ["none-such"]}, "none-such"),
        ({"directions": ["odd -"]}, "column"),
        ({"directions": ["odd"], "sites": "vision.1"}, "direction odd has width 48 at vision.1"),
        ({"read": ["neighbours"]}, "index: none, and neighbours"),
        ({"readings": "vision.1"}, "vision.1 lies in the tower"),
        ({"readings": "llm.3", "sites": "llm.1"}, "readings: llm.3"),
        ({"sites": "llm.99"}, "llm.99"),
    ],
)
def test_bad_specs_are_one_line(lab: Lab, picture: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        lab.run(spec_of(picture, **fields))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_prompt_without_a_picture_and_a_model_without_eyes(lab: Lab, picture: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it has no picture"):
        specs.load({"kind": "look", "prompt": "What is this?"})
    blind = Lab(tmp_path)
    with pytest.raises(UsageError, match="reads no pictures"):
        blind.run(spec_of(picture, sites="llm.*"))
