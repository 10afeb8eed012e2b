"""The recipe ``compose``: the value of an expression, kept as a direction of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from labtui_artifacts.errors import UsageError

from ..lang.algebra import parse_algebra
from ..lang.sites import Site, parse_site, parse_sites
from ..specs import Compose
from .context import JobContext, Steps
from .decode import new_resolver
from .keep import check_free, keep
from .resolve import Resolver


class ComposeRecipe:
    """One vector a site that all parts have, with the parts' provenance."""

    kind: ClassVar[str] = "compose"

    def __init__(self, spec: Compose) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        check_free(ctx, self.spec.name, self.spec.replace)
        return {"rows": 0, "cells": 0}

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        resolver = new_resolver(ctx, spec.force)
        expr = parse_algebra(spec.expr)
        sites = self._sites(ctx, resolver)
        vectors = {}
        for site in sites:
            vectors[site] = resolver.vector(expr, site)
            yield
        parts = {name: resolver.file(name) for name in expr.names}
        references = {site: (resolver.reference(site, expr), None) for site in sites}
        keep(
            ctx,
            spec.name,
            vectors,
            spec,
            {
                "method": "compose",
                "expression": str(expr),
                "parts": {
                    name: {
                        key: part.meta.get(key)
                        for key in ("method", "style", "pairs", "read", "seed", "spec")
                    }
                    for name, part in parts.items()
                },
                "read": next((part.read for part in parts.values()), "unknown"),
                "notes": sorted(resolver.notes.values()),
            },
            {
                site: pair
                for site, pair in references.items()
                if pair[0] is not None and site not in resolver.references
            },
        )
        norms = {site.short: float(vector.norm()) for site, vector in vectors.items()}
        return {
            "artifact": spec.name,
            "sites": len(sites),
            "norms": norms,
            "notes": sorted(resolver.notes.values()),
        }

    def _sites(self, ctx: JobContext, resolver: Resolver) -> list[Site]:
        """The sites that are asked for, else those that every part has."""
        shape = ctx.loaded.info.shape
        if self.spec.sites:
            return sorted({site for group in parse_sites(self.spec.sites, shape) for site in group})
        expr = parse_algebra(self.spec.expr)
        free = [ref for ref in expr.refs if ref.site is None and ref.name is not None]
        sites = [set(resolver.file(ref.name or "").sites) for ref in free]
        if not sites:
            raise self.spec.refuse(
                "sites", "the expression reads at fixed sites only; say where it is to apply"
            )
        common = set.intersection(*sites)
        if not common:
            raise UsageError(f"compose {expr}: its directions have no site in common")
        return sorted(parse_site(text, shape) for text in common)


def make(spec: Compose) -> ComposeRecipe:
    """The recipe of a checked spec."""
    return ComposeRecipe(spec)
