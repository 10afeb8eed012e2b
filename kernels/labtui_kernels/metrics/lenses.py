"""Lenses: how often a text uses a vocabulary, in hits per 100 words, and how far that is from clean.

Twelve are bundled; ``$LABTUI_HOME/lenses/NAME.toml``, or a path to a TOML file, adds others:

    name = "sailing"
    description = "Boats and wind"
    words = ["sail*", "tacking", "close-hauled"]   # '*' any letters; spaces and hyphens are the same
    patterns = ["knots?"]                          # see `patterns`; whole words, any case
    calibrated = false

Hits do not overlap. Bands are stated only for a lens that says it was calibrated, and how, and a pooled rate
only from 500 words on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.library import Found
from labtui_sessions.lenses import Pooled, pool

from ..lang.text import did_you_mean, shown
from .base import Facts, Metric, Result
from .patterns import safe, word
from .text import words

MAX_ENTRIES = 1_000
MAX_WAYS = 10_000
"""Ways of all patterns of a lens at one place of a text."""

_KEYS = ("name", "description", "words", "patterns", "calibrated", "calibration")


@dataclass(frozen=True)
class Lens:
    """A vocabulary. ``calibration`` says how its bands were, empty where they were not."""

    name: str
    description: str
    pattern: re.Pattern[str]
    calibration: str = ""

    def hits(self, text: str) -> int:
        """How many words and phrases of the text belong to the vocabulary, without overlaps."""
        return sum(1 for _ in self.pattern.finditer(text))


def names() -> list[str]:
    """The lenses that there are by name, bundled and the user's."""
    return library.names("lenses")


def lens(name: str) -> Lens:
    """A lens by name or path; UsageError for an unknown one, BadFile for a file that is no lens."""
    found = library.find("lenses", name, "lens")
    return _read(found)


def _read(found: Found) -> Lens:
    said, path = found.said, found.path
    unknown = [key for key in said if key not in _KEYS]
    if unknown:
        raise BadFile(f"{path}: unknown key {shown(unknown[0])}{did_you_mean(unknown[0], _KEYS)}")
    plain, free = _texts(said, "words", path), _texts(said, "patterns", path)
    if not plain and not free:
        raise BadFile(f"{path}: no words and no patterns; expected at least one")
    if len(plain) + len(free) > MAX_ENTRIES:
        raise BadFile(f"{path}: {len(plain) + len(free)} words and patterns; at most {MAX_ENTRIES} are read")
    try:
        # The longest first: of "open source" and "open" at one place the longer one counts.
        read = [word(text) for text in sorted(plain, key=len, reverse=True)] + [safe(text) for text in free]
    except LabError as problem:
        raise BadFile(f"{path}: {problem}") from None
    ways = sum(each.ways for each in read)
    if ways > MAX_WAYS:
        raise BadFile(
            f"{path}: together {ways:,} ways to match at one place; at most {MAX_WAYS:,}: use fewer repeats"
        )
    body = "|".join(f"(?:{each.source})" for each in read)
    calibration = said.get("calibration", "")
    if not isinstance(calibration, str) or bool(calibration) != bool(said.get("calibrated", False)):
        raise BadFile(
            f"{path}: a lens with calibrated = true says how in calibration (a text), another one does not"
        )
    return Lens(found.name, found.description, re.compile(rf"(?<!\w)(?:{body})(?!\w)", re.I), calibration)


def _texts(said: dict[str, Any], key: str, path: Path) -> list[str]:
    value = said.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise BadFile(f"{path}: {key} must be a list of texts")
    return value


def pooled(lens: Lens, texts: Iterable[str], unsteered: Iterable[str] = ()) -> Pooled:
    """The lens over texts on many topics together, and how much it exceeds the unsteered ones."""
    return pool(*_count(lens, texts), *_count(lens, unsteered), calibrated=bool(lens.calibration))


def _count(lens: Lens, texts: Iterable[str]) -> tuple[int, int]:
    held = list(texts)
    return sum(lens.hits(text) for text in held), sum(words(text) for text in held)


class LensRate(Metric):
    head = "lens"
    about = "words of a vocabulary (a lens) per 100 words of the answer"
    takes = "NAME"
    example = "lens:hype"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        try:
            self.lens = lens(argument)
        except UsageError as problem:
            raise UsageError(f"metric {shown(name)}: {problem}") from None

    def value(self, row: Facts) -> Result:
        count = words(row.text)
        return (100.0 * self.lens.hits(row.text) / count, "") if count else (None, "no words")
