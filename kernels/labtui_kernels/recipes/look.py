"""The recipe ``look``: what each merged patch of one picture is inside the model, site by site.

Tables, each a cell a site: ``<table>-patches`` (a row a patch: its norm), ``-depth`` (all patches: median norm, ends,
how alike), ``-similar`` (cosines to all patches), ``-scores`` (a row a patch and direction: its projection and its
place among the patches), ``-readings`` (nearest words, three readings), ``-neighbours`` (nearest
tokens of an index, raw and centred), ``-attention`` (a row a word behind the picture: its weights to all patches) and
``-effect`` (how far edits move each patch).

Of a video one frame is read, as the tower takes frames. At the tower's sites a merged patch is the mean of its four
patches. Everything else is of its one vector.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

import torch

from labtui_artifacts.errors import UsageError
from labtui_sessions.diagnosis import spaced
from labtui_sessions.looks import pack, pack_half

from ..engine.capture import Prompt
from ..lang.edits import parse_edits
from ..lang.positions import ImageSpan, Where
from ..lang.sites import Site
from ..models import memory
from ..neighbours.search import Hit, IndexSearch, open_index
from ..neighbours.static import READINGS, Found, Reading, Vocabulary, nearest
from ..specs import Look, as_messages
from ..specs.look import count_look, in_decoder, is_block, reading_sites, sites_of
from .attending import attending, too_large, words_of
from .context import JobContext, Steps
from .decode import new_resolver, resolve
from .keep import finite
from .pictures import Area
from .prompts import Prompted, rendered
from .resolve import Resolved, check_places
from .scores import score_rows, vectors_of

BUDGET = 600.0
MOST_HELD = 2 << 30
"""Bytes of states that a look may hold."""
MOST_ROWS = 400_000
"""Rows of all its tables."""
MOST_SIMILAR = 12 << 20
"""Bytes of cosines between patches: with many patches they are kept for some of the sites."""
ROWS = 2_000
"""Rows of one cell at most."""
CAPTION = 160
"""Characters of a caption that are kept, around its token."""

States = dict[Site, torch.Tensor]


class LookRecipe:
    """Reads one picture: norms, similarities, static readings, contextual neighbours, and what edits move."""

    kind: ClassVar[str] = "look"

    def __init__(self, spec: Look) -> None:
        self.spec = spec
        self._notes: list[str] = []
        self._where = Where("image")

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        spec, shape = self.spec, ctx.loaded.info.shape
        counts = count_look(spec, shape)
        prompt = self._prompt(ctx)
        terms = parse_edits(spec.edits, shape) if spec.edits else ()
        check_places(terms, prompt)
        new_resolver(ctx, spec.force).check(terms)
        pixels, span = prompt.pixels[spec.number], self._span(prompt)
        along = {}
        if "scores" in spec.parts:
            along = vectors_of(new_resolver(ctx, spec.force), spec.directions, sites_of(spec, shape))
        self._check_size(ctx, span.tokens, sum(map(len, along.values())))
        if "neighbours" in spec.parts:
            self._search(ctx)
        return {
            **counts,
            "table": self._base(ctx),
            "at": [site.short for site in sites_of(spec, shape)],
            "digest": pixels.digest,
            "number": spec.number,
            "grid": [span.rows, span.cols],
            "size": list(pixels.size),
            "start": span.start,
            "tokens": len(prompt.ids),
            **(
                {"frame": spec.frame, "frames": pixels.frames, "when": pixels.when[spec.frame]}
                if pixels.video
                else {}
            ),
        }

    def run(self, ctx: JobContext) -> Steps:
        spec, shape = self.spec, ctx.loaded.info.shape
        self._notes = []
        sites, parts = sites_of(spec, shape), spec.parts
        prompt = self._prompt(ctx)
        self._where = self._place(prompt)
        cols, read = prompt.images[spec.number].cols, prompt.to_read()
        states = yield from self._states(ctx, read, sites)
        if "norms" in parts:
            for site, values in states.items():
                self._commit(ctx, "patches", site, _norms(site, values, cols))
                self._commit(ctx, "depth", site, [_depth(site, values)])
                yield
        if "similarity" in parts:
            yield from self._similar(ctx, states)
        if "scores" in parts:
            yield from self._scores(ctx, states, cols)
        if "readings" in parts:
            yield from self._readings(ctx, {site: states[site] for site in reading_sites(spec, shape)})
        if "neighbours" in parts:
            yield from self._neighbours(ctx, {site: v for site, v in states.items() if in_decoder(site)})
        if "attention" in parts:
            yield from self._attention(ctx, prompt, [site for site in sites if is_block(site)])
        result: dict[str, Any] = {"table": self._base(ctx), "patches": self._span(prompt).tokens}
        if "effect" in parts:
            resolver = new_resolver(ctx, spec.force)
            resolved = yield from resolve(ctx, resolver, parse_edits(spec.edits, shape))
            moved = yield from self._states(ctx, read, sites, resolved)
            for site in sites:
                self._commit(ctx, "effect", site, _effect(site, states[site], moved[site], cols))
                yield
            result |= {"edits": resolved.text, "strengths": [dose.record() for dose in resolved.doses]}
            self._notes += resolver.notes.values()
        return {**result, "notes": sorted(set(self._notes))}

    # -- what is looked at --------------------------------------------------------------------------------

    def _prompt(self, ctx: JobContext) -> Prompted:
        spec = self.spec
        chat = as_messages(spec.prompt, spec.system)
        found = rendered(ctx, chat, spec.thinking, area=Area.of(spec))
        if spec.number >= len(found.images):
            has = f"{len(found.images)} pictures, counted from 0" if found.images else "no picture"
            raise spec.refuse(
                "number" if found.images else "prompt", f"the prompt has {has}; expected one to look at"
            )
        frames = found.pixels[spec.number].frames
        if spec.frame >= frames:
            has = f"a video of {frames} frames as the tower takes them" if frames > 1 else "a picture"
            last = f" to {frames - 1}" if frames > 1 else ""
            raise spec.refuse("frame", f"image{spec.number} is {has}; expected 0{last}")
        return found

    def _span(self, prompt: Prompted) -> ImageSpan:
        """Where the frame that is looked at lies; all of a picture."""
        span = prompt.images[self.spec.number]
        each = span.rows * span.cols
        return ImageSpan(span.positions[self.spec.frame * each], span.rows, span.cols)

    def _place(self, prompt: Prompted) -> Where:
        span, frame = prompt.images[self.spec.number], self.spec.frame
        if span.frames == 1:
            return Where("image", number=self.spec.number)
        whole = (0, span.rows, 0, span.cols)
        return Where("image", number=self.spec.number, rect=whole, frames=(frame, frame + 1))

    def _check_size(self, ctx: JobContext, patches: int, scores: int) -> None:
        """Refuse a picture of more patches than can be held or told of; ``scores`` is how many each gets."""
        spec, shape = self.spec, ctx.loaded.info.shape
        sites, parts = len(sites_of(spec, shape)), spec.parts
        rows = patches * sites * (("norms" in parts) + ("effect" in parts) + 2 * ("neighbours" in parts))
        rows += patches * scores
        rows += patches * len(reading_sites(spec, shape)) * len(READINGS)
        held = patches * sites * shape.width * 4 * (1 + ("effect" in parts))
        if rows > MOST_ROWS or held > MOST_HELD:
            raise spec.refuse(
                "sites", f"{patches:,} patches at {sites} sites make {rows:,} rows and {held >> 20:,} MiB; at most "
                f"{MOST_ROWS:,} and {MOST_HELD >> 20:,}: take fewer sites, or a smaller max_pixels"
            )  # fmt: skip

    def _search(self, ctx: JobContext) -> IndexSearch:
        """The index that is searched. UsageError for one of another model."""
        index, note = open_index(ctx.store, self.spec.index, ctx.loaded.info)
        if note:
            self._notes.append(note)
        room = memory.free(ctx.loaded.device)
        return IndexSearch(index, ctx.loaded.device, keep=0 if room is None else room // 4)

    def _states(
        self, ctx: JobContext, prompt: Prompt, sites: list[Site], resolved: Resolved | None = None
    ) -> Generator[None, None, States]:
        """Float32 [patches, d] by site, a line a merged patch."""
        ctx.budget("capture", BUDGET)
        edits = resolved.edits if resolved is not None else ()
        found: States = {}
        for _, readings in ctx.engine.capture_parts(
            [prompt], sites, pooling="none", where=self._where, edits=edits
        ):
            found.update(readings)
            yield
        merge = ctx.loaded.info.shape.merge
        for site, values in found.items():
            if not bool(torch.isfinite(values).all()):
                raise UsageError(
                    f"the model gives NaN or infinity at {site.short}; load it with another --dtype"
                )
            if site.tower == "vision" and site.point != "merged":
                found[site] = values.reshape(-1, merge * merge, values.shape[1]).mean(1)
        return {site: found[site] for site in sites}

    # -- what is told of them -----------------------------------------------------------------------------

    def _similar(self, ctx: JobContext, states: States) -> Generator[None, None, None]:
        patches = len(next(iter(states.values())))
        most = MOST_SIMILAR // max(1, patches * patches * 4 // 3)
        kept = spaced(len(states), most) if most else []
        if len(kept) < len(states):
            self._notes.append(
                f"cosines between patches are kept at {len(kept)} of {len(states)} sites: there are many"
            )
        for number, (site, values) in enumerate(states.items()):
            if number not in kept:
                continue
            cosines = _cosines(values).tolist()
            rows = [
                {"site": site.short, "patch": patch, "cosines": pack(line)}
                for patch, line in enumerate(cosines)
            ]
            self._commit(ctx, "similar", site, rows)
            yield

    def _scores(self, ctx: JobContext, states: States, cols: int) -> Generator[None, None, None]:
        """Where every patch stands along each direction, among the patches of this picture."""
        resolver = new_resolver(ctx, self.spec.force)
        vectors = vectors_of(resolver, self.spec.directions, list(states))
        if not vectors:
            self._notes.append(
                "nothing is scored: no stored direction was fitted on this model for these sites"
            )
        for site, values in states.items():
            self._commit(ctx, "scores", site, score_rows(site, values, vectors, cols))
            yield
        self._notes += resolver.notes.values()

    def _readings(self, ctx: JobContext, states: States) -> Generator[None, None, None]:
        """The three static readings of every patch, all sites together."""
        if not states:
            return
        ctx.budget("readings", BUDGET)
        vocabulary = Vocabulary(ctx.engine, ctx.loaded.tokenizer)
        stacked = torch.cat(list(states.values()))
        normed = [site.point == "norm" for site, values in states.items() for _ in range(len(values))]
        steps = vocabulary.steps() * len(READINGS)
        tables: dict[Reading, Found] = {}
        for turn, reading in enumerate(READINGS):
            parts = nearest(vocabulary, stacked, reading, self.spec.top, normed=normed)
            for done, found in enumerate(parts, turn * vocabulary.steps() + 1):
                ctx.progress(done, steps, f"pieces of the vocabulary, {reading}")
                tables[reading] = found
                yield
        found_by = {reading: found.hits(reading) for reading, found in tables.items()}
        words: dict[int, str] = {}
        first = 0
        for site, values in states.items():
            rows = []
            for patch in range(len(values)):
                for reading, hits in found_by.items():
                    ids, scores = hits.numbers[first + patch].tolist(), hits.scores[first + patch].tolist()
                    there = [(one, score) for one, score in zip(ids, scores, strict=True) if one >= 0]
                    for one, _ in there:
                        words.setdefault(one, ctx.loaded.tokenizer.decode([one]))
                    rows.append({"site": site.short, "patch": patch, "reading": reading,
                                 "tokens": [words[one] for one, _ in there],
                                 "values": [round(score, 5) for _, score in there]})  # fmt: skip
            self._commit(ctx, "readings", site, rows)
            first += len(values)
            yield

    def _neighbours(self, ctx: JobContext, states: States) -> Generator[None, None, None]:
        """The nearest vectors of the index to every patch, all sites of both together, raw and centred.

        Centred queries lose the mean of this picture's patches at their site, as the index's vectors lose that of
        theirs.
        """
        if not states:
            return
        ctx.budget("search", BUDGET)
        search = self._search(ctx)
        known: dict[int, Hit] = {}
        found: dict[str, list[list[dict[str, Any]]]] = {}
        if search.unit:
            self._notes.append(
                f"index {search.index.name!r} has vectors cut to length 1: neighbours are raw only"
            )
        for how in ("raw",) if search.unit else ("raw", "centred"):
            centred = how == "centred"
            queries = [v - v.double().mean(0).float() if centred else v for v in states.values()]
            searcher = search.searcher(centred=centred)
            best = searcher.begin(torch.cat(queries), self.spec.top)
            for done in searcher.search_parts(best):
                ctx.progress(done, searcher.blocks, f"blocks searched, {how}")
                yield
            hits = best.hits()
            found[how] = [
                [_neighbour(search, known, *pair) for pair in zip(*line, strict=True) if pair[0] >= 0]
                for line in zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True)
            ]
        first = 0
        for site, values in states.items():
            rows = [
                {"site": site.short, "patch": patch, "how": how, "hits": lines[first + patch]}
                for patch in range(len(values))
                for how, lines in found.items()
            ]
            self._commit(ctx, "neighbours", site, rows)
            first += len(values)
            yield

    def _attention(self, ctx: JobContext, prompt: Prompted, sites: list[Site]) -> Generator[None, None, None]:
        """How much each word behind the picture attends to each patch, in each block."""
        if too_large(ctx, len(prompt.ids)):
            self._notes.append(
                f"attention is not read: its weights over {len(prompt.ids):,} tokens take too much memory"
            )
            return
        ctx.budget("attention", BUDGET)
        span = self._span(prompt)
        words = words_of(prompt, prompt.images[self.spec.number])
        found: States = {}
        for part in attending(ctx, prompt.to_read(), sites, words, span):
            found = part or found
            yield
        for site, weights in found.items():
            rows = [
                {"site": site.short, "position": position, "word": piece, "weights": pack_half(line)}
                for position, piece, line in zip(words.positions, words.pieces, weights.tolist(), strict=True)
            ]
            self._commit(ctx, "attention", site, rows)
            yield
        if len(found) < len(sites):
            self._notes.append(f"{len(sites) - len(found)} blocks have no attention: their mixer is linear")

    def _base(self, ctx: JobContext) -> str:
        return self.spec.table or ctx.job

    def _commit(self, ctx: JobContext, table: str, site: Site, rows: list[dict[str, Any]]) -> None:
        """Commit a site's rows, some thousand in a cell."""
        for part in range(0, max(1, len(rows)), ROWS):
            cell = f"{table}:{site}" + (f":{part // ROWS}" if part else "")
            if cell not in ctx.committed:
                name = f"{self._base(ctx)}-{table}"
                ctx.emit("cell.committed", {"cell": cell, "table": name, "rows": rows[part : part + ROWS]})


def _norms(site: Site, values: torch.Tensor, cols: int) -> list[dict[str, Any]]:
    norms = values.double().norm(dim=1).tolist()
    return [
        {"site": site.short, "patch": patch, "row": patch // cols, "col": patch % cols, "norm": norm}
        for patch, norm in enumerate(norms)
    ]


def _depth(site: Site, values: torch.Tensor) -> dict[str, Any]:
    """All patches of a site: norms, and the mean cosine of two different ones, (|sum of units|² - n) / (n² - n)."""
    norms = values.double().norm(dim=1)
    units = (values.double() / norms.clamp_min(1e-30)[:, None]).sum(0)
    n = len(norms)
    row: dict[str, Any] = {
        "site": site.short,
        "median": float(norms.quantile(0.5)),
        "lowest": float(norms.min()),
        "highest": float(norms.max()),
        "alike": None if n < 2 else finite(float((units @ units - n) / (n * n - n))),
    }
    return row if row["alike"] is not None else {**row, "reasons": {"alike": "there is one patch"}}


def _cosines(values: torch.Tensor) -> torch.Tensor:
    units = values.double()
    units = units / units.norm(dim=1).clamp_min(1e-30)[:, None]
    return units @ units.T


def _effect(site: Site, plain: torch.Tensor, moved: torch.Tensor, cols: int) -> list[dict[str, Any]]:
    """How far each patch was moved: the norm of the difference, and its share of the norm before."""
    change = (moved.double() - plain.double()).norm(dim=1)
    share = change / plain.double().norm(dim=1).clamp_min(1e-30)
    return [
        {
            "site": site.short,
            "patch": patch,
            "row": patch // cols,
            "col": patch % cols,
            "change": one,
            "share": part,
        }
        for patch, (one, part) in enumerate(zip(change.tolist(), share.tolist(), strict=True))
    ]


def _neighbour(search: IndexSearch, known: dict[int, Hit], number: int, cosine: float) -> dict[str, Any]:
    if number not in known:
        (known[number],) = search.hits(torch.tensor([number]).numpy())
    hit = known[number]
    text, start, stop = _around(hit.caption, hit.start, hit.stop)
    return {"token": hit.token, "caption": text, "site": hit.site, "cosine": round(cosine, 5),
            "position": hit.position, "span": [start, stop]}  # fmt: skip


def _around(caption: str, start: int, stop: int) -> tuple[str, int, int]:
    """The part of a caption around a token, and where the token's word begins and ends in it."""
    start += len(caption[start:stop]) - len(caption[start:stop].lstrip())
    first = max(0, min(start - CAPTION // 2, len(caption) - CAPTION))
    return caption[first : first + CAPTION], start - first, min(stop, first + CAPTION) - first


def make(spec: Look) -> LookRecipe:
    """The recipe of a checked spec."""
    return LookRecipe(spec)
