"""Exact neighbours among a million vectors against faiss-cpu's flat index, both in memory, in one process.

faiss is no dependency: ``pip install faiss-cpu`` where this is run, else only our own figure is given.
LABTUI_BENCH_VECTORS sets another number of vectors. Vectors are random, or crowded about a shared direction as hidden
states are. Interleaved repeats, the best of each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch

from labtui_kernels.models.threads import usable_cores
from labtui_kernels.neighbours.bounds import fast_dtype
from labtui_kernels.neighbours.exact import Part, Searcher

WIDTH, QUERIES, K, REPEATS = 896, 256, 10, 3
PIECE = 1 << 16


def vectors_of(count: int, crowded: bool) -> np.ndarray:
    """Float16 [count, d] from a seed."""
    rng = np.random.default_rng(7)
    shared = 3.0 * rng.standard_normal(WIDTH, np.float32) if crowded else np.zeros(WIDTH, np.float32)
    found = np.empty((count, WIDTH), np.float16)
    for low in range(0, count, PIECE):
        piece = rng.standard_normal((min(PIECE, count - low), WIDTH), np.float32)
        found[low : low + PIECE] = piece + shared
    return found


def queries_of(vectors: np.ndarray) -> np.ndarray:
    """Float32 [q, d]: some of the vectors, moved by as much as they differ from each other."""
    rng = np.random.default_rng(8)
    chosen = vectors[rng.integers(0, len(vectors), QUERIES)].astype(np.float32)
    return chosen + rng.standard_normal(chosen.shape, np.float32)


def flat_index(vectors: np.ndarray, threads: int) -> Any | None:
    """faiss's flat index of the unit vectors; None where faiss is not installed."""
    try:
        faiss = import_module("faiss")
    except ImportError:
        return None
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(WIDTH)
    for low in range(0, len(vectors), PIECE):
        piece = vectors[low : low + PIECE].astype(np.float32)
        index.add(piece / np.linalg.norm(piece, axis=1, keepdims=True))
    return index


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def compare(vectors: np.ndarray, what: str, threads: int) -> list[dict[str, object]]:
    """Rows of the table for one set of vectors."""
    queries = queries_of(vectors)
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    searcher = Searcher([Part(vectors)], keep=1 << 40)
    prepared, _ = seconds(searcher.prepare)
    flat = flat_index(vectors, threads)
    ours, theirs = float("inf"), float("inf")
    overlap, asked = 1.0, torch.from_numpy(queries)
    for _ in range(REPEATS):
        spent, hits = seconds(partial(searcher.search, asked, K))
        ours = min(ours, spent)
        if flat is not None:
            spent, (scores, _) = seconds(partial(flat.search, units, K))
            theirs = min(theirs, spent)
            # To what float32 can tell: a hit counts when it scores as high as their last.
            overlap = float((hits.scores >= scores[:, -1:] - 2e-6).mean())
    spec = f"top {K} of {QUERIES} queries among {len(vectors):,} {what} vectors of width {WIDTH}, {threads} threads"
    rows: list[dict[str, object]] = [
        {
            "what": spec,
            "figure": f"{ours:.2f} s ({searcher.dtype}, then exact; prepared once in {prepared:.1f} s)",
            "against": f"faiss IndexFlatIP {theirs:.2f} s, recall {overlap:.4f}"
            if flat is not None
            else "faiss-cpu missing",
            "ratio": f"{theirs / ours:.2f}x" if flat is not None else "",
        }
    ]
    del flat, searcher
    streamed, _ = seconds(partial(Searcher([Part(vectors)]).search, asked, K))
    rows.append(
        {
            "what": f"the same without preparing, {what}",
            "figure": f"{streamed:.2f} s",
            "against": "",
            "ratio": "",
        }
    )
    return rows


def main() -> list[dict[str, object]]:
    """The rows of the benchmark's table."""
    threads = usable_cores()
    torch.set_num_threads(threads)
    count = int(os.environ.get("LABTUI_BENCH_VECTORS", "1000000"))
    assert fast_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)
    rows = []
    for what, crowded in (("random", False), ("crowded", True)):
        rows += compare(vectors_of(count, crowded), what, threads)
    return rows


if __name__ == "__main__":
    for row in main():
        print(row)
