"""The search against brute force: NumPy in float32, and a float64 reference that knows how ties go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.neighbours.exact import Hits, Part, Searcher

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def rows_of(parts: list[Part]) -> np.ndarray:
    """All vectors as float32 has them, centred by their parts' means."""
    return np.concatenate(
        [
            part.vectors.astype(np.float32) - (np.float32(0) if part.mean is None else part.mean)
            for part in parts
        ]
    )


def unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def brute(parts: list[Part], queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """In float64, rounded to float32; equal scores by number."""
    scores = (unit(queries.astype(np.float64)) @ unit(rows_of(parts).astype(np.float64)).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, 1)


def check(parts: list[Part], queries: np.ndarray, k: int, found: Hits) -> None:
    """Every place has the score it must have, and every hit the score it says: recall is 1, ties or not."""
    order, scores = brute(parts, queries, k)
    have = order.shape[1]
    assert found.numbers.shape == (len(queries), k)
    assert (found.numbers[:, have:] == -1).all() and np.isnan(found.scores[:, have:]).all()
    np.testing.assert_allclose(found.scores[:, :have], scores, rtol=0, atol=1e-7)
    own = unit(queries.astype(np.float64)) @ unit(rows_of(parts).astype(np.float64)).T
    said = np.take_along_axis(own, found.numbers[:, :have], 1)
    np.testing.assert_allclose(found.scores[:, :have], said, rtol=0, atol=1e-7)
    for line in found.numbers[:, :have]:
        assert len(set(line)) == have
    # Hits with one and the same score come in the order of their numbers.
    tied = found.scores[:, 1:have] == found.scores[:, : have - 1]
    assert (np.diff(found.numbers[:, :have], axis=1)[tied] > 0).all()


def recall_in_single(parts: list[Part], queries: np.ndarray, k: int, found: Hits) -> float:
    """The share of NumPy's float32 top k among the hits, where a tie to float32's own error is a hit too."""
    scores = unit(queries.astype(np.float32)) @ unit(rows_of(parts)).T
    least = np.sort(scores, axis=1)[:, -k][:, None]
    return float((np.take_along_axis(scores, found.numbers, 1) >= least - 1e-6).mean())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centred", [False, True])
def test_random_vectors_over_several_parts(dtype: torch.dtype, centred: bool) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for size, scale in ((700, 1.0), (1300, 40.0), (1, 3.0), (500, 0.01)):
        vectors = ((rng.normal(size=(size, 96)) + 3 * rng.normal(size=96)) * scale).astype(np.float16)
        mean = vectors.astype(np.float32).mean(0) if centred and size > 1 else None
        parts.append(Part(vectors, mean))
    queries = rng.normal(size=(33, 96)).astype(np.float32)
    for keep in (0, 1 << 30):
        searcher = Searcher(parts, dtype=dtype, block=256, keep=keep)
        for _ in range(2):
            found = searcher.search(torch.from_numpy(queries), 10)
            check(parts, queries, 10, found)
            np.testing.assert_array_equal(found.numbers, brute(parts, queries, 10)[0])
            assert recall_in_single(parts, queries, 10, found) == 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_near_duplicates_that_half_precision_cannot_tell_apart(dtype: torch.dtype) -> None:
    """A thousand vectors within one unit of half precision of each other, and exact copies among them."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=64).astype(np.float16)
    vectors = np.repeat(base[None], 1000, 0)
    at = rng.integers(0, 64, 1000)
    vectors[np.arange(1000), at] = np.nextafter(vectors[np.arange(1000), at], np.float16(10))
    vectors[500:520] = vectors[3]
    queries = (base.astype(np.float32) + rng.normal(size=(5, 64)).astype(np.float32) * 1e-3).astype(
        np.float32
    )
    parts = [Part(vectors)]
    found = Searcher(parts, dtype=dtype, block=300).search(torch.from_numpy(queries), 25)
    check(parts, queries, 25, found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_vectors_come_in_the_order_of_their_numbers(dtype: torch.dtype) -> None:
    vectors = np.ones((400, 32), np.float16)
    found = Searcher([Part(vectors)], dtype=dtype, block=64).search(torch.ones(2, 32), 7)
    assert found.numbers.tolist() == [list(range(7))] * 2
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-7)


def numbers_for(draw: Any, shape: tuple[int, int]) -> np.ndarray:
    """Few different values, so that ties and cancellations abound; some of them huge, tiny or zero."""
    pool = [0.0, 1.0, -1.0, 0.5, 1.0009765625, -0.99951171875, 6e-8, 6e-5, 60000.0, -60000.0, 3.0]
    picks = draw(st.lists(st.sampled_from(pool), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.array(picks, np.float32).reshape(shape)


@st.composite
def problems(draw: Any) -> tuple[list[Part], np.ndarray, int, int]:
    width = draw(st.integers(1, 12))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        vectors = numbers_for(draw, (draw(st.integers(1, 12)), width)).astype(np.float16)
        copies = draw(st.lists(st.integers(0, len(vectors) - 1), max_size=6))
        vectors = np.concatenate([vectors, vectors[copies]])
        centred = draw(st.booleans())
        parts.append(Part(vectors, vectors.astype(np.float32).mean(0) if centred else None))
    queries = numbers_for(draw, (draw(st.integers(1, 4)), width))
    return parts, queries, draw(st.integers(1, 9)), draw(st.sampled_from([1, 3, 64]))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_adversarial_vectors(dtype: torch.dtype, problem: tuple[list[Part], np.ndarray, int, int]) -> None:
    parts, queries, k, block = problem
    found = Searcher(parts, dtype=dtype, block=block).search(torch.from_numpy(queries), k)
    check(parts, queries, k, found)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), spread=st.sampled_from([1e-4, 1e-3, 1e-2, 0.1, 1.0]), k=st.integers(1, 40))
def test_crowded_vectors(dtype: torch.dtype, seed: int, spread: float, k: int) -> None:
    """Vectors that share a large direction, as hidden states do: their cosines differ by little."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=48)
    vectors = (shared + spread * rng.normal(size=(600, 48))).astype(np.float16)
    queries = (shared + spread * rng.normal(size=(4, 48))).astype(np.float32)
    for part in (Part(vectors), Part(vectors, vectors.astype(np.float32).mean(0))):
        check(
            [part], queries, k, Searcher([part], dtype=dtype, block=128).search(torch.from_numpy(queries), k)
        )


def test_what_cannot_be_searched() -> None:
    good = Part(np.ones((3, 4), np.float16))
    with pytest.raises(UsageError, match="nothing to search"):
        Searcher([Part(np.ones((0, 4), np.float16))])
    with pytest.raises(UsageError, match=r"shape \(1, 5\), expected \[q, 4\]"):
        Searcher([good]).search(torch.ones(1, 5), 1)
    with pytest.raises(UsageError, match="NaN"):
        Searcher([good]).search(torch.full((1, 4), torch.nan), 1)
    with pytest.raises(UsageError, match="k is 0"):
        Searcher([good]).search(torch.ones(1, 4), 0)
    bad = np.ones((3, 4), np.float16)
    bad[1, 2] = np.inf
    with pytest.raises(BadFile, match="NaN or infinity"):
        Searcher([Part(bad)]).search(torch.ones(1, 4), 1)
