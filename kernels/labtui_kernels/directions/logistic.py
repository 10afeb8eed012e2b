"""L2-regularised logistic regression between two poles, for all sites at once.

Minimises  |w|^2 / 2 + C * sum_i log(1 + exp(-y_i (w.x_i + b)))  over w and an unpenalised b, the objective of
scikit-learn's ``LogisticRegression``, by damped Newton steps. The minimum lies in the span of the points, so
with fewer points than dimensions the problem is solved in their principal coordinates, which changes nothing
but the cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

C = 1.0
STEPS = 100
TOLERANCE = 1e-8
MEMORY = 256 << 20  # bytes of Hessians held at once


def logistic_normals(positive: Tensor, negative: Tensor, c: float = C) -> Tensor:
    """Normals ``[sites, width]`` that point from the negative to the positive pole.

    ``positive`` and ``negative`` are ``[sites, n, width]``. Each site's points are centred and divided by one
    number, their root-mean-square norm over the root of the width, so that ``c`` means the same at every
    scale.
    """
    points = torch.cat([positive, negative], 1)
    labels = torch.ones(points.shape[:2], dtype=points.dtype)
    labels[:, positive.shape[1] :] = -1
    points = points - points.mean(1, keepdim=True)
    scale = points.square().mean((1, 2), keepdim=True).sqrt()
    points = points / torch.where(scale > 0, scale, 1.0)
    side = min(points.shape[1], points.shape[2]) + 1
    chunk = max(1, MEMORY // (8 * side * side))
    parts = zip(points.split(chunk), labels.split(chunk), strict=True)
    return torch.cat([_solve(x, y, c) for x, y in parts])


def _solve(points: Tensor, labels: Tensor, c: float) -> Tensor:
    if points.shape[1] >= points.shape[2]:
        return newton(points, labels, c)[0]
    basis = torch.linalg.svd(points, full_matrices=False)[2]  # [sites, n, width], rows orthonormal
    weights, _ = newton(points @ basis.transpose(1, 2), labels, c)
    return torch.einsum("sr,srd->sd", weights, basis)


def newton(points: Tensor, labels: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Weights ``[sites, width]`` and intercepts ``[sites]`` at the minimum; points ``[sites, n, width]``."""
    sites, _, width = points.shape
    design = torch.cat([points, torch.ones_like(points[:, :, :1])], 2)
    penalty = torch.ones(width + 1, dtype=points.dtype)
    penalty[-1] = 0
    theta = torch.zeros(sites, width + 1, dtype=points.dtype)

    def loss(at: Tensor) -> Tensor:
        margins = labels * torch.einsum("snd,sd->sn", design, at)
        return (penalty * at.square()).sum(1) / 2 + c * softplus(-margins).sum(1)

    for _ in range(STEPS):
        margins = labels * torch.einsum("snd,sd->sn", design, theta)
        wrong = torch.sigmoid(-margins)
        gradient = penalty * theta - c * torch.einsum("sn,snd->sd", labels * wrong, design)
        if gradient.abs().max() < TOLERANCE:
            break
        curvature = c * wrong * (1 - wrong)
        hessian = torch.einsum("sn,sni,snj->sij", curvature, design, design) + torch.diag(penalty)
        # The intercept is not penalised: a trace of it keeps the matrix regular where margins are saturated.
        hessian[:, -1, -1] += 1e-12
        step = torch.linalg.solve(hessian, gradient)
        theta = _descend(theta, step, gradient, loss)
    return theta[:, :-1], theta[:, -1]


def _descend(theta: Tensor, step: Tensor, gradient: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """A Newton step a site, halved until the loss falls by a share of what the slope promises (Armijo)."""
    before, slope = loss(theta), (gradient * step).sum(1)
    size = torch.ones_like(before)
    for _ in range(40):
        short = loss(theta - size[:, None] * step) > before - 1e-4 * size * slope + 1e-14
        if not short.any():
            break
        size = torch.where(short, size / 2, size)
    return theta - size[:, None] * step
