"""Rows in a batch give what each gives alone: tokens equal, log-probabilities within float32 rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from labtui_kernels.engine import Edit, Engine, Row, Sampling
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, tokens, vector
from .reference import alone, greedy, site

WIDTH = 48


def mixed_rows() -> list[Row]:
    """Mixed lengths, operations, sites, positions and limits; more rows than slots, so that slots are
    refilled.
    """
    unit = torch.stack([vector(WIDTH, 90), vector(WIDTH, 91)])
    edits: list[tuple[Edit, ...]] = [
        (),
        (Edit(site("llm.1.out"), "add", vector(WIDTH, 1), 2.0),),
        (Edit(site("llm.2.in"), "project", unit, 1.0),),
        (Edit(site("llm.0.mlp"), "replace", vector(WIDTH, 2), 0.5, parse_where("last")),),
        (
            Edit(site("llm.1.out"), "add", vector(WIDTH, 3), -1.5, parse_where("prompt")),
            Edit(site("llm.1.out"), "project", unit, 1.0, parse_where("generated")),
            Edit(site("llm.1.out"), "add", vector(WIDTH, 4), 1.0),
        ),
        (Edit(site("llm.3.attn"), "add", vector(WIDTH, 5), 1.0, parse_where("generated[2:5]")),),
        (Edit(site("llm.embed"), "add", vector(WIDTH, 6), 0.7), Edit(site("llm.0.in"), "project", unit)),
        (Edit(site("llm.norm"), "add", vector(WIDTH, 7), 0.8, parse_where("[0,-1,12]")),),
        (Edit(site("llm.2.attn"), "replace", vector(WIDTH, 8), 0.3, parse_where("generated")),),
    ]
    return [
        Row(
            key=f"row-{number}", ids=prompt(5 + 3 * number, number), edits=each, max_new_tokens=6 + number % 4
        )
        for number, each in enumerate(edits)
    ]


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_batched_rows_equal_rows_alone(family: str) -> None:
    loaded = tiny(family)
    rows = mixed_rows()
    results = run(Engine(loaded).batch(slots=4), rows)
    for row in rows:
        expected, logprobs = greedy(loaded.model, row)
        assert tokens(results[row.key]) == expected, row.key
        assert [each.index for each in results[row.key]] == list(range(len(expected)))
        for each, value in zip(results[row.key], logprobs, strict=True):
            assert each.logprob == pytest.approx(value, abs=2e-4)
        assert results[row.key][-1].finish == "length"


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_everything_at_once_equals_rows_alone(family: str) -> None:
    """Mixed lengths, edits, samplings and seeds, in chunks, while rows come in that nobody had announced.

    Two slots for ten rows, so that each is refilled many times; some end at a stop token.
    """
    loaded = tiny(family)
    settings = [Sampling(1.0), Sampling(), Sampling(0.7, top_k=20), Sampling(1.2, top_p=0.8)]
    first, *others = mixed_rows()
    rows = [replace(first, key=f"seed-{seed}", sampling=settings[0], seed=seed) for seed in (101, 102)]
    for number, row in enumerate(others):
        stop_ids = frozenset(range(number % 3 * 20))
        rows.append(replace(row, sampling=settings[number % 4], seed=number, stop_ids=stop_ids))
    batch = Engine(loaded, chunk_tokens=8).batch(slots=2)
    found: dict[str, list[int]] = {}
    coming = list(reversed(rows))
    while coming or not batch.done:
        if coming and len(batch.waiting) < 2:
            batch.add(coming.pop())
        for each in batch.step():
            found.setdefault(each.key, []).append(each.token)
    wanted = {row.key: alone(loaded.model, row) for row in rows}
    assert found == wanted
    assert found["seed-101"] != found["seed-102"]
    assert any(len(found[row.key]) < row.max_new_tokens for row in rows if row.stop_ids)


def test_plain_rows_equal_generate() -> None:
    loaded = tiny("qwen3")
    ids = [prompt(length, length) for length in (4, 9, 17, 30)]
    rows = [Row(key=str(number), ids=each, max_new_tokens=12) for number, each in enumerate(ids)]
    results = run(Engine(loaded).batch(slots=3), rows)
    for number, each in enumerate(ids):
        out = loaded.model.generate(
            torch.tensor([each]),
            attention_mask=torch.ones(1, len(each)),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=None,
        )
        assert tokens(results[str(number)]) == out[0, len(each) :].tolist()
