"""Metrics that run the model again: perplexity, and the divergence from the unsteered model.

Rows are scored together. Each function is a generator that yields between bounded passes and returns its
numbers in the order of its rows.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..engine import Row

if TYPE_CHECKING:
    from ..engine import Engine


@dataclass(frozen=True)
class Answered:
    """A row as the engine took it, with what it generated, the token that ended the turn included.

    That token counts: an answer that stops in the middle of a word is unlikely text only by its end.
    """

    row: Row
    tokens: tuple[int, ...]


def perplexities(engine: Engine, answers: Sequence[Answered]) -> Generator[None, None, list[float | None]]:
    """Perplexity of each row's generated tokens under the unsteered model; None without any."""
    chosen = [index for index, answered in enumerate(answers) if answered.tokens]
    rows = [_forced(answers[index], answers[index].tokens, plain=True) for index in chosen]
    found: list[float | None] = [None] * len(answers)
    for part in engine.score_parts(rows) if rows else ():
        for number, emitted in part.items():
            found[chosen[number]] = perplexity([token.logprob for token in emitted])
        yield
    return found


def perplexity(logprobs: Sequence[float]) -> float | None:
    """exp of the mean negative log-probability in nats; None without tokens, and where it overflows."""
    if not logprobs:
        return None
    mean = -math.fsum(logprobs) / len(logprobs)
    return math.exp(mean) if mean < 700 else None


def first_affected(row: Row) -> int:
    """The first generated token whose distribution the row's edits can change.

    An edit of the prompt acts from token 0 on. One of generated positions acts on the token after the first
    position it covers.
    """
    firsts = [_first(row, place) for place in range(len(row.edits))]
    return min(firsts, default=0)


def _first(row: Row, place: int) -> int:
    where = row.edits[place].where
    if any(where.prompt_mask(len(row.ids), row.content)):
        return 0
    steps = (step for step in range(row.max_new_tokens) if where.generated_at(step, len(row.ids)))
    return next(steps, row.max_new_tokens) + 1


def divergences(engine: Engine, answers: Sequence[Answered]) -> Generator[None, None, list[float | None]]:
    """KL(steered ‖ unsteered) in nats at the first step that a row's edits can affect, along its own answer.

    None where the answer ended before that step. Rows without edits have 0.
    """
    found: list[float | None] = [None if answered.row.edits else 0.0 for answered in answers]
    firsts = [first_affected(answered.row) for answered in answers]
    chosen = [i for i, a in enumerate(answers) if a.row.edits and len(a.tokens) > firsts[i]]
    rows = [_forced(answers[i], answers[i].tokens[: firsts[i] + 1]) for i in chosen]
    for part in engine.divergence_parts(rows) if rows else ():
        for number, values in part.items():
            found[chosen[number]] = values[-1]
        yield
    return found


def mean_divergences(
    engine: Engine, answers: Sequence[Answered], unsteered: Sequence[tuple[int, ...] | None]
) -> Generator[None, None, list[float | None]]:
    """The same KL as a mean over the steps of the unsteered answer, teacher-forced; None without one."""
    found: list[float | None] = [None if a.row.edits else 0.0 for a in answers]
    chosen = [i for i, a in enumerate(answers) if a.row.edits and unsteered[i]]
    rows = [_forced(answers[i], unsteered[i] or ()) for i in chosen]
    for part in engine.divergence_parts(rows) if rows else ():
        for number, values in part.items():
            found[chosen[number]] = math.fsum(values) / len(values)
        yield
    return found


def _forced(answered: Answered, tokens: Sequence[int], *, plain: bool = False) -> Row:
    edits = () if plain else answered.row.edits
    knobs = () if plain else answered.row.knobs
    return replace(answered.row, forced=tuple(tokens), edits=edits, knobs=knobs, surprise=False)
