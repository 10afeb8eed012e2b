"""Rows decoded together: edits resolved, knobs turned, and each row told of to its end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

from labtui_artifacts.errors import UsageError

from ..engine import Batch
from ..lang.edits import EditTerm
from . import norms
from .context import JobContext, KnobTurn
from .resolve import PLAIN, Resolved, Resolver
from .rows import LiveRow

STEP_BUDGET = 600.0
Settle: TypeAlias = Callable[[], Generator[None, None, None]]


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
    """Apply a turn of a knob and tell from which token it counts; why it cannot be is told as progress.

    One term may be edits at several sites: all of them are turned, or none.
    """
    row = rows.get(turn.row)
    try:
        if row is None or row.finish:
            raise UsageError(f"knob: row {turn.row} is not running")
        alpha, changes = row.resolved.turn(turn.edit, turn.strength)
        for index, value in changes:
            batch.check_strength(row.row, index, value)
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
