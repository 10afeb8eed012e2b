"""Strengths turned while text streams, and replayed."""

from __future__ import annotations

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Row
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import tiny

from .driving import drain, prompt, run, tokens, vector
from .reference import greedy, site


def steered(key: str, where: str = "all", **fields: object) -> Row:
    edits = (
        Edit(site("llm.1.out"), "add", vector(48, 1), 0.5, parse_where(where)),
        Edit(site("llm.2.mlp"), "add", vector(48, 2), 0.5),
    )
    return Row(key=key, ids=prompt(12, 3), edits=edits, max_new_tokens=14, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["qwen3", "qwen3_5"])
@pytest.mark.parametrize("where", ["all", "generated[3:9]", "prompt"])
def test_a_turned_knob_equals_its_replay(family: str, where: str) -> None:
    loaded = tiny(family)
    batch = Engine(loaded).batch(slots=3)
    for row in (steered("turned", where), steered("still", where), Row(key="plain", ids=prompt(5, 4))):
        batch.add(row)
    live: list[int] = []
    knobs: list[tuple[int, int, float]] = []
    while len(live) < 14:
        live += [each.token for each in batch.step() if each.key == "turned"]
        if len(live) == 4 and not knobs:
            knobs.append((batch.set_strength("turned", 0, 4.0), 0, 4.0))
            knobs.append((batch.set_strength("turned", 1, -3.0), 1, -3.0))
        if len(live) == 9 and len(knobs) == 2:
            knobs.append((batch.set_strength("turned", 0, 0.0), 0, 0.0))
    assert [step for step, _, _ in knobs] == [4, 4, 9]
    replayed = steered("replayed", where, knobs=tuple(knobs))
    assert live == greedy(loaded.model, replayed)[0]
    assert live[:4] == greedy(loaded.model, steered("a", where))[0][:4]
    again = run(Engine(loaded).batch(slots=2), [steered("still", where), replayed])
    assert tokens(again["replayed"]) == live
    scored = Engine(loaded).score([steered("scored", where, knobs=tuple(knobs), forced=tuple(live))])[0]
    for one, two in zip(scored, again["replayed"], strict=True):
        assert one.logprob == pytest.approx(two.logprob, abs=2e-4)


def test_a_knob_changes_the_text() -> None:
    loaded = tiny("qwen3")
    still = greedy(loaded.model, steered("a"))[0]
    turned = greedy(loaded.model, steered("a", knobs=((4, 0, 6.0),)))[0]
    assert still[:4] == turned[:4] and still != turned


def test_before_during_and_after_the_prefill() -> None:
    loaded = tiny("qwen2")
    batch = Engine(loaded, chunk_tokens=5).batch(slots=2)
    batch.add(steered("first"))
    batch.add(steered("second"))
    assert batch.set_strength("first", 0, 3.0) == 0  # still waiting: the prompt is steered so
    batch.step()
    step = batch.set_strength("first", 0, 1.0)
    assert step == 1  # the prompt is half done: it keeps its strength, and so does token 0
    assert batch.set_strength("second", 0, 2.0) == step or "second" in batch.waiting
    results = drain(batch)
    wanted = greedy(loaded.model, steered("x", knobs=((0, 0, 3.0), (1, 0, 1.0))))[0]
    assert tokens(results["first"]) == wanted
    with pytest.raises(UsageError, match="row first: not in the batch"):
        batch.set_strength("first", 0, 1.0)


def test_refusals() -> None:
    batch = Engine(tiny("qwen2")).batch()
    batch.add(steered("a"))
    with pytest.raises(UsageError, match="no edit 2; it has 2 edits"):
        batch.set_strength("a", 2, 1.0)
    with pytest.raises(UsageError, match="not a finite number"):
        batch.set_strength("a", 0, float("nan"))
    with pytest.raises(UsageError, match="row b: not in the batch"):
        batch.set_strength("b", 0, 1.0)
    with pytest.raises(UsageError, match="a knob at step -1"):
        steered("c", knobs=((-1, 0, 1.0),))
