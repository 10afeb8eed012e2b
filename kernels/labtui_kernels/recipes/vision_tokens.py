"""The recipe ``vision-tokens``: what each patch of a picture means inside the language model, layer by layer.

Five tables: ``<table>-pictures`` (a row a picture: size, grid, tokens), ``-norms`` (a row a picture and site: norms and
self-similarity of its tokens), ``-depth`` (the same over all pictures), ``-tokens`` (a row a token, site and reading:
what it is nearest to) and ``-layers`` (a row a site and reading: how near, held against shuffled pictures, in which
layers of the index, and how often that describes the region, held against other pictures' labels).
"""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import is_digest

from ..engine import ImageInput
from ..engine.capture import Prompt
from ..lang.positions import Where
from ..lang.sites import Site
from ..models import memory
from ..neighbours.exact import Hits
from ..neighbours.regions import Region, label
from ..neighbours.search import IndexSearch, open_index
from ..neighbours.static import Found, Vocabulary, nearest
from ..specs import Message, VisionTokens, to_dict
from ..specs.vision_tokens import (
    CONTEXTUAL,
    Reading,
    count_vision_tokens,
    index_layers,
    reading_sites,
    state_sites,
)
from ..vision import scenes
from . import token_tables
from .context import JobContext, Steps
from .keep import check_free
from .pictures import Area, keep
from .prompts import Prompted, rendered

KIND = "activations"
BUDGET = 600.0
MOST_HELD = 4 << 30
"""Bytes of states that a job may hold: tokens x sites x width x 4, shuffled pictures too."""
MOST_KEPT = 2 << 30
"""Bytes of the artifact of full tensors."""
MOST_ROWS = 500_000
"""Rows of the table of tokens."""
TABLES = ("pictures", "norms", "depth", "tokens", "layers")


@dataclass(eq=False)
class Seen:
    """A picture, its prompt, and what was measured of its tokens; ``states`` are float32 [tokens, d] by site."""

    number: int
    name: str
    prompt: Prompted
    regions: tuple[Region, ...]
    labels: list[int | None] = field(default_factory=list)
    measured: dict[Site, token_tables.Measured] = field(default_factory=dict)
    states: dict[Site, torch.Tensor] = field(default_factory=dict)
    shuffled: dict[Site, list[torch.Tensor]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.prompt.pixels[0].tokens


class VisionTokensRecipe:
    """Extraction summaries, static readings and contextual neighbours of a picture's tokens."""

    kind: ClassVar[str] = "vision-tokens"

    def __init__(self, spec: VisionTokens) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        shape = ctx.loaded.info.shape
        if not shape.vision_blocks:
            raise self.spec.refuse(
                "images",
                f"{ctx.loaded.info.name} reads none: it has no vision tower; expected a Qwen-VL model",
            )
        for picture in self.spec.images:
            if not is_digest(picture):
                raise self.spec.refuse(
                    "images", f"{picture!r} was not sent to this kernel; expected its digest"
                )
        if self.spec.name:
            check_free(ctx, self.spec.name, self.spec.replace)
        search, _ = self._search(ctx)
        if search is not None and "centred" in self.spec.read:
            search.require_centring()
        counts = count_vision_tokens(self.spec, shape)
        at = [site.short for site in reading_sites(self.spec, shape)]
        return {**counts, "table": self._base(ctx), "at": at}

    def run(self, ctx: JobContext) -> Steps:
        spec, shape = self.spec, ctx.loaded.info.shape
        search, notes = self._search(ctx)
        sites = reading_sites(spec, shape)
        states = sorted({*state_sites(shape), *sites})
        ctx.budget("pictures", BUDGET)
        pictures = self._pictures(ctx)
        self._check_size(pictures, sites, states, shape.width)
        yield
        kept: dict[str, np.ndarray] = {}
        yield from self._capture(ctx, pictures, sites, states, kept)
        self._commit(ctx, "pictures", "pictures", token_tables.picture_rows(pictures))
        for one in pictures:
            self._commit(ctx, "norms", f"norms:{one.number}", token_tables.norm_rows(one, states))
        self._commit(ctx, "depth", "depth", token_tables.depth_rows(pictures, states, shape))
        layers: list[dict[str, Any]] = []
        before: dict[Reading, list[str]] = {}
        for reading in spec.read:
            found = yield from self._read(ctx, reading, pictures, sites, search)
            for site in sites:
                read = found[site]
                layers.append(
                    token_tables.layer_row(pictures, site, reading, read, before.get(reading), spec.seed)
                )
                before[reading] = read.words
                first = 0
                for one in pictures:
                    rows = token_tables.token_rows(one, site, reading, read, first)
                    self._commit(ctx, "tokens", f"tokens:{one.number}:{site}:{reading}", rows)
                    first += one.tokens
                yield
        if layers:
            self._commit(ctx, "layers", "layers", layers)
        both = {"embedding", "unembedding"} <= set(spec.read)
        if both and Vocabulary(ctx.engine, ctx.loaded.tokenizer).tied:
            notes.append("this model's embedding and unembedding are one matrix, so these two readings agree")
        if spec.name:
            self._keep(ctx, kept, pictures, states)
        return {
            "table": self._base(ctx),
            "pictures": len(pictures),
            "tokens": sum(one.tokens for one in pictures),
            "labelled": sum(mark is not None for one in pictures for mark in one.labels),
            "sites": [site.short for site in sites],
            "readings": list(spec.read),
            "notes": notes,
            **({"artifact": spec.name} if spec.name else {}),
        }

    # -- what is looked at --------------------------------------------------------------------------------

    def _search(self, ctx: JobContext) -> tuple[IndexSearch | None, list[str]]:
        """The index that is searched, and what is to be said of it. UsageError for one of another model."""
        spec = self.spec
        if not spec.index:
            return None, []
        index, note = open_index(ctx.store, spec.index, ctx.loaded.info)
        device = ctx.loaded.device
        room = memory.free(device)
        layers = index_layers(spec, ctx.loaded.info.shape)
        return IndexSearch(index, device, layers=layers, keep=0 if room is None else room // 4), [
            note
        ] if note else []

    def _pictures(self, ctx: JobContext) -> list[Seen]:
        """Every picture with its prompt and labels: those of the spec, then generated scenes."""
        spec = self.spec
        chosen: list[tuple[str, tuple[Region, ...]]] = []
        for number, digest in enumerate(spec.images):
            marks = spec.labels[number] if spec.labels else []
            regions = (Region((m.box[0], m.box[1], m.box[2], m.box[3]), tuple(m.words)) for m in marks)
            chosen.append((digest, tuple(regions)))
        for number, scene in enumerate(scenes.generate(spec.scenes, spec.seed, "held-out")):
            out = io.BytesIO()
            scene.image.save(out, "PNG")
            picture = keep(ctx, out.getvalue(), f"scene-{number}.png")
            chosen.append(
                (picture.digest, tuple(Region(box, (color, name)) for name, color, box in scene.shapes))
            )
        return [self._seen(ctx, number, digest, regions) for number, (digest, regions) in enumerate(chosen)]

    def _seen(self, ctx: JobContext, number: int, digest: str, regions: tuple[Region, ...]) -> Seen:
        spec = self.spec
        chat = [Message(role="user", content=spec.prompt, images=[digest])]
        if spec.system:
            chat.insert(0, Message(role="system", content=spec.system))
        prompt = rendered(ctx, chat, spec.thinking, area=Area.of(spec))
        pixels = prompt.pixels[0]
        if pixels.video:
            raise spec.refuse(
                "images",
                f"picture {number} is a video; expected pictures: give its frames as such, or look at it",
            )
        for region in regions:
            left, top, right, bottom = region.box
            if left < 0 or top < 0 or right > pixels.size[0] or bottom > pixels.size[1]:
                raise spec.refuse(
                    f"labels[{number}]", f"the box {list(region.box)} leaves the picture of {pixels.size[0]} x "
                    f"{pixels.size[1]} pixels"
                )  # fmt: skip
        places = [(row, col) for row in range(pixels.rows) for col in range(pixels.cols)]
        labels = [label(pixels.rect(*place), regions) for place in places]
        return Seen(number, digest, prompt, regions, labels)

    def _check_size(self, pictures: list[Seen], sites: list[Site], states: list[Site], width: int) -> None:
        spec, tokens = self.spec, sum(one.tokens for one in pictures)
        held = tokens * len(sites) * width * 4 * (1 + spec.shuffled)
        if held > MOST_HELD and spec.read:
            raise spec.refuse(
                "sites", f"{tokens:,} tokens at {len(sites)} sites are {held >> 20:,} MiB; at most {MOST_HELD >> 20:,}: "
                "take fewer sites, fewer pictures or a smaller max_pixels"
            )  # fmt: skip
        rows = tokens * len(sites) * len(spec.read)
        if rows > MOST_ROWS:
            raise spec.refuse(
                "sites", f"the table of tokens would have {rows:,} rows; at most {MOST_ROWS:,}: take less"
            )
        if spec.name and (size := tokens * len(states) * width * 2) > MOST_KEPT:
            raise spec.refuse(
                "name", f"full tensors are {size >> 20:,} MiB; at most {MOST_KEPT >> 20:,}: take less"
            )

    # -- states -------------------------------------------------------------------------------------------

    def _capture(
        self,
        ctx: JobContext,
        pictures: list[Seen],
        sites: list[Site],
        states: list[Site],
        kept: dict[str, np.ndarray],
    ) -> Generator[None, None, None]:
        """States of every picture's tokens: norms of all, tensors of those that are read, as they are and shuffled."""
        ctx.budget("capture", BUDGET)
        total, done = len(pictures) * (1 + self.spec.shuffled), 0
        for one in pictures:
            prompt = one.prompt.to_read()
            for site, values in (yield from _states(ctx, prompt, states)).items():
                one.measured[site] = token_tables.measure(values)
                if site in sites and self.spec.read:
                    one.states[site] = values
                if self.spec.name:
                    kept[f"image/{one.number}/{site}"] = _half(values, site)
            done += 1
            ctx.progress(done, total, "pictures")
            for copy in range(self.spec.shuffled if self.spec.read else 0):
                mixed = shuffled(prompt, self.spec.seed, copy)
                for site, values in (yield from _states(ctx, mixed, sites)).items():
                    one.shuffled.setdefault(site, []).append(values)
                done += 1
                ctx.progress(done, total, "pictures")

    def _keep(
        self, ctx: JobContext, kept: dict[str, np.ndarray], pictures: list[Seen], states: list[Site]
    ) -> None:
        ctx.save_artifact(
            self.spec.name,
            KIND,
            kept,
            {
                "name": self.spec.name,
                "what": "states of pictures' tokens, image/NUMBER/SITE float16 [tokens, d], rows of merged patches",
                "sites": [str(site) for site in states],
                "pictures": [
                    {"digest": one.name, "rows": one.prompt.pixels[0].rows, "cols": one.prompt.pixels[0].cols}
                    for one in pictures
                ],
                "model": ctx.loaded.info.to_dict(),
                "spec": {key: value for key, value in to_dict(self.spec).items() if key != "labels"},
                "job": ctx.job,
            },
        )

    # -- readings -----------------------------------------------------------------------------------------

    def _read(
        self,
        ctx: JobContext,
        reading: Reading,
        pictures: list[Seen],
        sites: list[Site],
        search: IndexSearch | None,
    ) -> Generator[None, None, dict[Site, token_tables.Read]]:
        """One reading of every token at every site, all sites searched for together; and the shuffled tokens' scores."""
        ctx.budget("search", BUDGET)
        queries, nulls = _queries(pictures, sites, reading == "centred")
        stacked = torch.cat([*queries.values(), *nulls.values()])
        if reading in CONTEXTUAL:
            assert search is not None
            hits = yield from _contextual(ctx, search, stacked, self.spec.k, reading)
        else:
            hits = yield from _static(ctx, queries, nulls, stacked, self.spec.k, reading)
        found: dict[Site, token_tables.Read] = {}
        first, null = 0, sum(len(values) for values in queries.values())
        for site in sites:
            count, mixed = len(queries[site]), len(nulls[site])
            own = Hits(hits.numbers[first : first + count], hits.scores[first : first + count])
            mere = Hits(hits.numbers[null : null + mixed], hits.scores[null : null + mixed])
            tell = search if reading in CONTEXTUAL else ctx.loaded.tokenizer
            found[site] = token_tables.reading_of(own, mere, tell, ctx.loaded.info.shape)
            first, null = first + count, null + mixed
            yield
        return found

    def _base(self, ctx: JobContext) -> str:
        return self.spec.table or ctx.job

    def _commit(self, ctx: JobContext, table: str, cell: str, rows: list[dict[str, Any]]) -> None:
        if cell not in ctx.committed:
            ctx.emit("cell.committed", {"cell": cell, "table": f"{self._base(ctx)}-{table}", "rows": rows})


def shuffled(prompt: Prompt, seed: int, copy: int) -> Prompt:
    """The same prompt about the same picture with its patches in random places: its colours, and no shapes."""
    mixed = []
    for image in prompt.images:
        draw = np.random.default_rng([seed, copy, *image.digest.encode()[-16:]])
        order = torch.from_numpy(draw.permutation(len(image.pixels)))
        mixed.append(
            ImageInput(image.pixels[order], image.grid, image.start, f"{image.digest}/shuffled/{seed}/{copy}")
        )
    return replace(prompt, images=tuple(mixed))


def _states(
    ctx: JobContext, prompt: Prompt, sites: list[Site]
) -> Generator[None, None, dict[Site, torch.Tensor]]:
    """States float32 [tokens, d] of a picture's tokens, by site."""
    found: dict[Site, torch.Tensor] = {}
    for _, readings in ctx.engine.capture_parts([prompt], sites, pooling="none", where=Where("image")):
        found.update(readings)
        yield
    for site, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise UsageError(
                f"the model gives NaN or infinity at {site.short}: load it with --dtype float32 or bfloat16"
            )
    return found


def _half(values: torch.Tensor, site: Site) -> np.ndarray:
    half = values.half()
    if not bool(torch.isfinite(half).all()):
        raise UsageError(f"the states at {site.short} are too large for float16: leave name out")
    return half.numpy()


def _queries(
    pictures: list[Seen], sites: list[Site], centred: bool
) -> tuple[dict[Site, torch.Tensor], dict[Site, torch.Tensor]]:
    """By site, the tokens of all pictures and those of their shuffled copies; centred on the mean of the former."""
    queries, nulls = {}, {}
    for site in sites:
        own = torch.cat([one.states[site] for one in pictures])
        mixed = [values for one in pictures for values in one.shuffled.get(site, [])]
        null = torch.cat(mixed) if mixed else own[:0]
        mean = own.double().mean(0).float() if centred else torch.zeros(own.shape[1])
        queries[site], nulls[site] = own - mean, null - mean
    return queries, nulls


def _contextual(
    ctx: JobContext, search: IndexSearch, queries: torch.Tensor, k: int, reading: Reading
) -> Generator[None, None, Hits]:
    searcher = search.searcher(centred=reading == "centred")
    found = searcher.begin(queries, k)
    for done in searcher.search_parts(found):
        ctx.progress(done, searcher.blocks, f"blocks searched, {reading}")
        yield
    return found.hits()


def _static(
    ctx: JobContext,
    queries: dict[Site, torch.Tensor],
    nulls: dict[Site, torch.Tensor],
    stacked: torch.Tensor,
    k: int,
    reading: Reading,
) -> Generator[None, None, Hits]:
    assert reading not in ("raw", "centred")
    vocabulary = Vocabulary(ctx.engine, ctx.loaded.tokenizer)
    normed = [
        site.point == "norm"
        for part in (queries, nulls)
        for site, values in part.items()
        for _ in range(len(values))
    ]
    steps = vocabulary.steps()
    last: Found | None = None
    for done, found in enumerate(nearest(vocabulary, stacked, reading, k, normed=normed), 1):
        ctx.progress(done, steps, f"pieces of the vocabulary, {reading}")
        last = found
        yield
    assert last is not None
    return last.hits(reading)


def make(spec: VisionTokens) -> VisionTokensRecipe:
    """The recipe of a checked spec."""
    return VisionTokensRecipe(spec)
