"""The static readings against NumPy and against the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labtui_kernels.engine import Engine
from labtui_kernels.engine.capture import Prompt
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.neighbours import static
from labtui_kernels.neighbours.static import READINGS, Hits, Reading, Vocabulary, nearest
from tests.support.tiny import tiny

IDS = (5, 17, 42, 99, 7, 250)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny("qwen3"))


@pytest.fixture(scope="module")
def states(engine: Engine) -> torch.Tensor:
    """The output of the last block at every token."""
    site = parse_site("llm.3")
    return engine.capture([Prompt(IDS)], [site], pooling="none", where=Where("all"))[site]


def read(engine: Engine, states: torch.Tensor, reading: Reading, k: int, normed: bool = False) -> Hits:
    vocabulary = Vocabulary(engine, engine.loaded.tokenizer)
    *_, last = nearest(vocabulary, states, reading, k, normed=normed)
    return last.hits(reading)


def matrices(engine: Engine) -> tuple[np.ndarray, np.ndarray, int]:
    """Embedding, unembedding, and how many ids the tokenizer knows (the rest is padding)."""
    model = engine.loaded.model
    known = len(engine.loaded.tokenizer)
    embedding, head = (
        module.weight.numpy().astype(np.float64)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    assert known < len(embedding)
    return embedding, head, known


def expected(engine: Engine, states: torch.Tensor, reading: Reading) -> np.ndarray:
    """Scores [n, known words] in float64."""
    embedding, head, known = matrices(engine)
    if reading == "lens":
        logits = engine.loaded.model.model.norm(states).numpy().astype(np.float64) @ head[:known].T
        values = np.exp(logits - logits.max(1, keepdims=True))
        return values / values.sum(1, keepdims=True)
    rows = (embedding if reading == "embedding" else head)[:known]
    h = states.numpy().astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    return (h @ rows.T) / np.linalg.norm(h, axis=1)[:, None] / np.where(lengths > 0, lengths, 1)


@pytest.mark.parametrize("words", [static.WORDS, 100])
@pytest.mark.parametrize("reading", READINGS)
def test_the_best_words_are_numpys(
    engine: Engine, states: torch.Tensor, reading: Reading, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "WORDS", words)
    monkeypatch.setattr(static, "STATES", 4)
    found = read(engine, states, reading, 5)
    scores = expected(engine, states, reading)
    np.testing.assert_array_equal(found.numbers, np.argsort(-scores, 1, kind="stable")[:, :5])
    np.testing.assert_allclose(found.scores, -np.sort(-scores, 1)[:, :5], rtol=2e-5, atol=1e-7)


def test_the_lens_at_the_last_block_is_the_models_own_distribution(
    engine: Engine, states: torch.Tensor
) -> None:
    known = len(engine.loaded.tokenizer)
    logits = engine.loaded.model(torch.tensor([IDS])).logits[0, :, :known]
    own = logits.softmax(-1).topk(3, dim=1)
    found = read(engine, states, "lens", 3)
    np.testing.assert_array_equal(found.numbers, own.indices.numpy())
    np.testing.assert_allclose(found.scores, own.values.numpy(), rtol=1e-4)
    site = parse_site("llm.norm")
    after = engine.capture([Prompt(IDS)], [site], pooling="none", where=Where("all"))[site]
    again = read(engine, after, "lens", 3, normed=True)
    np.testing.assert_array_equal(again.numbers, found.numbers)
    np.testing.assert_allclose(again.scores, found.scores, rtol=1e-4)


@pytest.mark.parametrize("reading", READINGS)
def test_padding_rows_are_never_found(engine: Engine, states: torch.Tensor, reading: Reading) -> None:
    model, known = engine.loaded.model, len(engine.loaded.tokenizer)
    kept = []
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        kept.append(module.weight[known:].clone())
        module.weight[known:] = 1e3 * (model.model.norm(states[:1]) if reading == "lens" else states[:1])
    try:
        assert read(engine, states, reading, 8).numbers.max() < known
    finally:
        for module, rows in zip(
            (model.get_input_embeddings(), model.get_output_embeddings()), kept, strict=True
        ):
            module.weight[known:] = rows


def test_equal_words_come_in_the_order_of_their_ids(engine: Engine) -> None:
    weight = engine.loaded.model.get_input_embeddings().weight
    kept = weight.clone()
    try:
        weight[40:60] = weight[50]
        found = read(engine, kept[50:51], "embedding", 4)
    finally:
        weight.copy_(kept)
    np.testing.assert_allclose(found.scores, 1, atol=1e-6)
    assert len(set(found.numbers[0].tolist())) == 4 and set(found.numbers[0].tolist()) <= set(range(40, 60))


def test_tied_matrices_are_told() -> None:
    assert Vocabulary(Engine(tied := tiny("qwen2", tie_word_embeddings=True)), tied.tokenizer).tied
