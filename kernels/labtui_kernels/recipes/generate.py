"""The recipe ``generate``: plain and steered answers to one prompt, side by side, streamed as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, TypeAlias

from labtui_artifacts.errors import UsageError

from ..engine import Batch
from ..lang.edits import EditTerm, parse_edits
from ..metrics.names import AGAINST_ZERO
from ..specs import Generate, as_messages
from ..specs.plan import count
from . import norms
from .context import JobContext, KnobTurn, Steps
from .detokenize import Vocabulary
from .measure import measure
from .prompts import rendered
from .resolve import PLAIN, Resolved, Resolver, read_positions
from .rows import LiveRow, summary

STEP_BUDGET = 600.0
Settle: TypeAlias = Callable[[], Generator[None, None, None]]


class GenerateRecipe:
    """Every arm and resample of one prompt as rows of one batch."""

    kind: ClassVar[str] = "generate"

    def __init__(self, spec: Generate) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        parse_edits(self.spec.edits, ctx.loaded.info.shape)
        messages = as_messages(self.spec.prompt, self.spec.system)
        prompt = rendered(ctx, messages, self.spec.thinking, self.spec.prefill)
        return {**count(self.spec, ctx.loaded.info.shape), "prompt_tokens": len(prompt.ids)}

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        terms = parse_edits(spec.edits, ctx.loaded.info.shape)
        resolver = new_resolver(ctx, spec.force)
        resolved = yield from resolve(ctx, resolver, terms)
        rows = self._rows(ctx, resolver, resolved)
        plain = {row.seed: row for row in rows if not row.resolved.edits}
        zeros = {row.row: plain[row.seed] for row in rows if row.seed in plain}
        judged = bool(AGAINST_ZERO & set(spec.metrics))
        known: dict[str, float | None] = {}
        told: dict[str, dict[str, Any]] = {}

        def settle() -> Generator[None, None, None]:
            """Measure the rows that have ended, when the row that they are judged by has ended too."""
            ended = [row for row in rows if row.finish and not row.told]
            ready = [row for row in ended if not judged or row.row not in zeros or zeros[row.row].finish]
            found = yield from measure(ctx, ready, spec.metrics, zeros, known)
            for row, values in zip(ready, found, strict=True):
                row.finished(values)
                told[row.row] = summary(row, values)

        yield from decode(ctx, rows, settle)
        return {"rows": [told[row.row] for row in rows], "notes": list(resolved.notes)}

    def _rows(self, ctx: JobContext, resolver: Resolver, resolved: Resolved) -> list[LiveRow]:
        spec = self.spec
        messages = as_messages(spec.prompt, spec.system)
        prompt = rendered(ctx, messages, spec.thinking, spec.prefill)
        arms = [("steered", resolved)] if resolved.edits else []
        if spec.plain or not arms:
            arms.insert(0, ("plain", PLAIN))
        vocabulary = Vocabulary(ctx.loaded.tokenizer)
        read = read_positions(resolver, resolved.names, len(prompt.ids), prompt.content)
        return [
            LiveRow(
                ctx,
                vocabulary,
                row=arm if spec.n == 1 else f"{arm}.{number + 1}",
                arm=arm,
                prompt=prompt,
                messages=messages,
                decoding=spec,
                seed=spec.seed + number,
                resolved=edits,
                surprise=spec.surprise,
                read=read if edits.edits else [],
            )
            for number in range(spec.n)
            for arm, edits in arms
        ]


def new_resolver(ctx: JobContext, force: bool = False) -> Resolver:
    """A resolver for the loaded model, with the reference norms measured so far."""
    info = ctx.loaded.info
    return Resolver(ctx.store, info, info.shape, force, references=norms.medians(ctx))


def resolve(
    ctx: JobContext, resolver: Resolver, terms: Sequence[EditTerm]
) -> Generator[None, None, Resolved]:
    """Edits for the engine, after measuring the reference norms that they lack."""
    if not terms:
        return PLAIN
    missing = resolver.missing(terms)
    if missing:
        yield from norms.measure(ctx, missing)
        resolver.references.update(norms.medians(ctx))
    return resolver.resolve(terms)


def decode(ctx: JobContext, rows: Sequence[LiveRow], settle: Settle) -> Generator[None, None, None]:
    """Run rows together to their ends, streaming them and turning their knobs.

    ``settle`` is run whenever a row has ended. Rows whose job ends before them are told as cancelled.
    """
    by_key = {row.row: row for row in rows}
    width = max(2 if row.surprise and row.resolved.edits else 1 for row in rows)
    batch = ctx.engine.batch(max(width, _slots(ctx, rows, width)))
    most = sum(row.decoding.max_new_tokens for row in rows)
    try:
        for row in rows:
            batch.add(row.engine_row())
            row.start()
        while not batch.done:
            ctx.budget("decode", STEP_BUDGET)
            yield
            for turn in ctx.knobs():
                turn_knob(ctx, batch, by_key, turn)
            emissions = batch.step()
            for emitted in emissions:
                if by_key[emitted.key].take(emitted):
                    batch.cancel(emitted.key)
            done = sum(row.decoding.max_new_tokens if row.finish else len(row.tokens) for row in rows)
            ctx.progress(done, most, "tokens")
            if any(row.finish and not row.told for row in rows):
                ctx.budget("metrics", STEP_BUDGET)
                yield from settle()
    finally:
        batch.close()
        for row in rows:
            row.abandon()


def _slots(ctx: JobContext, rows: Sequence[LiveRow], width: int) -> int:
    longest = max(len(row.prompt.ids) + row.decoding.max_new_tokens for row in rows)
    longest = min(longest, ctx.loaded.info.context_length)
    fit = ctx.engine.slots_that_fit(longest, most=max(1, len(rows) * width))
    return max(1, fit >> ctx.halvings)


def turn_knob(ctx: JobContext, batch: Batch, rows: dict[str, LiveRow], turn: KnobTurn) -> None:
    """Apply a turn of a knob and tell from which token it counts; why it cannot be is told as progress."""
    row = rows.get(turn.row)
    try:
        if row is None or row.finish:
            raise UsageError(f"knob: row {turn.row} is not running")
        alpha, changes = row.resolved.turn(turn.edit, turn.strength)
        turned = [(batch.set_strength(row.row, index, value), index, value) for index, value in changes]
    except UsageError as refused:
        ctx.progress(0, 0, str(refused))
        return
    row.knobs.extend(turned)
    ctx.emit(
        "knob",
        {
            "row": row.row,
            "edit": turn.edit,
            "strength": alpha,
            "strength_text": str(turn.strength),
            "step": max(step for step, _, _ in turned),
        },
    )


def make(spec: Generate) -> GenerateRecipe:
    """The recipe of a checked spec."""
    return GenerateRecipe(spec)
