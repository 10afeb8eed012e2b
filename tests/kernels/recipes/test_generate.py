"""The recipe ``generate`` against transformers' own generate with hand-written hooks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels import recipes, specs
from labtui_kernels.models.chat import render
from labtui_kernels.recipes.context import KnobTurn
from tests.kernels.recipes.lab import Lab, generate_by_hand
from tests.support.tiny import TEXT_FAMILIES

PROMPT = {"kind": "generate", "prompt": "Explain what a mutex is.", "max_new_tokens": 12}


def ids_of(lab: Lab, prompt: str = "Explain what a mutex is.", prefill: str = "") -> list[int]:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": prompt},
    ]
    thinking = False if lab.loaded.info.default_thinking is not None else None
    return render(lab.loaded.tokenizer, messages, thinking=thinking, prefill=prefill).ids


def test_both_arms_equal_generation_by_hand(lab: Lab) -> None:
    vectors = lab.direction("terse", 1)
    ctx, result = lab.run(PROMPT | {"edits": "1.5*terse@llm.1 - 0.5*terse@llm.2"})
    assert ctx.counts["rows"] == 2
    by_hand = {
        "plain": {},
        "steered": {
            1: 1.5 * torch.from_numpy(vectors["llm.1.out"]),
            2: -0.5 * torch.from_numpy(vectors["llm.2.out"]),
        },
    }
    for arm, edits in by_hand.items():
        tokens, logprobs = generate_by_hand(lab, ids_of(lab), edits, 12)
        row = ctx.row(arm)
        assert row["ids"] == tokens
        assert row["logprobs"] == pytest.approx(logprobs, abs=1e-4)
        assert "".join(row["pieces"]) == row["text"]
        assert row["text"] == lab.loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        assert row["tokens"] == len(tokens) - (tokens[-1] in lab.loaded.info.stop_ids)
    assert ctx.row("plain")["ids"] != ctx.row("steered")["ids"]
    assert [row["arm"] for row in result["rows"]] == ["plain", "steered"]


def test_what_a_row_says_of_itself_is_enough_to_repeat_it(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, _ = lab.run(PROMPT | {"edits": "2*terse@llm.1@last"})
    started = ctx.row("steered")["started"]
    assert started["ids"] == ids_of(lab)
    assert "".join(started["pieces"]).count("Explain what a mutex is.") == 1
    assert started["edits"] == "2.0*terse@llm.1@last"
    assert started["edited"] == started["read"] == [len(started["ids"]) - 1]
    assert started["directions"] == ["terse"]
    (strength,) = started["strengths"]
    assert strength["alpha"] == 2.0 and strength["abs"] > 0 and strength["pct"] > 0
    assert sorted(lab.loaded.info.stop_ids) == sorted(
        set(started["stop_ids"]) & set(lab.loaded.info.stop_ids)
    )
    assert ctx.row("plain")["started"]["edited"] == []


def test_the_three_units_mean_one_dose(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, _ = lab.run(PROMPT | {"edits": "2*terse@llm.1", "plain": False})
    first = ctx.row("steered")
    strength = first["started"]["strengths"][0]
    for text in (f"|{strength['abs']!r}|", f"{strength['pct']!r}%"):
        again, _ = lab.run(PROMPT | {"edits": f"{text}*terse@llm.1", "plain": False})
        assert again.row("steered")["ids"] == first["ids"]
        assert again.row("steered")["started"]["strengths"][0]["alpha"] == pytest.approx(2.0)


def test_a_percentage_at_several_sites_is_each_site_s_own(lab: Lab) -> None:
    vectors = lab.direction("terse", 1)
    ctx, _ = lab.run(PROMPT | {"edits": "30%*terse@llm.0+2", "plain": False})
    reference, _ = lab.run({"kind": "reference", "sites": "llm.0,2"})
    norms = {row["site"]: row["median"] for row in reference.of("cell.committed")[0]["rows"]}
    edits = {}
    for block in (0, 2):
        vector = torch.from_numpy(vectors[f"llm.{block}.out"])
        edits[block] = vector / vector.norm() * 0.3 * norms[f"llm.{block}"]
    assert ctx.row("steered")["ids"] == generate_by_hand(lab, ids_of(lab), edits, 12)[0]


def test_metrics_are_those_of_the_unsteered_model(lab: Lab) -> None:
    lab.direction("terse", 1)
    wanted = ["words", "tokens", "perplexity", "distinct-2", "kl", "kl-mean", "coherent"]
    ctx, _ = lab.run(PROMPT | {"edits": "2*terse@llm.1", "metrics": wanted})
    model = lab.loaded.model
    for arm in ("plain", "steered"):
        row = ctx.row(arm)
        ids = [*row["started"]["ids"], *row["ids"]]
        answer = len(row["ids"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(row["started"]["ids"])
        plain = [logits[start - 1 + i, ids[start + i]].item() for i in range(answer)]
        assert row["metrics"]["perplexity"] == pytest.approx(math.exp(-sum(plain) / answer), rel=1e-4)
        assert list(row["metrics"]) == wanted
        assert row["metrics"]["words"] == row["words"] == len(row["text"].split())
    assert ctx.row("plain")["metrics"]["kl"] == 0.0
    assert ctx.row("steered")["metrics"]["kl"] > 0.01
    assert ctx.row("steered")["metrics"]["kl-mean"] > 0.01
    assert ctx.row("plain")["metrics"]["coherent"] in (True, None)


def test_the_first_affected_kl_by_hand(lab: Lab) -> None:
    vector = torch.from_numpy(lab.direction("terse", 1)["llm.1.out"])
    edits = "2*terse@llm.1@generated[1:]"
    ctx, _ = lab.run(PROMPT | {"edits": edits, "metrics": ["kl"], "plain": False})
    row = ctx.row("steered")
    start = len(row["started"]["ids"])
    ids = torch.tensor([[*row["started"]["ids"], *row["ids"][:2]]])
    model = lab.loaded.model

    def add(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, start + 1 :] += 2 * vector
        return output

    with torch.no_grad():
        q = model(ids).logits[0, -1].log_softmax(-1)
        handle = model.model.layers[1].register_forward_hook(add)
        p = model(ids).logits[0, -1].log_softmax(-1)
        handle.remove()
    assert row["metrics"]["kl"] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-3)


def test_prefill_and_several_turns(lab: Lab) -> None:
    ctx, _ = lab.run(PROMPT | {"prefill": "A mutex is"})
    assert ctx.row("plain")["ids"] == generate_by_hand(lab, ids_of(lab, prefill="A mutex is"), {}, 12)[0]
    chat = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Explain."},
    ]
    ctx, _ = lab.run(PROMPT | {"prompt": chat, "system": ""})
    assert [m["role"] for m in ctx.row("plain")["started"]["messages"]] == ["user", "assistant", "user"]


def test_resamples_differ_and_repeat(lab: Lab) -> None:
    spec = PROMPT | {"n": 3, "temperature": 1.0, "seed": 5}
    first, second = lab.run(spec)[0], lab.run(spec)[0]
    rows = [first.row(f"plain.{i}")["ids"] for i in (1, 2, 3)]
    assert rows == [second.row(f"plain.{i}")["ids"] for i in (1, 2, 3)]
    assert len({tuple(row) for row in rows}) == 3
    alone = lab.run(PROMPT | {"temperature": 1.0, "seed": 6})[0]
    assert alone.row("plain")["ids"] == rows[1]


def test_surprise_gives_the_unsteered_log_probability(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, _ = lab.run(PROMPT | {"edits": "2*terse@llm.1", "surprise": True})
    chunks = [c for c in ctx.of("row.tokens") if c["row"] == "steered"]
    plain = [value for chunk in chunks for value in chunk["plain_logprobs"]]
    row = ctx.row("steered")
    with torch.no_grad():
        logits = (
            lab.loaded.model(torch.tensor([[*row["started"]["ids"], *row["ids"]]])).logits[0].log_softmax(-1)
        )
    start = len(row["started"]["ids"])
    assert plain == pytest.approx(
        [logits[start - 1 + i, t].item() for i, t in enumerate(row["ids"])], abs=1e-4
    )


def test_a_stop_text_ends_the_answer_before_it(lab: Lab) -> None:
    whole = lab.run(PROMPT)[0].row("plain")
    middle = len(whole["text"]) // 2
    stop = whole["text"][middle : middle + 2]
    cut = lab.run(PROMPT | {"stop": [stop]})[0].row("plain")
    assert cut["text"] == whole["text"][: whole["text"].index(stop)]
    assert "".join(cut["pieces"]) == cut["text"]
    assert cut["finish"] == "stop"
    assert len(cut["ids"]) <= len(whole["ids"])


def test_a_knob_counts_from_the_step_that_is_told(lab: Lab) -> None:
    lab.direction("terse", 1)
    spec = PROMPT | {"edits": "2*terse@llm.1", "plain": False}
    ctx = lab.context()
    steps = recipes.recipe(specs.load(spec)).run(ctx)
    for _ in range(5):
        next(steps)
    ctx.turns.append(KnobTurn("steered", 0, "-3"))
    ctx.turns.append(KnobTurn("nobody", 0, 1.0))
    ctx.turns.append(KnobTurn("steered", 7, 1.0))
    for _ in steps:
        pass
    (knob,) = ctx.of("knob")
    assert knob["strength"] == -3.0 and knob["strength_text"] == "-3" and 0 < knob["step"] < 12
    unturned = lab.run(spec)[0].row("steered")
    turned = ctx.row("steered")
    assert turned["ids"][: knob["step"]] == unturned["ids"][: knob["step"]]
    assert turned["logprobs"][knob["step"]] != unturned["logprobs"][knob["step"]]
    assert [text for _, _, text in ctx.told if text.startswith(("knob:", "edit 7"))] == [
        "knob: row nobody is not running",
        "edit 7: the row has 1 edits, counted from 0",
    ]


def test_a_row_is_told_finished_while_the_other_goes_on(lab: Lab) -> None:
    lab.direction("terse", 1)
    spec = PROMPT | {"edits": "2*terse@llm.2", "metrics": ["perplexity"]}
    whole = lab.run(spec)[0]
    plain, steered = whole.row("plain")["text"], whole.row("steered")["text"]
    stop = next(plain[i : i + 2] for i in range(4) if plain[i : i + 2] not in steered)
    ctx, _ = lab.run(spec | {"stop": [stop]})
    kinds = [(kind, data["row"]) for kind, data in ctx.events if kind in ("row.finished", "row.tokens")]
    ended = kinds.index(("row.finished", "plain"))
    assert ("row.tokens", "steered") in kinds[ended:]
    assert ctx.row("plain")["metrics"]["perplexity"] is not None


def test_a_cancelled_job_ends_its_rows(lab: Lab) -> None:
    ctx = lab.context()
    steps = recipes.recipe(specs.load(PROMPT)).run(ctx)
    for _ in range(4):
        next(steps)
    steps.close()
    row = ctx.row("plain")
    assert row["finish"] == "cancelled" and 0 < len(row["ids"]) < 12
    assert lab.engine.audit().ok


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"edits": "2*tense@llm.1"}, "no direction named 'tense'; did you mean 'terse'?"),
        ({"edits": "2*terse@llm.9"}, "llm.0 to llm.3"),
        ({"prompt": "word " * 2000}, "1024"),
        ({"edits": "2*other@llm.1"}, "set force = true"),
        ({"edits": "1e300*terse@llm.1"}, "is not finite"),
    ],
)
def test_what_is_refused(lab: Lab, change: dict[str, str], said: str) -> None:
    lab.direction("terse", 1)
    info = lab.loaded.info.to_dict() | {"weight_hash": "else", "name": "Other", "revision": ""}
    lab.direction("other", 2, model=info)
    with pytest.raises(UsageError) as failure:
        lab.run(PROMPT | change)
    assert said in str(failure.value) and "\n" not in str(failure.value)
    assert lab.engine.audit().ok


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_every_text_family_is_steered_as_by_hand(family: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path / "store", family)
    vector = torch.from_numpy(lab.direction("terse", 1)["llm.1.out"])
    ctx, _ = lab.run(PROMPT | {"edits": "1.5*terse@llm.1", "metrics": ["perplexity", "kl"]})
    row = ctx.row("steered")
    assert row["ids"] == generate_by_hand(lab, row["started"]["ids"], {1: 1.5 * vector}, 12)[0]
    assert row["metrics"]["kl"] > 0 and row["metrics"]["perplexity"] > 1
