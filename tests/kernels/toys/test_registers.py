"""The rules that judge registers and sound text: what each accepts, and what it must not."""

import pytest

from labtui_kernels.toys import registers
from labtui_kernels.toys.registers import Row, has_collapsed, in_register, is_coherent, names_topic

CASES = [
    ("terse", "A mutex is a lock.", True),
    ("terse", "", False),
    ("terse", "word " * 17, False),
    ("verbose", "word " * 50, True),
    ("verbose", "word " * 49, False),
    ("formal", "It is a lock. It does not share.", True),
    ("formal", "It's a lock.", False),
    ("casual", "It's a lock, and you'll like it.", True),
    ("casual", "The lock's owner holds the dog's bone.", False),
    ("socratic", "What is a lock? Why wait? Think about it.", True),
    ("socratic", "It is a lock. Does that help?", False),
    ("direct", "It is a lock. It holds.", True),
    ("direct", "It is a lock. Does that help?", False),
    ("dry", "It is a lock. That is all.", True),
    ("dry", "It is a wonderful lock.", False),
    ("enthusiastic", "Wow, it is a lock! I love it!", True),
    ("enthusiastic", "It is a lock. That is all.", False),
    ("code", "Here:\n```python\nx = 1\n```\nDone.", True),
    ("code", "Here:\n```python\nx = 1\n", False),
    ("code", "```\n\n```", False),
    ("maths", "$$\nx = 1\n$$ so.", True),
    ("maths", "$$\nx = 1", False),
    ("maths", "It costs $5.", False),
    ("neutral", "A mutex is a lock that lets one thread in at a time.", True),
    ("neutral", "A lock.", False),
    ("very_terse", "A mutex is a lock.", True),
    ("very_verbose", "word " * 79, False),
]


@pytest.mark.parametrize(("register", "text", "expected"), CASES)
def test_rules(register: str, text: str, expected: bool) -> None:
    assert in_register(text, register) is expected


def test_an_unknown_register_is_no_register() -> None:
    with pytest.raises(KeyError):
        in_register("text", "baroque")


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("A Black hole bends light.", "black hole", True),
        ("Black holes bend light.", "black hole", True),
        ("A black\nhole.", "black hole", True),
        ("A blackhole.", "black hole", False),
        ("def black_hole(x):", "black hole", True),
        ("A mute exit.", "mutex", False),
        ("The tidewater rose.", "tide", False),
    ],
)
def test_names_topic(text: str, topic: str, expected: bool) -> None:
    assert names_topic(text, topic) is expected


def test_rates_of_an_empty_text_are_zero_and_distinct_2_is_one() -> None:
    assert (
        registers.contraction_rate("") == registers.question_share("") == registers.enthusiasm_rate("") == 0
    )
    assert registers.distinct_2("") == registers.distinct_2("one") == 1
    assert registers.distinct_2("a b a b a b") == pytest.approx(2 / 5)


ZERO = Row("It is a lock that lets one thread in.", 2.0, True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Row("A lock.", 5.9, True), True),
        (Row("A lock.", 6.0, True), False),
        (Row(" ", 1.0, True), False),
        (Row("a lock " * 30, 1.5, True), False),
        (Row("A lock for threads", 2.0, False), False),
    ],
)
def test_the_guard(row: Row, expected: bool) -> None:
    assert is_coherent(row, ZERO) is expected


def test_a_row_need_not_end_where_its_plain_row_did_not() -> None:
    assert is_coherent(Row("A lock for threads", 2.0, False), Row(ZERO.text, 2.0, False))


def test_collapse_is_fewer_than_half() -> None:
    good, bad = Row("A lock.", 2.0, True), Row("", 2.0, True)
    assert not has_collapsed([good, bad], [ZERO, ZERO])
    assert has_collapsed([good, bad, bad], [ZERO, ZERO, ZERO])
    with pytest.raises(ValueError, match="0 rows"):
        has_collapsed([], [])
