"""The recipe ``calibrate``: as few rows of a grid as it takes to find dead zone, effective band and collapse."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

from labtui_sessions.phases import phase, thresholds

from ..lang.algebra import parse_algebra
from ..specs import Calibrate, check_pictures
from ..specs.plan import Plan, PlannedRow, count_calibrate, plan_sweep
from .context import JobContext, Steps
from .decode import new_resolver, resolve
from .rounds import Rounds
from .sweep import SweepRun, total_dose


class CalibrateRecipe:
    """Rounds of rows, each decided by what the rounds before it measured, committed like a sweep's."""

    kind: ClassVar[str] = "calibrate"

    def __init__(self, spec: Calibrate) -> None:
        self.spec = spec
        self._plan: Plan | None = None

    def _shuffles(self, ctx: JobContext) -> dict[str, int]:
        resolver = new_resolver(ctx, self.spec.force)
        names = parse_algebra(self.spec.direction).names
        return {name: resolver.file(name).shuffles for name in names}

    def _planned(self, ctx: JobContext) -> Plan:
        if self._plan is None:
            self._plan = plan_sweep(self.spec.grid(), ctx.loaded.info.shape, shuffles=self._shuffles(ctx))
        return self._plan

    def table(self, ctx: JobContext) -> str:
        """The name of the table that the rows go to."""
        return self.spec.table or ctx.job

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        check_pictures(self.spec, ctx.loaded.info.shape)
        counts = count_calibrate(self.spec, ctx.loaded.info.shape, shuffles=self._shuffles(ctx))
        if counts["confirm"]:
            raise self.spec.refuse(
                "confirm", f"up to {counts['rows']:,} rows are run; set confirm = true for so many"
            )
        self._planned(ctx)
        return {**counts, "table": self.table(ctx)}

    def run(self, ctx: JobContext) -> Steps:
        rounds = Rounds(self.spec, self._planned(ctx))
        known: dict[str, Any] = {cell: dict(values) for cell, values in ctx.known.items()}

        def keep(planned: PlannedRow, line: dict[str, Any]) -> None:
            known[planned.cell] = line

        run = SweepRun(ctx, self.spec.grid(), self._planned(ctx), self.table(ctx), on_line=keep)
        run.open()
        run.total = rounds.most
        try:
            while rows := rounds.next(known):
                fresh = [row for row in rows if row.cell not in known]
                run.total = run.committed + len(fresh) + rounds.most - rounds.rows
                yield from run.load(fresh)
                yield from run.decode()
            phases = yield from self._phases(run, rounds, known)
        finally:
            run.close()
        return {
            **run.result(),
            "rows": rounds.rows,
            "skipped": rounds.rows - run.committed,
            "grid": rounds.grid,
            "outcome": self.spec.outcome,
            "phases": phases,
        }

    def _phases(
        self, run: SweepRun, rounds: Rounds, known: dict[str, Any]
    ) -> Generator[None, None, list[dict[str, Any]]]:
        """What was found at every site, with its strengths in all units."""
        told = []
        for finding in rounds.findings(known):
            planned = rounds.steered(finding.line)
            doses = {}
            for percent in thresholds(finding):
                row = planned[percent]
                resolved = yield from resolve(run.ctx, run.resolver, row.edits)
                doses[percent] = total_dose(row, resolved)
            told.append(phase(finding, doses, rounds.search.frame))
        return told


def make(spec: Calibrate) -> CalibrateRecipe:
    """The recipe of a checked spec."""
    return CalibrateRecipe(spec)
