"""Metrics of finished rows, with the passes they need shared by as many rows as are there."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence

from ..metrics.forward import Answered, divergences, mean_divergences, perplexities, perplexity
from ..metrics.text import TEXT, Judged, Values, coherent
from .context import JobContext
from .rows import LiveRow


def measure(
    ctx: JobContext,
    rows: Sequence[LiveRow],
    wanted: Collection[str],
    zeros: Mapping[str, LiveRow],
    known: dict[str, float | None] | None = None,
) -> Generator[None, None, list[Values]]:
    """The metrics ``wanted`` of each row, in order.

    ``zeros`` maps a row's id to the unsteered row that it is judged by (itself for that one). ``known`` keeps
    perplexities by row id from call to call, so that an unsteered row is scored once.
    """
    known = {} if known is None else known
    found = [Values() for _ in rows]
    for row, values in zip(rows, found, strict=True):
        _texts(row, wanted, values)
    if {"perplexity", "coherent"} & set(wanted):
        judges = [zeros[row.row] for row in rows if row.row in zeros] if "coherent" in wanted else []
        yield from _perplexities(ctx, [*rows, *judges], known)
    if "kl" in wanted:
        answers = [_answered(row) for row in rows]
        kls = yield from divergences(ctx.engine, answers)
        for values, kl in zip(found, kls, strict=True):
            values.put("kl", kl, "the answer ended before the first step that the edit can affect")
    if "kl-mean" in wanted:
        answers = [_answered(row) for row in rows]
        others = [tuple(zeros[row.row].tokens) if row.row in zeros else None for row in rows]
        kls = yield from mean_divergences(ctx.engine, answers, others)
        for values, kl in zip(found, kls, strict=True):
            values.put("kl-mean", kl, "there is no unsteered answer to go along")
    for row, values in zip(rows, found, strict=True):
        if "perplexity" in wanted:
            values.put("perplexity", known[row.row], "the answer is empty, or its perplexity is not finite")
        if "coherent" in wanted:
            _coherent(row, zeros.get(row.row), known, values)
        values.values = {name: values.values[name] for name in wanted}
    return found


def _texts(row: LiveRow, wanted: Collection[str], values: Values) -> None:
    for name in wanted:
        if name in TEXT:
            compute, reason = TEXT[name]
            values.put(name, compute(row.text), reason)
    if "tokens" in wanted:
        values.put("tokens", len(row.answer))


def _perplexities(
    ctx: JobContext, rows: Sequence[LiveRow], known: dict[str, float | None]
) -> Generator[None, None, None]:
    """Fill ``known``; rows that ran unsteered, or with surprise, need no pass."""
    todo: list[LiveRow] = []
    for row in rows:
        if row.row in known:
            continue
        if not row.answer:
            known[row.row] = None
        elif not row.resolved.edits:
            known[row.row] = perplexity(row.logprobs)
        elif row.surprise:
            known[row.row] = perplexity([value for value in row.plain_logprobs if value is not None])
        else:
            todo.append(row)
            known[row.row] = None
    scored = yield from perplexities(ctx.engine, [_answered(row) for row in todo])
    known.update({row.row: value for row, value in zip(todo, scored, strict=True)})


def _answered(row: LiveRow) -> Answered:
    return Answered(row.engine_row(), tuple(row.tokens))


def _coherent(row: LiveRow, zero: LiveRow | None, known: Mapping[str, float | None], values: Values) -> None:
    if zero is None:
        values.put("coherent", None, "there is no unsteered row to judge it by")
        return
    verdict, reason = coherent(
        Judged(row.text, known[row.row], row.finish == "stop"),
        Judged(zero.text, known[zero.row], zero.finish == "stop"),
    )
    values.put("coherent", verdict, reason)
