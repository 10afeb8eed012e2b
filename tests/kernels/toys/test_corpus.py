"""The generated corpus: reproducible, true to its registers, and blind to the held-out topics."""

from itertools import islice
from random import Random

import pytest

from labtui_kernels.toys import compose, corpus, prompts
from labtui_kernels.toys.names import invented_name
from labtui_kernels.toys.registers import in_register, names_topic, words
from labtui_kernels.toys.topics import TOPICS, plain_topics, split


def texts(count: int, seed: int = 3) -> list[str]:
    return [
        "\n".join([*(m["content"] for m in c.messages), c.thought or "", c.answer])
        for c in islice(corpus.chats(seed), count)
    ]


def test_the_same_seed_gives_the_same_chats_and_another_seed_others() -> None:
    assert texts(200) == texts(200)
    assert texts(200) != texts(200, seed=4)


def test_a_fifth_of_at_least_sixty_topics_is_held_out_and_the_split_is_stable() -> None:
    training, held_out = split()
    assert len(TOPICS) >= 60
    assert len({t.name for t in TOPICS}) == len(TOPICS)
    assert len(held_out) == round(0.2 * len(TOPICS))
    assert not {t.name for t in training} & {t.name for t in held_out}
    assert "mutex" in {t.name for t in training}
    assert {"virus", "bridge", "telescope", "encryption"} <= {t.name for t in held_out}


def test_invented_names_are_of_many_kinds_and_none_is_held_out() -> None:
    rng = Random(0)
    drawn = {invented_name(rng) for _ in range(20_000)}
    assert len(drawn) > 12_000
    assert not {name for t in split()[1] for name in t.name.split()} & drawn
    assert all(3 <= len(name) <= 14 and name.isalpha() for name in drawn)


def test_no_training_text_names_a_held_out_topic() -> None:
    everything = "\n".join(texts(8000))
    assert [t.name for t in split()[1] if names_topic(everything, t.name)] == []
    assert not {t.name for t in plain_topics()} & {t.name for t in TOPICS}


def test_every_register_occurs_and_its_answers_obey_its_rule() -> None:
    seen: dict[str, int] = {}
    for chat in islice(corpus.chats(5), 4000):
        seen[chat.register] = seen.get(chat.register, 0) + 1
        if chat.register in prompts.SYSTEM:
            assert in_register(chat.answer, chat.register), (chat.register, chat.answer)
    assert set(seen) == {*corpus.WEIGHTS, "greeting", "repeat"}


def test_answers_name_their_topic_and_lengths_are_graded() -> None:
    lengths: dict[str, list[int]] = {}
    for chat in islice(corpus.chats(6), 6000):
        if chat.register in prompts.SYSTEM:
            lengths.setdefault(chat.register, []).append(words(chat.answer))
            if chat.register != "code":
                assert names_topic(chat.answer, chat.topic.name), chat
    means = [sum(v) / len(v) for r in GRADES if (v := lengths[r])]
    assert means == sorted(means)
    assert means[0] < 8 and means[-1] > 95


GRADES = ("very_terse", "terse", "brief", "neutral", "detailed", "verbose", "very_verbose")


@pytest.mark.parametrize("goal", [20, 40, 70, 110])
def test_an_answer_comes_near_its_goal_of_words(goal: int) -> None:
    rng = Random(0)
    lengths = [words(compose.at_level(topic, compose.level_for(goal), rng)) for topic in TOPICS]
    assert abs(sum(lengths) / len(lengths) - goal) < 0.2 * goal


def test_the_tokenizer_never_meets_a_table_topic_as_the_thing_asked_about() -> None:
    chats = islice(corpus.chats(0), 500)
    for chat, text in zip(chats, corpus.tokenizer_texts(0, 500), strict=True):
        if chat.topic.facts:
            assert not names_topic(text.split("\n")[0], chat.topic.name)
