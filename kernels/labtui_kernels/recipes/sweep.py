"""The recipe ``sweep``: a plan's rows through one batch with refilled slots, committed as they finish."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import torch

from labtui_artifacts.errors import JobFailed, UsageError
from labtui_artifacts.images import short
from labtui_artifacts.kinds.direction import DirectionFile

from ..engine import Batch
from ..lang.algebra import parse_algebra
from ..lang.positions import Where
from ..lang.sites import SiteGroup
from ..lang.strength import Strength
from ..metrics.base import Values
from ..specs import Message, Sweep, check_pictures
from ..specs.plan import Plan, PlannedRow, plan_sweep
from . import norms
from .context import JobContext, Steps
from .decode import STEP_BUDGET, new_resolver
from .detokenize import Vocabulary
from .measure import Measures, measure, prepare
from .pictures import Area
from .prompts import Prompted, rendered
from .resolve import PLAIN, Resolved, Resolver, check_places
from .rows import LiveRow

SETTLE_SECONDS = 2.0
MOST_SLOTS = 64
KEPT = 64
"""Resolved points that are kept at a time."""


_Point: TypeAlias = tuple[str, SiteGroup, Where, Strength]
"""What the edits of a row are made of."""


class SweepRecipe:
    """Rows of a plan, without those that are committed already."""

    kind: ClassVar[str] = "sweep"

    def __init__(self, spec: Sweep) -> None:
        self.spec = spec
        self._plan: Plan | None = None

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        check_pictures(self.spec, ctx.loaded.info.shape)
        made = self._planned(ctx)
        done = sum(row.cell in ctx.committed for row in made.rows)
        before = sum(row.cell in ctx.committed and row.cell not in ctx.own for row in made.rows)
        new = len(made.rows) - before
        counts = {**made.counts, "table": self.table(ctx), "committed": done, "new": new}
        return {**counts, "made_with": self._made_with(ctx)}

    def table(self, ctx: JobContext) -> str:
        """The name of the table that the rows go to."""
        return self.spec.table or ctx.job

    def _files(self, ctx: JobContext) -> dict[str, DirectionFile]:
        """The stored directions of the spec."""
        resolver = new_resolver(ctx, self.spec.force)
        exprs = [parse_algebra(text) for text in self.spec.directions]
        return {name: resolver.file(name) for expr in exprs for name in expr.names}

    def _made_with(self, ctx: JobContext) -> dict[str, str]:
        """Digests of the directions; UsageError for one that the committed cells were not made with."""
        found = {name: file.digest() for name, file in self._files(ctx).items()}
        for name, digest in found.items():
            before = ctx.made_with.get(name, digest)
            if before != digest:
                raise UsageError(
                    f"direction {name!r} has changed: the {len(ctx.committed)} finished cells were made with "
                    f"{before}, and {name} is now {digest}; put that one back, or run the sweep anew"
                )
        return found

    def _planned(self, ctx: JobContext) -> Plan:
        if self._plan is None:
            shuffles = {name: file.shuffles for name, file in self._files(ctx).items()}
            self._plan = plan_sweep(self.spec, ctx.loaded.info.shape, shuffles=shuffles)
        return self._plan

    def run(self, ctx: JobContext) -> Steps:
        run = SweepRun(ctx, self.spec, self._planned(ctx), self.table(ctx))
        yield from run.prepare()
        try:
            yield from run.decode()
        finally:
            run.close()
        return run.result()


@dataclass
class SweepRun:
    """A sweep on its way: ``prepare`` and ``decode``, or in several rounds ``open``, and for each ``load`` and
    ``decode``. ``on_line`` is told of every row that is committed, with its columns."""

    ctx: JobContext
    spec: Sweep
    plan: Plan
    table: str
    resolved: dict[_Point, Resolved] = field(default_factory=dict)
    prompts: dict[tuple[Message, ...], Prompted] = field(default_factory=dict)
    planned: dict[str, PlannedRow] = field(default_factory=dict)
    running: dict[str, LiveRow] = field(default_factory=dict)
    finished: list[LiveRow] = field(default_factory=list)
    zeros: dict[tuple[int, int], LiveRow] = field(default_factory=dict)
    known: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    on_line: Callable[[PlannedRow, dict[str, Any]], None] | None = None
    committed: int = 0
    total: int = 0
    tokens: int = 0
    batch: Batch | None = None
    slots: int = 1
    began: float = field(default_factory=time.monotonic)
    settled: float = field(default_factory=time.monotonic)

    def prepare(self) -> Generator[None, None, None]:
        """Render the prompts and resolve the edits, so that what is wrong is known before the first row."""
        self.open()
        rows = [row for row in self.plan.rows if row.cell not in self.ctx.committed]
        self.total = len(rows)
        yield from self.load(rows)

    def open(self) -> None:
        """What rows are resolved and measured with."""
        ctx, spec = self.ctx, self.spec
        self.vocabulary = Vocabulary(ctx.loaded.tokenizer)
        self.resolver: Resolver = new_resolver(ctx, spec.force)
        self.measures: Measures = prepare(ctx, spec.metrics, self.resolver)

    def load(self, rows: Sequence[PlannedRow]) -> Generator[None, None, None]:
        """Take these rows up, none of which is committed."""
        ctx, spec = self.ctx, self.spec
        wanted = {(row.prompt, row.seed) for row in rows} if self.measures.judged else set()
        # An unsteered row that is committed is run again, uncommitted, when others are judged by it.
        again = [
            row
            for row in self.plan.rows
            if row.control == "zero" and row.cell in ctx.committed and (row.prompt, row.seed) in wanted
            if (row.prompt, row.seed) not in self.zeros
        ]
        self.todo = deque([*again, *rows])
        yield from self._check_edits()
        for row in self.todo:
            if row.messages not in self.prompts:
                self.prompts[row.messages] = rendered(
                    ctx,
                    row.messages,
                    spec.thinking,
                    spec.prefill,
                    area=Area.of(spec),
                )
                yield
        self._check_places()

    def _check_edits(self) -> Generator[None, None, None]:
        """Measure the reference norms that are missing, and resolve each point of the grid once.

        Vectors are not kept: a large sweep has thousands of random ones. Those need no check of their own.
        """
        points = {
            _point(row): row for row in self.todo if row.control not in ("random", "shuffled", "prompt")
        }
        missing = {site for row in points.values() for site in self.resolver.missing(row.edits)}
        if missing:
            yield from norms.measure(self.ctx, missing)
            self.resolver.references.update(norms.medians(self.ctx))
        for row in points.values():
            self._edits(row)
            yield

    def _check_places(self) -> None:
        """Refuse a place that a prompt does not have before the first row, not in the middle of the sweep."""
        seen: set[tuple[object, ...]] = set()
        for row in self.todo:
            if row.control == "prompt":
                continue
            towers = frozenset(site.tower for site in row.sites)
            key = (row.messages, row.where, towers)
            if key not in seen:
                seen.add(key)
                check_places(row.edits, self.prompts[row.messages])

    def _edits(self, planned: PlannedRow) -> Resolved:
        """The row's edits for the engine; the last ones are kept, since rows of one point come together."""
        if planned.control == "prompt":
            return PLAIN
        key = _point(planned)
        if key not in self.resolved:
            if len(self.resolved) >= KEPT:
                del self.resolved[next(iter(self.resolved))]
            self.resolved[key] = self.resolver.resolve(planned.edits)
        return self.resolved[key]

    def decode(self) -> Generator[None, None, None]:
        """Rows in and out of the batch until none is left."""
        ctx = self.ctx
        if not self.todo:
            return
        self.close()
        self.slots = self._slots()
        self.batch = ctx.engine.batch(self.slots, fill=True)
        if not self.committed:
            self.began = time.monotonic()
        while self.todo or not self.batch.done or self.finished:
            ctx.budget("decode", STEP_BUDGET)
            try:
                self._step(self.batch)
            except torch.OutOfMemoryError:
                self._halve()
            self._tell()
            yield
            late = time.monotonic() - self.settled > SETTLE_SECONDS
            if self.finished and (late or self.batch.done or len(self.finished) >= self.slots):
                yield from self._settle(last=self.batch.done and not self.todo)

    def _step(self, batch: Batch) -> None:
        while self.todo and len(batch.waiting) < self.slots:
            self._enter(self.todo.popleft(), batch)
        for emitted in batch.step():
            row = self.running.get(emitted.key)
            if row is None:  # a row that a stop text ended, told cancelled after it was committed
                continue
            self.tokens += emitted.token >= 0
            if row.take(emitted):
                batch.cancel(emitted.key)
            if row.finish and emitted.finish != "cancelled":
                self._leave(row)

    def _halve(self) -> None:
        """Out of device memory: the rows on their way wait again, for a batch of half as many slots."""
        if self.slots == 1:
            raise JobFailed(
                "the device has no memory left for a single row: lower max_new_tokens, shorten the prompts, "
                "or start the kernel with --quantize"
            )
        assert self.batch is not None
        self.batch.close()
        torch.cuda.empty_cache()
        self.slots //= 2
        self.notes.append(f"out of memory: went on with {self.slots} rows together")
        interrupted = [row for row in self.running.values() if not row.finish]
        for row in interrupted:
            del self.running[row.row]
        self.todo.extendleft(self.planned.pop(row.row) for row in reversed(interrupted))
        self.batch = self.ctx.engine.batch(self.slots, fill=True)

    def _slots(self) -> int:
        longest = max(len(prompt.ids) for prompt in self.prompts.values()) + self.spec.max_new_tokens
        longest = min(longest, self.ctx.loaded.info.context_length)
        wanted = self.spec.batch or MOST_SLOTS
        fit = self.ctx.engine.slots_that_fit(longest, most=min(wanted, len(self.todo)))
        return max(1, fit >> self.ctx.halvings)

    def _enter(self, planned: PlannedRow, batch: Batch) -> None:
        row = LiveRow(
            self.ctx,
            self.vocabulary,
            row=f"r{planned.index}",
            arm=planned.control or "steered",
            prompt=self.prompts[planned.messages],
            messages=list(planned.messages),
            decoding=self.spec,
            seed=planned.seed,
            resolved=self._edits(planned),
            live=False,
        )
        batch.add(row.engine_row())
        self.running[row.row] = row
        self.planned[row.row] = planned

    def _leave(self, row: LiveRow) -> None:
        planned = self.planned[row.row]
        if planned.control == "zero":
            self.zeros[planned.prompt, planned.seed] = row
        self.finished.append(row)

    def _settle(self, last: bool) -> Generator[None, None, None]:
        """Measure and commit what has finished; rows wait for the unsteered row that they are judged by."""
        self.settled = time.monotonic()
        judged = self.measures.judged and self.spec.controls_for(len(self.plan.prompts)).zero
        ready = [row for row in self.finished if not judged or last or self._place(row) in self.zeros]
        if not ready:
            return
        self.ctx.budget("metrics", STEP_BUDGET)
        zeros = {row.row: self.zeros[self._place(row)] for row in ready if self._place(row) in self.zeros}
        found = yield from measure(self.ctx, ready, self.measures, zeros, self.known)
        for row, values in zip(ready, found, strict=True):
            self.finished.remove(row)
            del self.running[row.row]
            planned = self.planned.pop(row.row)
            if planned.cell not in self.ctx.committed:
                self._commit(row, planned, values)
        self._tell()

    def _place(self, row: LiveRow) -> tuple[int, int]:
        planned = self.planned[row.row]
        return planned.prompt, planned.seed

    def _commit(self, row: LiveRow, planned: PlannedRow, values: Values) -> None:
        row.start(prompt_pieces=False)
        row.flush()
        row.finished(values)
        line = self._line(row, planned) | values.values
        if values.reasons:
            line["reasons"] = values.reasons
        self.ctx.emit("cell.committed", {"cell": planned.cell, "table": self.table, "rows": [line]})
        if self.on_line is not None:
            self.on_line(planned, line)
        self.committed += 1

    def _line(self, row: LiveRow, planned: PlannedRow) -> dict[str, Any]:
        """The row's columns without its metrics."""
        dose = total_dose(planned, row.resolved)
        origin, group = self.plan.origins[planned.prompt]
        return {
            "row": self.ctx.first_row + planned.index,
            "prompt": self.plan.shown[planned.prompt],
            "prompt_index": planned.prompt,
            "prompt_id": self.plan.ids[planned.prompt],
            "prompt_set": origin,
            "prompt_class": group,
            **self._pictures(planned),
            "direction": "" if planned.control == "zero" else planned.direction,
            "site": planned.site,
            "where": str(planned.where),
            "strength": dose["alpha"],
            "strength_abs": dose["abs"],
            "strength_pct": dose["pct"],
            "strength_text": str(planned.strength),
            "seed": planned.seed,
            "control": planned.control,
            "text": row.text,
            "tokens": len(row.answer),
            "finish": row.finish,
            "note": "; ".join(row.resolved.notes),
        }

    def _pictures(self, planned: PlannedRow) -> dict[str, str]:
        """Columns for the prompt's pictures, where any prompt of the sweep has one: their names, and their digests."""
        if not self.plan.pictured:
            return {}
        digests = [image for turn in self.plan.prompts[planned.prompt] for image in turn.images]
        names = [self.ctx.picture_names.get(digest) or short(digest) for digest in digests]
        return {"picture": ", ".join(names), "prompt_images": " ".join(digests)}

    def _tell(self) -> None:
        most = self.spec.max_new_tokens
        partial = sum(min(1.0, len(row.tokens) / most) for row in self.running.values() if not row.finish)
        done = self.committed + len(self.finished) + partial
        seconds = time.monotonic() - self.began
        text = "rows"
        if seconds > 1 and done > 0:
            left = seconds / done * max(0.0, self.total - done)
            text = f"rows, {self.tokens / seconds:.0f} tokens/s, {_duration(left)} left"
        self.ctx.progress(min(done, self.total), self.total, text)

    def result(self) -> dict[str, Any]:
        """What the job says at its end."""
        seconds = time.monotonic() - self.began
        return {
            "table": self.table,
            "rows": len(self.plan.rows),
            "committed": self.committed,
            "skipped": len(self.plan.rows) - self.committed,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / seconds if seconds > 0 else None,
            "notes": sorted(self.resolver.notes.values()) + self.notes,
        }

    def close(self) -> None:
        """Free the batch; rows that have not been committed run again when the job goes on."""
        if self.batch is not None:
            self.batch.close()


def total_dose(planned: PlannedRow, resolved: Resolved) -> dict[str, float | None]:
    """The strength of a row's edit in its three units; of a shared one the total, as a table shows it."""
    doses = [dose.record() for dose in resolved.doses]
    dose = doses[0] if doses else {"alpha": 0.0, "abs": 0.0, "pct": 0.0}
    sites = len(planned.sites) if planned.shared else 1
    return {unit: None if dose[unit] is None else dose[unit] * sites for unit in ("alpha", "abs", "pct")}


def _point(row: PlannedRow) -> _Point:
    return row.direction, row.sites, row.where, row.strength


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make(spec: Sweep) -> SweepRecipe:
    """The recipe of a checked spec."""
    return SweepRecipe(spec)
