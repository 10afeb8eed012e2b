"""The recipes ``direction``, ``compose``, ``reference`` and ``patch`` against activations read by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.direction import DirectionFile
from labtui_kernels.engine.capture import Prompt
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.models.chat import Rendered, render
from tests.kernels.recipes.lab import Lab, generate_by_hand

POSITIVE = [
    "Answer in one word. What is a fox?",
    "Be brief. Explain a lock.",
    "Short. Why?",
    "In a word: dog?",
]
NEGATIVE = ["Answer at length. What is a fox?", "Be long. Explain a lock.", "Long. Why?", "In an essay: dog?"]
DIRECTION: dict[str, Any] = {"kind": "direction", "name": "brief", "positive": POSITIVE, "negative": NEGATIVE}


def rendered(lab: Lab, text: str, system: str = "") -> Rendered:
    messages = [{"role": "system", "content": system}] if system else []
    return render(lab.loaded.tokenizer, [*messages, {"role": "user", "content": text}], thinking=False)


def outputs(lab: Lab, ids: list[int]) -> list[torch.Tensor]:
    """Hidden states [n, d] after every block, by hooks of their own."""
    found: list[torch.Tensor] = []
    layers = lab.loaded.model.model.layers
    handles = [
        layer.register_forward_hook(lambda m, a, out: found.append(out[0].clone())) for layer in layers
    ]
    with torch.no_grad():
        lab.loaded.model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return found


def stored(lab: Lab, name: str) -> DirectionFile:
    return DirectionFile.view(lab.store.get(name, kind="direction"), name)


def test_a_mean_difference_is_the_mean_of_differences_at_the_last_token(lab: Lab) -> None:
    ctx, result = lab.run(DIRECTION)
    kept = stored(lab, "brief")
    assert kept.sites == ("llm.0.out", "llm.1.out", "llm.2.out", "llm.3.out")
    last = [[outputs(lab, rendered(lab, text).ids) for text in pole] for pole in (POSITIVE, NEGATIVE)]
    for block in range(4):
        p, n = (torch.stack([states[block][-1] for states in pole]) for pole in last)
        by_hand = (p - n).mean(0)
        assert torch.allclose(torch.from_numpy(kept.vector(f"llm.{block}.out")), by_hand, atol=1e-4)
    assert kept.meta["pairs"] == result["pairs"] == 4
    assert kept.model["weight_hash"] == lab.loaded.info.weight_hash
    assert kept.meta["spec"]["positive"] == POSITIVE
    (cell,) = ctx.of("cell.committed")
    assert [row["site"] for row in cell["rows"]] == ["llm.0", "llm.1", "llm.2", "llm.3"]
    row = cell["rows"][1]
    assert row["norm"] == pytest.approx(kept.norm("llm.1.out"))
    assert row["pct"] == pytest.approx(100 * row["norm"] / row["reference"])
    assert -1 <= row["split_half"] <= 1 and row["snr"] > 0


def test_reference_norms_are_medians_over_content_of_the_neutral_set(lab: Lab) -> None:
    ctx, _ = lab.run({"kind": "reference", "sites": "llm.1,3"})
    by_site = {row["site"]: row for row in ctx.of("cell.committed")[0]["rows"]}
    inside: list[float] = []
    everywhere: list[float] = []
    for text in library.prompt_set("neutral").prompts:
        prompt = rendered(lab, text)
        norms = outputs(lab, prompt.ids)[3].norm(dim=-1)
        inside += norms[torch.tensor(prompt.content)].tolist()
        everywhere += norms.tolist()
    assert by_site["llm.3"]["median"] == pytest.approx(float(np.median(inside)), rel=1e-5)
    assert by_site["llm.3"]["mean"] == pytest.approx(float(np.mean(everywhere)), rel=1e-5)
    engine = lab.engine.reference_norms(
        [rendered(lab, text) for text in library.prompt_set("neutral").prompts], [parse_site("llm.1")]
    )
    assert by_site["llm.1"]["median"] == pytest.approx(engine[parse_site("llm.1")].median, rel=1e-5)
    lab.run(DIRECTION)
    assert stored(lab, "brief").reference("llm.3.out") == pytest.approx(by_site["llm.3"]["median"], rel=1e-5)


def test_a_style_axis_with_another_pooling_and_method(lab: Lab) -> None:
    lab.run({"kind": "direction", "name": "t", "style": "terse", "sites": "llm.2", "read": "mean@content"})
    lab.run(
        {
            "kind": "direction",
            "name": "u",
            "style": "terse",
            "sites": "llm.2",
            "read": "mean",
            "method": "pca",
        }
    )
    axis = library.style("terse")
    differences = []
    for text in axis.prompts:
        for positive, negative in zip(axis.positive_system, axis.negative_system, strict=True):
            means = []
            for system in (positive, negative):
                prompt = rendered(lab, text, system)
                means.append(outputs(lab, prompt.ids)[2][torch.tensor(prompt.content)].mean(0))
            differences.append(means[0] - means[1])
    by_hand = torch.stack(differences)
    kept, unit = (torch.from_numpy(stored(lab, name).vector("llm.2.out")) for name in ("t", "u"))
    assert torch.allclose(kept, by_hand.mean(0), atol=1e-4)
    first = torch.linalg.svd(by_hand, full_matrices=False).Vh[0]
    assert abs(float(first @ unit)) == pytest.approx(1, abs=1e-4)
    assert unit.norm() == pytest.approx(1) and float(unit @ kept) > 0


def test_a_random_direction_has_the_norm_that_was_asked_for(lab: Lab) -> None:
    lab.run({"kind": "direction", "name": "r", "method": "random", "norm": "8%", "seed": 3})
    kept = stored(lab, "r")
    for site in kept.sites:
        reference = kept.reference(site)
        assert reference is not None
        assert kept.norm(site) == pytest.approx(0.08 * reference, rel=1e-5)


def test_a_name_is_not_taken_twice_unless_asked(lab: Lab) -> None:
    lab.run(DIRECTION)
    with pytest.raises(UsageError, match="set replace = true"):
        lab.run(DIRECTION, job="j2")
    lab.run(DIRECTION, job="j1")  # the same job, interrupted before it was told done
    lab.run(DIRECTION | {"replace": True, "method": "logistic"}, job="j3")
    assert stored(lab, "brief").method == "logistic"


def test_poles_that_do_not_differ(lab: Lab) -> None:
    with pytest.raises(UsageError, match="same activations"):
        lab.run(DIRECTION | {"negative": POSITIVE})


def test_composing_keeps_the_value_of_the_expression(lab: Lab) -> None:
    a, b = lab.direction("a", 1), lab.direction("b", 2)
    _, result = lab.run(
        {"kind": "compose", "name": "c", "expr": "0.5*a - 2*b[llm.3] + random:4~a", "sites": "llm.1,2"}
    )
    kept = stored(lab, "c")
    assert kept.sites == ("llm.1.out", "llm.2.out")
    rest = kept.vector("llm.1.out") - (0.5 * a["llm.1.out"] - 2 * b["llm.3.out"])
    assert np.linalg.norm(rest) == pytest.approx(np.linalg.norm(a["llm.1.out"]), rel=1e-4)
    assert kept.meta["expression"] == "0.5*a - 2*b[llm.3] + random:4~a"
    assert set(kept.meta["parts"]) == {"a", "b"}
    assert result["norms"]["llm.1"] == pytest.approx(kept.norm("llm.1.out"))
    lab.run({"kind": "compose", "name": "d", "expr": "a + b"})
    assert len(stored(lab, "d").sites) == len(a)
    with pytest.raises(UsageError, match="say where it is to apply"):
        lab.run({"kind": "compose", "name": "e", "expr": "a[llm.1]"})


PATCH: dict[str, Any] = {
    "kind": "patch",
    "prompt": "Explain what a mutex is.",
    "system": "",
    "site": "llm.1",
    "edits": "2*a@llm.0",
    "max_new_tokens": 8,
    "name": "kept",
}


def patched_by_hand(lab: Lab, ids: list[int], position: int, vector: torch.Tensor, count: int) -> list[int]:
    """Greedy tokens, one whole pass each, with the output of block 1 replaced at one position."""

    def put(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor:
        out = out.clone()
        if position < out.shape[1]:
            out[:, position] = vector
        return out

    handle = lab.loaded.model.model.layers[1].register_forward_hook(put)
    tokens: list[int] = []
    with torch.no_grad():
        while len(tokens) < count:
            tokens.append(int(lab.loaded.model(torch.tensor([[*ids, *tokens]])).logits[0, -1].argmax()))
    handle.remove()
    return tokens


@pytest.mark.parametrize("position", [-1, 2])
def test_an_activation_of_the_steered_arm_is_put_into_the_plain_one(lab: Lab, position: int) -> None:
    vector = torch.from_numpy(lab.direction("a", 1)["llm.0.out"])
    ids = rendered(lab, PATCH["prompt"]).ids
    handle = lab.loaded.model.model.layers[0].register_forward_hook(lambda m, a, out: out + 2 * vector)
    given = outputs(lab, ids)[1][position]
    handle.remove()
    ctx, result = lab.run(PATCH | {"position": position})
    kept = stored(lab, "kept")
    assert torch.allclose(torch.from_numpy(kept.vector("llm.1.out")), given, atol=1e-4)
    (told,) = ctx.of("patch.captured")
    assert told["norm"] == pytest.approx(float(given.norm()), rel=1e-4)
    assert told["position"] == result["position"] == position % len(ids)
    row = ctx.row("patched")
    assert row["ids"] == patched_by_hand(lab, ids, position % len(ids), given, len(row["ids"]))
    assert row["started"]["edits"] == f"=kept@llm.1@[{position % len(ids)}]"
    assert row["started"]["edited"] == [position % len(ids)]


def test_a_generated_position_is_taken_from_the_given_answer(lab: Lab) -> None:
    lab.direction("a", 1)
    ids = rendered(lab, PATCH["prompt"]).ids
    answer = generate_by_hand(lab, ids, {}, 4)[0]
    position = len(ids) + 2
    ctx, _ = lab.run(PATCH | {"source": "plain", "position": position, "answer": answer, "edits": ""})
    captured = lab.engine.capture([Prompt((*ids, *answer))], [parse_site("llm.1")], pooling="none")
    given = captured[parse_site("llm.1")][position]
    assert np.allclose(stored(lab, "kept").vector("llm.1.out"), given.numpy(), atol=1e-4)
    # Put back where it came from, it changes nothing.
    assert ctx.row("patched")["ids"][:4] == answer


def test_a_position_that_is_not_there(lab: Lab) -> None:
    lab.direction("a", 1)
    with pytest.raises(UsageError, match="is not among the"):
        lab.run(PATCH | {"position": 500})
