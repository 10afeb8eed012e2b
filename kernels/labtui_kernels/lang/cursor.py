"""A cursor over an expression: the parsers' one way to look, to take and to complain."""

from __future__ import annotations

import re
from typing import NoReturn

from labtui_artifacts.errors import UsageError

from .text import bounded, shown

_SPACE = re.compile(r"\s*")


class Cursor:
    """A position in a bounded text. ``what`` names the text in errors (``"edits"``)."""

    def __init__(self, text: str, what: str) -> None:
        self.text = bounded(text, what)
        self.what = what
        self.at = 0
        self.space()

    def space(self) -> None:
        """Skip white space."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    @property
    def done(self) -> bool:
        return self.at >= len(self.text)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Consume what matches here, and the white space after it."""
        match = pattern.match(self.text, self.at)
        if match and match.end() > self.at:
            self.at = match.end()
            self.space()
            return match
        return None

    def take_one(self, characters: str) -> str:
        """Consume one of ``characters`` and the white space after it; empty when none is here."""
        found = self.text[self.at : self.at + 1]
        if found and found in characters:
            self.at += 1
            self.space()
            return found
        return ""

    def peek(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.at)

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        """Raise the UsageError that says what was expected at a column (counted from 1)."""
        at = self.at if at is None else at
        rest = self.text[at:]
        found = f"found {shown(rest, 24)}" if rest else "the text ends"
        raise UsageError(f"{self.what}, column {at + 1}: expected {expected}, {found}")
