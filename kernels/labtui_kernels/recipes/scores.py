"""Where states stand along directions, each against the others: what a probe or a stored direction says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from labtui_artifacts.errors import UsageError

from ..lang.algebra import DirectionExpr, parse_algebra
from ..lang.sites import Site
from ..specs.diagnose import EVERY
from .resolve import Resolver

MOST_SCORED = 12
"""Directions that ``*`` stands for at most, by name."""
ALONE = "there is one patch"


def vectors_along(resolver: Resolver, expr: DirectionExpr, sites: Sequence[Site]) -> dict[Site, torch.Tensor]:
    """A direction's vectors at those of ``sites`` where it has one of that width, not zero. UsageError, which says why,
    where it has none at all, and for a name that is not stored."""
    for name in expr.names:
        resolver.file(name)
    found: dict[Site, torch.Tensor] = {}
    why = UsageError(f"direction {expr}: it is zero at every site that is read")
    for site in sites:
        try:
            vector = resolver.vector(expr, site)
        except UsageError as problem:
            why = problem
            continue
        if float(vector.double().norm()):
            found[site] = vector
    if not found:
        raise why
    return found


def vectors_of(
    resolver: Resolver, named: Sequence[str], sites: Sequence[Site]
) -> dict[str, dict[Site, torch.Tensor]]:
    """By the text of a direction, or of an expression of some, its vectors by site; ``*`` is put out as the stored ones
    of the loaded model that have a vector at one of the sites, the first `MOST_SCORED` by name; the resolver's notes say
    when there were more. UsageError for a named one that has not."""
    texts = [text for text in named if text != EVERY]
    found = {str(expr): vectors_along(resolver, expr, sites) for expr in map(parse_algebra, texts)}
    every = 0
    for name in resolver.fitting() if EVERY in named else ():
        try:
            along = vectors_along(resolver, parse_algebra(name), sites)
        except UsageError:
            continue  # one of the tower alone, say, where the decoder is looked at
        if every == MOST_SCORED:
            resolver.notes[EVERY] = (
                f"of the stored directions the first {MOST_SCORED} are scored; name others"
            )
            break
        found.setdefault(name, along)
        every += 1
    return found


def score(states: torch.Tensor, vector: torch.Tensor) -> list[dict[str, Any]]:
    """A row a state of ``states`` [n, d], in order, along ``vector`` [d] of any length but zero.

    ``projection`` is the scalar projection h·v/|v| (what a linear probe with these weights says, up to its scale and
    bias), ``cosine`` is h·v/(|h||v|), ``rank`` counts from 1, the largest projection, and ``percentile`` is the share
    of the *other* states with a smaller projection, in %, ties counted half.
    """
    values, along = states.double(), vector.double()
    size = along.norm()
    if not float(size):
        raise ValueError("expected a vector that is not zero")
    projections = values @ (along / size)
    cosines = projections / values.norm(dim=1).clamp_min(1e-30)
    rows = []
    for projection, cosine in zip(projections, cosines, strict=True):
        above, below = int((projections > projection).sum()), int((projections < projection).sum())
        others = len(values) - 1
        row: dict[str, Any] = {
            "projection": float(projection), "cosine": float(cosine), "rank": above + 1, "percentile": None,
        }  # fmt: skip
        if others:
            row["percentile"] = round(100 * (below + (others - above - below) / 2) / others, 2)
        else:
            row["reasons"] = {"percentile": ALONE}
        rows.append(row)
    return rows


def score_rows(
    site: Site, states: torch.Tensor, vectors: Mapping[str, Mapping[Site, torch.Tensor]], cols: int
) -> list[dict[str, Any]]:
    """The rows of a table of scores at one site: a row a patch and direction that has a vector there."""
    return [
        {
            "site": site.short,
            "patch": patch,
            "row": patch // cols,
            "col": patch % cols,
            "direction": text,
            **row,
        }
        for text, at in vectors.items()
        if site in at
        for patch, row in enumerate(score(states, at[site]))
    ]
