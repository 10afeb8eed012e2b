"""The recipe ``match``: for each site the strength at which the model diverges by a given KL.

The unsteered answers are generated once; everything else is teacher-forced along them, all sites together. The
KL of a strength is the mean over prompts of the mean over an answer's steps of KL(steered || unsteered), which
is what the column ``kl-mean`` of a sweep has, averaged over its rows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, ClassVar

from labtui_artifacts.errors import JobFailed, UsageError

from ..lang.algebra import parse_algebra
from ..lang.edits import EditTerm, parse_edits
from ..lang.positions import parse_where
from ..lang.sites import SiteGroup, format_group, parse_sites
from ..lang.strength import Strength
from ..metrics.base import Values
from ..metrics.forward import Answered, mean_divergences
from ..specs import Controls, Match, Sweep, check_pictures
from ..specs.base import Decoding
from ..specs.plan import PlannedRow, count, plan_sweep
from .context import JobContext, Steps
from .decode import STEP_BUDGET, new_resolver, resolve
from .matching import Matching, spread
from .resolve import Resolved
from .rows import LiveRow
from .sweep import SweepRun

START = 10.0
"""The first strength that is tried, in % of the reference norm, where no edit gives one."""


class MatchRecipe:
    """One cell a site, committed as soon as its strength is found or refused."""

    kind: ClassVar[str] = "match"

    def __init__(self, spec: Match) -> None:
        self.spec = spec

    def table(self, ctx: JobContext) -> str:
        """The name of the table that the sites' strengths go to."""
        return self.spec.table or ctx.job

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        shape = ctx.loaded.info.shape
        check_pictures(self.spec, shape)
        resolver = new_resolver(ctx, self.spec.force)
        resolver.check(parse_edits(self.spec.like, shape))
        for name in parse_algebra(self.spec.direction).names:
            resolver.file(name)
        return {**count(self.spec, shape), "table": self.table(ctx)}

    def run(self, ctx: JobContext) -> Steps:
        run = _Run(ctx, self.spec, self.table(ctx))
        yield from run.answers()
        target = yield from run.target()
        yield from run.search(target)
        return run.result(target)


class _Answers(SweepRun):
    """Unsteered rows that others are measured along: kept in ``zeros``, not committed."""

    def _commit(self, row: LiveRow, planned: PlannedRow, values: Values) -> None:
        self.committed += 1


@dataclass
class _Site:
    """A group of sites on its way."""

    sites: SiteGroup
    search: Matching
    resolved: Resolved | None = None


class _Run:
    def __init__(self, ctx: JobContext, spec: Match, table: str) -> None:
        self.ctx, self.spec, self.table = ctx, spec, table
        self.resolver = new_resolver(ctx, spec.force)
        self.groups = parse_sites(spec.sites, ctx.loaded.info.shape)
        self.found: dict[str, dict[str, Any]] = {
            site: dict(ctx.known[site]) for site in map(format_group, self.groups) if site in ctx.known
        }
        self.rows: list[LiveRow] = []

    def answers(self) -> Generator[None, None, None]:
        """Generate the unsteered answers, none of them empty."""
        spec = self.spec
        sweep = Sweep(
            **{name: getattr(spec, name) for name in Decoding.__struct_fields__},
            **{name: getattr(spec, name) for name in ("prompts", "sites", "where", "batch", "force")},
            directions=[spec.direction],
            strengths=[0],
            seeds=[spec.seed],
            metrics=[],
            controls=Controls(prompt=False),
            confirm=True,
        )
        plan = plan_sweep(sweep, self.ctx.loaded.info.shape)
        run = _Answers(self.ctx, sweep, plan, self.table)
        run.open()
        run.total = len(plan.rows)
        try:
            yield from run.load(plan.rows)
            yield from run.decode()
        finally:
            run.close()
        self.rows = [row for _, row in sorted(run.zeros.items()) if row.tokens]
        if not self.rows:
            raise JobFailed("every unsteered answer is empty, so there is nothing to go along")

    def target(self) -> Generator[None, None, float]:
        """The KL to reach, in nats."""
        if not self.spec.like:
            return self.spec.kl
        (term,) = parse_edits(self.spec.like, self.ctx.loaded.info.shape)
        resolved = yield from resolve(self.ctx, self.resolver, [term])
        (found,) = yield from self.divergences([resolved])
        if found <= 0:
            raise UsageError(f"spec match: like: {term} changes nothing along the unsteered answers")
        return found

    def divergences(self, edits: Sequence[Resolved]) -> Generator[None, None, list[float]]:
        """The mean KL of each of these edits, in nats."""
        rows = [replace(row.engine_row(), edits=each.edits) for each in edits for row in self.rows]
        tokens = [tuple(row.tokens) for _ in edits for row in self.rows]
        answers = [Answered(row, forced) for row, forced in zip(rows, tokens, strict=True)]
        self.ctx.budget("metrics", STEP_BUDGET)
        found = yield from mean_divergences(self.ctx.engine, answers, tokens)
        size = len(self.rows)
        parts = [found[start : start + size] for start in range(0, len(found), size)]
        return [fsum(value or 0.0 for value in part) / size for part in parts]

    def term(self, sites: SiteGroup, percent: float) -> EditTerm:
        """The edit at a strength in %, which the sites of a group share where the spec says so."""
        share = len(sites) if self.spec.dose == "total" else 1
        strength = Strength(percent / share, "pct")
        return EditTerm("add", strength, self.spec.direction, sites, parse_where(self.spec.where))

    def search(self, target: float) -> Generator[None, None, None]:
        """Measure all sites that are not done yet, pass by pass."""
        spec = self.spec
        todo = [
            _Site(sites, Matching(target, spec.tolerance, spec.strongest, self._start()))
            for sites in self.groups
            if format_group(sites) not in self.found
        ]
        passes = 0
        while todo:
            strengths = [one.search.next() for one in todo]
            for one, percent in zip(todo, strengths, strict=True):
                one.resolved = yield from resolve(self.ctx, self.resolver, [self.term(one.sites, percent)])
            found = yield from self.divergences([one.resolved for one in todo if one.resolved is not None])
            passes += 1
            for one, percent, kl in zip(todo, strengths, found, strict=True):
                one.search.tell(percent, kl)
                if one.search.done:
                    self._commit(one)
            todo = [one for one in todo if not one.search.done]
            self.ctx.progress(len(self.groups) - len(todo), len(self.groups), f"sites matched, pass {passes}")

    def _start(self) -> float:
        terms = parse_edits(self.spec.like, self.ctx.loaded.info.shape)
        given = terms[0].strength if terms else None
        return abs(given.value) if given is not None and given.unit == "pct" and given.value else START

    def _commit(self, one: _Site) -> None:
        search, site = one.search, format_group(one.sites)
        dose: dict[str, float | None] = {"alpha": None, "abs": None, "pct": None}
        if search.strength is not None and one.resolved is not None:
            record = one.resolved.doses[0].record()
            share = len(one.sites) if self.spec.dose == "total" else 1
            dose = {unit: None if record[unit] is None else record[unit] * share for unit in dose}
        notes = [search.refusal, "" if search.monotone else "KL does not rise with the strength everywhere"]
        line = {
            "direction": self.spec.direction,
            "site": site,
            "where": self.spec.where,
            "strength": dose["alpha"],
            "strength_abs": dose["abs"],
            "strength_pct": dose["pct"],
            "strength_text": "" if search.strength is None else str(Strength(search.strength, "pct")),
            "kl": search.kl,
            "target": search.target,
            "prompts": len(self.rows),
            "passes": len(search.seen),
            "note": "; ".join(filter(None, [*notes, *(one.resolved.notes if one.resolved else ())])),
        }
        self.found[site] = line
        self.ctx.emit("cell.committed", {"cell": site, "table": self.table, "rows": [line]})

    def result(self, target: float) -> dict[str, Any]:
        """What the job says at its end: ``strengths`` by site, for sweeps at equal dose."""
        matched = {site: line for site, line in self.found.items() if line.get("strength_text")}
        refused = [f"{site}: {line.get('note')}" for site, line in self.found.items() if site not in matched]
        return {
            "table": self.table,
            "target": target,
            "strengths": {site: line["strength_text"] for site, line in matched.items()},
            "spread": spread([float(line["kl"]) for line in matched.values()]),
            "refused": refused,
            "notes": sorted(self.resolver.notes.values()),
        }


def make(spec: Match) -> MatchRecipe:
    """The recipe of a checked spec."""
    return MatchRecipe(spec)
