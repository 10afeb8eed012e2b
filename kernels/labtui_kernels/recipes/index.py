"""The recipe ``index``: captions read shard by shard, each written whole; one that was killed goes on."""

from __future__ import annotations

from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.kinds import index
from labtui_artifacts.lock import Lock

from ..lang.sites import Site, other_names
from ..neighbours.reading import Caption, ShardReading, cut, read_captions, read_shard
from ..specs import Index
from ..specs.index import count_index, index_sites, texts_of
from . import index_given
from .context import JobContext, Steps
from .keep import check_free

BUDGET = 600.0


class IndexRecipe:
    """Hidden states of captions at chosen sites, token by token, as float16 shards and a manifest."""

    kind: ClassVar[str] = "index"

    def __init__(self, spec: Index) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        if self.spec.vectors:
            if "index" not in ctx.own:
                check_free(ctx, self.spec.name, self.spec.replace)
            _, found = index_given.opened(ctx, self.spec)
            at = [site.short for site in found]
            return {**count_index(self.spec, ctx.loaded.info.shape), "table": self._table(ctx), "at": at}
        self._check_free(ctx)
        sites = index_sites(self.spec, ctx.loaded.info.shape)
        counts = count_index(self.spec, ctx.loaded.info.shape)
        return {**counts, "table": self._table(ctx), "at": [site.short for site in sites]}

    def run(self, ctx: JobContext) -> Steps:
        spec, info = self.spec, ctx.loaded.info
        if spec.vectors:
            return (yield from self._given(ctx))
        sites = index_sites(spec, info.shape)
        texts = texts_of(spec)
        ctx.budget("tokenise", BUDGET)
        captions = read_captions(ctx.loaded.tokenizer, texts, spec.first, info.context_length)
        yield
        pieces = cut(captions, len(sites), info.width, spec.shard)
        if len(pieces) > index.MAX_SHARDS:
            raise spec.refuse("shard", f"{len(pieces)} shards; at most {index.MAX_SHARDS}: put more in each")
        key = self._key(ctx, sites, texts, pieces)
        folder = ctx.store.shard_folder(key)
        dropped = 0
        shards: list[index.Shard] = []
        with self._lock(folder):
            index.remove_parts(folder)
            reused = 0
            for number, members in enumerate(pieces):
                shard = _finished(ctx, folder, number, key, sites)
                if shard is None:
                    read = yield from self._read(ctx, captions, members, sites)
                    dropped += read.dropped
                    shard = index.write_shard(folder, number, key, read.vectors, read.columns)
                else:
                    reused += 1
                    dropped += sum(len(captions[one].kept) for one in members) - shard.tokens
                shards.append(shard)
                ctx.progress(members.stop, len(captions), "captions")
                yield
            ctx.budget("manifest", BUDGET)
            meta = {**self._meta(ctx), "first": spec.first, "dropped": dropped}
            tensors, said = index.manifest(key, shards, texts, meta)
            ctx.save_artifact(spec.name, index.KIND, tensors, said)
        yield
        self._commit(ctx, sites, shards)
        return {
            "artifact": spec.name,
            "table": self._table(ctx),
            "sites": [site.short for site in sites],
            "captions": len(texts),
            "tokens": said["tokens"],
            "vectors": said["vectors"],
            "shards": len(shards),
            "reused": reused,
            "dropped": dropped,
        }

    def _given(self, ctx: JobContext) -> Generator[None, None, dict[str, Any]]:
        """Vectors that another program read, checked and kept."""
        ctx.budget("vectors", BUDGET)
        given, sites = index_given.opened(ctx, self.spec)
        columns, captions, known = yield from index_given.check(ctx, self.spec, given, sites)
        key = index_given.key_of(given, sites, ctx.loaded.info.weight_hash)
        yield
        folder = ctx.store.shard_folder(key)
        shards: list[index.Shard] = []
        with self._lock(folder):
            index.remove_parts(folder)
            for shard in index_given.shards(given, sites, columns, folder, key):
                shards.append(shard)
                ctx.progress(sum(one.tokens for one in shards), given.count, "vectors")
                yield
            meta = {**self._meta(ctx), "given": {"folder": str(given.folder), **known}, "unit": known["unit"]}
            tensors, said = index.manifest(key, shards, captions, meta)
            ctx.save_artifact(self.spec.name, index.KIND, tensors, said)
        yield
        self._commit(ctx, list(sites), shards)
        unit = (
            "its vectors are cut to length 1: it is searched raw, norms and centred neighbours cannot be had"
        )
        return {
            "artifact": self.spec.name,
            "table": self._table(ctx),
            "sites": [site.short for site in sites],
            "captions": len(captions),
            "tokens": said["tokens"],
            "vectors": said["vectors"],
            "shards": len(shards),
            "cosine": known["cosine"],
            "notes": [unit] if known["unit"] else [],
        }

    def _lock(self, folder: Path) -> Lock:
        return Lock(
            folder / ".lock", what=f"index {self.spec.name!r}: another job builds the same one", timeout=0.5
        )

    def _meta(self, ctx: JobContext) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "model": ctx.loaded.info.to_dict(),
            "versions": {package: version(package) for package in ("torch", "transformers")},
        }

    def _read(self, ctx: JobContext, captions: list[Caption], members: range, sites: list[Site]) -> Any:
        ctx.budget("capture", BUDGET)
        for part in read_shard(ctx.engine, captions, members, sites):
            if isinstance(part, ShardReading):
                return part
            ctx.progress(members.start + part, len(captions), "captions")
            yield
        raise AssertionError("a shard ends with its reading")

    def _key(self, ctx: JobContext, sites: list[Site], texts: list[str], pieces: list[range]) -> str:
        """Everything that decides a bit of the shards."""
        info = ctx.loaded.info
        return index.key_of(
            {
                "weights": info.weight_hash,
                "tokenizer": info.tokenizer_hash,
                "precision": [info.dtype, info.quantisation, info.device.split(":")[0]],
                "sites": [str(site) for site in sites],
                "captions": texts,
                "first": self.spec.first,
                "pieces": [piece.stop for piece in pieces],
                "versions": [version("torch"), version("transformers")],
                "schema": 1,
            }
        )

    def _check_free(self, ctx: JobContext) -> None:
        """An index of that name is in the way, but for the very one that this job made before it was lost."""
        if self.spec.replace or self.spec.name not in ctx.store or "index" in ctx.own:
            return
        file = ctx.store.get(self.spec.name)
        texts, sites = texts_of(self.spec), index_sites(self.spec, ctx.loaded.info.shape)
        if file.kind == index.KIND:
            tokenizer, info = ctx.loaded.tokenizer, ctx.loaded.info
            captions = read_captions(tokenizer, texts, self.spec.first, info.context_length)
            pieces = cut(captions, len(sites), info.width, self.spec.shard)
            if file.meta.get("key") == self._key(ctx, sites, texts, pieces):
                return  # the very same: its shards are looked at again, nothing is read anew
        raise UsageError(
            f"there is an artifact named {self.spec.name!r} already; choose another name, or set replace = true"
        )

    def _table(self, ctx: JobContext) -> str:
        return f"{self.spec.table or ctx.job}-index"

    def _commit(self, ctx: JobContext, sites: list[Site], shards: list[index.Shard]) -> None:
        if "index" in ctx.committed:
            return
        rows = [_line(site, shards, other_names(site, ctx.loaded.info.shape)) for site in sites]
        rows = [{"index": self.spec.name, **row} for row in rows]
        ctx.emit("cell.committed", {"cell": "index", "table": self._table(ctx), "rows": rows})


def _finished(ctx: JobContext, folder: Any, number: int, key: str, sites: list[Site]) -> index.Shard | None:
    """A shard that an earlier job wrote whole; None where there is none, or one that is damaged."""
    try:
        return index.open_shard(folder, number, key, [str(site) for site in sites], ctx.loaded.info.width)
    except (BadFile, UsageError):
        return None


def _line(site: Site, shards: list[index.Shard], names: dict[str, str]) -> dict[str, Any]:
    """What the table says of one site: how long its vectors are, and how much of them they all share."""
    lengths, total, units = [], 0, 0
    for shard in shards:
        rows = torch.from_numpy(shard.vectors(str(site))).float()
        norms = rows.norm(dim=1)
        lengths.append(norms.numpy())
        total = total + shard.sum(str(site))
        units = units + (rows / norms.clamp_min(1e-30)[:, None]).double().sum(0)
    norms = np.concatenate(lengths)
    shared = float(torch.as_tensor(units).norm()) / len(norms)
    return {
        "site": site.short,
        "hidden_state": names.get("transformers", ""),
        "vectors": len(norms),
        "norm": float(np.median(norms)),
        "norm_mean": float(norms.mean()),
        "mean_norm": float(np.linalg.norm(total)) / len(norms),
        "similarity": shared**2,
    }


def make(spec: Index) -> IndexRecipe:
    """The recipe of a checked spec."""
    return IndexRecipe(spec)
