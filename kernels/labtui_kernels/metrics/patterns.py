"""Patterns of lenses: a part of the regular expressions that cannot run away.

Allowed: characters, ``.``, classes such as ``[- ]``, ``\\w \\s \\d \\b`` and their opposites, groups, ``|`` and
the repeats ``? * + {m,n}``. Not allowed: anchors, look-around, back-references, flags. A ``*`` or ``+`` means
at most 40 times. For each pattern the ways are counted in which it may be tried at one place of a text
(repeats multiply, alternatives add); beyond a bound it is refused, which refuses nested repeats such as
``(a+)+`` and keeps Python's backtracking matcher linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labtui_artifacts.errors import UsageError

from ..lang.text import shown

MAX_PATTERN = 200
MAX_REPEAT = 40
MAX_WAYS = 2_000
"""Ways of one pattern at one place."""

_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")
_BOUNDS = re.compile(r"\{(\d{1,3})(?:(,)(\d{1,3})?)?\}")
_ESCAPES = "wWsSdD"


@dataclass(frozen=True)
class Safe:
    """A pattern that was read: what it compiles to, and in how many ways it may be tried at one place."""

    source: str
    ways: int


def safe(pattern: str) -> Safe:
    """Read a pattern; UsageError with the column where it is broken, too long, or could run away."""
    if len(pattern) > MAX_PATTERN:
        raise UsageError(f"pattern of {len(pattern)} characters; at most {MAX_PATTERN} are read")
    reader = _Reader(pattern)
    found = reader.alternatives(0)
    if reader.at < len(pattern):
        raise reader.refuse("a ')' that closes nothing")
    try:
        matched = re.compile(found.source, re.I)
    except re.error as error:
        raise UsageError(f"pattern {shown(pattern)}: {error}") from None
    if matched.match(""):
        raise UsageError(f"pattern {shown(pattern)}: it matches the empty text; expected at least one letter")
    return found


def word(text: str) -> Safe:
    """A word or phrase as a pattern: ``*`` stands for any letters, white space and hyphens for one another."""
    if len(text) > MAX_PATTERN or not text.strip("* "):
        raise UsageError(f"word {shown(text)}: expected 1 to {MAX_PATTERN} characters, not only '*'")
    ways = 1
    parts: list[str] = []
    for piece in re.split(r"(\*|[\s-]+)", text.strip()):
        if piece == "*":
            ways *= MAX_REPEAT + 1
            parts.append(rf"\w{{0,{MAX_REPEAT}}}")
        elif piece and not piece.strip(" \t\n-"):
            parts.append(r"[\s-]")
        else:
            parts.append(re.escape(piece))
    if ways > MAX_WAYS:
        raise UsageError(f"word {shown(text)}: more than two '*'")
    return Safe("".join(parts), ways)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def refuse(self, why: str) -> UsageError:
        return UsageError(f"pattern {shown(self.text)}, column {self.at + 1}: {why}")

    def alternatives(self, depth: int) -> Safe:
        if depth > 10:
            raise self.refuse("more than 10 nested groups")
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return self._bounded("|".join(o.source for o in options), sum(o.ways for o in options))

    def _sequence(self, depth: int) -> Safe:
        source, ways = "", 1
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            item = self._repeated(self._item(depth))
            source, ways = source + item.source, ways * item.ways
            self._bounded(source, ways)
        return Safe(source, ways)

    def _bounded(self, source: str, ways: int) -> Safe:
        if ways > MAX_WAYS:
            raise self.refuse(
                f"it could run away: over {MAX_WAYS:,} ways to match at one place; use fewer or shorter repeats"
            )
        return Safe(source, ways)

    def _take(self, mark: str) -> bool:
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def _item(self, depth: int) -> Safe:
        char = self.text[self.at]
        if char == "(":
            self.at += 1
            if not self._take("?:") and self.text.startswith("?", self.at):
                raise self.refuse("look-around, flags and named groups are not read; expected ( or (?:")
            inner = self.alternatives(depth + 1)
            if not self._take(")"):
                raise self.refuse("expected ')'")
            return Safe(f"(?:{inner.source})", inner.ways)
        if char == "[":
            match = _CLASS.match(self.text, self.at)
            if match is None:
                raise self.refuse("expected ']'")
            try:
                re.compile(match[0])
            except re.error as error:
                raise self.refuse(str(error)) from None
            self.at = match.end()
            return Safe(match[0], 1)
        if char == "\\":
            return self._escape()
        if char in "?*+":
            raise self.refuse(f"{char!r} has nothing to repeat")
        if char in "^$":
            raise self.refuse(f"{char!r} is not read: a pattern is looked for as whole words, anywhere")
        self.at += 1
        return Safe("." if char == "." else re.escape(char), 1)

    def _escape(self) -> Safe:
        following = self.text[self.at + 1 : self.at + 2]
        if not following:
            raise self.refuse("a '\\' at the end")
        if following.isalnum() and following not in _ESCAPES + "b":
            raise self.refuse(f"'\\{following}' is not read; expected \\w \\s \\d \\b, or a mark such as \\.")
        self.at += 2
        return Safe(f"\\{following}", 1)

    def _repeated(self, item: Safe) -> Safe:
        if self._take("?"):
            low, high = 0, 1
        elif self._take("*"):
            low, high = 0, MAX_REPEAT
        elif self._take("+"):
            low, high = 1, MAX_REPEAT
        elif match := _BOUNDS.match(self.text, self.at):
            low = int(match[1])
            high = low if not match[2] else int(match[3]) if match[3] else max(low, MAX_REPEAT)
            if not low <= high <= MAX_REPEAT:
                raise self.refuse(f"expected a repeat {{m,n}} with m <= n <= {MAX_REPEAT}")
            self.at = match.end()
        else:
            return item
        if self.text[self.at : self.at + 1] in ("?", "*", "+") or _BOUNDS.match(self.text, self.at):
            raise self.refuse("a repeat of a repeat; expected one")
        if item.ways > 1 and high > 10:  # before raising a large number to a large power
            raise self.refuse("it could run away: an unbounded repeat of something that varies itself")
        ways = sum(item.ways**count for count in range(low, high + 1))
        return self._bounded(f"{item.source}{{{low},{high}}}", ways)
