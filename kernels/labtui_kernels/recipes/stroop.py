"""The recipe ``stroop``: from pictures of words in inks to chunks, their cosines, and what steering does to answers.

Tables, after the name of the spec's table: ``-chunks`` (a row a label and site), ``-cosines`` (a row a delta, site,
strength and reference), the table itself (a row a generation, on the pictures that are chosen by), ``-choice`` (the
chosen cell of each delta) and ``-judged`` (a row a generation on held-out pictures). Artifacts: the chunks, and each
representative as a direction, so that every screen can steer with them.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from labtui_artifacts.kinds.chunks import KIND
from labtui_artifacts.kinds.direction import DirectionFile
from labtui_sessions import stroop as reading

from ..lang.positions import parse_where
from ..lang.sites import Site, parse_site
from ..lang.strength import Strength
from ..specs import Stroop, to_dict
from ..specs.stroop import QUESTIONS, count_stroop, direction_name, directions_of, sites_of
from . import norms, pictures
from .context import JobContext, Steps
from .keep import check_free, keep
from .stroop_embed import (
    Embeddings,
    Made,
    as_artifact,
    as_directions,
    chunk_rows,
    chunked,
    cosine_rows,
    embed,
    prompted,
)
from .stroop_pictures import Sets, Shown, gather
from .stroop_rows import Rows, StroopRow
from .stroop_run import StroopRun, carrier

EMBEDDINGS = "embeddings"


class StroopRecipe:
    """The recipe of one spec."""

    kind: ClassVar[str] = "stroop"

    def __init__(self, spec: Stroop) -> None:
        self.spec = spec

    def table(self, ctx: JobContext) -> str:
        """The name of the table that the rows go to, and that the other tables' names begin with."""
        return self.spec.table or ctx.job

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        spec = self.spec
        counts = count_stroop(spec, ctx.loaded.info.shape)
        if counts["confirm"]:
            raise spec.refuse(
                "confirm", f"the plan has {counts['rows']:,} rows; set confirm = true for so many"
            )
        for name in self._names():
            check_free(ctx, name, spec.replace)
        return {**counts, "table": self.table(ctx), "committed": len(ctx.committed)}

    def _names(self) -> list[str]:
        spec = self.spec
        extra = [f"{spec.name}-{EMBEDDINGS}"] if spec.embeddings else []
        return [spec.name, *directions_of(spec), *extra]

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        sites = sites_of(spec, ctx.loaded.info.shape)
        ctx.budget("pictures", 600)
        sets = gather(spec)
        yield from self._check_where(ctx, sets)
        known = yield from norms.measure(ctx, sites)
        references = {site: known[site].median for site in sites}
        made = yield from self._made(ctx, sets, sites, references)
        yield from self._tell(ctx, [*sets.choose, *sets.judge, *sets.congruent])
        rows = Rows(spec, sets)
        grid = rows.grid(sites)
        run = StroopRun(ctx, carrier(spec), rows.plan({}), self.table(ctx), stroop=spec, rows=rows, made=made)
        run.lines.update({cell: dict(values) for cell, values in ctx.known.items()})
        run.open()
        run.total = count_stroop(spec, ctx.loaded.info.shape, _sizes(sets))["rows"]
        try:
            yield from self._generate(ctx, run, grid)
            choices = self._choose(ctx, run, grid)
            chosen = [
                (one.cell.delta, parse_site(one.cell.site), _strength(spec, one.cell)) for one in choices
            ]
            judged = rows.judged(chosen, sites[0])
            run.plan, run.table = rows.plan({}), f"{self.table(ctx)}-judged"
            yield from self._generate(ctx, run, judged)
        finally:
            run.close()
        return {
            **run.result(),
            "table": self.table(ctx),
            "rows": len(rows.made),
            "skipped": len(rows.made) - run.committed,
            "labels": list(sets.labels),
            "source": sets.source,
            "chunks": spec.name,
            "choice": [_told(one) for one in choices],
        }

    def _check_where(self, ctx: JobContext, sets: Sets) -> Generator[None, None, None]:
        """UsageError for a rectangle that a picture does not have, before anything is kept."""
        where = parse_where(self.spec.place)
        shown = [*sets.choose, *sets.judge] if where.rect is not None or where.number is not None else []
        for one in shown:
            where.patch_mask(prompted(ctx, self.spec, one, QUESTIONS[0]).images)
            yield
        yield

    # -- chunks and cosines -----------------------------------------------------------------------------

    def _made(
        self, ctx: JobContext, sets: Sets, sites: Sequence[Site], references: Mapping[Site, float]
    ) -> Generator[None, None, Made]:
        """The vectors, with their tables and artifacts; those that this job kept before it was interrupted."""
        done = {f"{part}:{site}" for part in ("chunks", "cosines") for site in sites} <= set(ctx.committed)
        made = self._kept(ctx, sites)
        if made is not None and done:
            return made
        spec = self.spec
        tables: dict[str, Embeddings] = {}
        if made is None:
            for sort in QUESTIONS:
                tables[sort] = yield from embed(ctx, spec, sets.build[sort], sites)
            found = yield from chunked(spec, sets, tables)
            made = as_directions(spec, sets, found)
            self._keep(ctx, sets, made, references, *as_artifact(found, references, self._meta(ctx, sets)))
            for site in sites:
                self._commit(ctx, "chunks", site, chunk_rows(found, site))
        held: dict[str, Embeddings] = {}
        for sort in QUESTIONS:
            held[sort] = yield from embed(ctx, spec, sets.references[sort], sites)
        chosen = yield from embed(ctx, spec, sets.choose, sites)
        for site in sites:
            aims = {sort: held[sort][site] for sort in QUESTIONS}
            self._commit(
                ctx,
                "cosines",
                site,
                cosine_rows(spec, sets, site, made, chosen[site], aims, references[site]),
            )
            yield
        if spec.embeddings and tables:
            self._keep_embeddings(ctx, sets, tables, held, chosen)
        return made

    def _commit(self, ctx: JobContext, part: str, site: Site, rows: list[dict[str, Any]]) -> None:
        cell = f"{part}:{site}"
        if cell not in ctx.committed:
            ctx.emit("cell.committed", {"cell": cell, "table": f"{self.table(ctx)}-{part}", "rows": rows})

    def _meta(self, ctx: JobContext, sets: Sets) -> dict[str, Any]:
        spec = self.spec
        return {
            "name": spec.name,
            "read": self._read(),
            "images": {sort: len(sets.build[sort]) for sort in QUESTIONS},
            "source": sets.source,
            "clusters": spec.clusters,
            "model": ctx.loaded.info.to_dict(),
            "spec": to_dict(spec),
            "job": ctx.job,
        }

    def _read(self) -> str:
        return "mean@ink" if self.spec.pool == "ink" else "mean@image"

    def _keep(
        self,
        ctx: JobContext,
        sets: Sets,
        made: Made,
        references: Mapping[Site, float],
        tensors: Mapping[str, Any],
        meta: Mapping[str, Any],
    ) -> None:
        """Keep each label's vectors as a direction; the chunks last, so that they say that all is there."""
        for sort in QUESTIONS:
            for label in sets.labels:
                name = direction_name(self.spec.name, sort, label)
                keep(
                    ctx,
                    name,
                    made.vectors[name],
                    self.spec,
                    {
                        "method": self.spec.method,
                        "read": self._read(),
                        "chunks": self.spec.name,
                        "seed": self.spec.seed,
                    },
                    shuffled=made.permuted[name],
                )
        ctx.save_artifact(self.spec.name, KIND, dict(tensors), dict(meta))

    def _kept(self, ctx: JobContext, sites: Sequence[Site]) -> Made | None:
        """What this very job kept before it was interrupted; None where that is not whole."""
        spec = self.spec
        if spec.name not in ctx.store or ctx.store.get(spec.name).meta.get("job") != ctx.job:
            return None
        labels = ctx.store.get(spec.name, kind=KIND).meta.get("labels")
        vectors: dict[str, dict[Site, torch.Tensor]] = {}
        permuted: dict[str, dict[Site, torch.Tensor]] = {}
        for sort in QUESTIONS:
            for label in labels if isinstance(labels, list) else ():
                name = direction_name(spec.name, sort, str(label))
                if name not in ctx.store:
                    return None
                opened = DirectionFile.view(ctx.store.get(name, kind="direction"), name)
                if opened.meta.get("job") != ctx.job or opened.shuffles != spec.permutations:
                    return None
                for site in sites:
                    vectors.setdefault(name, {})[site] = torch.from_numpy(opened.vector(str(site)))
                    nulls = [torch.from_numpy(opened.shuffled(str(site), n)) for n in range(opened.shuffles)]
                    scale = vectors[name][site].norm()
                    permuted.setdefault(name, {})[site] = torch.stack(nulls) * scale
        return Made(vectors, permuted)

    def _keep_embeddings(
        self,
        ctx: JobContext,
        sets: Sets,
        tables: Mapping[str, Embeddings],
        held: Mapping[str, Embeddings],
        chosen: Embeddings,
    ) -> None:
        """Every picture's pooled embedding by site, [pictures, d], the pictures in the order of the meta's lists."""
        shown = [
            *(one for s in QUESTIONS for one in sets.build[s]),
            *(one for s in QUESTIONS for one in sets.references[s]),
            *sets.choose,
        ]
        parts = [*(tables[s] for s in QUESTIONS), *(held[s] for s in QUESTIONS), chosen]
        tensors = {str(site): torch.cat([part[site] for part in parts]).numpy() for site in chosen}
        meta = {
            **self._meta(ctx, sets),
            "name": f"{self.spec.name}-{EMBEDDINGS}",
            "sites": [str(site) for site in chosen],
            "words": [one.word for one in shown],
            "inks": [one.ink for one in shown],
            "splits": [one.split for one in shown],
        }
        ctx.save_artifact(f"{self.spec.name}-{EMBEDDINGS}", "activations", tensors, meta)

    def _tell(self, ctx: JobContext, shown: Sequence[Shown]) -> Generator[None, None, None]:
        """Keep the pictures that are asked about, and tell the session of them."""
        for number, one in enumerate(shown):
            pictures.keep(ctx, one.data, f"{one.stimulus.name}.png")
            if number % 16 == 0:
                yield

    # -- behaviour ----------------------------------------------------------------------------------------

    def _generate(
        self, ctx: JobContext, run: StroopRun, rows: Sequence[StroopRow]
    ) -> Generator[None, None, None]:
        fresh = [row for row in rows if row.cell not in ctx.committed]
        yield from run.load(fresh)
        yield from run.decode()

    def _choose(self, ctx: JobContext, run: StroopRun, grid: Sequence[StroopRow]) -> list[reading.Choice]:
        """The cell of each delta that its answers on the first split speak for."""
        lines = [_known(row, run) for row in grid if not row.control]
        choices = reading.choose(reading.cells(lines), self.spec.keep)
        for one in choices:
            cell = f"choice:{one.cell.delta}"
            if cell not in ctx.committed:
                table = f"{self.table(ctx)}-choice"
                row = {
                    **_told(one),
                    "split": "choose",
                    "keep": self.spec.keep,
                    "pictures": len(run.rows.sets.choose) if run.rows else 0,
                }
                ctx.emit("cell.committed", {"cell": cell, "table": table, "rows": [row]})
        return choices


def _known(row: StroopRow, run: StroopRun) -> dict[str, Any]:
    """What a committed row says, those of an earlier run included, of which only the outcomes are known."""
    assert row.asked is not None
    resolver = run.resolver
    reference = resolver.references[row.sites[0]]
    norm = row.strength.to_alpha(1.0, reference)
    return {
        "delta": row.delta,
        "site": row.site,
        "where": str(row.where),
        "question": row.asked.question,
        "control": row.control,
        "strength_text": str(row.strength),
        "strength_abs": norm,
        "strength_pct": norm / reference * 100,
        **{name: run.lines.get(row.cell, {}).get(name) for name in (*reading.OUTCOMES, "right")},
    }


def _strength(spec: Stroop, cell: reading.Cell) -> Strength:
    return next(strength for strength in spec.percents if str(strength) == cell.text)


def _told(choice: reading.Choice) -> dict[str, Any]:
    cell = choice.cell
    return {
        "delta": cell.delta,
        "site": cell.site,
        "where": cell.where,
        "strength_text": cell.text,
        "strength_abs": cell.norm,
        "strength_pct": cell.percent,
        "feasible": choice.feasible,
        "flips": cell.flips,
        "spared": cell.spared,
    }


def _sizes(sets: Sets) -> tuple[int, int, int]:
    return len(sets.choose), len(sets.judge), len(sets.congruent)


def make(spec: Stroop) -> StroopRecipe:
    """The recipe of a checked spec."""
    return StroopRecipe(spec)
