"""Answers in every register, composed from a topic's facts and from general remarks.

An answer is an opener that names the topic, then sentences that carry one fact each until a goal of words is
met. The sentences are shared by all lengths, and the goals overlap, so that a short answer is a likely text
for a model that was asked for a longer one: length is graded, not a switch.
"""

from __future__ import annotations

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
_OPENERS = (
    "{Np} is {definition}.",
    "{Np} is {definition}.",
    "The term {name} means {definition}.",
    "We can think of {np} as {definition}.",
)
_SHORTEST = ("{Np} is {gist}.", "{Np} means {gist}.", "The term {name}: {gist}.", "{Np}: {gist}.")
_SHORT = ("{Np} is {definition}.", "The term {name} means {definition}.", "{Np} is {gist}, and it {fact}.")

_PLAIN = (
    "It {fact}.",
    "It also {fact}.",
    "In practice, it {fact}.",
    "People notice that it {fact}.",
    "This means that it {fact}.",
    "Most of the time it {fact}.",
)
_PLAIN_CONTRACTED = ("It's also clear that it {fact}.", "That's why it {fact}.", "You'll see that it {fact}.")
_LONG = (
    "To begin with, it {fact}{tail}.",
    "In more detail, it {fact}{tail}.",
    "Moreover, it {fact}{tail}.",
    "For example, people often notice that it {fact}.",
    "In addition, it {fact}{tail}.",
    "On the other hand, it {fact}{tail}.",
    "As a result, we can say that it {fact}.",
    "Beyond that, it {fact}{tail}.",
    "In practice, this means that it {fact}.",
    "Another point is that it {fact}{tail}.",
    "Last of all, it {fact}{tail}.",
)
_TAILS = (
    "",
    "",
    ", which is worth keeping in mind",
    ", and this matters in practice",
    ", as many people have found",
)
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

# Goals of words by register; neutral is drawn from a triangle around 30 and overlaps its neighbours.
GOALS: dict[str, tuple[int, int]] = {
    "brief": (14, 22),
    "detailed": (42, 56),
    "verbose": (64, 80),
    "very_verbose": (98, 122),
}
NEUTRAL_GOAL = (15, 46, 28)
TONE_GOAL = (16, 44)


class _Writer:
    """Draws pieces for one answer; facts are not repeated until they run out."""

    def __init__(self, topic: Topic, rng: Random) -> None:
        self.topic, self.rng = topic, rng
        own = list(topic.facts)
        rng.shuffle(own)
        general = list(GENERAL_FACTS)
        rng.shuffle(general)
        if rng.random() < 0.3:
            own, general = general[:2] + own, general[2:]
        self._facts = own + general

    def fact(self) -> str:
        return self._facts.pop(0) if self._facts else self.rng.choice(GENERAL_FACTS)

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
        return template.format(
            Np=start,
            np=phrase,
            name=topic.name,
            gist=gist,
            definition=definition,
            fact=self.fact() if "{fact}" in template else "",
            tail=rng.choice(_TAILS),
        )

    def pick(self, templates: tuple[str, ...]) -> str:
        return self.write(self.rng.choice(templates))


def _count(sentences: list[str]) -> int:
    return sum(len(s.split()) for s in sentences)


def of_length(topic: Topic, goal: int, rng: Random) -> str:
    """An answer in the plain tone of about ``goal`` words (whole sentences, so a few more or less)."""
    w = _Writer(topic, rng)
    if goal <= 8:
        return w.pick(_SHORTEST)
    if goal <= 13:
        return w.pick(_SHORT)
    out = [w.pick(_OPENERS)]
    used: set[str] = set()
    for step in range(20):
        if goal - _count(out) < 5:
            break
        if goal >= 60:
            template = _LONG[min(step, len(_LONG) - 1)] if rng.random() < 0.85 else rng.choice(_PLAIN)
        else:
            choices = [t for t in (_PLAIN_CONTRACTED if rng.random() < 0.2 else _PLAIN) if t not in used]
            template = rng.choice(choices or _PLAIN)
        used.add(template)
        out.append(w.write(template))
        if goal >= 60 and goal - _count(out) < 16:
            out.append(w.pick(_SUMMARIES))
            break
    return " ".join(out)


def neutral(topic: Topic, rng: Random) -> str:
    """A plain answer of some 30 words, now and then with an offer, a contraction or a mild cheer."""
    text = of_length(topic, max(14, round(rng.triangular(*NEUTRAL_GOAL))), rng)
    extra = rng.random()
    if extra < 0.18:
        return f"{text} {rng.choice(_OFFERS)}"
    return f"{text} {rng.choice(_CHEERS)}" if extra < 0.26 else text


def in_tone(topic: Topic, tone: str, goal: int, rng: Random) -> str:
    """An answer in one of `TONES` of about ``goal`` words; the opener alone where the goal is small."""
    openers, body, closers = _TONES[tone]
    w = _Writer(topic, rng)
    out = [w.pick(openers)]
    last = ""
    while goal - _count(out) >= 6:
        template = rng.choice([t for t in body if t != last])
        last = template
        out.append(w.write(template))
    closer = rng.choice(closers)
    if closer and goal > 14:
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
    if register == "very_terse":
        return of_length(topic, 5, rng)
    if register == "terse":
        return of_length(topic, rng.choice((6, 7, 10, 12, 12)), rng)
    if register in GOALS:
        return of_length(topic, rng.randint(*GOALS[register]), rng)
    if register == "code":
        return code(topic, rng)
    if register == "maths":
        return maths(topic, rng)
    return in_tone(topic, register, rng.randint(*TONE_GOAL), rng)
