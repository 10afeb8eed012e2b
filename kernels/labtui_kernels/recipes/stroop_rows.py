"""The rows of a Stroop recipe: which picture is asked what, under which edit. Torch-free.

A prompt is a picture with one of the two questions; its rows share a number, so that each is held against the answer
without edits. A row's key is a digest of all that defines it, as a sweep's is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..lang.positions import Where, parse_where
from ..lang.sites import Site
from ..lang.strength import Strength
from ..specs import Stroop
from ..specs.plan import PROMPT_ID, ZERO, Control, Plan, PlannedRow
from ..specs.stroop import GRID_NULLS, GRID_PICTURES, QUESTIONS, expression
from .stroop_embed import question
from .stroop_pictures import Sets, Shown

JUDGED_SEED = 1_000
"""Random directions of judged cells count from multiples of this, so that each cell has its own."""


@dataclass(frozen=True)
class Asked:
    """A prompt: a picture and a question."""

    number: int
    shown: Shown
    question: str

    @property
    def right(self) -> str:
        """The right answer."""
        return self.shown.right(self.question)


@dataclass(frozen=True)
class StroopRow(PlannedRow):
    """One generation: ``direction`` is the whole expression; ``delta`` and ``label`` are what a table shows of it."""

    asked: Asked | None = None
    delta: str = ""
    label: str = ""


@dataclass
class Rows:
    """Makes the rows of a spec, numbered on; each but once."""

    spec: Stroop
    sets: Sets
    prompts: list[Asked] = field(default_factory=list)
    made: list[StroopRow] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for shown in (*self.sets.choose, *self.sets.judge, *self.sets.congruent):
            for name in QUESTIONS:
                self.prompts.append(Asked(len(self.prompts), shown, name))
        spec = self.spec
        self._where: Where = parse_where(spec.place)
        self._decoding = [
            spec.prefill,
            spec.thinking,
            spec.max_new_tokens,
            spec.system,
            spec.name,
            spec.method,
        ]

    def asked(self, shown: Sequence[Shown]) -> list[Asked]:
        """The prompts of these pictures, in order."""
        wanted = {id(one) for one in shown}
        return [asked for asked in self.prompts if id(asked.shown) in wanted]

    # -- what is run ------------------------------------------------------------------------------------

    def grid(self, sites: Sequence[Site]) -> list[StroopRow]:
        """Every delta at every site and strength on the pictures that are chosen by, after their unsteered rows.

        At each site and strength half of the null directions are random, half are deltas with permuted labels (of each
        delta in turn); each is run on `GRID_PICTURES` pictures.
        """
        prompts = self.asked(self.sets.choose)
        rows = list(self._zeros(prompts, sites[0]))
        for site in sites:
            for strength in self.spec.percents:
                for delta in self.spec.deltas:
                    rows += self._steered(prompts, delta, site, strength, "")
                for number in range(GRID_NULLS):
                    turn = number // 2
                    on = _some(prompts, number, GRID_PICTURES)
                    delta = self.spec.deltas[turn % len(self.spec.deltas)]
                    rows += self._null(on, number % 2 == 1, turn, delta, site, strength)
        return rows

    def judged(self, cells: Sequence[tuple[str, Site, Strength]], first: Site) -> list[StroopRow]:
        """The chosen (delta, site, strength) on the pictures that they are judged on, negated as well, with their
        nulls; and all of these pictures, and congruent ones, without edits."""
        prompts = self.asked(self.sets.judge)
        rows = list(self._zeros([*prompts, *self.asked(self.sets.congruent)], first))
        for place, (delta, site, strength) in enumerate(cells, 1):
            rows += self._steered(prompts, delta, site, strength, "")
            rows += self._steered(prompts, delta, site, -strength, "negated")
            for number in range(self.spec.nulls):
                on = _some(prompts, number, self.spec.null_pictures)
                rows += self._null(on, False, place * JUDGED_SEED + number, delta, site, strength)
                rows += self._null(on, True, number, delta, site, strength)
        return rows

    def _zeros(self, prompts: Sequence[Asked], site: Site) -> Iterator[StroopRow]:
        for asked in prompts:
            spec = self.spec
            ink, word = asked.shown.ink, asked.shown.word
            other = asked.shown.target or next(name for name in self.sets.labels if name not in (ink, word))
            yield from self._row(
                asked,
                expression(spec.name, spec.deltas[0], ink, word, other),
                site,
                ZERO,
                "zero",
                "",
                "",
            )

    def _steered(
        self, prompts: Sequence[Asked], delta: str, site: Site, strength: Strength, control: Control
    ) -> Iterator[StroopRow]:
        for asked in prompts:
            yield from self._row(asked, self._expression(asked, delta), site, strength, control, delta, delta)

    def _null(
        self,
        prompts: Sequence[Asked],
        shuffled: bool,
        number: int,
        delta: str,
        site: Site,
        strength: Strength,
    ) -> Iterator[StroopRow]:
        for asked in prompts:
            if shuffled:
                text = f"shuffled:{number}~({self._expression(asked, delta)})"
                yield from self._row(
                    asked, text, site, strength, "shuffled", delta, f"shuffled:{number}~{delta}"
                )
            else:
                text = f"random:{number}"
                yield from self._row(asked, text, site, strength, "random", "", text)

    def _expression(self, asked: Asked, delta: str) -> str:
        shown = asked.shown
        return expression(self.spec.name, delta, shown.ink, shown.word, shown.target)

    def _row(
        self,
        asked: Asked,
        text: str,
        site: Site,
        strength: Strength,
        control: Control,
        delta: str,
        label: str,
    ) -> Iterator[StroopRow]:
        """The row, unless it is there already."""
        cell = digest(
            [
                *(asked.shown.picture.digest, self.spec.question(asked.question), self._decoding),
                *(text, str(site), str(self._where), str(strength), control, asked.shown.target),
            ]
        )
        if cell in self._seen:
            return
        self._seen.add(cell)
        row = StroopRow(
            index=len(self.made),
            cell=cell,
            prompt=asked.number,
            direction=text,
            sites=(site,),
            where=self._where,
            strength=strength,
            seed=0,
            control=control,
            messages=question(self.spec, asked.shown, asked.question),
            asked=asked,
            delta=delta,
            label=label,
        )
        self.made.append(row)
        yield row

    def plan(self, counts: dict[str, Any]) -> Plan:
        """All rows made so far."""
        chats = [question(self.spec, asked.shown, asked.question) for asked in self.prompts]
        said = [[[turn.role, turn.content, list(turn.images)] for turn in chat] for chat in chats]
        return Plan(
            prompts=tuple(chats),
            shown=tuple(shown_as(asked, self.spec) for asked in self.prompts),
            ids=tuple(digest(one)[:PROMPT_ID] for one in said),
            origins=tuple((asked.shown.split, asked.question) for asked in self.prompts),
            rows=tuple(self.made),
            counts=counts,
        )


def shown_as(asked: Asked, spec: Stroop) -> str:
    """A prompt as a table shows it: what is to be seen, and the question."""
    target = f" → {asked.shown.target}" if asked.shown.target else ""
    return f"{asked.shown.word} in {asked.shown.ink}{target}: {spec.question(asked.question)}"


def answer_of(text: str, labels: Sequence[str]) -> str:
    """The one colour that an answer names; empty where it names none, or several."""
    named = {word for word in re.findall(r"[a-z]+", text.lower()) if word in labels}
    return named.pop() if len(named) == 1 else ""


def outcomes(answer: str, plain: str, right: str, target: str) -> dict[str, bool | None]:
    """What became of an answer; all None where it was wrong without the edit, or nothing is steered towards."""
    if plain != right or not target:
        return dict.fromkeys(("flip", "stays", "other", "breaks"))
    return {
        "flip": answer == target,
        "stays": answer == right,
        "other": bool(answer) and answer not in (target, right),
        "breaks": not answer,
    }


def digest(parts: Sequence[Any]) -> str:
    """20 hexadecimal digits of what JSON can hold."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _some(prompts: Sequence[Asked], number: int, pictures: int) -> list[Asked]:
    """The prompts of ``pictures`` pictures, other ones for each number."""
    count = len(prompts) // len(QUESTIONS)
    taken = [(number * pictures + step) % count for step in range(min(pictures, count))]
    return [prompts[index * len(QUESTIONS) + each] for index in taken for each in range(len(QUESTIONS))]
