"""Embeddings of Stroop pictures in the vision tower, the chunks made from them, and their cosine evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labtui_artifacts.kinds import chunks as kind
from labtui_sessions.stats.null import percentile

from ..directions.chunks import Chunks, chunks, deltas
from ..directions.estimate import unit
from ..directions.gains import gains, label_means
from ..lang.positions import Where
from ..lang.sites import Site, site_width
from ..specs import Message, Stroop, as_messages
from ..specs.stroop import QUESTIONS, direction_name
from .context import JobContext
from .prompts import Prompted, rendered
from .stroop_pictures import Sets, Shown

BUDGET = 600.0
TOGETHER = 64
"""Pictures that are prepared and read at a time."""
TO = {"text_only": "word", "color_only": "ink"}
"""What cosines are taken to, and the sort of its labels."""

Embeddings = dict[Site, Tensor]


def question(spec: Stroop, shown: Shown, name: str) -> tuple[Message, ...]:
    """The chat that asks a picture's ``ink`` or ``word``."""
    turn = Message(role="user", content=spec.question(name), images=[shown.picture.digest])
    return tuple(as_messages([turn], spec.system))


def prompted(ctx: JobContext, spec: Stroop, shown: Shown, name: str) -> Prompted:
    """The same as tokens and pixels, with the patches marked that the stimulus covers."""
    given = {shown.picture.digest: shown.picture}
    found = rendered(ctx, question(spec, shown, name), spec.thinking, spec.prefill, given=given)
    spans = tuple(dataclasses.replace(s, ink=shown.stimulus.marks(s.rows, s.cols)) for s in found.images)
    return dataclasses.replace(found, images=spans)


def embed(
    ctx: JobContext, spec: Stroop, shown: Sequence[Shown], sites: Sequence[Site]
) -> Generator[None, None, Embeddings]:
    """The pooled embedding of every picture at every site: float32 [pictures, d] each."""
    shape = ctx.loaded.info.shape
    table = {site: torch.empty(len(shown), site_width(site, shape)) for site in sites}
    where = Where("ink" if spec.pool == "ink" else "image")
    done = 0
    for first in range(0, len(shown), TOGETHER):
        part = shown[first : first + TOGETHER]
        prompts = [prompted(ctx, spec, one, "ink").to_read() for one in part]
        ctx.budget("capture", BUDGET)
        for members, readings in ctx.engine.capture_parts(prompts, sites, pooling="mean", where=where):
            lines = [first + member for member in members]
            for site, reading in readings.items():
                table[site][lines] = reading
            done += len(members)
            ctx.progress(done, len(shown), "embeddings")
            yield
    return table


# -- chunks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Made:
    """What edits are composed of: by name of a direction and site, its vector [d] and those with permuted labels
    [P, d], float32."""

    vectors: Mapping[str, Mapping[Site, Tensor]]
    permuted: Mapping[str, Mapping[Site, Tensor]]

    def stacked(self, spec: Stroop, labels: Sequence[str], sort: str, site: Site) -> tuple[Tensor, Tensor]:
        """The vectors of a sort in the order of ``labels`` [L, d], and the permuted ones [P, L, d]."""
        names = [direction_name(spec.name, sort, label) for label in labels]
        vectors = torch.stack([self.vectors[name][site] for name in names])
        return vectors, torch.stack([self.permuted[name][site] for name in names], 1)


Found = dict[tuple[str, Site], Chunks]


def chunked(spec: Stroop, sets: Sets, tables: Mapping[str, Embeddings]) -> Generator[None, None, Found]:
    """The chunks of both sorts at every site, from the embeddings of the build pictures by sort."""
    found: Found = {}
    for sort in QUESTIONS:
        of = sets.index(sets.build[sort], sort)
        for site, table in tables[sort].items():
            found[sort, site] = chunks(
                table, of, sets.labels, k=spec.clusters, permutations=spec.permutations, seed=spec.seed
            )
            yield
    return found


def as_directions(spec: Stroop, sets: Sets, found: Found) -> Made:
    """The chunks (or the class means, each less the mean of all) as vectors by direction and site."""
    vectors: dict[str, dict[Site, Tensor]] = {}
    permuted: dict[str, dict[Site, Tensor]] = {}
    for (sort, site), chunk in found.items():
        if spec.method == "chunks":
            real, nulls = chunk.representatives, chunk.permuted
        else:
            real = chunk.means - chunk.means.mean(0)
            nulls = chunk.permuted_means - chunk.permuted_means.mean(1, keepdim=True)
        # As a direction's file keeps them: unit vectors of 16 bits, at the norm of the real one.
        nulls = unit(nulls).half().float() * real.norm(dim=-1)[None, :, None]
        for number, label in enumerate(sets.labels):
            name = direction_name(spec.name, sort, label)
            vectors.setdefault(name, {})[site] = real[number]
            permuted.setdefault(name, {})[site] = nulls[:, number]
    return Made(vectors, permuted)


def as_artifact(
    found: Found, references: Mapping[Site, float], meta: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and meta of the artifact ``chunks``."""
    stored = {
        (sort, str(site)): kind.Chunk(
            chunk.labels,
            chunk.centroids.numpy(),
            chunk.norms.numpy(),
            chunk.sizes.numpy(),
            chunk.means.numpy(),
        )
        for (sort, site), chunk in found.items()
    }
    return kind.build(stored, references={str(s): n for s, n in references.items()}, meta=meta)


def chunk_rows(found: Found, site: Site) -> list[dict[str, Any]]:
    """What the table of chunks says of a site: a row a sort and label."""
    rows: list[dict[str, Any]] = []
    for (sort, where), chunk in found.items():
        if where != site:
            continue
        middle = chunk.means.mean(0)
        for number, label in enumerate(chunk.labels):
            first = chunk.representatives[number]
            own = chunk.means[number] - middle
            ours = first - chunk.representatives.mean(0)
            rows.append(
                {
                    "sort": sort,
                    "label": label,
                    "site": site.short,
                    "sizes": chunk.sizes[number].tolist(),
                    "norms": chunk.norms[number].tolist(),
                    "images": int(chunk.sizes[number].sum()),
                    "spread": float(chunk.spread[number]),
                    "between": float(first @ chunk.centroids[number, -1]),
                    "mean_cosine": float(unit(own) @ unit(ours)),
                    "gap": float(own.norm()),
                }
            )
    return rows


# -- cosines --------------------------------------------------------------------------------------------


def cosine_rows(
    spec: Stroop,
    sets: Sets,
    site: Site,
    made: Made,
    chosen: Tensor,
    references: Mapping[str, Tensor],
    reference: float,
) -> list[dict[str, Any]]:
    """The cosine evaluation at a site: a row a delta, strength and reference.

    ``chosen`` [pictures, d] are the embeddings of the pictures that are edited, each towards every colour that is
    neither its ink nor its word; ``references`` by sort those of the held-out pictures, whose mean by label is what
    cosines are taken to. ``reference``: the site's reference norm.
    """
    labels = sets.labels
    pairs = [
        (row, target)
        for row, one in enumerate(sets.choose)
        for target, label in enumerate(labels)
        if label not in (one.ink, one.word)
    ]
    rows, target = torch.tensor(pairs).T
    ink = torch.tensor(sets.index(sets.choose, "ink"))[rows]
    word = torch.tensor(sets.index(sets.choose, "word"))[rows]
    color, color_nulls = made.stacked(spec, labels, "ink", site)
    text, text_nulls = made.stacked(spec, labels, "word", site)
    aims = {
        to: label_means(references[sort], torch.tensor(sets.index(sets.references[sort], sort)), len(labels))
        for to, sort in TO.items()
    }
    found: list[dict[str, Any]] = []
    for delta in spec.deltas:
        edits = deltas(delta, color, text, ink, word, target)
        nulls = deltas(delta, color_nulls, text_nulls, ink, word, target)
        for strength in spec.percents:
            norm = strength.to_alpha(1.0, reference)
            for to, aim in aims.items():
                real = gains(chosen[rows], edits, norm, aim, target)
                null = gains(chosen[rows], nulls, norm, aim, target).net.mean(-1)
                bound = float(percentile(null.numpy()[None])[0])
                net = float(real.net.mean())
                found.append(
                    {
                        "delta": delta,
                        "site": site.short,
                        "to": to,
                        "strength_text": str(strength),
                        "strength_abs": norm,
                        "strength_pct": norm / reference * 100,
                        "before": float(real.before.mean()),
                        "after": float(real.after.mean()),
                        "gain": float(real.towards.mean()),
                        "others": float(real.others.mean()),
                        "net": net,
                        "null_mean": float(null.mean()),
                        "null_95": bound,
                        "beyond": net > bound,
                        "permutations": len(null),
                        "pairs": len(pairs),
                        "pictures": len(sets.choose),
                    }
                )
    return found
