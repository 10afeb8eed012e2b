"""Edits in one line: ``2.0*terse@llm.12``, ``8%*terse@llm.12@generated``, ``!terse@llm.12``.

A term is ``STRENGTH*DIRECTION@SITES@WHERE``; the strength is 1.0 and the place ``all`` when left out.
``!`` projects the direction out, ``=`` replaces the activation by it; a fraction before either
(``0.5*!terse@llm.12``) does so by that share. Terms are joined by ``+`` and ``-`` and apply from left to
right at a site. An expression of several directions stands in parentheses. After a ``+``, a bare block
number or a site continues the group of sites: ``2.0*terse@llm.12+14``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from labtui_artifacts.errors import UsageError

from .algebra import DirectionExpr, parse_algebra, take_algebra, take_ref
from .cursor import Cursor
from .positions import ALL, KINDS, ImageSpan, Where, complete_where, parse_where
from .shape import ModelShape
from .sites import SiteGroup, complete_site, format_group, parse_sites
from .strength import NUMBER, Strength, parse_strength
from .text import did_you_mean

Op: TypeAlias = Literal["add", "project", "replace"]
MAX_EDITS = 32

_SIGN: dict[str, str] = {"project": "!", "replace": "="}
_STRENGTH = re.compile(rf"(\|\s*-?\s*{NUMBER}\s*\||{NUMBER}\s*%|{NUMBER})\s*\*")
_SITE = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z0-9*]+)*")
_MORE = re.compile(
    r"\+\s*((?:llm|vision)\.[A-Za-z0-9.*]+|E[1-8]n?(?![A-Za-z0-9])|[0-9]+(?:\.[a-z]+)?(?![\w.:]|\s*[*%]))"
)
_WHERE = re.compile(r"[A-Za-z_]+[0-9]{0,3}(?:\[[^\[\]]*\])?|\[[^\[\]]*\]")
_RANGE = re.compile(r"-\s*[0-9]+(?!\s*[*%]|[\w.])|,")
_LIKE_A_SITE = re.compile(r"[0-9]|(?:llm|vision)\.")


@dataclass(frozen=True)
class EditTerm:
    """One edit: ``direction`` (an expression) with an operation, at a group of sites, at some positions."""

    op: Op
    strength: Strength
    direction: str
    sites: SiteGroup
    where: Where = ALL

    def __post_init__(self) -> None:
        expr = parse_algebra(self.direction)
        object.__setattr__(self, "direction", str(expr))
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise UsageError(f"edit of {self.direction!r}: expected sites, each named once")
        if self.op not in ("add", "project", "replace"):
            raise UsageError(f"edit of {self.direction!r}: unknown operation {self.op!r}")
        if self.op != "add" and (self.strength.unit != "alpha" or self.strength.value < 0):
            does = "projecting out" if self.op == "project" else "replacing"
            raise UsageError(
                f"edit of {self.direction!r}: {does} takes a share such as 1 or 0.5, not {self.strength}"
            )
        if self.op == "replace" and expr.unscaled:
            raise UsageError(
                f"edit of {self.direction!r}: it has no norm to replace by; write {self.direction}~terse"
            )
        if self.op == "add" and expr.unscaled and self.strength.unit == "alpha" and self.strength.value:
            raise UsageError(
                f"edit of {self.direction!r}: a random direction needs a norm: a strength of 8% or |39|, "
                f"or name one whose norm it takes, as in {self.direction}~terse"
            )

    @property
    def expr(self) -> DirectionExpr:
        return parse_algebra(self.direction)

    def __str__(self) -> str:
        return format_edits((self,))


def _direction(cursor: Cursor) -> str:
    if not cursor.take_one("("):
        return str(take_ref(cursor))
    expr = take_algebra(cursor)
    if not cursor.take_one(")"):
        cursor.fail("'+', '-' or ')' in the direction")
    return str(expr)


def _sites(cursor: Cursor, shape: ModelShape | None) -> SiteGroup:
    start = cursor.at
    if not cursor.take(_SITE):
        cursor.fail("a site such as llm.12")
    while cursor.take(_MORE):
        pass
    text = cursor.text[start : cursor.at].strip()
    if cursor.peek(_RANGE):
        cursor.fail(
            "'+', '-', '@' or the end (several sites in one edit are joined by '+', as in llm.12+13+14)"
        )
    groups = parse_sites(text, shape)
    if len(groups) != 1:
        cursor.fail("single sites joined by '+', as in llm.12+14", start)
    return groups[0]


def _where(cursor: Cursor) -> Where:
    start = cursor.at
    match = cursor.take(_WHERE)
    if not match:
        cursor.fail(f"a place such as {', '.join(KINDS[:4])} or [0,-1]")
    try:
        return parse_where(match[0])
    except UsageError as refused:
        raise UsageError(f"{cursor.what}, column {start + 1}: {refused}") from None


def _term(cursor: Cursor, negative: bool, shape: ModelShape | None) -> EditTerm:
    start = cursor.at
    scale = cursor.take(_STRENGTH)
    strength = parse_strength(scale[1]) if scale else Strength(1.0)
    mark = cursor.take_one("!=")
    op: Op = "project" if mark == "!" else "replace" if mark == "=" else "add"
    if negative and op != "add":
        why = (
            "a direction is projected out whatever its sign"
            if op == "project"
            else "a value is put in place of another, there is nothing to subtract"
        )
        raise UsageError(
            f"{cursor.what}, column {start + 1}: '-' before '{mark}' has no meaning: {why}; write '+'"
        )
    direction = _direction(cursor)
    if not cursor.take_one("@"):
        after = cursor.text[cursor.at : cursor.at + 1]
        hint = " (a strength is joined by '*', as in 2.0*terse@llm.12)" if after == "*" else ""
        cursor.fail(f"'@' and a site after {direction!r}{hint}")
    sites = _sites(cursor, shape)
    where = _where(cursor) if cursor.take_one("@") else ALL
    try:
        return EditTerm(op, -strength if negative else strength, direction, sites, where)
    except UsageError as refused:
        raise UsageError(f"{cursor.what}, column {start + 1}: {refused}") from None


def parse_edits(text: str, shape: ModelShape | None = None) -> tuple[EditTerm, ...]:
    """The edits of a line, in order; an empty line has none.

    With ``shape`` the sites are checked against a model. At most 2000 characters and 32 terms. Raises one
    UsageError with the column and what was expected there.
    """
    cursor = Cursor(text, "edits")
    if cursor.done:
        return ()
    terms: list[EditTerm] = []
    sign = cursor.take_one("+-")
    while True:
        terms.append(_term(cursor, sign == "-", shape))
        if len(terms) > MAX_EDITS:
            raise UsageError(f"edits: more than {MAX_EDITS} terms")
        if cursor.done:
            return tuple(terms)
        sign = cursor.take_one("+-")
        if not sign:
            cursor.fail("'+', '-' or the end")


def _direction_text(direction: str) -> str:
    expr = parse_algebra(direction)
    alone = len(expr.terms) == 1 and expr.terms[0][0] == 1
    return direction if alone and not _LIKE_A_SITE.match(direction) else f"({direction})"


def format_edits(terms: Iterable[EditTerm]) -> str:
    """The line that ``parse_edits`` reads back as exactly these terms."""
    words: list[str] = []
    for term in terms:
        negative = term.strength.value < 0
        strength = -term.strength if negative else term.strength
        whole = term.op != "add" and strength.value == 1
        body = "" if whole else f"{strength}*"
        body += _SIGN.get(term.op, "") + _direction_text(term.direction) + "@" + format_group(term.sites)
        if term.where != ALL:
            body += f"@{term.where}"
        sign = "-" if negative else "+"
        words.append(f" {sign} {body}" if words else (f"-{body}" if negative else body))
    return "".join(words)


def touched(
    term: EditTerm, count: int, content: Sequence[bool] = (), images: Sequence[ImageSpan] = ()
) -> list[bool]:
    """Which of a prompt's ``count`` positions an edit touches; in the vision tower, the tokens of the patches that it does.

    UsageError where it selects what the prompt does not have.
    """
    mask = [False] * count
    if any(site.tower == "llm" for site in term.sites):
        mask = term.where.prompt_mask(count, content, images)
    if any(site.tower == "vision" for site in term.sites):
        for span, marks in zip(images, term.where.patch_mask(images), strict=True):
            for place, mark in zip(span.positions, marks, strict=True):
                mask[place] = mask[place] or mark
    return mask


_LAST_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


def complete_edits(text: str, shape: ModelShape, directions: Sequence[str]) -> list[str]:
    """Whole lines that continue ``text``: its last direction, site or place completed."""
    head, mark, tail = text.rpartition("@")
    if mark and not re.search(r"[\s*!=(]", tail.lstrip()):
        before = head.rpartition("@")[2]
        try:
            groups = parse_sites(before, shape) if "@" in head else []
        except UsageError:
            groups = []
        if groups:
            sees = any(site.tower == "vision" for group in groups for site in group)
            return [f"{head}@{place}" for place in complete_where(tail) if _fits(place, shape, sees)]
        group, plus, last = tail.rpartition("+")
        return [f"{head}@{group}{plus}{site}" for site in complete_site(last, shape) if "*" not in site]
    match = _LAST_NAME.search(text)
    word = match[0] if match else ""
    return [text[: len(text) - len(word)] + name for name in sorted(directions) if name.startswith(word)]


def _fits(place: str, shape: ModelShape, sees: bool) -> bool:
    """Whether a model of that shape has such a place: patches only with a tower, and only them in it (``sees``)."""
    patches = place.startswith(("image", "ink"))
    return (
        bool(shape.vision_blocks) and (patches or place == "all")
        if sees
        else not patches or bool(shape.vision_blocks)
    )


def explain_unknown(name: str, known: Iterable[str]) -> UsageError:
    """The error for a direction that is not in the store."""
    known = sorted(known)
    have = ", ".join(known[:8]) + (", …" if len(known) > 8 else "") if known else "none yet"
    return UsageError(f"no direction named {name!r}{did_you_mean(name, known)} (stored: {have})")
