"""Direction algebra on vectors: what ``0.5*terse - 0.2*formal`` is at a site."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from labtui_artifacts.errors import UsageError
from labtui_kernels.directions.randoms import random_direction
from labtui_kernels.lang.algebra import DirectionExpr, Ref, parse_algebra
from labtui_kernels.lang.sites import Site


class Lookup(Protocol):
    """A stored direction's vector ``[width]`` at a site; raises UsageError when it has none there.

    With ``shuffled``, the one of that number that was fitted with permuted labels.
    """

    def __call__(self, name: str, site: Site, shuffled: int | None = None, /) -> Tensor: ...


def compose(
    expression: DirectionExpr | str, site: Site, width: int, lookup: Lookup, shuffled: int | None = None
) -> Tensor:
    """The expression's vector at ``site``, float32 ``[width]``.

    ``random:SEED`` is a unit vector of its own at every site; with ``~other`` it has the norm of that
    expression. ``shuffled:K~other`` is that expression of its directions' K-th shuffled ones (which is what
    ``shuffled=K`` asks for), at the norm of the real ones. UsageError when a direction is missing, or was
    read at a site of another width.
    """
    parsed = parse_algebra(expression) if isinstance(expression, str) else expression
    total = torch.zeros(width, dtype=torch.float64)
    for (coefficient, _), ref in zip(parsed.terms, parsed.refs, strict=True):
        total += coefficient * _vector(ref, site, width, lookup, shuffled).double()
    return total.float()


def _vector(ref: Ref, site: Site, width: int, lookup: Lookup, shuffled: int | None) -> Tensor:
    if ref.name is None:
        assert ref.seed is not None
        like = None if ref.like is None else compose(ref.like, site, width, lookup)
        norm = 1.0 if like is None else float(like.double().norm())
        if not ref.shuffled:
            return random_direction(ref.seed, width, norm=norm, stream=site)
        assert ref.like is not None
        null = compose(ref.like, site, width, lookup, ref.seed).double()
        return (null * (norm / null.norm().clamp_min(1e-30))).float()
    read_at = ref.site or site
    vector = lookup(ref.name, read_at, shuffled)
    if vector.shape != (width,):
        raise UsageError(
            f"direction {ref.name} has width {vector.shape[-1]} at {read_at.short}, but {site.short} has "
            f"width {width}; read it at a site of equal width"
        )
    return vector
