"""Rules that decide in which register an answer is written, and whether it is still sound text.

They were fixed before the first training run and judge the model's texts, never its activations. What they count
(words, contractions, questions, enthusiasm, word pairs) is as the metrics of the same name count it, with a number
where those have none. Nothing here needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..metrics import text as metrics
from ..metrics.text import contractions, enthusiasm, questions, words

TERSE_MAX_WORDS = 16
VERBOSE_MIN_WORDS = 50
NEUTRAL_WORDS = (8, 49)
FORMAL_MAX_CONTRACTIONS = 0.5  # per 100 words
CASUAL_MIN_CONTRACTIONS = 4.0  # per 100 words
SOCRATIC_MIN_QUESTIONS = 0.6  # share of sentences
DIRECT_MAX_QUESTIONS = 0.0
ENTHUSIASTIC_MIN_MARKS = 5.0  # exclamation marks and enthusiasm words per 100 words
DRY_MAX_MARKS = 0.0

PERPLEXITY_FACTOR = 3.0  # science of the guard: a row's perplexity against its own row at strength 0
DISTINCT_2_FACTOR = 0.8

_FENCE = re.compile(r"^```[^\n`]*\n(.*?)^```\s*$", re.M | re.S)
_MATHS = re.compile(r"\$\$(.+?)\$\$", re.S)


def contraction_rate(text: str) -> float:
    """Contractions ("it's", "don't"; not possessives of nouns) per 100 words; 0 for an empty text."""
    return contractions(text) or 0.0


def question_share(text: str) -> float:
    """Share of sentences that end with a question mark; 0 for a text without sentences."""
    return questions(text) or 0.0


def enthusiasm_rate(text: str) -> float:
    """Exclamation marks and words of enthusiasm, together, per 100 words; 0 for an empty text."""
    return enthusiasm(text) or 0.0


def has_closed_code(text: str) -> bool:
    """A fenced block that is opened, not blank, and closed; and no further fence left open."""
    return any(body.strip() for body in _FENCE.findall(text)) and text.count("```") % 2 == 0


def has_closed_maths(text: str) -> bool:
    """A ``$$ ... $$`` block that is not blank and closed; and no further one left open."""
    return any(body.strip() for body in _MATHS.findall(text)) and text.count("$$") % 2 == 0


def distinct_2(text: str) -> float:
    """Different word pairs over all word pairs (lower case); 1 where there are fewer than two words."""
    return metrics.distinct_2(text) or 1.0


def names_topic(text: str, topic: str) -> bool:
    """Whether ``text`` contains ``topic`` as whole words, any case, plural "s" allowed.

    >>> names_topic("Mutexes? A mutex is a lock.", "mutex")
    True
    >>> names_topic("A mute exit.", "mutex")
    False
    """
    pattern = r"\s+".join(re.escape(part) for part in topic.split())
    return re.search(rf"(?<!\w){pattern}s?(?!\w)", text.replace("_", " "), re.I) is not None


def _is_neutral(text: str) -> bool:
    low, high = NEUTRAL_WORDS
    return (
        low <= words(text) <= high
        and question_share(text) < SOCRATIC_MIN_QUESTIONS
        and enthusiasm_rate(text) < ENTHUSIASTIC_MIN_MARKS
        and "```" not in text
        and "$$" not in text
    )


JUDGES: dict[str, Callable[[str], bool]] = {
    "terse": lambda t: 1 <= words(t) <= TERSE_MAX_WORDS,
    "verbose": lambda t: words(t) >= VERBOSE_MIN_WORDS,
    "formal": lambda t: words(t) > 0 and contraction_rate(t) <= FORMAL_MAX_CONTRACTIONS,
    "casual": lambda t: contraction_rate(t) >= CASUAL_MIN_CONTRACTIONS,
    "socratic": lambda t: question_share(t) >= SOCRATIC_MIN_QUESTIONS,
    "direct": lambda t: words(t) > 0 and question_share(t) <= DIRECT_MAX_QUESTIONS,
    "dry": lambda t: words(t) > 0 and enthusiasm_rate(t) <= DRY_MAX_MARKS,
    "enthusiastic": lambda t: enthusiasm_rate(t) >= ENTHUSIASTIC_MIN_MARKS,
    "code": has_closed_code,
    "maths": has_closed_maths,
    "neutral": _is_neutral,
}
"""Register -> rule. An answer must also end by itself to count; the caller knows whether it did."""

# Finer lengths that the model is also taught; judged by words alone.
LENGTH_BANDS: dict[str, tuple[int, int]] = {
    "very_terse": (1, 9),
    "terse": (1, TERSE_MAX_WORDS),
    "brief": (10, 28),
    "detailed": (34, 66),
    "verbose": (VERBOSE_MIN_WORDS, 10_000),
    "very_verbose": (80, 10_000),
}


def in_register(text: str, register: str) -> bool:
    """Whether ``text`` is in ``register``, a key of `JUDGES` or `LENGTH_BANDS`; KeyError for another."""
    if register in JUDGES:
        return JUDGES[register](text)
    low, high = LENGTH_BANDS[register]
    return low <= words(text) <= high


@dataclass(frozen=True, slots=True)
class Row:
    """What the guard needs of an answer: text, perplexity under the unsteered model, whether it ended."""

    text: str
    perplexity: float
    ended: bool


def is_coherent(row: Row, zero: Row) -> bool:
    """The guard against ruined text: ``row`` judged against the row of the same prompt at strength 0.

    Perplexity (token-weighted, under the unsteered model) below 3x, distinct-2 at least 0.8x, not empty,
    and it ends by itself if the zero row did. Low perplexity alone would pass loops; distinct-2 alone
    would pass salad.
    """
    return (
        bool(row.text.strip())
        and row.perplexity < PERPLEXITY_FACTOR * zero.perplexity
        and distinct_2(row.text) >= DISTINCT_2_FACTOR * distinct_2(zero.text)
        and (row.ended or not zero.ended)
    )


def has_collapsed(rows: list[Row], zeros: list[Row]) -> bool:
    """Fewer than half of the rows are coherent. Raises ValueError for no rows or unequal lengths."""
    if not rows or len(rows) != len(zeros):
        raise ValueError(f"has_collapsed: {len(rows)} rows against {len(zeros)} rows at strength 0")
    return sum(is_coherent(r, z) for r, z in zip(rows, zeros, strict=True)) * 2 < len(rows)
