"""Directions that mean nothing, made by the same pipeline: what an effect has to beat.

A *shuffled* direction is fitted again after the poles were permuted, so it has the data's spread but not the
contrast. A *random* one is any direction. Both are scaled to the norm of the direction they are compared
with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.estimate import FITS, fit, stack, unit
from labtui_kernels.directions.randoms import random_direction

Key = TypeVar("Key")


def shuffled_directions(
    method: str,
    positive: Mapping[Key, Tensor],
    negative: Mapping[Key, Tensor],
    count: int,
    *,
    seed: int = 0,
    norms: Mapping[Key, float] | None = None,
) -> dict[Key, Tensor]:
    """``count`` directions a site, float32 ``[count, width]``, fitted with permuted poles.

    For ``mean-difference`` and ``logistic`` the poles of exactly half of the pairs (rounded down) are
    exchanged, chosen anew for each direction, the same pairs at all sites. The first component of differences
    does not see such an exchange, so for ``pca`` new pairs are drawn inside each pole, where no contrast is
    left. ``norms`` gives the length they are scaled to; without it they keep their own. UsageError when the
    method pools no pairs or there are too few to permute.
    """
    if method not in FITS or method == "pair":
        raise UsageError(f"method {method!r} has no shuffled control: it needs several pairs to permute")
    found: dict[Key, Tensor] = {}
    for keys, p, n in stack(positive, negative):
        pairs = p.shape[1]
        if pairs < 2:
            raise UsageError("shuffled controls need at least two pairs")
        permute = _inside if method == "pca" else exchanged
        generator = torch.Generator().manual_seed(seed)
        drawn: list[Tensor] = []
        for _ in range(count):
            drawn.append(fit(method, *permute(p, n, generator)))
        for row, key in enumerate(keys):
            vectors = torch.stack([vector[row] for vector in drawn])
            found[key] = (vectors if norms is None else unit(vectors) * norms[key]).float()
    return {key: found[key] for key in positive}


def random_directions(
    widths: Mapping[Key, int], count: int, *, seed: int = 0, norms: Mapping[Key, float]
) -> dict[Key, Tensor]:
    """``count`` random directions a site, float32 ``[count, width]``, of the given norms; sites differ."""
    return {
        key: torch.stack(
            [random_direction(seed + k, width, norm=norms[key], stream=key) for k in range(count)]
        )
        for key, width in widths.items()
    }


def exchanged(positive: Tensor, negative: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Poles ``[sites, pairs, width]`` with those of half of the pairs exchanged, the same pairs at all sites."""
    pairs = positive.shape[1]
    swap = torch.zeros(pairs, dtype=torch.bool)
    swap[torch.randperm(pairs, generator=generator)[: pairs // 2]] = True
    mask = swap[None, :, None]
    return torch.where(mask, negative, positive), torch.where(mask, positive, negative)


def _inside(positive: Tensor, negative: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of two points of the same pole, drawn at random; an odd point out is left aside."""
    first: list[Tensor] = []
    second: list[Tensor] = []
    for pole in (positive, negative):
        order = torch.randperm(pole.shape[1], generator=generator)
        half = len(order) // 2
        first.append(pole[:, order[:half]])
        second.append(pole[:, order[half : 2 * half]])
    return torch.cat(first, 1), torch.cat(second, 1)
