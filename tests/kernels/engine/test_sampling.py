"""Sampling: uniforms by seed and step, inverse CDF, nothing of the batch in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labtui_kernels.engine import Edit, Engine, Row, Sampling
from labtui_kernels.engine.sampling import Chooser, uniforms
from tests.support.tiny import tiny

from .driving import prompt, run, tokens, vector
from .reference import alone, logits, site

SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_k=20),
    Sampling(temperature=1.3, top_p=0.8),
    Sampling(temperature=0.9, top_k=40, top_p=0.9),
]


def test_uniforms_depend_on_seed_and_step_alone() -> None:
    whole = uniforms(3, 1000)
    assert np.array_equal(uniforms(3, 10), whole[:10])
    assert not np.array_equal(uniforms(4, 10), whole[:10])
    assert np.array_equal(uniforms(-1, 5), uniforms(2**64 - 1, 5))
    assert whole.min() >= 0 and whole.max() < 1
    assert abs(whole.mean() - 0.5) < 0.05
    assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(whole, uniforms(4, 1000))[0, 1]) < 0.1


@pytest.mark.parametrize("family", ["qwen2", "qwen3_next"])
def test_sampled_rows_equal_the_slow_way(family: str) -> None:
    loaded = tiny(family)
    edit = Edit(site("llm.1.out"), "add", vector(48, 5), 1.0)
    rows = [
        Row(
            key=f"{n}",
            ids=prompt(6 + n, n % 3),
            edits=(edit,) if n % 2 else (),
            max_new_tokens=6,
            sampling=SETTINGS[n % 4],
            seed=n,
        )
        for n in range(8)
    ]
    rows.append(Row(key="greedy", ids=prompt(7, 1), max_new_tokens=6))
    results = run(Engine(loaded).batch(slots=4), rows)
    for row in rows:
        generated = alone(loaded.model, row)
        assert tokens(results[row.key]) == generated, row.key
        last = logits(loaded.model, row, generated[:-1])[-1].log_softmax(-1)
        assert results[row.key][-1].logprob == pytest.approx(float(last[generated[-1]]), abs=2e-4)
        assert results[row.key][-1].best == int(last.argmax())


def test_draws_follow_the_distribution() -> None:
    scores = torch.randn(64, generator=torch.Generator().manual_seed(1)) * 2
    count = 20_000
    chooser = Chooser.of([Sampling(1.0, top_k=10)] * count, 64, torch.device("cpu"))
    table = scores.expand(count, 64)
    points = torch.from_numpy(uniforms(5, count))[:, None]
    drawn = chooser.choose(table, table.argmax(-1), points)
    kept = scores.topk(10).indices
    wanted = torch.zeros(64).index_copy(0, kept, scores[kept].softmax(-1))
    found = torch.bincount(drawn, minlength=64) / count
    assert set(drawn.tolist()) <= set(kept.tolist())
    assert float((found - wanted).abs().max()) < 0.015


def test_extreme_points_and_ties() -> None:
    table = torch.tensor([[1.0, 1.0, -torch.inf, 1.0], [0.0, 50.0, 0.0, -torch.inf], [2.0, 2.0, 2.0, 2.0]])
    chooser = Chooser.of([Sampling(1.0), Sampling(1.0), Sampling(1.0, top_k=1)], 4, torch.device("cpu"))
    high = chooser.choose(table, table.argmax(-1), torch.full((3, 1), 1 - 2.0**-53, dtype=torch.float64))
    assert high.tolist() == [3, 1, 3]  # never a token without probability; a tie with the k-th is kept
    low = chooser.choose(table, table.argmax(-1), torch.zeros(3, 1, dtype=torch.float64))
    assert low.tolist() == [0, 0, 0]
