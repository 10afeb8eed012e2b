"""From a sweep to its rows, without a model: what will run, how much of it, and under which keys.

A row is one point of the grid (direction, sites, where, strength) with one prompt and one seed, and the unit
that is committed and resumed. Its key is a hash of everything that defines it, so a resumed or repeated job
finds what is done, whatever the order.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from labtui_artifacts import library

from ..lang.algebra import DirectionExpr, parse_algebra
from ..lang.edits import EditTerm
from ..lang.positions import Where, parse_where
from ..lang.shape import ModelShape
from ..lang.sites import SiteGroup, format_group, parse_sites
from ..lang.strength import Strength, parse_strength
from .base import Message, PromptSource, as_messages, shown_prompt
from .calibrate import Calibrate, Match
from .diagnose import Diagnose, count_diagnose, pairs_of
from .index import Index, count_index
from .kinds import Direction, Generate, Patch, Rerun, Spec, Sweep
from .look import Look, count_look
from .stroop import Stroop, count_stroop
from .sweep import CONFIRM_ROWS, MAX_ROWS, NULL_PROMPTS, NULLS
from .vision_tokens import VisionTokens, count_vision_tokens

Control: TypeAlias = Literal["", "zero", "random", "shuffled", "negated", "prompt"]
ZERO = Strength(0.0)
PROMPT_ID = 12
"""Characters of a prompt's id: 48 bits."""


@dataclass(frozen=True)
class Axis:
    """The system prompts that ask for a style in words: towards its positive and its negative pole."""

    positive: str
    negative: str


@dataclass(frozen=True)
class PlannedRow:
    """One generation of a sweep.

    ``prompt`` is an index into the plan's prompts. A ``zero`` row rides with an edit of strength 0
    through the live buffers; it and a ``prompt`` row stand for every site, so a table shows them without one.
    """

    index: int
    cell: str
    prompt: int
    direction: str
    sites: SiteGroup
    where: Where
    strength: Strength
    seed: int
    control: Control
    messages: tuple[Message, ...]
    shared: bool = False
    """Whether the sites of a group share the strength; else each gets it."""

    @property
    def edits(self) -> tuple[EditTerm, ...]:
        if self.control == "prompt":
            return ()
        strength = self.strength
        if self.shared and len(self.sites) > 1:
            strength = Strength(strength.value / len(self.sites), strength.unit)
        return (EditTerm("add", strength, self.direction, self.sites, self.where),)

    @property
    def site(self) -> str:
        """The sites as a table shows them."""
        return "" if self.control in ("zero", "prompt") else format_group(self.sites)


@dataclass(frozen=True)
class Plan:
    """A sweep's rows and what they add up to.

    For each prompt, ``shown`` has it as a table shows it, ``ids`` a digest of its whole chat (so that prompts whose
    shown texts are equal stay apart, and one prompt keeps its id in every sweep), and ``origins`` the bundled set
    and class that it is of, empty where it is the user's own.
    """

    prompts: tuple[tuple[Message, ...], ...]
    shown: tuple[str, ...]
    ids: tuple[str, ...]
    origins: tuple[tuple[str, str], ...]
    rows: tuple[PlannedRow, ...]
    counts: dict[str, Any]

    @property
    def pictured(self) -> bool:
        """Whether one of its prompts has a picture."""
        return any(turn.images for chat in self.prompts for turn in chat)


@dataclass(frozen=True)
class _Point:
    """A grid point with its control, and which of the prompts and seeds it is run with."""

    direction: str
    sites: SiteGroup
    where: Where
    strength: Strength
    control: Control
    spread: int | None = None  # the one prompt of a null row; None for every prompt
    system: str | None = None


class _Sweep:
    """A sweep with its texts read: what the counts and the rows are made from."""

    def __init__(
        self,
        spec: Sweep,
        shape: ModelShape,
        styles: Mapping[str, Axis] | None,
        shuffles: Mapping[str, int] | None,
    ) -> None:
        self.spec = spec
        self.prompts = _prompts(spec)
        self.groups = parse_sites(spec.sites, shape)
        self.places = [parse_where(place) for place in spec.places]
        self.exprs = [parse_algebra(text) for text in spec.directions]
        self.controls = spec.controls_for(len(self.prompts))
        self.shuffles = shuffles
        strengths = [parse_strength(value) for value in spec.strengths]
        self.strengths = [s for s in strengths if s.value or not self.controls.zero]
        self.styles = bundled_axes() if styles is None else styles

    def systems(self) -> list[tuple[str, str]]:
        """(direction, system prompt) of the directions that a prompt could stand for."""
        found: list[tuple[str, str]] = []
        for expr in self.exprs if self.controls.prompt else []:
            names = expr.refs
            if len(names) == 1 and names[0].name in self.styles:
                axis = self.styles[names[0].name or ""]
                found.append((str(expr), axis.positive if expr.terms[0][0] > 0 else axis.negative))
        return found

    def scaled(self) -> list[DirectionExpr]:
        """The directions that a random one can take its norm from."""
        return [expr for expr in self.exprs if all(ref.name is not None for ref in expr.refs)]

    def magnitudes(self) -> list[Strength]:
        """The strengths without their signs: a random direction has no side."""
        sizes = [s if s.value > 0 else -s for s in self.strengths if s.value]
        return list(dict.fromkeys(sizes))

    def negated(self) -> list[Strength]:
        """The strengths of the sign check that are not in the grid already."""
        if not self.controls.negated:
            return []
        return [-s for s in self.strengths if s.value and -s not in self.strengths]

    def nulls(self, expr: DirectionExpr) -> list[tuple[Control, str]]:
        """(control, direction) of the null rows at one site and strength of an expression.

        A direction without shuffled-label controls (imported, or of one pair) gets random ones in their
        place, so that the null has its size.
        """
        wanted = self.controls.shuffled
        known = self.shuffles
        there = wanted if known is None else min((known.get(name, wanted) for name in expr.names), default=0)
        shuffled = min(wanted, there)
        missing = wanted - shuffled
        found: list[tuple[Control, str]] = [
            ("random", _null("random", seed, expr)) for seed in range(self.controls.random + missing)
        ]
        return [*found, *(("shuffled", _null("shuffled", number, expr)) for number in range(shuffled))]

    @property
    def null_prompts(self) -> int:
        """How many prompts each null direction is run on."""
        return min(NULL_PROMPTS, len(self.prompts))

    def count(self) -> Counter[str]:
        """Rows by control; the empty key counts the grid itself."""
        seeds = len(self.spec.seeds)
        each = len(self.prompts) * seeds
        spots = len(self.groups) * len(self.places)
        rows = Counter({"": len(self.exprs) * spots * len(self.strengths) * each})
        rows["zero"] = each if self.controls.zero else 0
        checked = min(len(self.prompts), NULLS) * seeds
        rows["negated"] = len(self.exprs) * spots * len(self.negated()) * checked
        for expr in self.scaled():
            for control, _ in self.nulls(expr):
                rows[control] += spots * len(self.magnitudes()) * self.null_prompts
        rows["prompt"] = len(self.systems()) * each
        return rows

    def points(self) -> Iterator[_Point]:
        """Grid points in the order in which they run: controls that others are judged by come first."""
        first, everywhere = str(self.exprs[0]), self.places[0]
        if self.controls.zero:
            yield _Point(first, self.groups[0], everywhere, ZERO, "zero")
        for direction, system in self.systems():
            yield _Point(direction, (), everywhere, ZERO, "prompt", system=system)
        for expr, group, place in self._spots(self.exprs):
            for strength in self.strengths:
                yield _Point(str(expr), group, place, strength, "")
            for strength in self.negated():
                yield _Point(str(expr), group, place, strength, "negated")
        for expr, group, place in self._spots(self.scaled()):
            nulls = self.nulls(expr)
            for strength in self.magnitudes():
                for number, (control, direction) in enumerate(nulls):
                    for turn in range(number * self.null_prompts, (number + 1) * self.null_prompts):
                        yield _Point(direction, group, place, strength, control, spread=turn)

    def _spots(self, exprs: Sequence[DirectionExpr]) -> Iterator[tuple[DirectionExpr, SiteGroup, Where]]:
        return itertools.product(exprs, self.groups, self.places)


def _null(sort: str, number: int, expr: DirectionExpr) -> str:
    like = str(expr)
    alone = len(expr.terms) == 1 and expr.terms[0][0] == 1
    return str(parse_algebra(f"{sort}:{number}~{like}" if alone else f"{sort}:{number}~({like})"))


def _prompts(spec: Sweep | Calibrate | Match) -> list[str | list[Message]]:
    if not isinstance(spec.prompts, PromptSource):
        return list(spec.prompts)
    if spec.prompts.set is not None:
        return list(library.prompt_set(spec.prompts.set).prompts)
    raise spec.refuse(
        "prompts", f"the file {spec.prompts.file} is read where the spec is written; send its lines as a list"
    )


def bundled_axes() -> dict[str, Axis]:
    """The bundled styles' own system prompts, by style: the first wording of each pole."""
    axes = {name: library.style(name) for name in library.styles()}
    return {name: Axis(axis.positive_system[0], axis.negative_system[0]) for name, axis in axes.items()}


def count_sweep(
    spec: Sweep,
    shape: ModelShape,
    styles: Mapping[str, Axis] | None = None,
    shuffles: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """How much a sweep is, cheap enough for every key stroke; raises UsageError as ``plan_sweep`` does.

    ``rows`` in all and by ``controls``, ``prompts``, ``directions``, ``sites``, ``strengths``, ``seeds``, and
    ``tokens``, the most that can be generated; ``confirm`` is True where the spec needs it and lacks it.
    """
    return _count(_Sweep(spec, shape, styles, shuffles))


def _count(sweep: _Sweep) -> dict[str, Any]:
    spec, by_control = sweep.spec, sweep.count()
    rows = sum(by_control.values())
    if not rows:
        raise spec.refuse(
            "strengths", "no row is left without 0 and without controls; expected another strength"
        )
    if rows > MAX_ROWS:
        raise spec.refuse(
            "sites",
            f"the plan has {rows:,} rows (at most {rows * spec.max_new_tokens:,} tokens); at most {MAX_ROWS:,} "
            "rows are run in one sweep: fewer prompts, sites, strengths or seeds",
        )
    return {
        "rows": rows,
        "cells": rows,
        "grid": by_control[""],
        "controls": {name: count for name, count in sorted(by_control.items()) if name and count},
        "prompts": len(sweep.prompts),
        "directions": len(sweep.exprs),
        "sites": len(sweep.groups),
        "strengths": len(sweep.strengths),
        "places": len(sweep.places),
        "seeds": len(spec.seeds),
        "tokens": rows * spec.max_new_tokens,
        "confirm": rows > CONFIRM_ROWS and not spec.confirm,
    }


def count_calibrate(
    spec: Calibrate,
    shape: ModelShape,
    styles: Mapping[str, Axis] | None = None,
    shuffles: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What a calibration amounts to: ``rows`` at most, of the ``grid`` that it searches (null rows included)."""
    whole = count_sweep(spec.grid(), shape, styles, shuffles)
    rows = int(spec.share * whole["rows"])
    return {
        "rows": rows,
        "cells": rows,
        "grid": whole["rows"],
        **{key: whole[key] for key in ("prompts", "sites", "strengths")},
        "tokens": rows * spec.max_new_tokens,
        "confirm": rows > CONFIRM_ROWS and not spec.confirm,
    }


def plan_sweep(
    spec: Sweep,
    shape: ModelShape,
    styles: Mapping[str, Axis] | None = None,
    shuffles: Mapping[str, int] | None = None,
) -> Plan:
    """The rows of a sweep on a model of that shape.

    ``styles`` gives the system prompts of prompt-only rows by direction name; None takes the bundled styles.
    ``shuffles`` says how many shuffled-label controls each direction has; one that is not in it has enough.
    A strength of 0 is the zero control, run once per prompt and seed, unless that control is off. Raises
    UsageError for what the shape does not have, and for more than 20,000 rows without ``confirm``.
    """
    sweep = _Sweep(spec, shape, styles, shuffles)
    counts = _count(sweep)
    if counts["confirm"]:
        raise spec.refuse(
            "confirm",
            f"the plan has {counts['rows']:,} rows; set confirm = true to run more than {CONFIRM_ROWS:,}",
        )
    chats = [as_messages(prompt, spec.system) for prompt in sweep.prompts]
    decoding = _digest(
        [
            spec.prefill,
            spec.thinking,
            spec.max_new_tokens,
            spec.temperature,
            spec.top_p,
            spec.top_k,
            spec.stop,
            *([spec.min_pixels, spec.max_pixels] if spec.min_pixels or spec.max_pixels else []),
            *(["frames", spec.fps, spec.max_frames] if spec.fps or spec.max_frames else []),
        ]
    )
    rows: list[PlannedRow] = []
    shared = spec.dose == "total"
    for point in sweep.points():
        for number, seed in _members(point, len(chats), spec.seeds):
            messages = tuple(_with_system(chats[number], point.system))
            cell = _digest(
                [
                    _said(messages),
                    *(point.direction, format_group(point.sites), str(point.where), str(point.strength)),
                    *(seed, point.control, decoding),
                    *(["total"] if shared and len(point.sites) > 1 else []),
                ]
            )
            rows.append(
                PlannedRow(
                    index=len(rows),
                    cell=cell,
                    prompt=number,
                    direction=point.direction,
                    sites=point.sites,
                    where=point.where,
                    strength=point.strength,
                    seed=seed,
                    control=point.control,
                    messages=messages,
                    shared=shared,
                )
            )
    _check_distinct(rows, spec)
    return Plan(
        prompts=tuple(tuple(chat) for chat in chats),
        shown=tuple(shown_prompt(prompt) for prompt in sweep.prompts),
        ids=tuple(_digest(_said(chat))[:PROMPT_ID] for chat in chats),
        origins=tuple(
            library.prompt_origins().get(prompt, ("", "")) if isinstance(prompt, str) else ("", "")
            for prompt in sweep.prompts
        ),
        rows=tuple(rows),
        counts=counts,
    )


def _members(point: _Point, prompts: int, seeds: Sequence[int]) -> Iterator[tuple[int, int]]:
    if point.spread is not None:
        yield point.spread % prompts, seeds[(point.spread // prompts) % len(seeds)]
        return
    for number in range(min(prompts, NULLS) if point.control == "negated" else prompts):
        for seed in seeds:
            yield number, seed


def _with_system(chat: Sequence[Message], system: str | None) -> list[Message]:
    if system is None:
        return list(chat)
    rest = list(chat[1:]) if chat and chat[0].role == "system" else list(chat)
    return [Message(role="system", content=system), *rest]


def _said(chat: Sequence[Message]) -> list[list[Any]]:
    """What tells a chat from others: who says what, and about which pictures."""
    return [[turn.role, turn.content, *([list(turn.images)] if turn.images else [])] for turn in chat]


def _digest(parts: Sequence[Any]) -> str:
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _check_distinct(rows: Sequence[PlannedRow], spec: Sweep) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.cell in seen:
            raise spec.refuse(
                "prompts", f"prompt {row.prompt + 1} is there twice; expected different prompts"
            )
        seen.add(row.cell)


def count(spec: Spec, shape: ModelShape, styles: Mapping[str, Axis] | None = None) -> dict[str, Any]:
    """What running a spec amounts to: ``rows`` and ``cells`` for every kind, more for a sweep."""
    if isinstance(spec, Sweep):
        return count_sweep(spec, shape, styles)
    if isinstance(spec, Calibrate):
        return count_calibrate(spec, shape, styles)
    if isinstance(spec, Match):
        sites, prompts = len(parse_sites(spec.sites, shape)), len(_prompts(spec))
        return {
            "rows": prompts,
            "cells": sites,
            "sites": sites,
            "prompts": prompts,
            "tokens": prompts * spec.max_new_tokens,
        }
    if isinstance(spec, Generate):
        arms = int(spec.plain or not spec.edits.strip()) + bool(spec.edits.strip())
        return {
            "rows": arms * spec.n,
            "cells": 0,
            "arms": arms,
            "tokens": arms * spec.n * spec.max_new_tokens,
        }
    if isinstance(spec, Rerun):
        return {"rows": len(spec.rows), "cells": len(spec.rows)}
    if isinstance(spec, Patch):
        return {"rows": 1, "cells": 0, "tokens": spec.max_new_tokens}
    if isinstance(spec, Direction):
        return {"rows": 0, "cells": 0, "sites": len(parse_sites(spec.sites, shape)), "prompts": _poles(spec)}
    if isinstance(spec, Diagnose):
        return count_diagnose(spec, shape)
    if isinstance(spec, Look):
        return count_look(spec, shape)
    if isinstance(spec, Index):
        return count_index(spec, shape)
    if isinstance(spec, VisionTokens):
        return count_vision_tokens(spec, shape)
    if isinstance(spec, Stroop):
        return count_stroop(spec, shape)
    return {"rows": 0, "cells": 0}


def _poles(spec: Direction) -> int:
    return 0 if spec.method == "random" else 2 * pairs_of(spec)
