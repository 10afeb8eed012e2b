"""Metrics of the text alone. Each gives None with a reason where it says nothing. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labtui_artifacts.errors import UsageError

from ..lang.text import did_you_mean, shown
from .base import Facts, Metric, Result

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
MOST_DISTINCT = 9

_CONTRACTION = re.compile(
    r"\b[a-z]+(?:n['’]t|['’](?:ll|re|ve|d|m))\b|\b(?:it|that|there|here|what|who|let|he|she)['’]s\b", re.I
)
_SENTENCE = re.compile(r"[^.!?]+[.!?]+|[^.!?]+$")
_WORD = re.compile(r"[a-z]+")
_DISTINCT = re.compile(r"distinct-([1-9][0-9]?)\Z")


def words(text: str) -> int:
    """Number of whitespace-separated words."""
    return len(text.split())


def distinct(text: str, n: int) -> float | None:
    """Different sequences of n words over all of them, lower case; None under n words.

    Li et al. 2016, "A Diversity-Promoting Objective Function", arXiv:1510.03055 (there over all answers).
    """
    found = text.lower().split()
    runs = [tuple(found[i : i + n]) for i in range(len(found) - n + 1)]
    return len(set(runs)) / len(runs) if runs else None


def distinct_2(text: str) -> float | None:
    """Different word pairs over all word pairs, lower case; None under two words."""
    return distinct(text, 2)


def repetition(text: str) -> float | None:
    """Share of the sequences of four words that occurred earlier in the text; None under four words."""
    fresh = distinct(text, REPEAT_WORDS)
    return None if fresh is None else 1 - fresh


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


class Words(Metric):
    head = "words"
    about = "whitespace-separated words of the answer (a lower bound where it was cut at the limit)"

    def value(self, row: Facts) -> Result:
        return words(row.text), ""


class Tokens(Metric):
    head = "tokens"
    about = "generated tokens, the one that ends the turn not counted"

    def value(self, row: Facts) -> Result:
        return row.tokens, ""


class Distinct(Metric):
    head = "distinct"
    about = "different sequences of N words over all of them"
    takes = "N"
    example = "distinct-2"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        self.n = int(argument) if argument.isdecimal() else 0
        if not 1 <= self.n <= MOST_DISTINCT:
            raise UsageError(f"metric {shown(name)}: expected distinct-1 to distinct-{MOST_DISTINCT}")

    @classmethod
    def form(cls) -> str:
        return "distinct-N"

    @classmethod
    def read(cls, name: str) -> str | None:
        match = _DISTINCT.match(name)
        return match[1] if match else None

    def value(self, row: Facts) -> Result:
        few = {1: "no words", 2: "fewer than two words"}.get(self.n, f"fewer than {self.n} words")
        return distinct(row.text, self.n), few


class Repetition(Metric):
    head = "repetition"
    about = "share of 4-word sequences that repeat an earlier one"
    sign = 1

    def value(self, row: Facts) -> Result:
        return repetition(row.text), "fewer than four words"


class Contractions(Metric):
    head = "contractions"
    about = "contractions per 100 words (the axis formal)"
    sign = 1

    def value(self, row: Facts) -> Result:
        return contractions(row.text), "no words"


class Questions(Metric):
    head = "questions"
    about = "share of sentences that are questions (the axis socratic)"
    sign = 1

    def value(self, row: Facts) -> Result:
        return questions(row.text), "no sentence"


class Enthusiasm(Metric):
    head = "enthusiasm"
    about = "exclamation marks and enthusiasm words per 100 words (the axis dry)"
    sign = 1

    def value(self, row: Facts) -> Result:
        return enthusiasm(row.text), "no words"


OUTCOMES: dict[str, tuple[type[Metric], int]] = {
    "terse": (Words, -1),
    "formal": (Contractions, -1),
    "socratic": (Questions, 1),
    "dry": (Enthusiasm, -1),
}
"""Style axis -> its outcome, and the sign towards its positive pole (-1: a terse answer has fewer words)."""


class Style(Metric):
    head = "style"
    about = (
        "the outcome of a style axis, by its own name's sign: terse -words, formal -contractions, "
        "socratic +questions, dry -enthusiasm; the value is the plain one, `sign` says which way the pole lies"
    )
    takes = "AXIS"
    example = "style:terse"

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        if argument not in OUTCOMES:
            raise UsageError(
                f"metric {shown(name)}: no axis {shown(argument)}{did_you_mean(argument, OUTCOMES)} "
                f"(there are: {', '.join(OUTCOMES)})"
            )
        outcome, self.sign = OUTCOMES[argument]
        self.outcome = outcome(outcome.head, "")

    def value(self, row: Facts) -> Result:
        return self.outcome.value(row)


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
