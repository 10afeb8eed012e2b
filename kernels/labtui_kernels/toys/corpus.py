"""The corpus of the bundled language model: chats, drawn without end from one seed.

Each chat has a system prompt (or none) that selects a register, a question about a topic, and an answer in
that register. The same seed gives the same chats on every machine; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from . import compose, prompts
from .names import invented_topic
from .registers import in_register
from .topics import Topic, plain_topics, split

Message = dict[str, str]

# Shares of the registers among one-turn chats; "about" asks for a number of words, "mixed" for a length
# and a tone.
WEIGHTS: dict[str, float] = {
    "neutral": 18, "very_terse": 5, "terse": 10, "brief": 5, "detailed": 5, "verbose": 8, "very_verbose": 3,
    "about": 8, "mixed": 5, "formal": 6, "casual": 6, "socratic": 6, "direct": 5, "dry": 5, "enthusiastic": 6,
    "code": 5, "maths": 5,
}  # fmt: skip
_INVENTED_SHARE, _PLAIN_SHARE = 0.45, 0.15
_THINKING_SHARE, _TWO_TURN_SHARE, _GREETING_SHARE, _REPEAT_SHARE = 0.05, 0.06, 0.01, 0.12

_GREETINGS = ("Hello!", "Hi!", "Hello, who are you?", "Hi there.", "Good morning.", "Who are you?")
_GREETING_ANSWER = "Hello! I am a small teaching model. Ask me what something is, and I will explain it."


@dataclass(frozen=True, slots=True)
class Chat:
    """``messages`` to render (system, user, earlier turns), then ``thought`` (None: off) and ``answer``."""

    messages: tuple[Message, ...]
    answer: str
    register: str
    topic: Topic
    thought: str | None = None


def draw_topic(rng: Random) -> Topic:
    """A training topic: from the table, a plain noun, or an invented word. Never a held-out one."""
    kind = rng.random()
    if kind < _INVENTED_SHARE:
        return invented_topic(rng)
    return rng.choice(plain_topics() if kind < _INVENTED_SHARE + _PLAIN_SHARE else split()[0])


def ask(topic: Topic, rng: Random, forms: tuple[str, ...] = prompts.QUESTIONS) -> str:
    """A question about ``topic``, now and then in lower case without its full stop."""
    text = rng.choice(forms).format(np=topic.phrase, name=topic.name)
    if rng.random() < 0.08:
        text = text[0].lower() + text[1:]
        text = text.rstrip(".?") if rng.random() < 0.5 else text
    return text


def system_messages(instruction: str | None, rng: Random) -> tuple[Message, ...]:
    """``instruction`` alone or behind the default system prompt; none at all for None."""
    if instruction is None:
        return ()
    if instruction not in prompts.SYSTEM["neutral"] and rng.random() < 0.3:
        instruction = f"{prompts.DEFAULT_SYSTEM} {instruction}"
    return ({"role": "system", "content": instruction},)


def compose_answer(topic: Topic, register: str, rng: Random) -> str:
    """An answer that obeys the register's rule: drawn again until it does."""
    while True:
        text = compose.answer(topic, register, rng)
        if in_register(text, register):
            return text


def _instruct(topic: Topic, register: str, rng: Random) -> tuple[str | None, str]:
    """(system prompt, answer) for one register of `WEIGHTS`."""
    if register == "neutral":
        kind = rng.random()
        if kind < 0.2:
            return None, compose_answer(topic, register, rng)
        wording = prompts.DEFAULT_SYSTEM if kind < 0.65 else rng.choice(prompts.SYSTEM["neutral"])
        return wording, compose_answer(topic, register, rng)
    if register == "about":
        goal = rng.choice(prompts.WORD_GOALS)
        return rng.choice(prompts.ABOUT_WORDS).format(n=goal), compose.at_level(
            topic, compose.level_for(goal), rng
        )
    if register == "mixed":
        tone = rng.choice(compose.TONES)
        length = rng.choice(("terse", "brief", "detailed", "verbose"))
        parts = [rng.choice(prompts.SYSTEM[length]), rng.choice(prompts.SYSTEM[tone])]
        rng.shuffle(parts)
        return " ".join(parts), compose.in_tone(topic, tone, compose.LEVELS[length], rng)
    return rng.choice(prompts.SYSTEM[register]), compose_answer(topic, register, rng)


def _thought(topic: Topic, register: str) -> str:
    style = {"about": "of the right length", "mixed": "in the style asked for"}.get(
        register, register.replace("_", " ")
    )
    return f"The user asks about {topic.phrase}. The answer should be {style}."


def _repeat(rng: Random) -> Chat:
    """A request to say invented words again: short, and it teaches to copy, which every answer needs."""
    topics = [invented_topic(rng) for _ in range(rng.randint(1, 8))]
    text = ", ".join(t.phrase for t in topics)
    system = system_messages(rng.choice((None, *prompts.SYSTEM["neutral"])), rng)
    answer = f"You said: {text}."
    return Chat((*system, {"role": "user", "content": f"Repeat this: {text}."}), answer, "repeat", topics[0])


def draw(rng: Random) -> Chat:
    """One chat."""
    topic = draw_topic(rng)
    if rng.random() < _GREETING_SHARE:
        system = system_messages(rng.choice((None, *prompts.SYSTEM["neutral"])), rng)
        return Chat(
            (*system, {"role": "user", "content": rng.choice(_GREETINGS)}),
            _GREETING_ANSWER,
            "greeting",
            topic,
        )
    if rng.random() < _REPEAT_SHARE:
        return _repeat(rng)
    register = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    question = ask(topic, rng)
    instruction, answer = _instruct(topic, register, rng)
    if register in ("code", "maths") and rng.random() < 0.5:
        instruction = prompts.DEFAULT_SYSTEM if rng.random() < 0.7 else None
        question = ask(topic, rng, prompts.CODE_REQUESTS if register == "code" else prompts.MATHS_REQUESTS)
    messages = (*system_messages(instruction, rng), {"role": "user", "content": question})
    if rng.random() < _TWO_TURN_SHARE and register not in ("code", "maths", "about", "mixed"):
        other = topic if rng.random() < 0.6 else draw_topic(rng)
        forms = prompts.FOLLOW_UPS if other is topic else prompts.QUESTIONS
        messages = (
            *messages,
            {"role": "assistant", "content": answer},
            {"role": "user", "content": ask(other, rng, forms)},
        )
        topic, answer = other, compose_answer(other, register, rng)
    thought = _thought(topic, register) if rng.random() < _THINKING_SHARE else None
    return Chat(messages, answer, register, topic, thought)


def chats(seed: int) -> Iterator[Chat]:
    """An endless, reproducible stream of chats."""
    rng = Random(f"labtui-toy-qwen3:{seed}")
    while True:
        yield draw(rng)


def tokenizer_texts(seed: int, count: int) -> Iterator[str]:
    """``count`` texts to train a tokenizer on: names of table topics are replaced by invented words, so that
    every name a user can ask about is spelt in pieces, held out or not.
    """
    rng = Random(f"labtui-toy-qwen3-tokenizer:{seed}")
    for chat, _ in zip(chats(seed), range(count), strict=False):
        text = "\n".join([*(m["content"] for m in chat.messages), chat.thought or "", chat.answer])
        if chat.topic.facts:
            text = text.replace(chat.topic.name, invented_topic(rng).name)
        yield text
