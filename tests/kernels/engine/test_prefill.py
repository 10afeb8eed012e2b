"""Prefill in chunks and in groups gives what one pass over one prompt gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from labtui_kernels.engine import Edit, Engine, Row
from labtui_kernels.engine.cache import RecurrentSlots
from labtui_kernels.engine.forward import CHUNK_SECONDS, Pace
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, tokens, vector
from .reference import greedy, site


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_chunks_and_groups_are_exact(family: str) -> None:
    loaded = tiny(family)
    engine = Engine(loaded, chunk_tokens=64)
    edit = Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("[0,63,64,70,-1]"))
    rows = [
        Row(key="long", ids=prompt(150, 1), edits=(edit,), max_new_tokens=4),
        Row(key="other", ids=prompt(131, 2), max_new_tokens=4),
        *(Row(key=f"short-{n}", ids=prompt(9 + n % 3, 3 + n), max_new_tokens=3) for n in range(6)),
        Row(key="one", ids=prompt(1, 40), max_new_tokens=4),
    ]
    results = run(engine.batch(slots=9), rows)
    for row in rows:
        assert tokens(results[row.key]) == greedy(loaded.model, row)[0], row.key


def test_small_chunks_of_an_attention_family() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded, chunk_tokens=7)
    row = Row(key="a", ids=prompt(40, 1), max_new_tokens=5)
    batch = engine.batch(slots=2)
    batch.add(row)
    quiet = 0
    while not (emitted := batch.step()):
        quiet += 1
    assert quiet == 5  # 40 tokens are 6 chunks of at most 7, the last of which emits
    assert emitted[0].index == 0
    assert tokens(emitted) == greedy(loaded.model, row)[0][:1]


def test_a_long_prefill_lets_running_rows_go_on() -> None:
    engine = Engine(tiny("qwen2"), chunk_tokens=10)
    batch = engine.batch(slots=4)
    batch.add(Row(key="running", ids=prompt(5, 1), max_new_tokens=40))
    while not batch.running:
        batch.step()
    batch.add(Row(key="long", ids=prompt(100, 2), max_new_tokens=2))
    emitted = [each.key for _ in range(10) for each in batch.step()]
    assert emitted.count("running") == 5
    assert "long" not in emitted
    assert batch.waiting == ["long"]


def test_rows_of_one_prompt_share_its_prefill() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    processed: list[int] = []
    loaded.model.model.embed_tokens.register_forward_hook(
        lambda _m, args, _o: processed.append(args[0].numel())
    )
    ids = prompt(30, 1)
    late = [
        Edit(site("llm.1.out"), "add", vector(48, 2), strength, parse_where("generated"))
        for strength in (0.0, 1.0, 3.0)
    ]
    rows = [Row(key=str(n), ids=ids, edits=(edit,), max_new_tokens=6) for n, edit in enumerate(late)]
    rows.append(Row(key="plain", ids=ids, max_new_tokens=6))
    results = run(engine.batch(slots=4), rows)
    assert processed[0] == 30  # one prompt for four rows, whose edits begin after it
    for row in rows:
        assert tokens(results[row.key]) == greedy(loaded.model, row)[0]
    early = Edit(site("llm.1.out"), "add", vector(48, 2), 1.0)
    processed.clear()
    rows = [Row(key="plain", ids=ids), Row(key="edited", ids=ids, edits=(early,))]
    batch = engine.batch(slots=4)
    for row in rows:
        batch.add(row)
    batch.step()
    assert processed == [60]  # an edit of the prompt makes it another prompt


@pytest.mark.parametrize("family", ["qwen3_next", "qwen3_5"])
def test_recurrent_states_in_slots(family: str) -> None:
    """Convolution and recurrent states of every slot equal those of transformers' own cache for the row
    alone.
    """
    loaded = tiny(family)
    engine = Engine(loaded)
    rows = [
        Row(key=str(n), ids=prompt(length, n), max_new_tokens=60) for n, length in enumerate((3, 17, 17, 70))
    ]
    batch = engine.batch(slots=4)
    for row in rows:
        batch.add(row)
    seen: dict[str, list[int]] = {}
    for _ in range(25):
        for each in batch.step():
            seen.setdefault(each.key, []).append(each.token)
    assert len(batch.running) == 4
    assert batch._cache is not None
    for lane, key in enumerate(batch.running):
        ids = [*rows[int(key)].ids, *seen[key][:-1]]
        own: Any = DynamicCache(config=loaded.model.config)
        with torch.no_grad():
            loaded.model(input_ids=torch.tensor([ids[:2]]), past_key_values=own, use_cache=True)
            for token in ids[2:]:
                loaded.model(input_ids=torch.tensor([[token]]), past_key_values=own, use_cache=True)
        for layer, theirs in zip(batch._cache.slot_layers, own.layers, strict=True):
            if isinstance(layer, RecurrentSlots):
                pairs = zip(layer.state(), (theirs.conv_states[0], theirs.recurrent_states[0]), strict=True)
                for ours, other in pairs:
                    torch.testing.assert_close(ours[lane], other[0], atol=3e-3, rtol=1e-3)
            else:
                assert layer.keys is not None
                keys = layer.keys[lane, :, : len(ids)]
                torch.testing.assert_close(keys, theirs.keys[0], atol=3e-3, rtol=1e-3)


def test_the_pace_follows_what_chunks_cost() -> None:
    pace = Pace()
    first = pace.tokens
    pace.learn(first, CHUNK_SECONDS / 10)
    assert pace.tokens == 2 * first  # cheap: twice as much, not ten times, after one look
    pace.learn(10, CHUNK_SECONDS / 2)
    assert pace.tokens == 2 * first  # a small chunk is mostly overhead and lowers nothing
    pace.learn(2 * first, CHUNK_SECONDS * 4)
    assert pace.tokens == first // 2
    for _ in range(20):
        pace.learn(pace.tokens, 10.0)
    assert pace.tokens == 16
    fixed = Pace(fixed=7)
    fixed.step(1.0)
    fixed.learn(7, 10.0)
    assert fixed.tokens == 7


def test_where_a_pass_alone_is_slow_a_chunk_may_cost_twice_as_much() -> None:
    """A pass of 0.3 s and 5 ms a token: 60 tokens are half overhead; without that the pace falls to the least."""

    def cost(tokens: int) -> float:
        return 0.3 + 0.005 * tokens

    paces = [Pace(), Pace()]
    paces[0].step(cost(1))
    for _ in range(20):
        for pace in paces:
            pace.learn(pace.tokens, cost(pace.tokens))
    assert 55 <= paces[0].tokens <= 65
    assert paces[1].tokens <= 20


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
        ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 8}),
    ],
)
def test_sliding_windows(family: str, config: dict[str, Any]) -> None:
    """Families that can use a window in some or all blocks: the slots keep every position, the mask hides the
    old.
    """
    loaded = tiny(family, **config)
    rows = [Row(key=str(n), ids=prompt(length, n), max_new_tokens=12) for n, length in enumerate((3, 30, 21))]
    for chunk in (None, 8):
        results = run(Engine(loaded, chunk_tokens=chunk).batch(slots=2), rows)
        for row in rows:
            assert tokens(results[row.key]) == greedy(loaded.model, row)[0], (chunk, row.key)
    plain = tiny(family)
    assert greedy(plain.model, rows[1])[0] != greedy(loaded.model, rows[1])[0]  # the window matters here
