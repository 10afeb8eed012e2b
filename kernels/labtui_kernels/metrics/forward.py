"""The passes that metrics need: the unsteered model over an answer, and the row as it ran.

Rows are looked at together, each at most once in either way whatever the metrics are, and rows that need the
same unsteered pass share it. The functions are generators that yield between bounded passes and return their
results in the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..engine import Look, Row, Sight
from .base import Needs

if TYPE_CHECKING:
    from ..engine import Engine
    from ..lang.sites import Site


@dataclass(frozen=True)
class Answered:
    """A row as the engine took it, with what it generated, the token that ended the turn included.

    That token counts in perplexity: an answer that stops in the middle of a word is unlikely text only by its
    end. ``answer`` counts the tokens without it: those are the answer that hidden states are read of.
    """

    row: Row
    tokens: tuple[int, ...]
    answer: int = 0


@dataclass
class Seen:
    """What the passes of a row gave, as :class:`~.base.Facts` has it."""

    perplexity: float | None = None
    kl: float | None = None
    logits: np.ndarray | None = None
    means: dict[Site, np.ndarray] = field(default_factory=dict)
    moved: dict[Site, float | None] = field(default_factory=dict)


def observe(
    engine: Engine, answers: Sequence[Answered], needs: Needs, unscored: Collection[int] = ()
) -> Generator[None, None, list[Seen]]:
    """What ``needs`` asks of each row, but ``kl_mean``. Rows ``unscored`` (by number) need no perplexity.

    KL(steered ‖ unsteered) is taken at the first step that a row's edits can affect, along its own answer:
    None where the answer ended before that step, 0 for a row without edits.
    """
    plan = _Plan()
    for number, answered in enumerate(answers):
        plan.add(number, answered, needs, needs.perplexity and number not in unscored)
    sights: dict[int, Sight] = {}
    for part in engine.observe_parts(plan.looks) if plan.looks else ():
        sights.update(part)
        yield
    found = [plan.seen(number, sights) for number in range(len(answers))]
    if needs.kl:
        yield from _kls(engine, answers, plan, sights, found)
    return found


class _Plan:
    """Which looks are taken, and which of them belong to which row."""

    def __init__(self) -> None:
        self.looks: list[Look] = []
        self.steered: dict[int, int] = {}
        self.plain: dict[int, int] = {}
        self._shared: dict[object, int] = {}

    def add(self, number: int, answered: Answered, needs: Needs, scored: bool) -> None:
        row = answered.row
        scored = scored and bool(answered.tokens)
        first = first_affected(row) if needs.kl and row.edits else None
        state = first if first is not None and first < len(answered.tokens) else None
        means = tuple(sorted(needs.means)) if answered.answer else ()
        moved = needs.moved and bool(row.edits)
        held = replace(row, forced=answered.tokens or None, surprise=False)
        if needs.logits or means or moved or state is not None:
            self.steered[number] = len(self.looks)
            plain_too = scored and not row.edits  # then this is the unsteered model already
            if plain_too:
                self.plain[number] = len(self.looks)
            look = Look(held, answered.answer, plain_too, state, needs.logits, means, moved)
            self.looks.append(look)
        if (scored or state is not None) and number not in self.plain:
            self._unsteered(number, replace(held, edits=(), knobs=()), scored, state)

    def _unsteered(self, number: int, row: Row, scored: bool, state: int | None) -> None:
        look = Look(row, logprobs=scored, state=state)
        pictures = tuple((image.digest, image.grid, image.start) for image in row.images)
        key = (look.sequence, pictures, row.forced if scored else None, state)
        if key not in self._shared:
            self._shared[key] = len(self.looks)
            self.looks.append(look)
        self.plain[number] = self._shared[key]

    def seen(self, number: int, sights: dict[int, Sight]) -> Seen:
        seen = Seen()
        if number in self.plain:
            seen.perplexity = perplexity(sights[self.plain[number]].logprobs)
        if number in self.steered:
            sight = sights[self.steered[number]]
            seen.logits, seen.means, seen.moved = sight.logits, sight.means, sight.moved
        return seen


def _kls(
    engine: Engine, answers: Sequence[Answered], plan: _Plan, sights: dict[int, Sight], found: Sequence[Seen]
) -> Generator[None, None, None]:
    for number, (answered, seen) in enumerate(zip(answers, found, strict=True)):
        if not answered.row.edits:
            seen.kl = 0.0
        elif number in plan.steered and number in plan.plain:
            steered, plain = sights[plan.steered[number]].state, sights[plan.plain[number]].state
            if steered is not None and plain is not None:
                (seen.kl,) = engine.kl(steered[None], plain[None])
                yield


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
    edit = row.edits[place]
    where = edit.where
    if edit.site.tower == "vision" or where.kind in ("image", "ink", "text"):
        return 0  # each selects something of the prompt, or the row is refused
    if any(where.prompt_mask(len(row.ids), row.content)):
        return 0
    steps = (step for step in range(row.max_new_tokens) if where.generated_at(step, len(row.ids)))
    return next(steps, row.max_new_tokens) + 1


def mean_divergences(
    engine: Engine, answers: Sequence[Answered], unsteered: Sequence[tuple[int, ...] | None]
) -> Generator[None, None, list[float | None]]:
    """KL(steered ‖ unsteered) as a mean over the steps of the unsteered answer, teacher-forced; None without one."""
    found: list[float | None] = [None if a.row.edits else 0.0 for a in answers]
    chosen = [i for i, a in enumerate(answers) if a.row.edits and unsteered[i]]
    rows = [replace(answers[i].row, forced=unsteered[i], surprise=False) for i in chosen]
    for part in engine.divergence_parts(rows) if rows else ():
        for number, values in part.items():
            found[chosen[number]] = math.fsum(values) / len(values)
        yield
    return found
