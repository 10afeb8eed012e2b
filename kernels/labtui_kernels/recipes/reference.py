"""The recipe ``reference``: the reference norms of the loaded model, measured where they are not known."""

from __future__ import annotations

from typing import Any, ClassVar

from labtui_artifacts import library

from ..lang.sites import parse_sites, site_width
from ..specs import Reference
from . import norms
from .context import JobContext, Steps

TABLE = "reference"


class ReferenceRecipe:
    """The median norm over content positions, and the mean over all positions, per site."""

    kind: ClassVar[str] = "reference"

    def __init__(self, spec: Reference) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        sites = parse_sites(self.spec.sites, ctx.loaded.info.shape)
        return {
            "rows": 0,
            "cells": 1,
            "sites": len(sites),
            "prompts": len(library.prompt_set(self.spec.set).prompts),
        }

    def run(self, ctx: JobContext) -> Steps:
        shape = ctx.loaded.info.shape
        sites = sorted({site for group in parse_sites(self.spec.sites, shape) for site in group})
        found = yield from norms.measure(ctx, sites, self.spec.set)
        rows = [
            {
                "site": site.short,
                "width": site_width(site, shape),
                "median": found[site].median,
                "mean": found[site].mean,
            }
            for site in sites
        ]
        cell = f"{self.spec.set}:{self.spec.sites}"
        if cell not in ctx.committed:
            ctx.emit("cell.committed", {"cell": cell, "table": TABLE, "rows": rows})
        return {"sites": len(rows), "set": self.spec.set, "table": TABLE}


def make(spec: Reference) -> ReferenceRecipe:
    """The recipe of a checked spec."""
    return ReferenceRecipe(spec)
