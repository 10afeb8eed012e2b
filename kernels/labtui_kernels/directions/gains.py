"""Cosine evaluation of edits: how much nearer to their target they bring embeddings than to the other labels.

Adding a class centroid raises the cosine to that class by construction, so the number that is reported is the
gain towards the target minus the mean gain towards the other labels, and it is held against the same number of
chunks with permuted labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labtui_kernels.directions.estimate import unit


@dataclass(frozen=True, eq=False)
class Gains:
    """Of m edited embeddings, float64 ``[..., m]``: the cosine to the target before and after, and the mean gain of
    the cosine to the other labels."""

    before: Tensor
    after: Tensor
    others: Tensor

    @property
    def towards(self) -> Tensor:
        """The gain of the cosine to the target, ``[..., m]``."""
        return self.after - self.before

    @property
    def net(self) -> Tensor:
        """The gain towards the target minus the mean gain towards the others, ``[..., m]``."""
        return self.towards - self.others


def label_means(points: Tensor, of: Tensor, labels: int) -> Tensor:
    """The mean embedding ``[labels, d]`` of each label, of embeddings ``[n, d]`` with labels ``of`` ``[n]``."""
    sums = torch.zeros(labels, points.shape[1], dtype=torch.float64).index_add_(0, of, points.double())
    return sums / torch.bincount(of, minlength=labels).clamp_min(1)[:, None]


def gains(points: Tensor, edits: Tensor, norm: float, references: Tensor, target: Tensor) -> Gains:
    """Cosines of ``points`` ``[m, d]`` to ``references`` ``[L, d]`` before and after an edit of norm ``norm``.

    ``edits`` ``[..., m, d]`` are scaled to that norm; leading axes are repetitions, as with permuted labels.
    ``target`` ``[m]`` is the label that each is turned to; all other references are *the others*.
    """
    start, aims = points.double(), unit(references.double())
    after = unit(start + norm * unit(edits.double())) @ aims.T
    before = (unit(start) @ aims.T).expand_as(after)
    chosen = torch.nn.functional.one_hot(target, len(aims)).bool().expand_as(after)
    rest = ~chosen
    others = ((after - before) * rest).sum(-1) / rest.sum(-1).clamp_min(1)
    shape = after.shape[:-1]
    return Gains(before[chosen].reshape(shape), after[chosen].reshape(shape), others)
