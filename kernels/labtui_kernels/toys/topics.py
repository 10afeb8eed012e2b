"""The topics that the bundled language model was taught about, and which of them it never saw.

A topic is a noun phrase with a gist, a definition and three facts. Facts are verb phrases in the third
person, so that one fact serves every register: "it {fact}", "why do you think it {fact}?".

The split is a rule, not a list: topics are ordered by the SHA-256 of ``"labtui-toy-qwen3/87:" + name`` and the
first fifth is held out. (87 is the first number with which no topic of the bundled contrast prompts is held
out, and no held-out name is an ordinary word of a training topic's facts.) Held-out topics, names and facts,
appear in no training text, and the tokenizer has never met them either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

HELD_OUT_SHARE = 0.2
_SPLIT_SALT = "labtui-toy-qwen3/87:"


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to be asked about.

    ``phrase`` is the noun phrase with its article if it takes one ("a mutex", "inflation"); ``gist`` has two
    to four words, ``definition`` about ten; ``facts`` are third-person verb phrases, empty where nothing
    specific is known and answers are composed from general remarks.
    """

    phrase: str
    gist: str = ""
    definition: str = ""
    facts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The phrase without its article: "mutex"."""
        for article in ("a ", "an ", "the "):
            if self.phrase.startswith(article):
                return self.phrase[len(article) :]
        return self.phrase


def _read_table() -> tuple[Topic, ...]:
    rows = []
    for line in (files("labtui_kernels.toys") / "topics.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            phrase, gist, definition, *facts = (part.strip() for part in line.split("|"))
            rows.append(Topic(phrase, gist, definition, tuple(facts)))
    return tuple(rows)


TOPICS: tuple[Topic, ...] = _read_table()


@cache
def split() -> tuple[tuple[Topic, ...], tuple[Topic, ...]]:
    """(training topics, held-out topics), disjoint, each in table order."""
    order = sorted(TOPICS, key=lambda t: hashlib.sha256((_SPLIT_SALT + t.name).encode()).hexdigest())
    held = {t.name for t in order[: round(len(TOPICS) * HELD_OUT_SHARE)]}
    return (
        tuple(t for t in TOPICS if t.name not in held),
        tuple(t for t in TOPICS if t.name in held),
    )


_QUALIFIERS = (
    "silent",
    "paper",
    "hidden",
    "moving",
    "simple",
    "double",
    "open",
    "closed",
    "broken",
    "golden",
)


def with_article(name: str) -> str:
    """``name`` with "a" or "an", by its first letter."""
    return ("an " if name[0] in "aeiou" else "a ") + name


@cache
def plain_topics() -> tuple[Topic, ...]:
    """Topics without facts, from a list of nouns that no table topic (held out or not) shares."""
    taken = {word for topic in TOPICS for word in topic.name.split()}
    lines = (files("labtui_kernels.toys") / "nouns.txt").read_text(encoding="utf-8").splitlines()
    nouns = [Topic(line) for line in lines if not line.startswith("#")]
    nouns = [noun for noun in nouns if noun.name not in taken]
    pairs = [
        Topic(with_article(f"{_QUALIFIERS[i % len(_QUALIFIERS)]} {noun.name}"))
        for i, noun in enumerate(nouns)
        if noun.phrase != noun.name and i % 3 == 0
    ]
    return (*nouns, *pairs)
