"""Chunks: per label, the unit-normalised centroids of K-Means over pooled embeddings, and differences of them.

The *representative* of a label is the centroid of its larger cluster. Class means of the same embeddings stand
beside the centroids: their differences are difference-in-means directions. A chunk with *permuted labels* comes
out of the same pipeline after the labels were dealt anew to the embeddings, each label as often as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.estimate import unit
from labtui_kernels.directions.kmeans import STARTS, kmeans

Delta: TypeAlias = Literal["color", "text", "combined"]
DELTAS: tuple[Delta, ...] = get_args(Delta)
TOGETHER = 4_000_000
"""Numbers of permuted point sets that are clustered at a time."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """The chunks of one site: L labels, K clusters each, the larger first.

    ``centroids`` float32 ``[L, K, d]`` of norm 1, ``norms`` float32 ``[L, K]`` that they had, ``sizes`` int64
    ``[L, K]``, ``means`` float32 ``[L, d]`` of all embeddings of a label, ``spread`` float32 ``[L]`` (root mean
    square distance of embeddings to their own centroid). ``permuted`` float32 ``[P, L, d]``: representatives with
    permuted labels; ``permuted_means`` float32 ``[P, L, d]``.
    """

    labels: tuple[str, ...]
    centroids: Tensor
    norms: Tensor
    sizes: Tensor
    means: Tensor
    spread: Tensor
    permuted: Tensor
    permuted_means: Tensor

    @property
    def representatives(self) -> Tensor:
        """The larger cluster's centroid of each label, float32 ``[L, d]``."""
        return self.centroids[:, 0]


def chunks(
    points: Tensor,
    of: Sequence[int],
    labels: Sequence[str],
    *,
    k: int = 2,
    permutations: int = 0,
    seed: int = 0,
    starts: int = STARTS,
) -> Chunks:
    """The chunks of embeddings ``[n, d]`` whose label is ``labels[of[i]]``.

    UsageError for a label with fewer than ``k`` embeddings, values that are not finite, or a centroid of norm zero.
    """
    given = torch.as_tensor(list(of), dtype=torch.long)
    if points.ndim != 2 or len(points) != len(given):
        raise UsageError(f"chunks: {list(points.shape)} embeddings for {len(given)} labels; expected [n, d]")
    counts = torch.bincount(given, minlength=len(labels)).tolist()
    for label, count in zip(labels, counts, strict=True):
        if count < k:
            raise UsageError(
                f"chunks of {label!r}: {count} images, and {k} clusters need at least {k} of them"
            )
    exact = points.detach().to("cpu", torch.float64)
    deals = [given, *permuted(given, permutations, seed)]
    found = [
        _label(exact, [deal == label for deal in deals], k, seed + label, starts, name)
        for label, name in enumerate(labels)
    ]
    return Chunks(
        labels=tuple(labels),
        centroids=torch.stack([one.centroids for one in found]).float(),
        norms=torch.stack([one.norms for one in found]).float(),
        sizes=torch.stack([one.sizes for one in found]),
        means=torch.stack([one.means[0] for one in found]).float(),
        spread=torch.stack([one.spread for one in found]).float(),
        permuted=torch.stack([one.permuted for one in found], 1).float(),
        permuted_means=torch.stack([one.means[1:] for one in found], 1).float(),
    )


def permuted(of: Tensor, count: int, seed: int) -> list[Tensor]:
    """``count`` deals of the labels ``of`` ``[n]``, each label as often as before."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    return [of[torch.from_numpy(generator.permutation(len(of)))] for _ in range(count)]


@dataclass(frozen=True, eq=False)
class _Label:
    """One label: its clusters [K, d], and the means [1 + P, d] and representatives [P, d] of all deals."""

    centroids: Tensor
    norms: Tensor
    sizes: Tensor
    means: Tensor
    spread: Tensor
    permuted: Tensor


def _label(points: Tensor, deals: Sequence[Tensor], k: int, seed: int, starts: int, name: str) -> _Label:
    sets = torch.stack([points[deal] for deal in deals])  # [1 + P, m, d]
    first = kmeans(sets[:1], k, seed=seed, starts=starts)
    norms = first.centres[0].norm(dim=-1)
    if bool((norms == 0).any()):
        raise UsageError(f"chunks of {name!r}: a centroid has norm zero, so it has no direction")
    block = max(1, TOGETHER // (starts * max(1, sets[0].numel())))
    nulls = [
        kmeans(part, k, seed=seed + 1_000 * (number + 1), starts=starts).centres[:, 0]
        for number, part in enumerate(sets[1:].split(block))
        if len(part)
    ]
    return _Label(
        centroids=unit(first.centres[0]),
        norms=norms,
        sizes=first.sizes[0],
        means=sets.mean(1),
        spread=(first.inertia[0] / sets.shape[1]).sqrt(),
        permuted=unit(torch.cat(nulls)) if nulls else sets[:0, 0],
    )


def deltas(kind: Delta, color: Tensor, text: Tensor, ink: Tensor, word: Tensor, target: Tensor) -> Tensor:
    """What is added to turn each (ink, word) towards its target: ``[m, d]`` for labels ``[m]``.

    ``color`` and ``text`` ``[..., L, d]`` are representatives of the same labels in the same order. With c = color
    and w = text: ``color`` c[target] - c[ink]; ``text`` w[target] - w[word];
    ``combined`` -c[ink] - w[word] + c[target] + w[target].
    """
    by_ink = color[..., target, :] - color[..., ink, :]
    by_word = text[..., target, :] - text[..., word, :]
    if kind == "color":
        return by_ink
    if kind == "text":
        return by_word
    if kind == "combined":
        return by_ink + by_word
    raise UsageError(f"delta {kind!r}: expected one of {', '.join(DELTAS)}")
