"""Running batches to their end, for tests."""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch

from labtui_kernels.engine import Batch, Emitted, Row


def drain(batch: Batch) -> dict[str, list[Emitted]]:
    """Step until nothing is left; the emissions of each row in order."""
    out: dict[str, list[Emitted]] = {}
    for _ in range(10_000):
        if batch.done:
            return out
        for emitted in batch.step():
            out.setdefault(emitted.key, []).append(emitted)
    raise AssertionError("the batch does not end")


def run(batch: Batch, rows: Iterable[Row]) -> dict[str, list[Emitted]]:
    """Add the rows and drain the batch."""
    for row in rows:
        batch.add(row)
    return drain(batch)


def tokens(emitted: list[Emitted]) -> list[int]:
    return [each.token for each in emitted]


def prompt(length: int, seed: int, vocab: int = 250) -> tuple[int, ...]:
    """Random token ids."""
    chooser = random.Random(seed)
    return tuple(chooser.randrange(vocab) for _ in range(length))


def vector(width: int, seed: int, norm: float = 3.0) -> torch.Tensor:
    """A random direction of the given norm, [width] float32."""
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm() * norm
