"""The residual stream of many prompts in two dimensions: principal components with signs that are fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError

COMPONENTS = 2
_SAME = 1e-6
"""Pole means that differ by less than this share of a component's spread do not decide its sign."""


@dataclass(frozen=True)
class Landscape:
    """A plane through the points of one site.

    ``components`` is float64 ``[2, width]``, orthonormal (a row of zeros where the points have no second
    dimension); ``centre`` the mean of all points ``[width]``; ``explained`` the share of the points' variance
    along each component; ``points`` has each group's coordinates ``[n, 2]`` in activation units, and ``means``
    those of its mean ``[2]``.
    """

    components: Tensor
    centre: Tensor
    explained: tuple[float, float]
    points: Mapping[str, Tensor]
    means: Mapping[str, Tensor]


def landscape(groups: Mapping[str, Tensor]) -> Landscape:
    """The first two principal components of all points of ``groups`` (name to ``[n, width]``) together.

    The points are centred on their common mean and weigh equally. A component points to where the mean of
    ``positive`` lies above that of ``negative``; where the two do not differ along it, or are not there, its
    largest entry is positive. UsageError for no points, or some that are not finite.
    """
    everything = torch.cat([points.double() for points in groups.values()]) if groups else torch.empty(0, 0)
    if not len(everything):
        raise UsageError("a landscape needs points, at least one")
    if not bool(everything.isfinite().all()):
        raise UsageError("a landscape needs finite activations")
    centre = everything.mean(0)
    _, sizes, rows = torch.linalg.svd(everything - centre, full_matrices=False)
    components = torch.zeros(COMPONENTS, everything.shape[1], dtype=torch.float64)
    kept = min(COMPONENTS, len(rows))
    rounding = float(sizes[0]) * max(everything.shape) * torch.finfo(torch.float64).eps
    components[:kept] = rows[:kept] * (sizes[:kept, None] > rounding)
    total = float(sizes.square().sum())
    shares = [float(size) ** 2 / total if total else 0.0 for size in sizes[:kept]]
    spread = sizes / max(1, len(everything)) ** 0.5
    for index in range(kept):
        components[index] *= _sign(components[index], groups, float(spread[index]))
    points = {name: (found.double() - centre) @ components.T for name, found in groups.items()}
    return Landscape(
        components,
        centre,
        (shares[0], shares[1] if kept > 1 else 0.0),
        points,
        {name: found.mean(0) for name, found in points.items() if len(found)},
    )


def _sign(component: Tensor, groups: Mapping[str, Tensor], spread: float) -> float:
    positive, negative = groups.get("positive"), groups.get("negative")
    if positive is not None and negative is not None and len(positive) and len(negative):
        gap = float((positive.double().mean(0) - negative.double().mean(0)) @ component)
        if abs(gap) > _SAME * spread:
            return 1.0 if gap > 0 else -1.0
    return -1.0 if float(component[component.abs().argmax()]) < 0 else 1.0
