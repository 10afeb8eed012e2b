"""Metrics that look inside the model, through the recipes, against plain transformers passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds import probe
from tests.kernels.recipes.lab import Lab

PROMPT = {"kind": "generate", "prompt": "Explain what a mutex is.", "max_new_tokens": 12}
EDITS = "2*terse@llm.1 + 0.5*formal@llm.2@generated"


@pytest.fixture
def steered(lab: Lab) -> Lab:
    for seed, name in enumerate(("terse", "formal"), 1):
        lab.direction(name, seed)
    return lab


@torch.no_grad()
def by_hand(lab: Lab, row: dict[str, Any], edited: bool) -> dict[str, Any]:
    """Logits, and the block outputs after and before the edits, of a row as it ran."""
    start, ids = len(row["started"]["ids"]), [*row["started"]["ids"], *row["ids"]]
    model = lab.loaded.model
    stored = {name: lab.store.get(name, kind="direction") for name in ("terse", "formal")} if edited else {}
    before: dict[int, torch.Tensor] = {}
    after: dict[int, torch.Tensor] = {}
    handles = []
    for block, layer in enumerate(model.model.layers):

        def hook(_module: Any, _args: Any, output: torch.Tensor, block: int = block) -> torch.Tensor:
            before[block] = output[0].clone()
            result = output.clone()
            if edited and block == 1:
                result += 2 * torch.from_numpy(stored["terse"].tensor("site/llm.1.out"))
            if edited and block == 2:
                result[:, start:] += 0.5 * torch.from_numpy(stored["formal"].tensor("site/llm.2.out"))
            after[block] = result[0].clone()
            return result

        handles.append(layer.register_forward_hook(hook))
    try:
        logits = model(torch.tensor([ids])).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return {"logits": logits, "before": before, "after": after, "start": start, "answer": row["tokens"]}


def test_readings_equal_plain_passes(steered: Lab, tmp_path: Path) -> None:
    lab = steered
    tokens = tmp_path / "letters.toml"
    tokens.write_text('tokens = ["a", "b", "the"]\n')
    draw = np.random.default_rng(5)
    weights = draw.standard_normal((3, lab.shape.width)).astype(np.float32) / 4
    bias = np.array([0.5, 0.0, -0.5], dtype=np.float32)
    made = probe.build({"llm.3.out": (weights, bias)}, ["x", "y", "z"], {"model": lab.loaded.info.to_dict()})
    lab.store.put("mood", "probe", *made)
    wanted = [
        f"margin:{tokens}", "cosine:terse@llm.3", "cosine:(terse - 2*formal)@llm.2", "probe:mood@llm.3",
        "probe:mood@llm.3=z", "perturbation", "perturbation:llm.2", "perturbation:llm.3", "perplexity", "kl",
        "kl-mean", "distinct-3", "lens:hype", "classifier:dry",
    ]  # fmt: skip
    ctx, _ = lab.run(PROMPT | {"edits": EDITS, "metrics": wanted})
    terse, formal = (lab.store.get(name, kind="direction") for name in ("terse", "formal"))
    tokenizer = lab.loaded.tokenizer
    inside = {tokenizer.encode(form)[0] for form in ("a", "b", "the", " a", " b", " the")
              if len(tokenizer.encode(form)) == 1}  # fmt: skip
    assert len(inside) >= 3
    for arm in ("plain", "steered"):
        row = ctx.row(arm)
        found = row["metrics"]
        assert list(found) == wanted and row["tokens"] > 3
        seen = by_hand(lab, row, arm == "steered")
        start, stop = seen["start"], seen["start"] + seen["answer"]

        last = seen["logits"][start - 1][: len(tokenizer)]
        mask = torch.tensor([token in inside for token in range(len(last))])
        assert found[f"margin:{tokens}"] == pytest.approx(
            float(last[mask].max() - last[~mask].max()), abs=1e-3
        )

        for name, block, value in (
            ("cosine:terse@llm.3", 3, terse.tensor("site/llm.3.out")),
            ("cosine:(terse - 2*formal)@llm.2", 2,
             terse.tensor("site/llm.2.out") - 2 * formal.tensor("site/llm.2.out")),
        ):  # fmt: skip
            mean = seen["after"][block][start:stop].mean(0)
            cosine = torch.nn.functional.cosine_similarity(mean, torch.from_numpy(value), dim=0)
            assert found[name] == pytest.approx(float(cosine), abs=1e-4)

        mean = seen["after"][3][start:stop].mean(0).numpy()
        powers = np.exp(weights @ mean + bias)
        assert found["probe:mood@llm.3"] == pytest.approx(powers[0] / powers.sum(), abs=1e-3)
        assert found["probe:mood@llm.3=z"] == pytest.approx(powers[2] / powers.sum(), abs=1e-3)

        first, second = (
            100
            * (seen["after"][block] - seen["before"][block]).norm(dim=-1)
            / seen["before"][block].norm(dim=-1)
            for block in (1, 2)
        )
        at_first, at_second = float(np.median(first[:stop])), float(np.median(second[start:stop]))
        assert found["perturbation:llm.2"] == pytest.approx(at_second, rel=1e-3, abs=1e-6)
        assert found["perturbation"] == pytest.approx(max(at_first, at_second), rel=1e-3, abs=1e-6)
        assert found["perturbation:llm.3"] == 0.0
        assert (found["perturbation"] > 1) == (arm == "steered")

        plain = by_hand(lab, row, False)["logits"][start - 1 : -1].log_softmax(-1)
        chosen = [float(plain[index, token]) for index, token in enumerate(row["ids"])]
        assert found["perplexity"] == pytest.approx(math.exp(-sum(chosen) / len(chosen)), rel=1e-3)
        p, q = seen["logits"][start - 1].log_softmax(-1), plain[0]
        assert found["kl"] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-3)
    assert ctx.row("plain")["metrics"]["kl"] == 0.0


def test_one_pass_of_each_kind_serves_all_metrics(steered: Lab) -> None:
    passes: list[int] = []
    embed = steered.loaded.model.model.embed_tokens
    spec = PROMPT | {"edits": "2*terse@llm.1", "plain": False, "max_new_tokens": 6}

    def count(metrics: list[str]) -> int:
        passes.clear()
        handle = embed.register_forward_hook(lambda _m, args, _o: passes.append(args[0].shape[0]))
        try:
            steered.run(spec | {"metrics": metrics})
        finally:
            handle.remove()
        return sum(passes)

    alone = count(["words"])
    assert count(["perplexity"]) - alone == 1
    every = ["perplexity", "kl", "margin:maths", "cosine:terse@llm.2", "cosine:formal@llm.3", "perturbation"]
    assert count(every) - alone == 2  # the row as it ran, and the unsteered model over its answer
    assert count(["margin:maths", "cosine:terse@llm.2", "perturbation"]) - alone == 1


def test_an_empty_answer_has_reasons(steered: Lab) -> None:
    """A row whose first token ends the turn."""
    lab = steered
    ends = min(lab.loaded.info.stop_ids)
    head = lab.loaded.model.lm_head

    def end(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[..., ends] += 1e4
        return output

    handle = head.register_forward_hook(end)
    try:
        names = ["words", "tokens", "cosine:terse@llm.2", "perplexity", "latex-first", "lens:hype"]
        ctx, _ = lab.run(PROMPT | {"edits": "2*terse@llm.1", "metrics": names})
    finally:
        handle.remove()
    row = ctx.row("steered")
    assert row["text"] == "" and row["metrics"]["words"] == row["metrics"]["tokens"] == 0
    absent = {name for name, found in row["metrics"].items() if found is None}
    assert absent == {"cosine:terse@llm.2", "perplexity", "latex-first", "lens:hype"} == set(row["reasons"])
    assert row["reasons"]["cosine:terse@llm.2"] == "the answer is empty"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cosine:tersse@llm.1", "did you mean 'terse'"),
        ("cosine:terse@llm.44", "block 44 does not exist"),
        ("cosine:terse@vision.merged", "no vision tower"),
        ("cosine:0*terse@llm.1", "the direction is zero at llm.1"),
        ("perturbation:llm.44", "block 44 does not exist"),
        ("probe:mood@llm.1", "no probe 'mood' in the store"),
        ("probe:terse@llm.1", "direction"),
        ("probe:other@llm.1", "fitted on"),
        ("probe:here@llm.2", "not fitted at"),
        ("probe:here@llm.1=q", "no label 'q'"),
    ],
)
@pytest.mark.parametrize("kind", ["generate", "sweep"])
def test_a_metric_that_cannot_apply_is_a_line_before_the_first_row(
    steered: Lab, kind: str, name: str, why: str
) -> None:
    width = steered.shape.width
    sites = {"llm.1.out": (np.zeros((2, width), np.float32), np.zeros(2, np.float32))}
    info = steered.loaded.info.to_dict()
    steered.store.put("other", "probe", *probe.build(sites, ["x", "y"], {"model": info | {"width": 7}}))
    steered.store.put("here", "probe", *probe.build(sites, ["x", "y"], {"model": info}))
    sweep = {"kind": "sweep", "prompts": ["Hi"], "directions": ["terse"], "sites": "llm.1", "strengths": [1]}
    spec = PROMPT | {"edits": "terse@llm.1"} if kind == "generate" else sweep
    ctx = steered.context()
    with pytest.raises(Exception, match=why) as refused:
        ctx.run(spec | {"metrics": ["words", name]})
    assert "\n" not in str(refused.value) and not ctx.of("row.started")


def test_a_probe_of_another_model_of_equal_width_needs_force(steered: Lab) -> None:
    sites = {"llm.1.out": (np.zeros((2, steered.shape.width), np.float32), np.zeros(2, np.float32))}
    info = steered.loaded.info.to_dict() | {"weight_hash": "other", "revision": "", "name": "elsewhere"}
    steered.store.put("mood", "probe", *probe.build(sites, ["x", "y"], {"model": info}))
    spec = PROMPT | {"edits": "terse@llm.1", "metrics": ["probe:mood@llm.1"]}
    with pytest.raises(UsageError, match="set force = true"):
        steered.run(spec)
    ctx, _ = steered.run(spec | {"force": True})
    assert ctx.row("steered")["metrics"]["probe:mood@llm.1"] == pytest.approx(0.5)


def test_a_sweep_s_table_has_a_column_a_metric(steered: Lab) -> None:
    names = ["style:terse", "perplexity", "coherent", "fence-valid", "perturbation", "cosine:terse@llm.3"]
    spec = {
        "kind": "sweep", "prompts": ["Explain a mutex.", "Explain a lock."], "directions": ["terse"],
        "sites": "llm.1", "controls": {"zero": True}, "strengths": [1, 2], "max_new_tokens": 6, "metrics": names,
    }  # fmt: skip
    ctx, _ = steered.run(spec)
    lines = [line for cell in ctx.of("cell.committed") for line in cell["rows"]]
    assert len(lines) == 8
    for line in lines:
        assert all(name in line for name in names)
        assert line["fence-valid"] is None and line["reasons"]["fence-valid"] == "there is no fenced code"
        assert line["style:terse"] == len(line["text"].split())
        assert (
            line["perturbation"] == 0 if line["control"] in ("zero", "prompt") else line["perturbation"] > 0
        )
    doubled = [
        [line["perturbation"] for line in lines if line["strength"] == alpha and not line["control"]]
        for alpha in (1.0, 2.0)
    ]
    assert len(doubled[0]) == len(doubled[1]) == 2
    assert np.mean(doubled[1]) == pytest.approx(2 * np.mean(doubled[0]), rel=0.5)
