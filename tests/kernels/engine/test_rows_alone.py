"""Rows in a batch give what each gives alone: tokens equal, log-probabilities within float32 rounding."""

from __future__ import annotations

import pytest
import torch

from labtui_kernels.engine import Edit, Engine, Row
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, tokens, vector
from .reference import greedy, site

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
