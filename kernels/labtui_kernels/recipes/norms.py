"""Reference norms of the loaded model: measured once, kept in the store by the model's fingerprint.

The reference norm of a site is the median norm of the residual stream over the content positions of the
bundled neutral set; the mean over all positions, sinks and template tokens included, is kept beside it. At a site of the
vision tower both are over the patches of plain pictures (``neutral.py``).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, UsageError

from ..lang.positions import Where
from ..lang.sites import Site, all_sites, parse_site
from .context import JobContext
from .neutral import neutral_pictures, neutral_prompted
from .prompts import rendered_text

if TYPE_CHECKING:
    from ..models.info import ModelInfo

KIND = "activations"  # the kind that summaries of activations are kept as
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Norms:
    """Norms of one site: ``median`` over content positions, ``mean`` over all of them."""

    median: float
    mean: float


_measured: WeakKeyDictionary[Any, dict[Site, Norms]] = WeakKeyDictionary()


def artifact_name(info: ModelInfo) -> str:
    """Under which a model's reference norms are kept."""
    precision = (info.quantisation or info.dtype).lower().replace("/", "-")
    return f"reference-{info.weight_hash[:12].lower()}-{precision}"


def known(ctx: JobContext) -> dict[Site, Norms]:
    """The reference norms measured so far on this model (a live map)."""
    if ctx.engine not in _measured:
        _measured[ctx.engine] = _stored(ctx)
    return _measured[ctx.engine]


def _stored(ctx: JobContext) -> dict[Site, Norms]:
    name = artifact_name(ctx.loaded.info)
    if name not in ctx.store:
        return {}
    try:
        file = ctx.store.get(name, kind=KIND)
        sites = [parse_site(text, ctx.loaded.info.shape) for text in file.meta["sites"]]
        columns = zip(sites, file.tensor("median").tolist(), file.tensor("mean").tolist(), strict=True)
        return {site: Norms(float(median), float(mean)) for site, median, mean in columns}
    except (BadFile, UsageError, KeyError, TypeError, ValueError):
        return {}  # a damaged copy is measured again and replaced


def medians(ctx: JobContext) -> dict[Site, float]:
    """Site to reference norm, of those measured."""
    return {site: norms.median for site, norms in known(ctx).items()}


def measure(
    ctx: JobContext, sites: Iterable[Site], name: str = NEUTRAL
) -> Generator[None, None, dict[Site, Norms]]:
    """Measure what is not known of ``sites`` (and of every block's output there, which costs no more)."""
    have = known(ctx)
    wanted = set(sites)
    if wanted <= set(have) and name == NEUTRAL:
        return {site: have[site] for site in wanted}
    ctx.budget("reference", 900)
    found: dict[Site, Norms] = {}
    before = set(have) if name == NEUTRAL else set()
    if seen := _order(ctx, wanted, before, "vision"):
        found |= yield from _pictures(ctx, seen)
    if said := _order(ctx, wanted, before, "llm"):
        found |= yield from _prompts(ctx, said, name)
    if name == NEUTRAL:
        have.update(found)
        _save(ctx, have)
        return {site: have[site] for site in wanted}
    return {site: found[site] for site in wanted}


def _order(ctx: JobContext, wanted: set[Site], before: set[Site], tower: str) -> list[Site]:
    """The sites of a tower to measure; none where none of them is wanted."""
    here = {site for site in wanted - before if site.tower == tower}
    outputs = {
        site for site in all_sites(ctx.loaded.info.shape) if site.tower == tower and site.point == "out"
    }
    return sorted(here | (outputs - before)) if here else []


def _prompts(ctx: JobContext, order: list[Site], name: str) -> Generator[None, None, dict[Site, Norms]]:
    chosen = library.prompt_set(name)
    prompts = [rendered_text(ctx, text, chosen.system) for text in chosen.prompts]
    inside: dict[Site, list[np.ndarray]] = {site: [] for site in order}
    everywhere: dict[Site, list[np.ndarray]] = {site: [] for site in order}
    done = 0
    reads = [prompt.to_read() for prompt in prompts]
    for members, readings in ctx.engine.capture_parts(reads, order, pooling="none", where=Where("prompt")):
        content = np.concatenate([prompts[i].content for i in members]) if members else np.zeros(0, bool)
        for site, reading in readings.items():
            norms = torch.linalg.vector_norm(reading, dim=-1).double().numpy()
            everywhere[site].append(norms)
            inside[site].append(norms[content])
        done += len(members)
        ctx.progress(done, len(prompts), "neutral prompts")
        yield
    return {site: _summary(inside[site], everywhere[site]) for site in order}


def _pictures(ctx: JobContext, order: list[Site]) -> Generator[None, None, dict[Site, Norms]]:
    """At the vision tower's sites: over every patch of the plain pictures."""
    prompts = [prompt.to_read() for _, prompt in neutral_prompted(ctx)]
    norms: dict[Site, list[np.ndarray]] = {site: [] for site in order}
    done = 0
    for members, readings in ctx.engine.capture_parts(prompts, order, pooling="none", where=Where("image")):
        for site, reading in readings.items():
            norms[site].append(torch.linalg.vector_norm(reading, dim=-1).double().numpy())
        done += len(members)
        ctx.progress(done, len(prompts), "neutral pictures")
        yield
    return {site: _summary(norms[site], norms[site]) for site in order}


def _summary(inside: Sequence[np.ndarray], everywhere: Sequence[np.ndarray]) -> Norms:
    return Norms(float(np.median(np.concatenate(inside))), float(np.mean(np.concatenate(everywhere))))


def _save(ctx: JobContext, norms: dict[Site, Norms]) -> None:
    sites = sorted(norms)
    info = ctx.loaded.info
    ctx.save_artifact(
        artifact_name(info),
        KIND,
        {
            "median": np.array([norms[site].median for site in sites]),
            "mean": np.array([norms[site].mean for site in sites]),
        },
        {
            "sites": [str(site) for site in sites],
            "model": info.to_dict(),
            "set": NEUTRAL,
            "prompts": len(library.prompt_set(NEUTRAL).prompts),
            "pictures": len(neutral_pictures()) if any(site.tower == "vision" for site in sites) else 0,
            "what": "median norm over content positions, mean norm over all positions; over patches in a vision tower",
        },
    )
