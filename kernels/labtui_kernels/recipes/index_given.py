"""An index of vectors that another program read: checked against the model at hand, then kept as any other.

What is checked: the layers are hidden states that the model has, of its width; each row's token stands in its caption
where the row says, by the model's own tokenizer; and the model gives the same vectors (by cosine) for some captions.
Vectors may have been cut to length 1, so that their norms and their mean say nothing: such an index is searched raw.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labtui_artifacts.errors import BadFile
from labtui_artifacts.exchange import latentlens
from labtui_artifacts.exchange.latentlens import Converted
from labtui_artifacts.kinds import index

from ..engine.capture import Prompt
from ..lang.positions import Where
from ..lang.sites import Site
from ..models.chat import plain_tokens
from ..neighbours.reading import SHARD_BYTES
from ..specs import Index
from ..specs.index import index_sites
from .context import JobContext

TRIED = 16
"""Captions that the model reads again."""
ALIKE = 0.95
"""The least median cosine at a site between what is kept and what the model gives."""
UNIT = 0.01
"""How far from 1 all vectors' lengths may be to count as cut to it."""


def opened(ctx: JobContext, spec: Index) -> tuple[Converted, dict[Site, int]]:
    """The folder of a spec and the layer of each site. UsageError for layers or a width that the model does not have."""
    given = latentlens.read(Path(spec.vectors).expanduser())
    shape = ctx.loaded.info.shape
    if given.width != shape.width:
        raise spec.refuse(
            "vectors",
            f"{given.folder} has vectors of width {given.width}; {ctx.loaded.info.name} has width {shape.width}",
        )
    found: dict[Site, int] = {}
    for layer in given.layers:
        if layer > shape.blocks:
            raise spec.refuse(
                "vectors",
                f"{given.folder} has hidden state {layer}; {ctx.loaded.info.name} has 0 to {shape.blocks}",
            )
        found[_site(layer, shape.blocks)] = layer
    if spec.sites:
        wanted = index_sites(spec, shape)
        missing = [site.short for site in wanted if site not in found]
        if missing:
            raise spec.refuse("sites", f"{given.folder} has no vectors of {', '.join(missing)}")
        found = {site: found[site] for site in wanted}
    return given, dict(sorted(found.items()))


def _site(layer: int, blocks: int) -> Site:
    """transformers' hidden state: 0 are the embeddings, N is what block N - 1 gives, the last is after the final norm."""
    if layer == 0:
        return Site("llm", None, "embed")
    return Site("llm", None, "norm") if layer == blocks else Site("llm", layer - 1, "out")


def key_of(given: Converted, sites: dict[Site, int], model: str) -> str:
    """Everything that decides a bit of the shards."""
    layouts = [given.rows, *(given.layers[layer] for layer in sites.values())]
    digests = [index.sha256(layout.path) for layout in layouts]
    return index.key_of(
        {"given": digests, "sites": [str(site) for site in sites], "model": model, "schema": 1}
    )


def check(
    ctx: JobContext, spec: Index, given: Converted, sites: dict[Site, int]
) -> Generator[None, None, tuple[dict[str, np.ndarray], list[str], dict[str, Any]]]:
    """The rows' columns, the captions, and what is to be said of the vectors. UsageError when they are not this model's."""
    columns, captions = given.columns(), given.captions()
    ids: list[list[int]] = []
    spans: list[list[tuple[int, int]]] = []
    for number, text in enumerate(captions):
        own, covered = plain_tokens(ctx.loaded.tokenizer, text)
        ids.append(own)
        spans.append(covered)
        if number % 256 == 0:
            ctx.progress(number, len(captions), "captions tokenised")
            yield
    found = np.zeros((given.count, 2), np.int32)
    named = zip(*(columns[name].tolist() for name in ("caption", "position", "token")), strict=True)
    for row, (caption, position, token) in enumerate(named):
        own = ids[caption]
        if position >= len(own) or own[position] != token:
            there = f"token {own[position]}" if position < len(own) else "nothing"
            raise spec.refuse(
                "vectors", f"row {row} has token {token} at position {position} of caption {caption + 1}, where this "
                f"model's tokenizer has {there}: the vectors are of another model"
            )  # fmt: skip
        found[row] = spans[caption][position]
    columns["span"] = found
    cosines, unit = yield from _held_against(ctx, given, sites, columns, ids)
    for site, cosine in cosines.items():
        if not cosine >= ALIKE:
            raise spec.refuse(
                "vectors", f"at {site.short} the median cosine to what {ctx.loaded.info.name} gives for its captions is "
                f"{cosine:.3f}, expected at least {ALIKE}: the vectors are of other weights or another layer"
            )  # fmt: skip
    return (
        columns,
        captions,
        {"unit": unit, "cosine": {str(site): cosine for site, cosine in cosines.items()}},
    )


def _held_against(
    ctx: JobContext,
    given: Converted,
    sites: dict[Site, int],
    columns: dict[str, np.ndarray],
    ids: list[list[int]],
) -> Generator[None, None, tuple[dict[Site, float], bool]]:
    """By site, the median cosine of rows to what the model gives, and whether all of these are of length 1."""
    room = ctx.loaded.info.context_length
    named = [caption for caption in np.unique(columns["caption"]).tolist() if len(ids[caption]) <= room]
    chosen = (
        [named[place] for place in sorted({round(x) for x in np.linspace(0, len(named) - 1, TRIED)})]
        if named
        else []
    )
    scores: dict[Site, list[float]] = {site: [] for site in sites}
    lengths: list[float] = []
    for caption in chosen:
        rows = np.flatnonzero(columns["caption"] == caption)[:64]
        places = columns["position"][rows]
        read = ctx.engine.capture(
            [Prompt(ids=tuple(ids[caption]))], list(sites), pooling="none", where=Where("all")
        )
        for site, layer in sites.items():
            kept = np.concatenate([given.vectors(layer, row, row + 1) for row in rows.tolist()])
            mine = read[site][torch.from_numpy(places.astype(np.int64))].numpy()
            norms = np.linalg.norm(kept, axis=1)
            lengths += norms.tolist()
            scores[site] += (
                (kept * mine).sum(1) / np.maximum(norms * np.linalg.norm(mine, axis=1), 1e-30)
            ).tolist()
        yield
    unit = bool(lengths) and max(abs(length - 1) for length in lengths) < UNIT
    return {site: float(np.median(found)) if found else 0.0 for site, found in scores.items()}, unit


def pieces(given: Converted, sites: dict[Site, int]) -> list[range]:
    """The rows of each shard, as many as make 64 MiB."""
    each = max(1, SHARD_BYTES // (len(sites) * given.width * 2), -(-given.count // index.MAX_SHARDS))
    return [range(start, min(start + each, given.count)) for start in range(0, given.count, each)]


def _half(given: Converted, layer: int, rows: range) -> np.ndarray:
    """Rows of a layer as float16 [rows, d]. BadFile for a number beyond its range."""
    with np.errstate(over="ignore"):
        half = given.vectors(layer, rows.start, rows.stop).astype(np.float16)
    if not np.isfinite(half).all():
        raise BadFile(f"{given.layers[layer].path}: has vectors that float16 cannot hold")
    return half


def shards(
    given: Converted, sites: dict[Site, int], columns: dict[str, np.ndarray], folder: Path, key: str
) -> Iterator[index.Shard]:
    """Writes one shard after the other. BadFile for vectors that float16 cannot hold."""
    for number, rows in enumerate(pieces(given, sites)):
        vectors = {str(site): _half(given, layer, rows) for site, layer in sites.items()}
        own = {name: values[rows.start : rows.stop] for name, values in columns.items()}
        yield index.write_shard(folder, number, key, vectors, own)
