"""How much to trust a direction: signal against spread by layer, and cosines between directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from labtui_kernels.directions.estimate import stack, unit
from labtui_kernels.directions.nulls import exchanged

Key = TypeVar("Key")


def signal_to_noise(positive: Mapping[Key, Tensor], negative: Mapping[Key, Tensor]) -> dict[Key, float]:
    """Between-pole separation over within-pole spread, a number a site.

    |mean(p) - mean(n)| divided by the root-mean-square distance of points to the mean of their own pole (both
    poles pooled, n-1 in the denominator). NaN for a single pair, infinite where the poles have no spread.
    """
    found: dict[Key, float] = {}
    for keys, p, n in stack(positive, negative):
        pairs = p.shape[1]
        between = (p.mean(1) - n.mean(1)).norm(dim=-1)
        within = sum((pole - pole.mean(1, keepdim=True)).square().sum((1, 2)) for pole in (p, n))
        for row, key in enumerate(keys):
            if pairs < 2:
                found[key] = math.nan
                continue
            spread = math.sqrt(float(within[row]) / (2 * (pairs - 1)))  # type: ignore[index]
            found[key] = float(between[row]) / spread if spread else math.inf
    return {key: found[key] for key in positive}


def shuffled_signal_to_noise(
    positive: Mapping[Key, Tensor], negative: Mapping[Key, Tensor], count: int = 20, seed: int = 0
) -> dict[Key, float]:
    """What chance alone gives: the 95th percentile of the separation under permuted labels, over the poles' own
    spread, a number a site.

    The means of poles that do not differ lie apart too, by about sqrt(2 / pairs) of the spread. The poles of half
    of the pairs (rounded down) are exchanged, ``count`` times, the same pairs at all sites. The spread is that of
    the poles as they are, since mixed poles would have the separation in theirs. NaN or infinite as
    ``signal_to_noise`` is.
    """
    signal = signal_to_noise(positive, negative)
    found: dict[Key, float] = {}
    for keys, p, n in stack(positive, negative):
        generator = torch.Generator().manual_seed(seed)
        drawn = [exchanged(p, n, generator) for _ in range(count)]
        apart = torch.stack([(first.mean(1) - second.mean(1)).norm(dim=-1) for first, second in drawn])
        own = (p.mean(1) - n.mean(1)).norm(dim=-1)
        for row, key in enumerate(keys):
            bound, real = float(apart[:, row].quantile(0.95)), float(own[row])
            found[key] = bound * signal[key] / real if real else math.nan
    return {key: found[key] for key in positive}


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine between two vectors ``[width]``; NaN when one is zero or their widths differ."""
    if first.shape != second.shape or not first.any() or not second.any():
        return math.nan
    return float((unit(first.double()) * unit(second.double())).sum().clamp(-1, 1))


def cosine_table(directions: Mapping[str, Mapping[Key, Tensor]], sites: Sequence[Key]) -> dict[Key, Tensor]:
    """Cosines between all directions, float64 ``[n, n]`` a site; NaN where one has no such site."""
    names = list(directions)
    return {
        site: torch.tensor(
            [
                [
                    cosine(directions[a][site], directions[b][site])
                    if site in directions[a] and site in directions[b]
                    else math.nan
                    for b in names
                ]
                for a in names
            ],
            dtype=torch.float64,
        )
        for site in sites
    }
