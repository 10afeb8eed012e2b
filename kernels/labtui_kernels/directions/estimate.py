"""Estimating a direction at every site in one pass.

Methods, for pairs of activations p_i (positive pole) and n_i (negative pole), d_i = p_i - n_i:

- ``pair``: d_0, of a single pair (activation addition, Turner et al. 2023, arXiv:2308.10248).
- ``mean-difference``: the mean of d_i (contrastive activation addition, Rimsky et al. 2023,
  arXiv:2312.06681).
- ``pca``: every pair is centred on its own midpoint, so its two points are +d_i/2 and -d_i/2; the first
  principal component of all of them (representation engineering, Zou et al. 2023, arXiv:2310.01405).
  Subtracting the mean difference instead would remove the very signal.
- ``logistic``: the normal of an L2-regularised logistic regression between the poles.
- ``random``: a seeded direction of the same norm as the mean difference, for controls.

``pair`` and ``mean-difference`` keep their natural norm. ``pca`` and ``logistic`` give unit vectors, and the
gap between the class means along them says what a strength of 1 would have to be multiplied with. All point
from negative to positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.logistic import logistic_normals
from labtui_kernels.directions.randoms import random_direction

Key = TypeVar("Key")
METHODS: tuple[str, ...] = ("pair", "mean-difference", "pca", "logistic", "random")
SPLITS = 8
"""Random halvings over which split-half stability and held-out accuracy are averaged."""


@dataclass(frozen=True)
class Estimate:
    """A direction at one site.

    ``vector`` is float32 ``[width]`` with norm ``norm``; ``gap`` is the distance between the class means
    along it, in activation units. ``explained`` is the share of the pairs' variance about their midpoints
    that lies along the direction. ``split_half`` is the mean cosine between directions of disjoint halves of
    the pairs, and ``accuracy`` the share of points on the right side of the midpoint under a direction of the
    other half (both None below four pairs, where a half has only one, and for random directions).
    """

    method: str
    vector: Tensor
    norm: float
    gap: float
    pairs: int
    explained: float
    split_half: float | None = None
    accuracy: float | None = None


def estimate(method: str, positive: Tensor, negative: Tensor, seed: int = 0) -> Estimate:
    """The direction of one site, from its poles' ``[pairs, width]`` activations: see ``estimate_all``."""
    return estimate_all(method, {0: positive}, {0: negative}, seed)[0]


def estimate_all(
    method: str, positive: Mapping[Key, Tensor], negative: Mapping[Key, Tensor], seed: int = 0
) -> dict[Key, Estimate]:
    """The direction of every site, in one pass over sites of equal width.

    ``positive`` and ``negative`` map the same sites to ``[pairs, width]``, paired by row. UsageError for an
    unknown method, poles that do not pair up, activations that are not finite, or poles that do not differ.
    """
    if method not in METHODS:
        raise UsageError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    found: dict[Key, Estimate] = {}
    for keys, stacked_p, stacked_n in stack(positive, negative):
        pairs = stacked_p.shape[1]
        if method == "pair" and pairs != 1:
            raise UsageError(f"method 'pair' takes one pair of prompts, got {pairs}; use mean-difference")
        random = method == "random"
        vectors = _random(keys, stacked_p, stacked_n, seed) if random else fit(method, stacked_p, stacked_n)
        _check_differ(keys, vectors)
        single = _describe(method, stacked_p, stacked_n, vectors)
        halves = _halves(method, stacked_p, stacked_n, seed) if pairs >= 4 and not random else None
        for row, key in enumerate(keys):
            one = single[row]
            if halves is not None:
                one = replace(one, split_half=halves[0][row].item(), accuracy=halves[1][row].item())
            found[key] = one
    return {key: found[key] for key in positive}


def fit(method: str, positive: Tensor, negative: Tensor) -> Tensor:
    """Vectors ``[sites, width]`` (float64) from activations ``[sites, pairs, width]``, without statistics."""
    return FITS[method](positive, negative)


def stack(
    positive: Mapping[Key, Tensor], negative: Mapping[Key, Tensor]
) -> list[tuple[list[Key], Tensor, Tensor]]:
    """Sites of equal width together: keys, and both poles as float64 ``[sites, pairs, width]``."""
    if list(positive) != list(negative) or not positive:
        raise UsageError("the two poles must be captured at the same sites, at least one")
    groups: dict[tuple[int, ...], list[Key]] = {}
    for key, rows in positive.items():
        if rows.ndim != 2 or rows.shape != negative[key].shape or not len(rows):
            raise UsageError(
                f"the poles must be paired row by row: at {key} they are {list(rows.shape)} and "
                f"{list(negative[key].shape)}"
            )
        groups.setdefault(tuple(rows.shape), []).append(key)
    stacked: list[tuple[list[Key], Tensor, Tensor]] = []
    for keys in groups.values():
        p, n = (torch.stack([pole[key] for key in keys]).double() for pole in (positive, negative))
        finite = (p.isfinite() & n.isfinite()).flatten(1).all(1)
        if not finite.all():
            raise UsageError(f"activations at {keys[int(finite.logical_not().nonzero()[0])]} are not finite")
        stacked.append((keys, p, n))
    return stacked


def unit(vectors: Tensor) -> Tensor:
    """Rows scaled to norm 1; rows of zeros stay zero."""
    norms = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(norms > 0, norms, 1.0)


def _difference(positive: Tensor, negative: Tensor) -> Tensor:
    return (positive - negative).mean(1)


def _pca(positive: Tensor, negative: Tensor) -> Tensor:
    differences = positive - negative
    # The points +-d_i/2 have mean zero and a covariance proportional to the sum of d_i d_i^T, whose first
    # eigenvector is the first right singular vector of the differences.
    _, _, rows = torch.linalg.svd(differences, full_matrices=False)
    first = rows[:, 0]
    mean = torch.einsum("sd,snd->s", first, differences)
    return first * torch.where(mean < 0, -1.0, 1.0)[:, None]


def _logistic(positive: Tensor, negative: Tensor) -> Tensor:
    return unit(logistic_normals(positive, negative))


def _random(keys: list[Key], positive: Tensor, negative: Tensor, seed: int) -> Tensor:
    """A direction a site that hangs on the seed and the site alone, as long as the mean difference."""
    norms = _difference(positive, negative).norm(dim=-1)
    drawn = [random_direction(seed, positive.shape[-1], stream=key).double() for key in keys]
    return torch.stack(drawn) * norms[:, None]


FITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pair": _difference,
    "mean-difference": _difference,
    "pca": _pca,
    "logistic": _logistic,
}


def _check_differ(keys: list[Key], vectors: Tensor) -> None:
    flat = vectors.norm(dim=-1) == 0
    if flat.any():
        raise UsageError(
            f"the two poles give the same activations at {keys[int(flat.nonzero()[0])]}: the contrast must "
            "change what is read (check the prompts and the pooling)"
        )


def _describe(method: str, positive: Tensor, negative: Tensor, vectors: Tensor) -> list[Estimate]:
    differences = positive - negative
    units = unit(vectors)
    along = torch.einsum("sd,snd->sn", units, differences)
    total = differences.square().sum((1, 2))
    explained = along.square().sum(1) / torch.where(total > 0, total, 1.0)
    return [
        Estimate(
            method=method,
            vector=vectors[row].float(),
            norm=vectors[row].norm().item(),
            gap=along[row].mean().item(),
            pairs=positive.shape[1],
            explained=explained[row].item(),
        )
        for row in range(len(vectors))
    ]


def _halves(method: str, positive: Tensor, negative: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Split-half cosine and held-out accuracy ``[sites]``, means over :data:`SPLITS` seeded halvings."""
    pairs = positive.shape[1]
    generator = torch.Generator().manual_seed(seed)
    cosines: list[Tensor] = []
    right: list[Tensor] = []
    for _ in range(SPLITS):
        order = torch.randperm(pairs, generator=generator)
        first, second = order[: pairs // 2], order[pairs // 2 :]
        units = [unit(fit(method, positive[:, half], negative[:, half])) for half in (first, second)]
        cosines.append((units[0] * units[1]).sum(-1))
        right += [
            _share_right(units[0], positive, negative, first, second),
            _share_right(units[1], positive, negative, second, first),
        ]
    return torch.stack(cosines).mean(0), torch.stack(right).mean(0)


def _share_right(units: Tensor, positive: Tensor, negative: Tensor, fitted: Tensor, held: Tensor) -> Tensor:
    """Share of the held-out points on their side of the fitted half's midpoint, ``[sites]``."""
    p, n = (torch.einsum("sd,snd->sn", units, pole) for pole in (positive, negative))
    middle = (p[:, fitted].mean(1) + n[:, fitted].mean(1))[:, None] / 2
    return ((p[:, held] > middle).double().mean(1) + (n[:, held] < middle).double().mean(1)) / 2
