"""The recipe ``diagnose`` against transformers' own ``hidden_states``, NumPy, and scikit-learn's PCA."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds import direction
from tests.kernels.recipes.lab import Context, Lab
from tests.kernels.recipes.test_directions import DIRECTION, NEGATIVE, POSITIVE, rendered, stored

GIVEN: dict[str, Any] = {"kind": "diagnose", "positive": POSITIVE, "negative": NEGATIVE, "sites": "llm.0,2"}
BLOCKS = (0, 2)
NEUTRAL = len(library.prompt_set("neutral").prompts)


def hidden(lab: Lab, text: str) -> list[np.ndarray]:
    """transformers' hidden states [n, d] of a prompt, embeddings first; entry N is the output of block N - 1."""
    with torch.no_grad():
        out = lab.loaded.model(torch.tensor([rendered(lab, text).ids]), output_hidden_states=True)
    return [state[0].double().numpy() for state in out.hidden_states]


def last(lab: Lab, texts: list[str] | tuple[str, ...], block: int) -> np.ndarray:
    """The output of a block at the last token of each prompt."""
    return np.stack([hidden(lab, text)[block + 1][-1] for text in texts])


def table(ctx: Context, name: str) -> list[dict[str, Any]]:
    """The rows of one of the job's tables."""
    cells = [data for data in ctx.of("cell.committed") if data["table"] == f"j1-{name}"]
    return [row for data in cells for row in data["rows"]]


def test_the_anatomy_is_what_numpy_makes_of_hidden_states(lab: Lab) -> None:
    ctx, result = lab.run(GIVEN)
    rows = table(ctx, "anatomy")
    assert [row["site"] for row in rows] == ["llm.0", "llm.2"] and {row["poles"] for row in rows} == {"given"}
    for row, block in zip(rows, BLOCKS, strict=True):
        p, n = last(lab, POSITIVE, block), last(lab, NEGATIVE, block)
        apart = np.linalg.norm(p.mean(0) - n.mean(0))
        spread = math.sqrt((p.var(0, ddof=1).sum() + n.var(0, ddof=1).sum()) / 2)
        assert row["separation"] == pytest.approx(apart, rel=1e-4)
        assert row["spread"] == pytest.approx(spread, rel=1e-4)
        assert row["snr"] == pytest.approx(apart / spread, rel=1e-4)
        assert row["separation_pct"] == pytest.approx(100 * apart / row["reference"], rel=1e-4)
    assert result["pairs"] == 4 and result["neutral"] == NEUTRAL and ctx.counts["prompts"] == 8 + NEUTRAL


def test_norms_are_the_references_and_the_mean_with_sinks(lab: Lab) -> None:
    ctx, _ = lab.run(GIVEN)
    row = table(ctx, "anatomy")[1]
    inside: list[float] = []
    everywhere: list[float] = []
    for text in library.prompt_set("neutral").prompts:
        norms = np.linalg.norm(hidden(lab, text)[3], axis=1)
        inside += norms[np.array(rendered(lab, text).content)].tolist()
        everywhere += norms.tolist()
    assert row["reference"] == pytest.approx(np.median(inside), rel=1e-4)
    assert row["reference_mean"] == pytest.approx(np.mean(everywhere), rel=1e-4)


def test_chance_is_the_separation_of_shuffled_labels_over_the_spread(lab: Lab) -> None:
    """Four pairs can be shuffled in three ways; the 95th percentile of twenty draws is the largest of them."""
    row = table(lab.run(GIVEN)[0], "anatomy")[1]
    p, n = last(lab, POSITIVE, 2), last(lab, NEGATIVE, 2)
    ways = []
    for other in (1, 2, 3):
        swap = np.isin(np.arange(4), [0, other])[:, None]
        ways.append(np.linalg.norm((np.where(swap, n, p) - np.where(swap, p, n)).mean(0)))
    spread = math.sqrt((p.var(0, ddof=1).sum() + n.var(0, ddof=1).sum()) / 2)
    assert row["snr_null"] == pytest.approx(max(ways) / spread, rel=1e-4)


def test_split_half_stability_is_the_mean_cosine_of_the_halves_directions(lab: Lab) -> None:
    """All three ways of halving four pairs are within the range, and many seeds find their mean."""
    p, n = last(lab, POSITIVE, 2), last(lab, NEGATIVE, 2)

    def between(first: list[int]) -> float:
        rest = [i for i in range(4) if i not in first]
        a, b = ((p[half] - n[half]).mean(0) for half in (first, rest))
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    ways = [between([0, other]) for other in (1, 2, 3)]
    found = [table(lab.run(GIVEN | {"seed": seed})[0], "anatomy")[1]["split_half"] for seed in range(12)]
    assert min(ways) - 1e-6 <= min(found) and max(found) <= max(ways) + 1e-6
    assert np.mean(found) == pytest.approx(np.mean(ways), abs=(max(ways) - min(ways)) / 4)


def test_the_landscape_is_scikit_learns_pca_with_signs_of_its_own(lab: Lab) -> None:
    ctx, _ = lab.run(GIVEN)
    for block, anatomy in zip(BLOCKS, table(ctx, "anatomy"), strict=True):
        rows = [row for row in table(ctx, "landscape") if row["site"] == f"llm.{block}"]
        groups = {
            "positive": last(lab, POSITIVE, block),
            "negative": last(lab, NEGATIVE, block),
            "neutral": last(lab, library.prompt_set("neutral").prompts, block),
        }
        points = [row for row in rows if row["point"] == "prompt"]
        assert [row["group"] for row in points] == ["positive"] * 4 + ["negative"] * 4 + ["neutral"] * NEUTRAL
        pca = PCA(2, svd_solver="full").fit(np.concatenate(list(groups.values())))
        theirs = pca.transform(np.concatenate(list(groups.values())))
        ours = np.array([[row["x"], row["y"]] for row in points])
        for axis in (0, 1):
            sign = np.sign(theirs[:, axis] @ ours[:, axis])
            assert np.allclose(ours[:, axis], sign * theirs[:, axis], atol=1e-3)
        assert [anatomy["pc1"], anatomy["pc2"]] == pytest.approx(pca.explained_variance_ratio_, rel=1e-4)
        means = {row["group"]: (row["x"], row["y"]) for row in rows if row["point"] == "mean"}
        for group, activations in groups.items():
            assert means[group] == pytest.approx(
                np.abs(pca.transform(activations.mean(0)[None])[0]) * np.sign(means[group]), abs=1e-3
            )
        assert all(a >= b for a, b in zip(means["positive"], means["negative"], strict=True))
        assert points[0]["prompt"] == POSITIVE[0] and points[0]["number"] == 0


def test_poles_that_do_not_differ_have_no_direction_but_a_row(lab: Lab) -> None:
    ctx, _ = lab.run(GIVEN | {"sites": "llm.embed,llm.1", "landscape": "llm.1"})
    embed, first = table(ctx, "anatomy")
    assert embed["separation"] == 0 and embed["snr"] is None and embed["split_half"] is None
    assert embed["reasons"]["split_half"] == "the poles do not differ here"
    assert embed["reasons"]["pc1"] == "no landscape was asked for here" and embed["pc1"] is None
    assert first["split_half"] is not None and first["pc1"] > 0
    assert {row["site"] for row in table(ctx, "landscape")} == {"llm.1"}


def test_one_pair_has_a_separation_and_reasons_for_the_rest(lab: Lab) -> None:
    one = GIVEN | {"positive": POSITIVE[:1], "negative": NEGATIVE[:1], "landscape": "none"}
    ctx, result = lab.run(one)
    row = table(ctx, "anatomy")[0]
    assert row["separation"] > 0 and row["spread"] is None and row["snr"] is None
    assert row["reasons"]["snr"] == "one pair has no spread"
    assert row["snr_null"] is None and row["reasons"]["snr_null"] == "too few pairs to shuffle"
    assert table(ctx, "landscape") == [] and result["neutral"] == 0 and ctx.counts["prompts"] == 2


def test_a_stored_directions_own_poles_are_read_again(lab: Lab) -> None:
    lab.run(DIRECTION | {"method": "pca", "read": "mean@content", "sites": "llm.0,1"})
    lab.direction("other", 5)
    spec = {"kind": "diagnose", "direction": "brief", "directions": ["other"], "sites": "llm.0,2"}
    ctx, result = lab.run(spec)
    assert (result["method"], result["read"], result["poles"]) == ("pca", "mean@content", "brief")
    here, there = table(ctx, "anatomy")
    assert here["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert there["cosine"] is None and there["reasons"]["cosine"] == "the direction has no vector here"
    kept, other = stored(lab, "brief").vector("llm.0.out"), stored(lab, "other").vector("llm.0.out")
    by_hand = float(kept @ other / np.linalg.norm(kept) / np.linalg.norm(other))
    first, second = table(ctx, "cosines")
    assert (first["a"], first["b"], first["site"]) == ("brief", "other", "llm.0")
    assert first["cosine"] == pytest.approx(by_hand, abs=1e-6)
    assert second["cosine"] is None and second["reasons"]["cosine"] == "brief has no vector here"


def test_a_styles_poles_and_an_artifact_with_the_plane(lab: Lab) -> None:
    spec = {"kind": "diagnose", "style": "terse", "sites": "llm.1", "name": "plane", "table": "look"}
    ctx, result = lab.run(spec)
    assert result["pairs"] == 64 and result["artifact"] == "plane"
    assert {data["table"] for data in ctx.of("cell.committed")} == {"look-anatomy", "look-landscape"}
    (anatomy,) = [d["rows"][0] for d in ctx.of("cell.committed") if d["table"] == "look-anatomy"]
    kept = lab.store.get("plane", kind="activations")
    components = kept.tensor("components/llm.1.out")
    assert np.allclose(components @ components.T, np.eye(2), atol=1e-5)
    apart = kept.tensor("mean/positive/llm.1.out") - kept.tensor("mean/negative/llm.1.out")
    assert float(np.linalg.norm(apart)) == pytest.approx(anatomy["separation"], rel=1e-4)
    assert ((components @ apart) >= -1e-4).all()


def test_cells_that_are_committed_are_not_told_again(lab: Lab) -> None:
    ctx, _ = lab.run(GIVEN)
    cells = [data["cell"] for data in ctx.of("cell.committed")]
    assert cells == ["anatomy", "landscape:llm.0.out", "landscape:llm.2.out"]
    again, _ = lab.run(GIVEN, committed=cells[:2])
    (told,) = again.of("cell.committed")
    before = ctx.of("cell.committed")[2]
    assert told["cell"] == before["cell"] and len(told["rows"]) == len(before["rows"])
    for row, other in zip(told["rows"], before["rows"], strict=True):
        assert (row["prompt"], row["group"]) == (other["prompt"], other["group"])
        assert [row["x"], row["y"]] == pytest.approx([other["x"], other["y"]], abs=1e-3)


def test_directions_without_poles_and_of_other_models_are_refused(lab: Lab) -> None:
    lab.direction("a", 1)
    with pytest.raises(UsageError, match="a was imported, so it has no poles of its own"):
        lab.run({"kind": "diagnose", "direction": "a"})
    lab.run({"kind": "compose", "name": "twice", "expr": "2*a"})
    with pytest.raises(UsageError, match="was made by algebra"):
        lab.run({"kind": "diagnose", "direction": "twice"})
    lab.run({"kind": "direction", "name": "noise", "method": "random", "norm": "|2|"})
    with pytest.raises(UsageError, match="noise is random"):
        lab.run({"kind": "diagnose", "direction": "noise"})
    lab.direction("hostile", 2, spec={"kind": "direction", "name": "../x", "style": "terse"})
    with pytest.raises(UsageError, match="the spec kept with hostile is damaged"):
        lab.run({"kind": "diagnose", "direction": "hostile"})
    tensors, meta = direction.build({"llm.0.out": np.ones(48, np.float32)}, meta={"model": {"width": 48}})
    lab.store.put("foreign", "direction", tensors, meta)
    with pytest.raises(UsageError, match="force = true"):
        lab.run(GIVEN | {"directions": ["a", "foreign"]})
    with pytest.raises(UsageError, match=r"llm\.3 is not among the sites"):
        lab.run(GIVEN | {"landscape": "llm.3"})
