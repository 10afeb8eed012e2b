"""The recipe ``vision-tokens`` on a tiny Qwen2-VL, against transformers' own states and NumPy."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import LabError, UsageError
from labtui_artifacts.kinds.index import IndexFile
from labtui_kernels import recipes, specs
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.neighbours.regions import Region, label, plain, share
from labtui_kernels.recipes.vision_tokens import VisionTokensRecipe, shuffled
from labtui_kernels.specs.vision_tokens import reading_sites, state_sites
from labtui_kernels.vision import scenes
from tests.kernels.recipes.lab import Context, Lab
from tests.support.tiny_vision import VISION_FAMILIES, noise, tiny_vision

CAPTIONS = [
    "A red circle on a white background.",
    "Blue squares, and a cat.",
    "The word green.",
    "Three crosses.",
]
INDEX: dict[str, Any] = {"kind": "index", "name": "text", "captions": CAPTIONS, "sites": "llm.0,2"}
K = 3


def png(width: int, height: int, seed: int = 0) -> bytes:
    out = io.BytesIO()
    noise(width, height, seed).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("vision"), loaded=tiny_vision("qwen2_vl"))
    lab.run(INDEX)
    return lab


@pytest.fixture(scope="module")
def pictures(vision: Lab) -> list[str]:
    """Two pictures of different size in the lab's store."""
    return [
        vision.images.put(png(width, height, seed))
        for seed, (width, height) in enumerate([(112, 84), (60, 120)])
    ]


def spec_of(pictures: list[str], **fields: Any) -> dict[str, Any]:
    return {"kind": "vision-tokens", "images": pictures, "index": "text", "k": K, **fields}


def table(ctx: Context, name: str) -> list[dict[str, Any]]:
    """The rows of one of the job's tables."""
    return [row for cell in ctx.of("cell.committed") if cell["table"] == f"j1-{name}" for row in cell["rows"]]


def states_of(lab: Lab, ctx: Context, spec: dict[str, Any], number: int) -> dict[str, np.ndarray]:
    """A picture's tokens at every site by transformers' own forward pass, float64 [tokens, d]."""
    from labtui_kernels.recipes.prompts import rendered
    from labtui_kernels.specs import Message

    checked = specs.load(spec)
    assert isinstance(checked, specs.VisionTokens)
    chat = [Message(role="system", content=checked.system)]
    chat.append(Message(role="user", content=checked.prompt, images=[checked.images[number]]))
    prompt = rendered(ctx, chat, None)
    ids = torch.tensor([prompt.ids])
    image = lab.loaded.model.config.image_token_id
    caught: dict[int, torch.Tensor] = {}
    blocks = lab.loaded.model.model.language_model.layers
    handles = [
        block.register_forward_hook(lambda _m, _a, out, n=n: caught.__setitem__(n, out))
        for n, block in enumerate(blocks)
    ]
    with torch.no_grad():
        out = lab.loaded.model(
            input_ids=ids,
            pixel_values=prompt.pixels[0].values,
            image_grid_thw=torch.tensor([prompt.pixels[0].grid]),
            mm_token_type_ids=(ids == image).int(),
            output_hidden_states=True,
        )
    for handle in handles:
        handle.remove()
    lab.loaded.model.model.rope_deltas = None
    found = {"llm.embed": out.hidden_states[0], "llm.norm": out.hidden_states[-1]}
    found |= {f"llm.{n}": state for n, state in caught.items()}
    chosen = ids[0] == image
    return {site: state[0, chosen].double().numpy() for site, state in found.items()}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_summaries_are_numpys(vision: Lab, pictures: list[str]) -> None:
    spec = spec_of(pictures)
    ctx, result = vision.run(spec)
    rows = {row["image"]: row for row in table(ctx, "pictures")}
    assert [(row["rows"], row["cols"], row["tokens"]) for row in rows.values()] == [(3, 4, 12), (4, 2, 8)]
    assert rows[0]["digest"] == pictures[0] and rows[0]["grid"] == "1x6x8" and result["tokens"] == 20
    own = [states_of(vision, ctx, spec, number) for number in (0, 1)]
    sites = [site.short for site in state_sites(vision.shape)]
    assert sites == ["llm.embed", "llm.0", "llm.1", "llm.2", "llm.3", "llm.norm"]
    norms = table(ctx, "norms")
    assert [(row["image"], row["site"]) for row in norms] == [(n, site) for n in (0, 1) for site in sites]
    for row in norms:
        state = own[row["image"]][row["site"]]
        lengths = np.linalg.norm(state, axis=1)
        cosines = unit(state) @ unit(state).T
        pairs = cosines[~np.eye(len(state), dtype=bool)]
        assert row["norm"] == pytest.approx(np.median(lengths), rel=1e-4)
        assert (row["norm_least"], row["norm_most"]) == pytest.approx(
            (lengths.min(), lengths.max()), rel=1e-4
        )
        assert row["similarity"] == pytest.approx(pairs.mean(), abs=1e-5)
    for row in table(ctx, "depth"):
        one, other = (unit(state[row["site"]]) for state in own)
        assert row["similarity_across"] == pytest.approx((one @ other.T).mean(), abs=1e-5)
        assert row["norm"] == pytest.approx(
            np.median(np.linalg.norm(np.concatenate([state[row["site"]] for state in own]), axis=1)), rel=1e-4
        )


@pytest.mark.parametrize("reading", ["raw", "centred"])
def test_neighbours_are_brute_forces(vision: Lab, pictures: list[str], reading: str) -> None:
    spec = spec_of(pictures, readings=[reading], sites="llm.embed,llm.1,3", shuffled=0)
    ctx, _ = vision.run(spec)
    index = IndexFile.open(vision.store.path("text"))
    bank, of = [], []
    for site in index.sites:
        vectors = np.concatenate([shard.vectors(site) for shard in index.shards]).astype(np.float32)
        bank.append(vectors - (index.mean(site) if reading == "centred" else 0))
        of += [site.removesuffix(".out")] * len(vectors)
    own = [states_of(vision, ctx, spec, number) for number in (0, 1)]
    columns = {name: np.concatenate([s.column(name) for s in index.shards]) for name in ("caption", "span")}
    rows = table(ctx, "tokens")
    assert len(rows) == 20 * 3
    for site in ("llm.embed", "llm.1", "llm.3"):
        mean = np.concatenate([state[site] for state in own]).mean(0) if reading == "centred" else 0
        for image, state in enumerate(own):
            scores = unit(state[site] - mean) @ unit(np.concatenate(bank).astype(np.float64)).T
            order = np.argsort(-scores, 1)[:, :K]
            for token, row in enumerate(r for r in rows if (r["image"], r["site"]) == (image, site)):
                assert (row["row"], row["col"]) == divmod(token, (4, 2)[image])
                assert [hit["score"] for hit in row["hits"]] == pytest.approx(
                    scores[token, order[token]], abs=1e-4
                )
                best = order[token, 0]
                caption = CAPTIONS[columns["caption"][best % index.tokens]]
                start, stop = columns["span"][best % index.tokens]
                assert (row["at"], row["token"]) == (of[best], caption[start:stop])
                assert row["caption"].replace("[", "").replace("]", "") == caption
                assert row["hits"][0] == {
                    "token": row["token"],
                    "score": pytest.approx(row["score"], abs=1e-6),
                } | {
                    "at": row["at"],
                    "caption": row["caption"],
                }


def test_the_lens_of_the_last_block_is_that_of_the_norm(vision: Lab, pictures: list[str]) -> None:
    ctx, _ = vision.run(spec_of(pictures, readings=["lens"], sites="llm.3,llm.norm", index="", shuffled=0))
    rows = table(ctx, "tokens")
    one, other = ([row for row in rows if row["site"] == site] for site in ("llm.3", "llm.norm"))
    assert [row["token"] for row in one] == [row["token"] for row in other] and len(one) == 20
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in other], rel=1e-3)
    assert all(0 < row["score"] <= 1 and "at" not in row for row in rows)


def test_layers_sum_up_tokens(vision: Lab, pictures: list[str]) -> None:
    ctx, result = vision.run(spec_of(pictures, shuffled=2))
    layers, tokens = table(ctx, "layers"), table(ctx, "tokens")
    sites = [site.short for site in reading_sites(specs.load(spec_of(pictures)), vision.shape)]  # type: ignore[arg-type]
    assert result["sites"] == sites and len(layers) == 5 * len(sites)
    for row in layers:
        own = [t for t in tokens if (t["site"], t["reading"]) == (row["site"], row["reading"])]
        scores = np.array([t["score"] for t in own])
        assert row["tokens"] == 20 and row["score"] == pytest.approx(np.median(scores))
        assert row["above"] == pytest.approx((scores > row["null_95"]).mean())
        assert row["match"] is None and row["reasons"]["match"] == "no token has a label"
        assert (row["changed"] is None) == (row["site"] == "llm.embed")
        if row["reading"] in ("raw", "centred"):
            assert sum(row["hit_sites"].values()) == pytest.approx(1) and 0 <= row["hit_depth"] <= 1
            assert set(row["hit_sites"]) <= {"llm.0", "llm.2"}
        else:
            assert "hit_sites" not in row


def test_one_layer_of_the_index_can_be_searched(vision: Lab, pictures: list[str]) -> None:
    ctx, _ = vision.run(spec_of(pictures, readings=["raw"], layers="llm.2", shuffled=0))
    assert {row["at"] for row in table(ctx, "tokens")} == {"llm.2"}


def test_scenes_are_labelled_by_their_shapes(vision: Lab) -> None:
    ctx, result = vision.run(
        {"kind": "vision-tokens", "scenes": 4, "seed": 3, "index": "text", "sites": "llm.1"}
    )
    made = scenes.generate(4, 3, "held-out")
    assert [row["labels"] for row in table(ctx, "pictures")] == [len(scene.shapes) for scene in made]
    assert len(ctx.of("image.added")) == 4 and result["labelled"] > 0
    words = {f"{color} {name}" for scene in made for name, color, _ in scene.shapes}
    marked = [row for row in table(ctx, "tokens") if row["label"]]
    assert {row["label"] for row in marked} <= words
    for row in table(ctx, "layers"):
        own = [r for r in marked if r["reading"] == row["reading"]]
        assert row["labelled"] == len(own) == result["labelled"]
        assert row["match_any"] == pytest.approx(np.mean([r["match_any"] for r in own]))
        assert row["match"] == pytest.approx(np.mean([r["match"] for r in own]))
        assert row["match"] <= row["match_any"] and row["match_low"] <= row["match"] <= row["match_high"]
        assert 0 <= row["match_chance"] <= row["match_chance_95"] <= 1


def test_shuffled_pictures_are_held_against_the_same_labels(vision: Lab, pictures: list[str]) -> None:
    spec = spec_of(pictures, index="", sites="llm.1,3", shuffled=2, seed=3, readings=["embedding"])
    there = sorted(
        {plain(hit["token"]) for row in table(vision.run(spec)[0], "tokens") for hit in row["hits"]}
    )
    words = [word for word in there if word.isalnum()][::2]
    boxes = [[0, 0, 112, 84], [0, 0, 60, 120]]
    spec["labels"] = [[{"box": box, "words": words}] for box in boxes]
    ctx, _ = vision.run(spec)
    recipe = recipes.recipe(specs.load(spec))
    assert isinstance(recipe, VisionTokensRecipe)
    matrix = (
        vision.loaded.model.get_input_embeddings().weight.double().numpy()[: len(vision.loaded.tokenizer)]
    )
    matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
    matched: dict[str, list[bool]] = {"llm.1": [], "llm.3": []}
    for one in recipe._pictures(ctx):
        for copy in range(2):
            mixed = shuffled(one.prompt.to_read(), 3, copy)
            sites = [parse_site(name, vision.shape) for name in matched]
            read = vision.engine.capture([mixed], sites, pooling="none", where=Where("image"))
            for site in sites:
                for token in (unit(read[site].double().numpy()) @ matrix.T).argmax(1).tolist():
                    matched[site.short].append(plain(vision.loaded.tokenizer.decode([token])) in words)
    for row in table(ctx, "layers"):
        assert len(matched[row["site"]]) == 2 * row["labelled"] == 40
        assert 0 < row["match_shuffled"] < 1 and row["match_shuffled"] == pytest.approx(
            np.mean(matched[row["site"]])
        )


def test_full_tensors_are_kept_on_demand(vision: Lab, pictures: list[str]) -> None:
    spec = spec_of(pictures, name="full", readings=["embedding"], index="", shuffled=0)
    ctx, result = vision.run(spec)
    file = vision.store.get("full", kind="activations")
    assert result["artifact"] == "full" and len(file.header.tensors) == 2 * 6
    own = states_of(vision, ctx, spec, 1)
    np.testing.assert_allclose(file.tensor("image/1/llm.2.out"), own["llm.2"], rtol=2e-3, atol=2e-3)
    assert file.meta["pictures"][1] == {"digest": pictures[1], "rows": 4, "cols": 2}
    with pytest.raises(UsageError, match="already"):
        vision.run(spec, job="j2")


def test_what_is_committed_is_not_committed_again(vision: Lab, pictures: list[str]) -> None:
    ctx, _ = vision.run(spec_of(pictures, readings=["raw"], sites="llm.1"))
    cells = [cell["cell"] for cell in ctx.of("cell.committed")]
    assert len(set(cells)) == len(cells)
    again, _ = vision.run(spec_of(pictures, readings=["raw"], sites="llm.1"), committed=cells[:-2])
    assert [cell["cell"] for cell in again.of("cell.committed")] == cells[-2:]


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path / "store", loaded=tiny_vision(family))
    lab.run(INDEX)
    picture = lab.images.put(png(128, 96))
    ctx, result = lab.run(spec_of([picture], sites="llm.1"))
    assert result["tokens"] == math.prod(int(row["rows"] * row["cols"]) for row in table(ctx, "pictures"))
    assert {row["reading"] for row in table(ctx, "layers")} == {
        "raw",
        "centred",
        "embedding",
        "unembedding",
        "lens",
    }


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"images": []}, "at least one picture"),
        ({"images": ["photo.png"]}, "was not sent to this kernel"),
        ({"images": ["sha256:" + "0" * 64]}, "picture 000000000000"),
        ({"labels": [[]]}, "1 lists for 2 images"),
        ({"labels": [[{"box": [5, 0, 5, 9], "words": ["red"]}], []]}, "is empty; expected left < right"),
        ({"labels": [[{"box": [0, 0, 113, 9], "words": ["red"]}], []]}, "leaves the picture of 112 x 84"),
        ({"sites": "vision.merged"}, "not the decoder's residual stream"),
        ({"sites": "llm.99"}, "block 99 does not exist"),
        ({"layers": "llm.1"}, r"has no vectors of llm.1.out: it has llm.0.out, llm.2.out"),
        ({"index": "", "layers": "llm.1"}, "contextual neighbours need one"),
        ({"index": "", "readings": ["raw"]}, "contextual neighbours need one"),
        (
            {"index": "texd"},
            r"no index 'texd' here; did you mean 'text'\? \(there are: text\); `labtui run index",
        ),
        ({"layers": "vision.1"}, "'vision.1' is not the decoder's residual stream alone"),
        ({"sites": "vision.*"}, "not the decoder's residual stream alone"),
        ({"readings": ["lens", "lens"]}, "is there twice"),
        ({"readings": ["nearest"]}, "expected one of"),
    ],
)
def test_specs_that_cannot_be_run(
    vision: Lab, pictures: list[str], change: dict[str, Any], line: str
) -> None:
    with pytest.raises(LabError, match=line) as caught:
        vision.run({**spec_of(pictures), **change})
    assert "\n" not in str(caught.value)


def test_an_index_of_another_model_is_refused(vision: Lab, pictures: list[str], tmp_path: Path) -> None:
    other = Lab(tmp_path / "other", loaded=tiny_vision("qwen2_vl", seed=1))
    other.store, other.images = vision.store, vision.images
    with pytest.raises(UsageError, match=r"index 'text' is of other weights .*; build one of this model"):
        other.run(spec_of(pictures))
    text = Lab(tmp_path / "text")
    with pytest.raises(UsageError, match="has no vision tower; expected a Qwen-VL model"):
        text.run(spec_of(pictures))


def test_labels_go_to_the_box_that_covers_most() -> None:
    regions = (Region((0, 0, 10, 10), ("red",)), Region((8, 0, 40, 10), ("blue",)))
    assert label((0, 0, 10, 10), regions) == 0
    assert label((6, 0, 16, 10), regions) == 1
    assert label((30, 0, 50, 10), regions) == 1
    assert label((38, 0, 48, 10), regions) is None and label((60, 60, 70, 70), regions) is None


def test_words_are_compared_without_case_marks_and_plural() -> None:
    assert [plain(word) for word in (" Circles.", "crosses", "glass", "is", "“Red”")] == [
        "circle", "cross", "glass", "is", "red",
    ]  # fmt: skip


def test_shares_find_truth_and_leave_noise_alone() -> None:
    """Tokens that name their own box match; the same words at random are within what chance gives."""
    draw = np.random.default_rng(0)
    colors = [frozenset([name]) for name in ("red", "green", "blue", "yellow")]
    regions = [[Region((0, 0, 1, 1), tuple(colors[i])) for i in draw.permutation(4)[:3]] for _ in range(30)]
    labels: list[list[int | None]] = [[0, 0, 1, 1, 2, 2, None] for _ in regions]
    right = [
        [own[mark].names if mark is not None else colors[0] for mark in marks]
        for own, marks in zip(regions, labels, strict=True)
    ]
    truth = share(right, labels, regions)
    assert truth.tokens == 180 and truth.rate == 1 and truth.chance is not None and truth.chance < 0.35
    above = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        noisy = [[colors[i] for i in draw.integers(0, 4, 7)] for _ in regions]
        found = share(noisy, labels, regions, seed)
        assert found.rate is not None and found.chance_95 is not None
        above += found.rate > found.chance_95
    assert above <= 4
    alone = share(right[:1], labels[:1], regions[:1])
    assert alone.chance is None and alone.low is None and share([[]], [[]], [[]]).rate is None
