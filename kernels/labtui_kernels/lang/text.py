"""Small helpers that the parsers share: bounded input, the nearest valid word, numbers that round-trip."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from labtui_artifacts.errors import UsageError

MAX_EXPRESSION = 2000
"""Longest site list, edit line or direction expression that is read, in characters."""


def bounded(text: object, what: str, limit: int = MAX_EXPRESSION) -> str:
    """``text`` itself when it is a string of at most ``limit`` characters; else a UsageError."""
    if not isinstance(text, str):
        raise UsageError(f"{what}: expected text, found {type(text).__name__}")
    if len(text) > limit:
        raise UsageError(f"{what}: {len(text)} characters; at most {limit} are read")
    return text


def shown(text: str, limit: int = 60) -> str:
    """``text`` quoted for an error line, shortened, without control characters."""
    clean = "".join(ch if ch.isprintable() else "?" for ch in text)
    return repr(clean if len(clean) <= limit else clean[: limit - 1] + "…")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when none is like it."""
    options = sorted(set(known))
    longer = [option for option in options if len(word) > 2 and option.startswith(word.lower())]
    if longer:
        return longer[0]
    found = difflib.get_close_matches(word[:200].lower(), options, n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing."""
    match = nearest(word, known)
    return f"; did you mean {match!r}?" if match else ""


def number(value: float) -> str:
    """The shortest text that reads back as the same float: ``2``, ``0.25``, ``1e-07``."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def finite(value: float, what: str) -> float:
    """``value`` as a float, with -0 made 0; NaN and infinities are a UsageError."""
    if not math.isfinite(value):
        raise UsageError(
            f"{what}: {value} is not a strength; expected a finite number such as 2.0, 8% or |39|"
        )
    return float(value) + 0.0
