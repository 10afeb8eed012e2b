"""Metrics of the text alone. Each gives None with a reason where it says nothing. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

ENTHUSIASM = frozenset(
    [
        "amazing",
        "awesome",
        "brilliant",
        "delightful",
        "exciting",
        "fantastic",
        "incredible",
        "incredibly",
        "love",
        "loved",
        "marvellous",
        "remarkable",
        "superb",
        "terrific",
        "thrilling",
        "wonderful",
        "wow",
        "yay",
    ]
)
REPEAT_WORDS = 4

_CONTRACTION = re.compile(
    r"\b[a-z]+(?:n['’]t|['’](?:ll|re|ve|d|m))\b|\b(?:it|that|there|here|what|who|let|he|she)['’]s\b", re.I
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]+|[^.!?]+$")
_WORD = re.compile(r"[a-z]+")


@dataclass
class Values:
    """Metrics by name. A value of None has its reason in ``reasons``."""

    values: dict[str, float | int | bool | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float | int | bool | None, reason: str = "") -> None:
        """Record a metric, or why it is absent."""
        self.values[name] = value
        if value is None:
            self.reasons[name] = reason or "not computed"


def words(text: str) -> int:
    """Number of whitespace-separated words."""
    return len(text.split())


def distinct_2(text: str) -> float | None:
    """Different word pairs over all word pairs, lower case; None under two words."""
    found = text.lower().split()
    pairs = list(pairwise(found))
    return len(set(pairs)) / len(pairs) if pairs else None


def repetition(text: str) -> float | None:
    """Share of the sequences of four words that occurred earlier in the text; None under four words."""
    found = text.lower().split()
    runs = [tuple(found[i : i + REPEAT_WORDS]) for i in range(len(found) - REPEAT_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else None


def contractions(text: str) -> float | None:
    """Contractions ("it's", "don't"; not the possessive of nouns) per 100 words; None without words."""
    count = words(text)
    return 100.0 * len(_CONTRACTION.findall(text)) / count if count else None


def questions(text: str) -> float | None:
    """Share of the sentences that end with a question mark; None without sentences."""
    sentences = [sentence for sentence in _SENTENCE.findall(text) if sentence.strip(" \n.!?")]
    return sum(s.rstrip().endswith("?") for s in sentences) / len(sentences) if sentences else None


def enthusiasm(text: str) -> float | None:
    """Exclamation marks and words of enthusiasm, together, per 100 words; None without words."""
    count = words(text)
    if not count:
        return None
    marks = text.count("!") + sum(word in ENTHUSIASM for word in _WORD.findall(text.lower()))
    return 100.0 * marks / count


TEXT: dict[str, tuple[Callable[[str], float | int | None], str]] = {
    "words": (words, ""),
    "distinct-2": (distinct_2, "fewer than two words"),
    "repetition": (repetition, "fewer than four words"),
    "contractions": (contractions, "no words"),
    "questions": (questions, "no sentence"),
    "enthusiasm": (enthusiasm, "no words"),
}
"""Name -> (metric, why it may be absent)."""


@dataclass(frozen=True)
class Judged:
    """What the guard looks at: text, perplexity under the unsteered model, whether it ended by itself."""

    text: str
    perplexity: float | None
    ended: bool


def coherent(row: Judged, zero: Judged) -> tuple[bool | None, str]:
    """The guard against ruined text: (verdict, or None with the reason).

    Perplexity under 3x the zero row's (a low one alone passes loops), distinct-2 at least 0.8x (alone it
    passes word salad), not empty, and ended by itself if the zero row did.
    """
    if not row.text.strip() or (zero.ended and not row.ended):
        return False, ""
    if row.perplexity is None or zero.perplexity is None:
        return None, "perplexity is not known"
    mine, other = distinct_2(row.text), distinct_2(zero.text)
    varied = mine is None or other is None or mine >= 0.8 * other
    return row.perplexity < 3 * zero.perplexity and varied, ""
