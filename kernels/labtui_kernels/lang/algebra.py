"""Direction algebra: ``0.5*terse - 0.2*formal``, ``-terse``, ``random:7~terse``, ``terse[llm.6]``.

A reference is the name of a stored direction; ``name[SITE]`` reads it at SITE instead of the site where it
is applied (the two must have the same width). ``random:SEED`` is a random direction of norm 1, so a strength
in α says nothing about it: ``random:SEED~terse``, or ``random:SEED~(0.5*terse - 0.2*formal)``, gives it the
norm of another at the same site. ``shuffled:K~terse`` is the K-th direction that the same pipeline gave with
permuted labels, at the norm of ``terse``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labtui_artifacts.errors import UsageError

from .cursor import Cursor
from .sites import Site, parse_site
from .strength import NUMBER
from .text import finite, number, shown

MAX_TERMS = 64
MAX_DEPTH = 16
MAX_NAME = 100
NAME = r"[a-z0-9][a-z0-9._-]*"

_NAME = re.compile(NAME)
_NULL = re.compile(r"(random|shuffled):([0-9]{1,18})")
_AT_SITE = re.compile(r"\[([^\[\]]{1,100})\]")
_COEFFICIENT = re.compile(rf"({NUMBER})\s*\*")
_MINUS_INSIDE = re.compile(r"-\.?[0-9]")


@dataclass(frozen=True)
class Ref:
    """One direction that an expression names.

    ``name`` is a stored direction's, and ``site`` where it is read (None: where it is applied). One that means
    nothing has a ``seed`` instead: a random one, possibly with ``like``, the expression whose norm it takes, or
    a ``shuffled`` one of that expression.
    """

    name: str | None
    site: Site | None = None
    seed: int | None = None
    like: str | None = None
    shuffled: bool = False

    def __str__(self) -> str:
        if self.name is not None:
            return f"{self.name}[{self.site.short}]" if self.site else self.name
        word = f"{'shuffled' if self.shuffled else 'random'}:{self.seed}"
        if self.like is None:
            return word
        expr = parse_algebra(self.like)
        alone = len(expr.terms) == 1 and expr.terms[0][0] == 1
        return f"{word}~{expr}" if alone else f"{word}~({expr})"

    @property
    def unscaled(self) -> bool:
        """Whether its norm is a convention (1), so that α does not say how far it moves anything."""
        return self.name is None and self.like is None


@dataclass(frozen=True)
class DirectionExpr:
    """A weighted sum of references. ``terms`` holds (coefficient, reference as text) in order."""

    terms: tuple[tuple[float, str], ...]

    def __str__(self) -> str:
        words: list[str] = []
        for coefficient, name in self.terms:
            sign = "-" if coefficient < 0 else "+"
            size = abs(coefficient)
            body = name if size == 1 else f"{number(size)}*{name}"
            words.append(f" {sign} {body}" if words else (f"-{body}" if sign == "-" else body))
        return "".join(words)

    @property
    def refs(self) -> tuple[Ref, ...]:
        return tuple(parse_ref(name) for _, name in self.terms)

    @property
    def unscaled(self) -> bool:
        """Whether it is a random direction without a norm of its own."""
        return any(ref.unscaled for ref in self.refs)

    @property
    def plain(self) -> str | None:
        """The name, when the expression is one stored direction and nothing else."""
        if len(self.terms) == 1 and self.terms[0][0] == 1:
            return self.refs[0].name
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """The stored directions it needs, each once, in order."""
        wanted: dict[str, None] = {}
        for ref in self.refs:
            if ref.name is not None:
                wanted[ref.name] = None
            elif ref.like is not None:
                wanted.update(dict.fromkeys(parse_algebra(ref.like).names))
        return tuple(wanted)


def _take_like(cursor: Cursor, depth: int) -> str:
    start = cursor.at
    if cursor.take_one("("):
        expr = DirectionExpr(tuple(_expression(cursor, depth + 1)))
        if not cursor.take_one(")"):
            cursor.fail("'+', '-' or ')'")
    else:
        expr = DirectionExpr(((1.0, str(take_ref(cursor, depth + 1))),))
    if any(ref.name is None for ref in expr.refs):
        cursor.fail("stored directions after '~'", start)
    return str(expr)


def take_ref(cursor: Cursor, depth: int = 0) -> Ref:
    """Read one reference at a cursor."""
    start = cursor.at
    if depth > MAX_DEPTH:
        cursor.fail(f"at most {MAX_DEPTH} nested parentheses")
    if match := cursor.take(_NULL):
        like = _take_like(cursor, depth) if cursor.take_one("~") else None
        shuffled = match[1] == "shuffled"
        if shuffled and like is None:
            cursor.fail("the direction whose labels were permuted, as in shuffled:0~terse")
        return Ref(None, seed=int(match[2]), like=like, shuffled=shuffled)
    match = cursor.take(_NAME)
    if match is None:
        if cursor.text[cursor.at : cursor.at + 1].isupper():
            cursor.fail("a direction's name (names are in lower case: letters, digits, . _ -)")
        cursor.fail("a direction's name, random:SEED or '('")
    name = match[0]
    if len(name) > MAX_NAME:
        cursor.fail(f"a direction's name of at most {MAX_NAME} characters", start)
    if name == "random":
        cursor.fail("a seed, as in random:7", start)
    if name == "shuffled":
        cursor.fail("a number and a direction, as in shuffled:0~terse", start)
    site = cursor.take(_AT_SITE)
    return Ref(name, parse_site(site[1]) if site else None)


def parse_ref(text: str) -> Ref:
    """A reference from its text; raises UsageError."""
    cursor = Cursor(text, "direction")
    ref = take_ref(cursor)
    if not cursor.done:
        cursor.fail("the end of one direction's name")
    return ref


def _expression(cursor: Cursor, depth: int) -> list[tuple[float, str]]:
    if depth > MAX_DEPTH:
        cursor.fail(f"at most {MAX_DEPTH} nested parentheses")
    terms: list[tuple[float, str]] = []
    sign = cursor.take_one("+-") or "+"
    while True:
        factor = -1.0 if sign == "-" else 1.0
        while match := cursor.take(_COEFFICIENT):
            factor = finite(factor * float(match[1]), cursor.what)
        if cursor.take_one("("):
            inner = _expression(cursor, depth + 1)
            if not cursor.take_one(")"):
                cursor.fail("'+', '-' or ')'")
            terms.extend((finite(factor * c, cursor.what), name) for c, name in inner)
        else:
            terms.append((factor, str(take_ref(cursor, depth))))
        if len(terms) > MAX_TERMS:
            raise UsageError(f"{cursor.what}: more than {MAX_TERMS} terms")
        sign = cursor.take_one("+-")
        if not sign:
            return terms


def take_algebra(cursor: Cursor) -> DirectionExpr:
    """Read an expression at a cursor, up to where it ends."""
    start = cursor.at
    expr = DirectionExpr(tuple(_expression(cursor, 0)))
    unscaled = [ref for ref in expr.refs if ref.unscaled]
    if unscaled and len(expr.terms) > 1:
        raise UsageError(
            f"{cursor.what}, column {start + 1}: {unscaled[0]} has no norm of its own to add with; "
            f"give it one, as in {unscaled[0]}~terse"
        )
    return expr


def parse_algebra(text: str) -> DirectionExpr:
    """An expression from its text: at most 2000 characters, 64 terms and 16 nested parentheses.

    Parentheses are multiplied out. Raises UsageError with the column and what was expected there.
    """
    cursor = Cursor(text, "direction")
    expr = take_algebra(cursor)
    if not cursor.done:
        last = expr.terms[-1][1]
        if cursor.text[cursor.at] == "*" and _MINUS_INSIDE.search(last):
            cursor.fail(f"'+', '-' or the end ({shown(last)} was read as a name: put spaces around a minus)")
        cursor.fail("'+', '-' or the end")
    return expr
