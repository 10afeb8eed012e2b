"""Metrics of finished rows, with the passes they need shared by as many rows as are there."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.probe import ProbeFile

from ..lang.algebra import parse_algebra
from ..lang.shape import ModelShape
from ..lang.sites import Site
from ..lang.text import did_you_mean, shown
from ..metrics.base import NOTHING, Facts, Metric, Needs, Values
from ..metrics.forward import Answered, mean_divergences, observe, perplexity
from ..metrics.registry import metric, value
from ..models.compatibility import compatibility, warning
from .context import JobContext
from .resolve import Resolver
from .rows import LiveRow


@dataclass(frozen=True)
class Measures:
    """The metrics of a job, each of which has looked at the model; ``needs`` is what they want together."""

    metrics: tuple[Metric, ...]
    needs: Needs

    @property
    def judged(self) -> bool:
        """Whether one of them compares a row with the unsteered row of the same prompt and seed."""
        return any(each.judged for each in self.metrics)


def prepare(ctx: JobContext, names: Collection[str], resolver: Resolver) -> Measures:
    """The metrics of these names for the loaded model, before the first row runs.

    Raises UsageError for one that cannot apply: a direction or probe that is not in the store or was made on
    another model, a site that the model lacks, a token set that its tokenizer has no token of.
    """
    target = _Model(ctx, resolver)
    found = [metric(name) for name in names]
    for each in found:
        each.prepare(target)
    needs = NOTHING
    for each in found:
        needs |= each.needs()
    return Measures(tuple(found), needs)


@dataclass(frozen=True)
class _Model:
    """The loaded model and the store as metrics see them."""

    ctx: JobContext
    resolver: Resolver

    @property
    def shape(self) -> ModelShape:
        return self.ctx.loaded.info.shape

    @property
    def vocabulary(self) -> int:
        return min(len(self.ctx.loaded.tokenizer), self.ctx.engine.forward.vocab)

    def encode(self, text: str) -> list[int]:
        return list(self.ctx.loaded.tokenizer.encode(text, add_special_tokens=False))

    def direction(self, expression: str, site: Site) -> np.ndarray:
        return self.resolver.vector(parse_algebra(expression), site).numpy()

    def probe(self, name: str) -> ProbeFile:
        stored = self.ctx.store.names()
        if name not in stored:
            raise UsageError(f"no probe {shown(name)} in the store{did_you_mean(name, stored)}")
        opened = ProbeFile.view(self.ctx.store.get(name, kind="probe"), name)
        match = compatibility(opened.meta, self.ctx.loaded.info, opened.sites)
        if match == "no" or (match == "width" and not self.resolver.force):
            said = warning(match, opened.meta, self.ctx.loaded.info, opened.sites)
            raise UsageError(f"probe {name!r}: {said}; fit it again on this model, or set force = true")
        return opened


def measure(
    ctx: JobContext,
    rows: Sequence[LiveRow],
    measures: Measures,
    zeros: Mapping[str, LiveRow],
    known: dict[str, float | None] | None = None,
) -> Generator[None, None, list[Values]]:
    """The metrics of each row, in order.

    ``zeros`` maps a row's id to the unsteered row that it is judged by (itself for that one). ``known`` keeps
    perplexities by row id from call to call, so that an unsteered row is scored once.
    """
    known = {} if known is None else known
    facts = {row.row: _facts(row) for row in rows}
    judges = (
        {zeros[row.row].row: zeros[row.row] for row in rows if row.row in zeros} if measures.judged else {}
    )
    extra = [judge for judge in judges.values() if judge.row not in facts]
    yield from _inside(ctx, rows, facts, measures.needs, known)
    for judge in extra:
        facts[judge.row] = _facts(judge)
    if extra and measures.needs.perplexity:
        yield from _inside(ctx, extra, facts, Needs(perplexity=True), known)
    if measures.needs.kl_mean:
        answers = [_answered(row) for row in rows]
        others = [tuple(zeros[row.row].tokens) if row.row in zeros else None for row in rows]
        means = yield from mean_divergences(ctx.engine, answers, others)
        for row, mean in zip(rows, means, strict=True):
            facts[row.row].kl_mean = mean
    found: list[Values] = []
    for row in rows:
        seen, values = facts[row.row], Values()
        seen.zero = facts[zeros[row.row].row] if measures.judged and row.row in zeros else None
        for each in measures.metrics:
            values.put(each.name, *value(each, seen))
        found.append(values)
    return found


def _facts(row: LiveRow) -> Facts:
    return Facts(
        text=row.text,
        prompt=next((turn.content for turn in reversed(row.messages) if turn.role == "user"), ""),
        tokens=len(row.answer),
        cut=row.finish == "length",
        ended=row.finish == "stop",
        steered=bool(row.resolved.edits),
    )


def _inside(
    ctx: JobContext,
    rows: Sequence[LiveRow],
    facts: Mapping[str, Facts],
    needs: Needs,
    known: dict[str, float | None],
) -> Generator[None, None, None]:
    """Run the passes and write what they gave into ``facts``; perplexities also into ``known``."""
    if needs.perplexity:
        for row in rows:
            _told(row, known)
    answers = [_answered(row) for row in rows]
    unscored = [number for number, row in enumerate(rows) if row.row in known]
    found = yield from observe(ctx.engine, answers, needs, unscored)
    for row, seen in zip(rows, found, strict=True):
        fact = facts[row.row]
        if needs.perplexity:
            fact.perplexity = known.setdefault(row.row, seen.perplexity)
        fact.kl, fact.logits, fact.means, fact.moved = seen.kl, seen.logits, seen.means, seen.moved


def _told(row: LiveRow, known: dict[str, float | None]) -> None:
    """The perplexity of a row that ran unsteered, or with surprise: it needs no pass."""
    if row.row in known:
        return
    if not row.answer:
        known[row.row] = None
    elif not row.resolved.edits:
        known[row.row] = perplexity(row.logprobs)
    elif row.surprise:
        known[row.row] = perplexity([each for each in row.plain_logprobs if each is not None])


def _answered(row: LiveRow) -> Answered:
    return Answered(row.engine_row(), tuple(row.tokens), len(row.answer))
