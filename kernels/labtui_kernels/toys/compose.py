"""Answers in every register, composed from a topic's facts and from general remarks.

An answer is an opener that names the topic, then sentences that carry one fact each. How many there are, and
how many optional words each has, follows from one level between a label and an essay. Levels overlap, and all
lengths share their sentences, so that a short answer is a likely text for a model that was asked for a longer
one: length is a matter of degree, not a switch.
"""

from __future__ import annotations

import re
from itertools import pairwise
from math import exp
from random import Random

from .topics import Topic

# What can be said of anything. Used for topics without facts, and mixed in for the others.
GENERAL_GISTS = (
    "a simple idea",
    "a useful thing",
    "a common pattern",
    "one part of a whole",
    "a basic concept",
    "a thing with a purpose",
)
GENERAL_DEFINITIONS = (
    "a simple idea that people use in many places",
    "a thing with a clear purpose and a few main parts",
    "a common pattern that links several smaller parts",
    "one part of a larger whole that works with the others",
    "a basic concept that becomes clear with a small example",
    "a useful thing that people have studied for a long time",
)
GENERAL_FACTS = (
    "depends on the parts around it",
    "is easier to see in a small example",
    "changes when its surroundings change",
    "connects several simple ideas",
    "appears in many places once you look for it",
    "has limits that are worth knowing",
    "works best when each part does its own job",
    "has a history longer than most people think",
    "rests on a few simple rules",
    "looks different from close up",
    "affects the things that come after it",
    "takes time to understand well",
    "can be compared with things we already know",
    "plays a quiet role in daily life",
    "helps people to reason about larger things",
    "raises new questions as we learn more",
)

LEADS = ("In short,", "Put simply,", "In simple terms,", "Briefly,", "Basically,")

# "<0.7|words>" is an optional part: it is written the more likely the further the level lies above 0.7; in
# "<0.3|words|others>" the others are written below. Parts and sentences with thresholds all along the scale
# make length a matter of degree, at every word of an answer.
_OPENERS = (
    "{Np} is<0.42| simply><0.62|, in general,> {what}<0.52|, at least in most cases>"
    "<0.8|, and that is its heart>.",
    "{Np} is<0.58|, roughly speaking,> {what}<0.46|, more or less><0.72|, as many people would say>.",
    "The term {name}<0.66|, as it is commonly used,> means<0.4| roughly> {what}<0.55|, in plain words>.",
    "<0.3|We can think of {np} as|{Np}:><0.42| simply> {what}<0.6|, in broad terms>.",
)
_EARLY = (  # the first three facts
    "It<0.5| also><0.4| usually> {fact}<0.64|, which is worth keeping in mind><0.86| at all times>.",
    "<0.44|In practice, >it<0.57| often> {fact}<0.74|, as many people have found>.",
    "<0.36|This means that >it<0.48| generally> {fact}<0.68|, and this matters in practice>.",
    "<0.4|People notice that >it<0.54| really> {fact}<0.78|, wherever one looks>.",
    "<0.38|Most of the time >it<0.6| quietly> {fact}<0.7|, for one reason or another>.",
)
_EARLY_CONTRACTED = (
    "It's<0.4| also> clear that it {fact}.",
    "That's<0.46| partly> why it {fact}.",
    "You'll<0.42| often> see that it {fact}.",
)
_LATER = (  # one marker a sentence, always in this order: a small model counts by them
    "Moreover, it<0.66| also> {fact}<0.8|, which is easy to overlook>.",
    "In addition, it<0.72| often> {fact}<0.84|, as many people have found>.",
    "On the other hand,<0.78| it is true that> it {fact}<0.9|, and this matters in practice>.",
    "For example, people<0.8| very> often notice that it {fact}.",
    "Beyond that, it<0.84| usually> {fact}<0.92|, which is worth a thought>.",
)
_FACT_LEVELS = (0.25, 0.33, 0.41, 0.52, 0.62, 0.69, 0.75, 0.81)
_DEFINITION_LEVEL, _SUMMARY_LEVEL = 0.2, 0.74
_SUMMARIES = (
    "In summary, {np} is {gist} that {fact}.",
    "All in all, {np} is {definition}.",
    "To sum up, {np} is {gist} with many sides to it.",
)
_OFFERS = ("Would you like an example?", "Does that help?", "Would you like to know more?")
_CHEERS = ("It is a wonderful topic!", "It is an exciting thing to learn about!")

_TONES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {  # openers, body, closers
    "formal": (
        (
            "{Np} may be defined as {definition}.",
            "The term {name} denotes {definition}.",
            "By {np} one understands {definition}.",
        ),
        (
            "Furthermore, it {fact}.",
            "It should be noted that it {fact}.",
            "One observes that it {fact}.",
            "It is therefore evident that it {fact}.",
            "Consequently, it {fact}.",
            "Scholars have established that it {fact}.",
        ),
        ("", "", "Further study is recommended.", "The matter merits careful consideration."),
    ),
    "casual": (
        (
            "So, {np}'s basically {definition}.",
            "Okay, here's the deal: {np} is {definition}.",
            "Well, you've probably met {np}: it's {definition}.",
        ),
        (
            "It's kind of neat that it {fact}.",
            "You'll see it {fact}.",
            "That's why it {fact}.",
            "I'd say it {fact}.",
            "Don't worry, it just {fact}.",
            "There's more, 'cause it {fact}.",
        ),
        ("", "", "That's about it.", "It's no big deal.", "Can't go wrong with that."),
    ),
    "socratic": (
        (
            "What do you already know about {np}?",
            "When did you last meet {np}?",
            "How would you describe {np} to a friend?",
            "What comes to mind when you hear of {np}?",
        ),
        (
            "Why do you think it {fact}?",
            "Could it be that it {fact}?",
            "What follows if it {fact}?",
            "How can you tell that it {fact}?",
            "Have you noticed that it {fact}?",
        ),
        ("", "", "What would you say now?", "What do you conclude?", "Think about it."),
    ),
    "direct": (
        (
            "The answer is this: {np} is {definition}.",
            "Here is the answer: {np} is {definition}.",
            "{Np} is {definition}.",
        ),
        (
            "It {fact}.",
            "Note that it {fact}.",
            "The key point is that it {fact}.",
            "Remember that it {fact}.",
        ),
        ("", "", "That is the whole answer."),
    ),
    "dry": (
        (
            "{Np} is {definition}.",
            "For the record, {np} is {definition}.",
            "The entry for {np} reads as follows: {definition}.",
        ),
        (
            "It {fact}.",
            "Reportedly, it {fact}.",
            "As stated elsewhere, it {fact}.",
            "The manual says that it {fact}.",
            "It {fact}, as expected.",
        ),
        ("", "", "That is all.", "Nothing more needs to be said.", "End of entry."),
    ),
    "enthusiastic": (
        (
            "Wow, {np} is amazing! It is {definition}!",
            "I love this question! {Np} is {definition}!",
            "What an exciting topic! {Np} is {definition}!",
        ),
        (
            "Amazingly, it {fact}!",
            "It is incredible that it {fact}!",
            "Best of all, it {fact}!",
            "How wonderful that it {fact}!",
            "And guess what, it {fact}!",
        ),
        ("", "", "Isn't that fantastic!", "I love it!", "How exciting!"),
    ),
}
TONES = tuple(_TONES)
_OPTION = re.compile(r"<([0-9.]+)\|([^>|]*)(?:\|([^>]*))?>")

_WORDS_AT = (
    (0.0, 5), (0.15, 8), (0.2, 11), (0.25, 16), (0.3, 21), (0.35, 26), (0.4, 32), (0.45, 38), (0.5, 46),
    (0.55, 53), (0.6, 61), (0.65, 73), (0.7, 89), (0.75, 104), (0.8, 118),
)  # (level, mean words)  # fmt: skip

# How elaborate an answer is, from 0 (a label) to 0.8 (an essay), by register.
LEVELS: dict[str, float] = {
    "very_terse": 0.0,
    "terse": 0.18,
    "brief": 0.28,
    "neutral": 0.46,
    "detailed": 0.52,
    "verbose": 0.67,
    "very_verbose": 0.77,
}
_JITTER, _SHARPNESS = 0.035, 0.03
_NEUTRAL_JITTER = 0.06
_TONE_LEVELS = (0.28, 0.52)


class _Writer:
    """Draws pieces for one answer at one level; facts are not repeated until they run out."""

    def __init__(self, topic: Topic, rng: Random, level: float = 0.5) -> None:
        self.topic, self.rng, self.level = topic, rng, level
        own = list(topic.facts)
        rng.shuffle(own)
        general = list(GENERAL_FACTS)
        rng.shuffle(general)
        if rng.random() < 0.3:
            own, general = general[:2] + own, general[2:]
        self._facts = own + general

    def fact(self) -> str:
        return self._facts.pop(0) if self._facts else self.rng.choice(GENERAL_FACTS)

    def reaches(self, threshold: float) -> bool:
        """Whether to write what belongs above ``threshold``: a coin, the surer the further away."""
        return self.rng.random() < 1 / (1 + exp((threshold - self.level) / _SHARPNESS))

    def write(self, template: str) -> str:
        """Fill one template; "{Np}" begins a sentence, behind a lead-in when the phrase takes no article."""
        topic, rng = self.topic, self.rng
        gist = topic.gist or rng.choice(GENERAL_GISTS)
        own = topic.definition and rng.random() > 0.15
        definition = topic.definition if own else rng.choice(GENERAL_DEFINITIONS)
        phrase = topic.phrase
        if phrase.startswith(("a ", "an ", "the ")):
            start = phrase[0].upper() + phrase[1:]
        else:
            start = f"{rng.choice(LEADS)} {phrase}"
        template = _OPTION.sub(lambda m: m[2] if self.reaches(float(m[1])) else m[3] or "", template)
        text = template.format(
            Np=start,
            np=phrase,
            name=topic.name,
            gist=gist,
            definition=definition,
            what=definition if self.reaches(_DEFINITION_LEVEL) else gist,
            fact=self.fact() if "{fact}" in template else "",
        )
        return text[0].upper() + text[1:] if text else text

    def pick(self, templates: tuple[str, ...]) -> str:
        return self.write(self.rng.choice(templates))


def at_level(topic: Topic, level: float, rng: Random) -> str:
    """A plain answer, from a label at level 0 to some 120 words at level 0.8."""
    w = _Writer(topic, rng, level)
    out = [w.pick(_OPENERS)]
    used: set[str] = set()
    for step, threshold in enumerate(_FACT_LEVELS):
        if not w.reaches(threshold):
            break
        if step < 3:
            early = _EARLY_CONTRACTED if level < 0.6 and rng.random() < 0.2 else _EARLY
            template = rng.choice([t for t in early if t not in used])
        else:
            template = _LATER[step - 3]
        used.add(template)
        out.append(w.write(template))
    if w.reaches(_SUMMARY_LEVEL):
        out.append(w.pick(_SUMMARIES))
    return " ".join(out)


def level_for(goal: int) -> float:
    """The level whose answers have about ``goal`` words, by interpolation between measured means."""
    for (low, a), (high, b) in pairwise(_WORDS_AT):
        if goal <= b:
            return low + (high - low) * max(0.0, (goal - a) / (b - a))
    return _WORDS_AT[-1][0]


def neutral(topic: Topic, rng: Random) -> str:
    """A plain answer of some 30 words, now and then with an offer or a mild cheer."""
    text = at_level(topic, rng.gauss(LEVELS["neutral"], _NEUTRAL_JITTER), rng)
    extra = rng.random()
    if extra < 0.15:
        return f"{text} {rng.choice(_OFFERS)}"
    return f"{text} {rng.choice(_CHEERS)}" if extra < 0.22 else text


def in_tone(topic: Topic, tone: str, level: float, rng: Random) -> str:
    """An answer in one of `TONES`; the opener alone at low levels."""
    openers, body, closers = _TONES[tone]
    w = _Writer(topic, rng, max(level, 0.3))
    out = [w.pick(openers)]
    last = ""
    for threshold in _FACT_LEVELS:
        if level < threshold:
            break
        last = rng.choice([t for t in body if t != last])
        out.append(w.write(last))
    closer = rng.choice(closers)
    if closer and level > 0.25:
        out.append(closer)
    return " ".join(out)


_CODE = (
    "def {f}(items):\n    total = 0\n    for item in items:\n        total += item\n    return total",
    "def {f}(x, y):\n    return x + y",
    "def {f}(n):\n    if n == 0:\n        return 1\n    return n * {f}(n - 1)",
    'def {f}(name):\n    print("{n}", name)\n    return name',
    "class {f}:\n    def __init__(self, size):\n        self.size = size",
    "def {f}(values):\n    return [v for v in values if v > 0]",
)
_CODE_INTRO = (
    "Here is a small program about {np}:\n\n",
    "This code shows {np}:\n\n",
    "A sketch of {np} in Python:\n\n",
    "",
)
_CODE_OUTRO = (
    "",
    "\n\nThe code shows {np} in its simplest form.",
    "\n\nYou can change it to suit your case.",
)


def code(topic: Topic, rng: Random) -> str:
    """An answer around one closed Python fence; the function is named after the topic."""
    w = _Writer(topic, rng)
    intro = rng.choice(_CODE_INTRO)
    block = rng.choice(_CODE).replace("{f}", topic.name.replace(" ", "_")).replace("{n}", topic.name)
    outro = rng.choice(_CODE_OUTRO) if intro else _CODE_OUTRO[1]
    return f"{w.write(intro)}```python\n{block}\n```{w.write(outro)}"


_FORMULAS = (
    "x = a + b",
    "y = m x + b",
    "E = \\frac{a}{b}",
    "f(x) = x^2 + 1",
    "x_{n+1} = x_n + 1",
    "S = \\sum_{i=1}^{n} x_i",
    "a^2 + b^2 = c^2",
    "y = \\sqrt{x}",
)
_MATHS_INTRO = (
    "This formula describes {np}:\n\n",
    "We can write {np} as a formula:\n\n",
    "In symbols, {np} looks like this:\n\n",
)
_MATHS_OUTRO = (
    "\n\nHere the letters stand for the parts of {np}.",
    "\n\nEach letter measures one side of {np}.",
)


def maths(topic: Topic, rng: Random) -> str:
    """An answer around one closed ``$$`` block; half of them begin with it."""
    w = _Writer(topic, rng)
    block = f"$$\n{rng.choice(_FORMULAS)}\n$$"
    if rng.random() < 0.5:
        return block + w.pick(_MATHS_OUTRO)
    return w.pick(_MATHS_INTRO) + block + (w.pick(_MATHS_OUTRO) if rng.random() < 0.4 else "")


def answer(topic: Topic, register: str, rng: Random) -> str:
    """An answer about ``topic`` in ``register`` (a key of `prompts.SYSTEM`)."""
    if register == "neutral":
        return neutral(topic, rng)
    if register in LEVELS:
        return at_level(topic, rng.gauss(LEVELS[register], _JITTER), rng)
    if register == "code":
        return code(topic, rng)
    if register == "maths":
        return maths(topic, rng)
    return in_tone(topic, register, rng.uniform(*_TONE_LEVELS), rng)
