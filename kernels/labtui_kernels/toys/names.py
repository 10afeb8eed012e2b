"""Names that nobody has heard, so that the model learns to carry over any name that a question has.

Three kinds, because a model that has copied only one kind of spelling fails on others: syllables put together
("brandet"), the beginning of one English word with the end of another ("obserment"), and letters drawn one
after the other as they follow each other in English words ("thractery"). None of them is a held-out topic.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from random import Random

from .topics import Topic, plain_topics, split, with_article

_ONSETS = (
    "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "l",
    "m", "n", "p", "pl", "pr", "qu", "r", "s", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str", "t", "th",
    "tr", "v", "w", "z",
)  # fmt: skip
_VOWELS = (
    "a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ee", "oa", "oo", "ou",
)  # fmt: skip
_CODAS = (
    "b", "ck", "d", "g", "l", "m", "n", "p", "r", "s", "t", "x", "nd", "nt", "rk", "rn", "st", "sk", "mp",
    "lt", "ss",
)  # fmt: skip
_ENDINGS = (
    "tion", "sion", "ism", "ity", "ology", "graph", "ment", "ance", "ence", "er", "or", "ure", "age", "ium",
    "oid", "ics", "al", "ive", "et", "ion", "ine", "ose", "esis",
)  # fmt: skip
_MASS_ENDINGS = ("tion", "sion", "ism", "ity", "ology", "ance", "ence", "ium", "ics", "ion", "ose", "esis")
_LONGEST = 14


@cache
def _words() -> tuple[str, ...]:
    """Every word of at least four letters that the training topics and the plain nouns use."""
    texts = [" ".join((t.phrase, t.gist, t.definition, *t.facts)) for t in (*split()[0], *plain_topics())]
    return tuple(sorted(set(re.findall(r"[a-z]{4,}", " ".join(texts).lower()))))


@cache
def _followers(order: int) -> dict[str, str]:
    """The letters that follow each run of ``order`` letters in `_words`, as often as they do; "" ends."""
    after: dict[str, list[str]] = defaultdict(list)
    for word in _words():
        padded = "^" * order + word + "$"
        for i in range(order, len(padded)):
            after[padded[i - order : i]].append(padded[i])
    return {run: "".join(letters) for run, letters in after.items()}


@cache
def _held_out_words() -> frozenset[str]:
    words = {word for topic in split()[1] for word in topic.name.split()}
    return frozenset(words | {f"{word}s" for word in words})


def _syllables(rng: Random) -> str:
    stem = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 1, 2))))
    return stem + (rng.choice(_ENDINGS) if rng.random() < 0.5 else rng.choice(_CODAS))


def _blend(rng: Random) -> str:
    first, second = rng.choice(_words()), rng.choice(_words())
    return first[: rng.randint(2, len(first) - 1)] + second[rng.randint(1, len(second) - 2) :]


def _letters(rng: Random) -> str:
    order = rng.choice((1, 2, 2))
    followers, out = _followers(order), "^" * order
    while len(out) <= _LONGEST + order:
        letter = rng.choice(followers[out[-order:]])
        if letter == "$":
            break
        out += letter
    return out[order:]


def invented_name(rng: Random) -> str:
    """One word of 3 to 14 letters that is no held-out topic."""
    while True:
        name = rng.choice((_syllables, _blend, _letters))(rng)
        if 3 <= len(name) <= _LONGEST and name not in _held_out_words():
            return name


def invented_topic(rng: Random) -> Topic:
    """A topic without facts under an invented name, of one word or, now and then, of two."""
    name = invented_name(rng)
    mass = rng.random() < (0.8 if name.endswith(_MASS_ENDINGS) else 0.1)
    if rng.random() < 0.12:
        name, mass = f"{invented_name(rng)} {name}", False
    return Topic(name if mass else with_article(name))
