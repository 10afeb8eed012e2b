"""K-Means for small point sets, many at a time: k-means++ seeding and Lloyd's iterations.

Arthur & Vassilvitskii (2007) for the seeding, several starts, the one of least inertia kept. Draws come from a
generator that is the same on every machine; all arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError

STARTS = 8
MOST_STEPS = 300


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of ``b`` point sets, the largest cluster of each first.

    ``centres`` float64 ``[b, k, d]``, ``members`` int64 ``[b, n]`` (index of each point's cluster), ``sizes`` int64
    ``[b, k]``, ``inertia`` float64 ``[b]`` (sum of squared distances of points to their own centre).
    """

    centres: Tensor
    members: Tensor
    sizes: Tensor
    inertia: Tensor


def kmeans(
    points: Tensor, k: int = 2, *, seed: int = 0, starts: int = STARTS, initial: Tensor | None = None
) -> Clusters:
    """Cluster every point set of ``points`` ``[b, n, d]`` into ``k``.

    ``initial`` ``[b, k, d]`` are the centres to start from, in place of ``starts`` seedings. A cluster that loses
    its points takes the point farthest from its own centre. Clusters of equal size keep the order of their first
    points. UsageError for fewer points than clusters, or points that are not finite.
    """
    if points.ndim != 3 or points.shape[1] < k or k < 1:
        raise UsageError(f"k-means: points of shape {list(points.shape)}; expected [sets, at least {k}, d]")
    if not bool(torch.isfinite(points).all()):
        raise UsageError("k-means: the points hold NaN or infinity")
    where = points.detach().to("cpu", torch.float64)
    centred = where - where.mean(1, keepdim=True)  # distances between far-off points would lose digits
    if initial is None:
        begun = _seeded(centred, k, seed, starts)
    else:
        begun = (initial.detach().to("cpu", torch.float64) - where.mean(1, keepdim=True))[:, None]
    centres, members, inertia = _lloyd(centred, begun)
    best = inertia.argmin(1)
    row = torch.arange(len(points))
    return _ordered(where, members[row, best], k, inertia[row, best], centres[row, best])


def _squared(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances ``[b, s, n, k]`` of points ``[b, n, d]`` to centres ``[b, s, k, d]``."""
    sets, starts, k, width = centres.shape
    inner = torch.bmm(points, centres.reshape(sets, starts * k, width).transpose(1, 2))
    inner = inner.reshape(sets, -1, starts, k).permute(0, 2, 1, 3)
    own = points.square().sum(-1)[:, None, :, None]
    return (own - 2 * inner + centres.square().sum(-1)[:, :, None, :]).clamp_min(0)


def _seeded(points: Tensor, k: int, seed: int, starts: int) -> Tensor:
    """k-means++ centres ``[b, starts, k, d]``: each next one drawn with the square of its distance as weight."""
    sets, n, width = points.shape
    drawn = torch.from_numpy(np.random.Generator(np.random.Philox(seed)).random((sets, starts, k)))
    row = torch.arange(sets)[:, None].expand(sets, starts)
    chosen = points[row, (drawn[:, :, 0] * n).long()][:, :, None]
    for number in range(1, k):
        nearest = _squared(points, chosen).amin(-1)  # [b, starts, n]
        reached = nearest.cumsum(-1)
        total = reached[..., -1:]
        # Where every point is a centre already (duplicates), any will do: the draw is then uniform.
        uniform = torch.arange(1, n + 1, dtype=torch.float64).expand_as(reached)
        reached = torch.where(total > 0, reached, uniform)
        wanted = drawn[:, :, number, None] * reached[..., -1:]
        index = torch.searchsorted(reached.contiguous(), wanted, right=True)[..., 0].clamp_max(n - 1)
        chosen = torch.cat([chosen, points[row, index][:, :, None]], 2)
    return chosen.reshape(sets, starts, k, width)


def _lloyd(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Iterate all starts together until no point changes its cluster: centres, members, inertia."""
    k = centres.shape[2]
    members = None
    for _ in range(MOST_STEPS):
        distances = _squared(points, centres)
        found = distances.argmin(-1)
        found = _refilled(found, distances, k)
        if members is not None and bool((found == members).all()):
            break
        members = found
        share = torch.nn.functional.one_hot(members, k).to(points.dtype)  # [b, s, n, k]
        counts = share.sum(2)
        sums = torch.einsum("bsnk,bnd->bskd", share, points)
        centres = torch.where(counts[..., None] > 0, sums / counts.clamp_min(1)[..., None], centres)
    assert members is not None
    own = _squared(points, centres).gather(-1, members[..., None]).squeeze(-1)
    return centres, members, own.sum(-1)


def _refilled(members: Tensor, distances: Tensor, k: int) -> Tensor:
    """Members with every empty cluster given the point farthest from its centre, where it is off it at all."""
    counts = torch.nn.functional.one_hot(members, k).sum(2)
    for b, s, empty in (counts == 0).nonzero().tolist():
        own = distances[b, s].gather(-1, members[b, s][:, None]).squeeze(-1).clone()
        sizes = torch.bincount(members[b, s], minlength=k)
        own[sizes[members[b, s]] < 2] = 0  # a cluster's only point stays
        farthest = int(own.argmax())
        if own[farthest] > 0:
            members[b, s, farthest] = empty
    return members


def _ordered(points: Tensor, members: Tensor, k: int, inertia: Tensor, kept: Tensor) -> Clusters:
    """Clusters by size, centres as means of the points themselves (``kept`` for one that stayed empty)."""
    share = torch.nn.functional.one_hot(members, k)
    sizes = share.sum(1)
    n = points.shape[1]
    first = torch.where(share > 0, torch.arange(n)[None, :, None], n).amin(1)
    order = torch.argsort(sizes * (n + 1) - first, dim=1, descending=True)
    sums = torch.einsum("bnk,bnd->bkd", share.to(points.dtype), points)
    means = sums / sizes.clamp_min(1)[..., None]
    centres = torch.where(sizes[..., None] > 0, means, kept + points.mean(1, keepdim=True))
    place = torch.argsort(order, dim=1)
    return Clusters(
        centres=centres.gather(1, order[..., None].expand_as(centres)),
        members=place.gather(1, members),
        sizes=sizes.gather(1, order),
        inertia=inertia,
    )
