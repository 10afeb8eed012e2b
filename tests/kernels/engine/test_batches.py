"""Rows that come and go, two batches at once, limits and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from labtui_artifacts.errors import JobFailed, UsageError
from labtui_kernels.engine import Edit, Engine, Row, Sampling
from labtui_kernels.lang.positions import parse_where
from labtui_kernels.lang.sites import Site
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import drain, prompt, run, tokens, vector
from .reference import greedy, logits, site


def some_rows(count: int, start: int = 0) -> list[Row]:
    rows = []
    for n in range(start, start + count):
        edit = Edit(site(f"llm.{n % 4}.out"), "add", vector(48, n), 0.3 * n)
        rows.append(
            Row(
                key=f"row-{n}",
                ids=prompt(4 + 5 * n % 23, n),
                edits=(edit,) if n % 3 else (),
                max_new_tokens=5 + n % 6,
                sampling=Sampling(1.0) if n % 4 == 3 else Sampling(),
                seed=n,
                surprise=n % 5 == 1,
            )
        )
    return rows


@pytest.mark.parametrize("family", ["qwen3", "qwen3_next"])
def test_preemption_by_swapping_batches(family: str) -> None:
    """A sweep's batch interrupted at every step by another batch gives what it gives undisturbed."""
    loaded = tiny(family)
    engine = Engine(loaded)
    alone = run(engine.batch(slots=4), some_rows(8)) | run(engine.batch(slots=2), some_rows(4, start=20))
    sweep, interactive = engine.batch(slots=4), engine.batch(slots=2)
    for row in some_rows(8):
        sweep.add(row)
    for row in some_rows(4, start=20):
        interactive.add(row)
    mixed: dict[str, list[int]] = {}
    turn = 0
    while not (sweep.done and interactive.done):
        batch = interactive if turn % 3 == 1 else sweep
        turn += 1
        for each in batch.step():
            mixed.setdefault(each.key, []).append(each.token)
    assert mixed == {key: tokens(each) for key, each in alone.items()}


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_a_batch_that_is_filled_first_gives_the_same_rows(family: str) -> None:
    engine = Engine(tiny(family), chunk_tokens=16)
    rows = [replace(row, surprise=False) for row in some_rows(9)]
    by_turns = run(engine.batch(slots=4), rows)
    batch = engine.batch(slots=4, fill=True)
    for row in rows:
        batch.add(row)
    filled: dict[str, list[int]] = {}
    while len(batch.running) < 4:
        for each in batch.step():
            assert each.index == 0, "a row decoded while slots were free"
            filled.setdefault(each.key, []).append(each.token)
    for key, emitted in drain(batch).items():
        filled.setdefault(key, []).extend(tokens(emitted))
    assert filled == {key: tokens(each) for key, each in by_turns.items()}


def test_cancelling_leaves_the_others_alone() -> None:
    loaded = tiny("qwen3_5")
    batch = Engine(loaded).batch(slots=3)
    rows = [Row(key=f"{n}", ids=prompt(6 + n, n), max_new_tokens=12) for n in range(5)]
    for row in rows:
        batch.add(row)
    seen: dict[str, list[int]] = {}
    finishes: dict[str, str] = {}
    steps = 0
    while not batch.done:
        for each in batch.step():
            if each.finish:
                finishes[each.key] = each.finish
            if each.token >= 0:
                seen.setdefault(each.key, []).append(each.token)
        steps += 1
        if steps == 6:
            assert "1" in batch.running and "4" in batch.waiting
            batch.cancel("1")
            batch.cancel("4")
            assert "1" not in batch.running and "4" not in batch.waiting
    assert finishes == {"0": "length", "1": "cancelled", "2": "length", "3": "length", "4": "cancelled"}
    assert batch.finished == finishes
    for row in rows:
        wanted = greedy(loaded.model, row)[0]
        assert seen.get(row.key, []) == wanted[: len(seen.get(row.key, []))]
    assert len(seen["1"]) < 12 and "4" not in seen
    assert all(len(seen[key]) == 12 for key in ("0", "2", "3"))
    with pytest.raises(UsageError, match="row 1: not in the batch"):
        batch.cancel("1")


def test_cancelling_in_the_middle_of_a_prefill() -> None:
    loaded = tiny("qwen2")
    batch = Engine(loaded, chunk_tokens=8).batch(slots=4)
    ids = prompt(40, 1)
    edit = Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("generated"))
    batch.add(Row(key="gone", ids=ids, max_new_tokens=4))
    batch.add(Row(key="kept", ids=ids, edits=(edit,), max_new_tokens=4))
    batch.step()
    batch.cancel("gone")
    results = drain(batch)
    assert [each.finish for each in results["gone"]] == ["cancelled"]
    assert (
        tokens(results["kept"])
        == greedy(loaded.model, Row(key="k", ids=ids, edits=(edit,), max_new_tokens=4))[0]
    )


def test_stop_tokens_and_order() -> None:
    loaded = tiny("qwen3")
    plain = greedy(loaded.model, Row(key="a", ids=prompt(9, 2), max_new_tokens=10))[0]
    stop = plain[4]
    row = Row(key="a", ids=prompt(9, 2), max_new_tokens=10, stop_ids=frozenset({stop}))
    emitted = run(Engine(loaded).batch(), [row])["a"]
    assert tokens(emitted) == plain[: plain.index(stop) + 1]
    assert emitted[-1].finish == "stop" and not any(each.finish for each in emitted[:-1])
    once = run(Engine(loaded).batch(), [Row(key="b", ids=prompt(9, 2), max_new_tokens=1)])["b"]
    assert tokens(once) == plain[:1] and once[0].finish == "length"


def test_the_end_of_the_context() -> None:
    loaded = tiny("qwen3", max_position_embeddings=32)
    engine = Engine(loaded)
    batch = engine.batch()
    with pytest.raises(
        UsageError, match=r"row long: the prompt has 32 tokens and the model's context holds 32"
    ):
        batch.add(Row(key="long", ids=prompt(32, 1)))
    row = Row(key="a", ids=prompt(25, 1), max_new_tokens=100)
    emitted = run(batch, [row])["a"]
    assert len(emitted) == 7 and emitted[-1].finish == "length"
    assert tokens(emitted) == greedy(loaded.model, Row(key="a", ids=row.ids, max_new_tokens=7))[0]


def test_slots_grow_with_a_long_answer() -> None:
    loaded = tiny("qwen3")
    row = Row(key="a", ids=prompt(20, 1), max_new_tokens=400)
    other = Row(key="b", ids=prompt(3, 2), max_new_tokens=380)
    results = run(Engine(loaded).batch(slots=2), [row, other])
    for each in (row, other):
        forced = tuple(tokens(results[each.key]))
        assert len(forced) == each.max_new_tokens
        # One uncached pass: every token is the argmax where it stands.
        table = logits(loaded.model, each, list(forced))[len(each.ids) - 1 : -1]
        assert table.argmax(-1).tolist() == list(forced)


def test_forced_tokens() -> None:
    loaded = tiny("qwen3_moe")
    forced = prompt(7, 9)
    edit = Edit(site("llm.2.out"), "add", vector(48, 1), 1.0)
    row = Row(key="a", ids=prompt(9, 2), edits=(edit,), forced=forced, stop_ids=frozenset({forced[2]}))
    emitted = run(Engine(loaded).batch(slots=2), [row, Row(key="b", ids=prompt(4, 1), max_new_tokens=9)])["a"]
    assert tokens(emitted) == list(forced) and emitted[-1].finish == "length"
    _, logprobs = greedy(loaded.model, row)
    assert [each.logprob for each in emitted] == pytest.approx(logprobs, abs=2e-4)


@pytest.mark.parametrize("family", ["qwen2", "qwen3_5_moe"])
def test_surprise_is_the_unsteered_models(family: str) -> None:
    loaded = tiny(family)
    edit = Edit(site("llm.1.out"), "add", vector(48, 1), 2.0)
    rows = [
        Row(key="steered", ids=prompt(9, 2), edits=(edit,), max_new_tokens=8, surprise=True),
        Row(key="quiet", ids=prompt(11, 3), edits=(edit,), max_new_tokens=5),
        Row(key="plain", ids=prompt(9, 2), max_new_tokens=8, surprise=True),
        Row(
            key="drawn",
            ids=prompt(6, 5),
            edits=(edit,),
            max_new_tokens=8,
            surprise=True,
            sampling=Sampling(1.0),
        ),
    ]
    results = run(Engine(loaded).batch(slots=4), rows)
    for row in rows[:1] + rows[3:]:
        emitted = results[row.key]
        table = logits(loaded.model, Row(key="x", ids=row.ids), tokens(emitted))[len(row.ids) - 1 : -1]
        wanted = table.log_softmax(-1).gather(1, torch.tensor(tokens(emitted))[:, None])[:, 0]
        assert [each.plain_logprob for each in emitted] == pytest.approx(wanted.tolist(), abs=2e-4)
    assert any(abs((each.plain_logprob or 0) - each.logprob) > 0.01 for each in results["steered"])
    assert all(each.plain_logprob is None for each in results["quiet"])
    assert all(each.plain_logprob == each.logprob for each in results["plain"])
    with pytest.raises(UsageError, match="surprise needs 2 slots"):
        Engine(loaded).batch(slots=1).add(rows[0])


def test_zero_strength_through_the_live_buffer_equals_plain() -> None:
    loaded = tiny("qwen3")
    zero = [
        Edit(site("llm.0.out"), "add", vector(48, 1), 0.0),
        Edit(site("llm.1.in"), "project", vector(48, 2), 0.0),
        Edit(site("llm.2.mlp"), "replace", vector(48, 3), 0.0),
    ]
    busy = Edit(site("llm.0.out"), "add", vector(48, 4), 5.0)
    rows = [
        Row(key="plain", ids=prompt(9, 2), max_new_tokens=10),
        Row(key="zero", ids=prompt(9, 2), edits=tuple(zero), max_new_tokens=10),
        Row(key="busy", ids=prompt(9, 2), edits=(busy, *zero), max_new_tokens=10),
    ]
    results = run(Engine(loaded).batch(), rows)
    assert tokens(results["zero"]) == tokens(results["plain"]) != tokens(results["busy"])
    assert [e.logprob for e in results["zero"]] == pytest.approx(
        [e.logprob for e in results["plain"]], abs=1e-5
    )


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_half_precision(family: str) -> None:
    """In bfloat16 an α=0 row beside the plain row of its prompt gives its tokens and numbers, bit for bit."""
    loaded = tiny(family)
    loaded.model.to(torch.bfloat16)
    zero = Edit(site("llm.1.out"), "add", vector(48, 1), 0.0)
    busy = Edit(site("llm.1.out"), "add", vector(48, 1), 3.0)
    rows = [
        Row(key="plain", ids=prompt(12, 3), max_new_tokens=8),
        Row(key="zero", ids=prompt(12, 3), edits=(zero,), max_new_tokens=8),
        Row(key="busy", ids=prompt(12, 3), edits=(busy,), max_new_tokens=8, surprise=True),
    ]
    results = run(Engine(loaded).batch(), rows)
    plain, zeroed = results["plain"], results["zero"]
    assert [(e.token, e.logprob) for e in plain] == [(e.token, e.logprob) for e in zeroed]
    assert len(results["busy"]) == 8


def test_a_row_that_overflows_hurts_only_itself() -> None:
    """Not its neighbours, and not the row that gets its slot while a longer neighbour still runs."""
    loaded = tiny("qwen3")
    huge = Edit(site("llm.1.out"), "add", vector(48, 1, norm=300.0), 3e38)
    sane = [
        Row(key="beside", ids=prompt(9, 2), max_new_tokens=30),
        Row(key="after", ids=(5, 6), max_new_tokens=9),
    ]
    for sampling in (Sampling(), Sampling(1.0, top_p=0.9, top_k=5)):
        mad = Row(key="mad", ids=prompt(20, 1), edits=(huge,), max_new_tokens=6, sampling=sampling)
        results = run(Engine(loaded).batch(slots=2), [mad, *sane])
        for row in sane:
            assert tokens(results[row.key]) == greedy(loaded.model, row)[0]
        assert len(results["mad"]) == 6
        assert all(0 <= each.token < 1000 and math.isnan(each.logprob) for each in results["mad"])


@pytest.mark.parametrize("call", [3, 6, 9])
@pytest.mark.parametrize("family", ["qwen3", "qwen3_next"])
def test_out_of_memory_halves_the_slots_and_goes_on(family: str, call: int) -> None:
    loaded = tiny(family)
    rows = some_rows(8)
    wanted = {key: tokens(each) for key, each in run(Engine(loaded).batch(slots=6), rows).items()}
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls in (call, call + 7):
            raise torch.OutOfMemoryError("CUDA out of memory (as if)")

    batch = Engine(loaded).batch(slots=6)
    # In the middle of a pass: earlier blocks have already written their states.
    handle = loaded.model.model.layers[2].register_forward_hook(fail)
    results = run(batch, rows)
    handle.remove()
    assert {key: tokens(each) for key, each in results.items()} == wanted
    assert all([each.index for each in emitted] == list(range(len(emitted))) for emitted in results.values())
    assert calls > call + 7 and batch.slots < 6


def test_one_row_that_does_not_fit_fails_the_job() -> None:
    loaded = tiny("qwen2")

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (as if)")

    batch = Engine(loaded).batch()
    batch.add(Row(key="a", ids=prompt(9, 2)))
    handle = loaded.model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(JobFailed, match="out of device memory with a single row of 9 tokens"):
        drain(batch)
    assert batch.slots == 1
    handle.remove()


def test_refusals() -> None:
    engine = Engine(tiny("qwen2"))
    batch = engine.batch()
    batch.add(Row(key="a", ids=prompt(5, 1)))
    refused = [
        (Row(key="a", ids=prompt(5, 1)), "a row of that key is already"),
        (Row(key="b", ids=(1, 10_000_000)), "outside the vocabulary"),
        (Row(key="b", ids=(1, -1)), "outside the vocabulary"),
        (
            Row(key="b", ids=(1,), edits=(Edit(site("llm.4.out"), "add", vector(48, 1)),)),
            "blocks llm.0 to llm.3",
        ),
        (Row(key="b", ids=(1,), edits=(Edit(site("llm.3.out"), "add", vector(47, 1)),)), "width 47"),
        (
            Row(key="b", ids=(1,), edits=(Edit(Site("vision", 0, "out"), "add", vector(48, 1)),)),
            "no vision tower",
        ),
        (
            Row(
                key="b",
                ids=(1,),
                edits=(Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("content")),),
            ),
            "content",
        ),
    ]
    for row, words in refused:
        with pytest.raises(UsageError, match=words):
            batch.add(row)
    assert batch.waiting == ["a"]
    for bad in (
        lambda: Row(key="x", ids=()),
        lambda: Row(key="x", ids=(1,), max_new_tokens=0),
        lambda: Row(key="x", ids=(1,), forced=()),
        lambda: Row(key="x", ids=(1,), content=(True, False)),
        lambda: Edit(site("llm.1.out"), "add", vector(48, 1), float("inf")),
        lambda: Edit(site("llm.1.out"), "add", torch.full((48,), float("nan"))),
        lambda: Edit(site("llm.1.out"), "add", torch.zeros(2, 3, 4)),
        lambda: Edit(site("llm.1.out"), "rotate", vector(48, 1)),  # type: ignore[arg-type]
        lambda: Sampling(temperature=-1.0),
        lambda: Sampling(top_p=0.0),
        lambda: Sampling(top_k=-1),
        lambda: engine.batch(0),
    ):
        with pytest.raises(UsageError):
            bad()
    batch.close()
    with pytest.raises(UsageError, match="the batch is closed"):
        batch.add(Row(key="z", ids=(1,)))
