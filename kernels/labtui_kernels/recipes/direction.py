"""The recipe ``direction``: both poles read at every site in one pass, and the direction between them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar

import torch

from ..directions.estimate import Estimate, estimate_all
from ..directions.nulls import shuffled_directions
from ..directions.randoms import random_direction
from ..directions.stability import signal_to_noise
from ..lang.sites import Site, parse_sites, site_width
from ..lang.strength import parse_strength
from ..specs import Direction, check_pictures
from ..specs.plan import count
from . import norms, poles
from .context import JobContext, Steps
from .keep import check_free, finite, keep

TABLE = "anatomy"
SHUFFLED = 20
"""Directions with permuted labels that are kept beside each direction."""


class DirectionRecipe:
    """A direction from contrast pairs, or a random one of a given norm."""

    kind: ClassVar[str] = "direction"

    def __init__(self, spec: Direction) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        check_free(ctx, self.spec.name, self.spec.replace)
        check_pictures(self.spec, ctx.loaded.info.shape)
        return count(self.spec, ctx.loaded.info.shape)

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        groups = parse_sites(spec.sites, ctx.loaded.info.shape)
        sites = sorted({site for group in groups for site in group})
        references = yield from norms.measure(ctx, sites)
        if spec.method == "random":
            return self._random(ctx, sites, references)
        positive, negative = yield from self._capture(ctx, sites)
        ctx.budget("estimate", poles.BUDGET)
        yield
        found = estimate_all(spec.method, positive, negative, spec.seed)
        noise = signal_to_noise(positive, negative)
        lines = [_line(site, found[site], noise[site], references[site]) for site in sites]
        pairs = found[sites[0]].pairs
        read = spec.read if sites[-1].tower == "llm" else poles.read_at(sites[-1], spec.read)
        yield
        nulls = self._shuffled(positive, negative)
        keep(
            ctx,
            spec.name,
            {site: found[site].vector for site in sites},
            spec,
            {
                "method": spec.method,
                "style": spec.style,
                "pairs": pairs,
                "read": read,
                "seed": spec.seed,
                "gaps": {str(site): found[site].gap for site in sites},
                "split_half": _numbers(sites, lines, "split_half"),
                "accuracy": _numbers(sites, lines, "accuracy"),
                "snr": _numbers(sites, lines, "snr"),
                "explained": _numbers(sites, lines, "explained"),
                "shuffled": SHUFFLED if nulls else 0,
            },
            shuffled=nulls,
        )
        return self._tell(ctx, lines, pairs)

    def _shuffled(
        self, positive: dict[Site, torch.Tensor], negative: dict[Site, torch.Tensor]
    ) -> dict[Site, torch.Tensor]:
        """Controls that lie beside the direction, since only here its poles are at hand; none from one pair."""
        spec = self.spec
        if spec.method == "pair" or len(next(iter(positive.values()))) < 2:
            return {}
        return shuffled_directions(spec.method, positive, negative, SHUFFLED, seed=spec.seed)

    def _tell(self, ctx: JobContext, lines: list[dict[str, Any]], pairs: int) -> dict[str, Any]:
        """Commit the anatomy table: how strong and how stable the direction is at each site."""
        spec = self.spec
        rows = [{"direction": spec.name, **line} for line in lines]
        cell = f"{spec.name}@{ctx.job}"
        if cell not in ctx.committed:
            ctx.emit("cell.committed", {"cell": cell, "table": TABLE, "rows": rows})
        return {"artifact": spec.name, "sites": len(lines), "pairs": pairs, "table": TABLE}

    def _capture(
        self, ctx: JobContext, sites: Sequence[Site]
    ) -> Generator[None, None, tuple[dict[Site, torch.Tensor], dict[Site, torch.Tensor]]]:
        """Activations [pairs, d] of both poles at every site, all in one pass over the prompts."""
        positive, negative = poles.pairs(ctx, self.spec)
        table = yield from poles.capture(ctx, [*positive, *negative], sites, self.spec.read)
        half = len(positive)
        return (
            {site: readings[:half] for site, readings in table.items()},
            {site: readings[half:] for site, readings in table.items()},
        )

    def _random(
        self, ctx: JobContext, sites: Sequence[Site], references: dict[Site, norms.Norms]
    ) -> dict[str, Any]:
        spec = self.spec
        wanted = parse_strength(spec.norm)
        vectors: dict[Site, torch.Tensor] = {}
        lines: list[dict[str, Any]] = []
        for site in sites:
            norm = wanted.to_alpha(1.0, references[site].median)
            width = site_width(site, ctx.loaded.info.shape)
            vectors[site] = random_direction(spec.seed, width, norm=norm, stream=site)
            lines.append({"site": site.short, "norm": norm, **_relative(norm, references[site])})
        meta = {"method": "random", "pairs": 0, "seed": spec.seed, "norm": spec.norm}
        keep(ctx, spec.name, vectors, spec, meta)
        return self._tell(ctx, lines, 0)


def _relative(norm: float, reference: norms.Norms) -> dict[str, float]:
    return {
        "pct": 100 * norm / reference.median,
        "reference": reference.median,
        "reference_mean": reference.mean,
    }


def _line(site: Site, found: Estimate, noise: float, reference: norms.Norms) -> dict[str, Any]:
    """A site's row of the anatomy table; a number that does not exist is None with its reason."""
    line: dict[str, Any] = {
        "site": site.short,
        "norm": found.norm,
        **_relative(found.norm, reference),
        "gap": found.gap,
        "snr": finite(noise),
        "explained": found.explained,
        "split_half": finite(found.split_half),
        "accuracy": finite(found.accuracy),
    }
    reasons = {
        "snr": "the poles have no spread" if found.pairs > 1 else "one pair has no spread",
        "split_half": "halves need two pairs each",
        "accuracy": "halves need two pairs each",
    }
    absent = {name: reason for name, reason in reasons.items() if line[name] is None}
    return {**line, "reasons": absent} if absent else line


def _numbers(sites: Sequence[Site], lines: Sequence[dict[str, Any]], column: str) -> dict[str, float]:
    """Site to number, of the sites that have one."""
    pairs = zip(sites, lines, strict=True)
    return {str(site): line[column] for site, line in pairs if line[column] is not None}


def make(spec: Direction) -> DirectionRecipe:
    """The recipe of a checked spec."""
    return DirectionRecipe(spec)
