"""What the bundled vision-language model is asked and answers, and the tokenizer that fits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from labtui_kernels.vision import scenes
from labtui_kernels.vision.stimuli import COLORS, INK_QUESTION, NEUTRAL, NO_WORD, WORD_QUESTION

from ..corpus import tokenizer_texts
from ..tokenizer import train_tokenizer

VOCABULARY = 1024
SYSTEM = "You are a helpful assistant."
DESCRIBE = "Describe the picture."
INK_FORMS = (INK_QUESTION, "What color is the ink?", "What is the color of the text?")
WORD_FORMS = (WORD_QUESTION, "What does the text say?", "Read the word.")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message.role not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('unknown role ' ~ message.role ~ ': expected system, user or assistant') -}}
    {%- endif -%}
    {{- '<|im_start|>' ~ message.role ~ '\\n' -}}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- else -%}
        {%- for part in message.content -%}
            {%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part.type == 'video' or 'video' in part -%}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
            {%- elif 'text' in part -%}
                {{- part.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""Qwen2-VL's turns; no system prompt is added."""


def stroop_caption(word: str, ink: str) -> str:
    """What a Stroop picture shows, in words."""
    return f"no word, in {ink} ink" if word == NO_WORD else f"the word {word} in {ink} ink"


def asked_of_words(rng: random.Random, word: str, ink: str) -> list[tuple[str, str]]:
    """(question, answer) about a Stroop picture: ink and word, mostly in the study's words, at times a caption."""
    forms = [(INK_FORMS, ink), (WORD_FORMS, word)]
    asked = [(rng.choice(many) if rng.random() < 0.25 else many[0], answer) for many, answer in forms]
    if rng.random() < 0.2:
        asked.append((DESCRIBE, stroop_caption(word, ink)))
    return asked


def asked_of_scene(rng: random.Random, scene: scenes.Scene, kinds: int = 3) -> list[tuple[str, str]]:
    """(question, answer) about a scene: at most one of each of ``kinds`` kinds, at times a caption.

    Counts of shapes that are there are asked more often than of those that are not.
    """
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for question in scene.questions:
        if question[1] != "zero" or rng.random() < 0.3:
            by_kind.setdefault(scenes.kind_of(question[0]), []).append(question)
    asked = [rng.choice(by_kind[kind]) for kind in rng.sample(sorted(by_kind), min(kinds, len(by_kind)))]
    if rng.random() < 0.2:
        asked.append((DESCRIBE, scenes.describe(scene.shapes)))
    return asked


def asked_of_places(rng: random.Random, scene: scenes.Scene) -> list[tuple[str, str]]:
    """(question, answer) about a scene: up to two relations and a place, and one of another kind."""
    wanted = {"relation": 2, "place": 1}
    asked: list[tuple[str, str]] = []
    for kind, most in wanted.items():
        found = [question for question in scene.questions if scenes.kind_of(question[0]) == kind]
        asked += rng.sample(found, min(most, len(found)))
    others = asked_of_scene(rng, scene, 5)
    return [*asked, *[other for other in others if scenes.kind_of(other[0]) not in wanted][: 4 - len(asked)]]


def asked_of_text(rng: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """(a caption, questions about it): the same language without a picture."""
    names = list(COLORS)
    if rng.random() < 0.5:
        word, ink = rng.choice([*names, NO_WORD]), rng.choice([*names, NEUTRAL])
        return stroop_caption(word, ink), [(INK_QUESTION, ink), (WORD_QUESTION, word)]
    box = (0, 0, 1, 1)
    shapes = [(rng.choice(scenes.SHAPES), rng.choice(names), box) for _ in range(rng.randint(1, 4))]
    scene = scenes.ask(shapes, (1, 1))
    told = [question for question in scene if scenes.kind_of(question[0]) in ("count", "name", "color")]
    return ", ".join(f"a {color} {name}" for name, color, _ in shapes), rng.sample(told, min(2, len(told)))


def texts(seed: int) -> Iterator[str]:
    """Texts to learn a tokenizer from: everything that is asked and answered, and some of the other toy's chats."""
    rng = random.Random(f"vl-texts/{seed}")
    for _ in range(4000):
        caption, asked = asked_of_text(rng)
        yield caption
        for question, answer in asked:
            yield question
            yield answer
    for scene in scenes.generate(400, seed):
        for question, answer in scene.questions:
            yield question
            yield answer
    for question in (*INK_FORMS, *WORD_FORMS, DESCRIBE, SYSTEM, "user\n", "assistant\n", "system\n"):
        yield from itertools.repeat(question, 400)
    yield from tokenizer_texts(seed, 1500)


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer with Qwen's special tokens; every answer's words are one token each."""
    return train_tokenizer(texts(seed), VOCABULARY, CHAT_TEMPLATE)
