"""The recipe ``match``: equal KL at every site, checked against transformers with a hook, and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.recipes.matching import Matching
from tests.kernels.recipes.lab import Lab

PROMPTS = ["Explain what a mutex is.", "What is a fox?", "Naïve?"]
MATCH: dict[str, Any] = {
    "kind": "match",
    "prompts": PROMPTS,
    "direction": "terse",
    "sites": "llm.0,1,1+2",
    "kl": 0.02,
    "max_new_tokens": 8,
}


def by_hand(lab: Lab, ids: list[int], tokens: list[int], edits: dict[int, torch.Tensor]) -> float:
    """Mean KL(steered || unsteered) over the steps of an answer: transformers' own forward, a hook on each block."""
    model = lab.loaded.model
    sequence = torch.tensor([[*ids, *tokens[:-1]]])

    def logprobs() -> torch.Tensor:
        with torch.no_grad():
            return model(sequence).logits[0, len(ids) - 1 :].double().log_softmax(-1)

    plain = logprobs()
    handles = []
    for block, vector in edits.items():

        def add(module: Any, args: Any, output: torch.Tensor, vector: torch.Tensor = vector) -> torch.Tensor:
            return output + vector

        handles.append(model.model.layers[block].register_forward_hook(add))
    try:
        steered = logprobs()
    finally:
        for handle in handles:
            handle.remove()
    return float((steered.exp() * (steered - plain)).sum(-1).mean())


@pytest.mark.parametrize("dose", ["each", "total"])
def test_the_kl_at_every_matched_strength_is_the_target_by_hand_too(lab: Lab, dose: str) -> None:
    vectors = lab.direction("terse", 1)
    ctx, result = lab.run(MATCH | {"dose": dose})
    lines = {cell["cell"]: cell["rows"][0] for cell in ctx.of("cell.committed")}
    assert list(lines) == list(dict.fromkeys(lines)) and set(lines) == {"llm.0", "llm.1", "llm.1+2"}
    assert result["refused"] == [] and set(result["strengths"]) == set(lines)
    assert not ctx.of("row.finished")  # nothing but the unsteered answers is generated, and none is kept
    answers = unsteered(lab)
    references = norms_of(lab)
    for site, line in lines.items():
        assert line["kl"] == pytest.approx(0.02, rel=0.05)
        blocks = [int(part) for part in site.removeprefix("llm.").split("+")]
        share = len(blocks) if dose == "total" else 1
        edits = {}
        for block in blocks:
            vector = torch.from_numpy(vectors[f"llm.{block}.out"])
            size = line["strength_pct"] / share / 100 * references[f"llm.{block}"]
            edits[block] = vector * float(size / vector.norm())
        means = [by_hand(lab, ids, tokens, edits) for ids, tokens in answers]
        assert sum(means) / len(means) == pytest.approx(line["kl"], rel=1e-3)
        assert line["strength_text"] == result["strengths"][site]
        first = references[f"llm.{blocks[0]}"]
        assert line["strength_abs"] == pytest.approx(line["strength_pct"] / 100 * first)


def unsteered(lab: Lab) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer tokens of plain greedy generation."""
    found = []
    for prompt in PROMPTS:
        ctx, _ = lab.run({"kind": "generate", "prompt": prompt, "max_new_tokens": 8, "metrics": ["words"]})
        row = ctx.row("plain")
        found.append((row["started"]["ids"], row["ids"]))
    return found


def norms_of(lab: Lab) -> dict[str, float]:
    ctx, _ = lab.run({"kind": "reference", "sites": "llm.*"})
    return {row["site"]: row["median"] for cell in ctx.of("cell.committed") for row in cell["rows"]}


def test_the_target_may_be_an_edit(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, result = lab.run(MATCH | {"kl": 0, "like": "30%*terse@llm.1", "sites": "llm.1,2"})
    lines = {cell["cell"]: cell["rows"][0] for cell in ctx.of("cell.committed")}
    assert lines["llm.1"]["strength_pct"] == pytest.approx(30) and lines["llm.1"]["passes"] == 1
    assert lines["llm.2"]["kl"] == pytest.approx(result["target"], rel=0.05)
    assert result["spread"] <= 0.1


def test_a_site_that_cannot_reach_the_target_is_refused_in_a_line(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, result = lab.run(MATCH | {"kl": 5.0, "strongest": 2.0, "sites": "llm.0"})
    (line,) = (cell["rows"][0] for cell in ctx.of("cell.committed"))
    assert line["strength"] is None and line["kl"] is None
    assert result["strengths"] == {} and result["spread"] is None
    (refused,) = result["refused"]
    assert refused.startswith("llm.0: KL reaches ") and "up to 2%, the target is 5" in refused


def test_sites_that_are_done_are_not_searched_again(lab: Lab) -> None:
    lab.direction("terse", 1)
    _, whole = lab.run(MATCH)
    ctx = lab.context(committed=["llm.0"])
    ctx.known = {"llm.0": {"site": "llm.0", "strength_text": "7%", "kl": 0.02, "note": ""}}
    result = ctx.run(MATCH)
    assert [cell["cell"] for cell in ctx.of("cell.committed")] == ["llm.1", "llm.1+2"]
    assert result["strengths"] == whole["strengths"] | {"llm.0": "7%"}


@pytest.mark.parametrize(
    ("curve", "strength"),
    [
        (lambda pct: (pct / 100) ** 2, 10.0),
        (lambda pct: pct / 100, 1.0),
        (lambda pct: 5 / (1 + math.exp(-3 * math.log(pct / 60))), None),
        (lambda pct: 0.012 * abs(math.sin(pct / 7)) + (pct / 300) ** 2, None),
    ],
)
@pytest.mark.parametrize("start", [0.5, 10.0, 300.0])
def test_the_search_ends_at_the_target_from_anywhere(
    curve: Any, strength: float | None, start: float
) -> None:
    search = Matching(0.01, 0.05, 400.0, start)
    while not search.done:
        pct = search.next()
        assert 0 < pct <= 400
        search.tell(pct, curve(pct))
    assert search.strength is not None and curve(search.strength) == pytest.approx(0.01, rel=0.05)
    assert len(search.seen) <= 15
    if strength is not None:
        assert search.strength == pytest.approx(strength, rel=0.12)


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (lambda pct: 0.001, "KL reaches 0.001 nats up to 400%"),
        (lambda pct: 0.1, "already"),
        (lambda pct: 0.0 if pct < 33 else 1.0, "KL jumps from 0 to 1 nats at 33"),
    ],
)
def test_the_search_says_why_there_is_no_such_strength(curve: Any, said: str) -> None:
    search = Matching(0.01, 0.05, 400.0, 10.0)
    while not search.done:
        pct = search.next()
        search.tell(pct, curve(pct))
    assert search.strength is None and said in search.refusal


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kl": 0.1, "like": "8%*terse@llm.1"}, "kl: expected a target in nats, or like"),
        ({"kl": 0}, "kl: expected a target in nats, or like"),
        ({"kl": 0, "like": "8%*terse@llm.1 + 2*terse@llm.2"}, "like: expected one edit"),
        ({"prompts": []}, "prompts: the list is empty"),
        ({"tolerance": 0.9}, "tolerance: expected"),
    ],
)
def test_a_bad_match_is_one_line_that_names_the_field(lab: Lab, change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        lab.run(MATCH | change)
    assert str(refused.value).startswith("spec match: ") and said in str(refused.value)
