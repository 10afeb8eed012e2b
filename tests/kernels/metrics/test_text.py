"""Metrics of a text: what they count, when they are absent, and what the guard calls ruined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels.metrics.base import Facts, Values
from labtui_kernels.metrics.registry import metric, value
from labtui_kernels.metrics.text import (
    OUTCOMES,
    Judged,
    coherent,
    contractions,
    distinct,
    distinct_2,
    enthusiasm,
    questions,
    repetition,
    words,
)

GOOD = "A mutex is a lock. It lets one thread at a time enter a critical section."


def of(name: str, text: str, *, cut: bool = False) -> object:
    found, reason = value(metric(name), Facts(text, cut=cut))
    assert (found is None) == bool(reason)
    return found


def test_counts() -> None:
    assert words(" a  b\nc ") == 3
    assert distinct_2("a b a b a b") == pytest.approx(2 / 5)
    assert distinct_2("a b c d") == 1.0
    assert repetition("a b c d e") == 0.0
    assert repetition("a b c d " * 5) == pytest.approx(13 / 17)
    assert contractions("It's here and I don't know John's dog at all today") == pytest.approx(2 / 11 * 100)
    assert questions("Why? Because. Really?") == pytest.approx(2 / 3)
    assert enthusiasm("Wow! That is amazing") == pytest.approx(3 / 4 * 100)
    assert (contractions(GOOD), questions(GOOD), enthusiasm(GOOD)) == (0.0, 0.0, 0.0)


def test_distinct_n_by_hand() -> None:
    text = "the cat the dog the cat"
    assert of("distinct-1", text) == pytest.approx(3 / 6)
    assert of("distinct-2", text) == pytest.approx(4 / 5)
    assert of("distinct-3", text) == 1.0
    assert of("distinct-7", text) is None and of("distinct-1", "") is None


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), st.integers(1, 4))
def test_distinct_n_is_a_share_of_the_sequences(found: list[str], n: int) -> None:
    share = distinct(" ".join(found), n)
    if len(found) < n:
        assert share is None
    else:
        count = len(found) - n + 1
        different = {" ".join(found[start : start + n]) for start in range(count)}
        assert share == pytest.approx(len(different) / count)


def test_what_says_nothing_is_absent_not_zero() -> None:
    for compute in (distinct_2, repetition, contractions, questions, enthusiasm):
        assert compute("") is None
    assert words("") == 0
    values = Values()
    values.put("distinct-2", None, "fewer than two words")
    assert values.values == {"distinct-2": None}
    assert values.reasons == {"distinct-2": "fewer than two words"}
    assert value(metric("questions"), Facts("")) == (None, "no sentence")


def test_an_axis_stands_for_its_outcome_with_a_sign() -> None:
    text = "Wow! It's great, isn't it? Yes."
    assert {axis: (outcome.head, sign) for axis, (outcome, sign) in OUTCOMES.items()} == {
        "terse": ("words", -1),
        "formal": ("contractions", -1),
        "socratic": ("questions", 1),
        "dry": ("enthusiasm", -1),
    }
    for axis, (outcome, sign) in OUTCOMES.items():
        assert of(f"style:{axis}", text) == of(outcome.head, text)
        assert metric(f"style:{axis}").sign == sign
    assert of("style:socratic", "") is None


def test_the_guard() -> None:
    zero = Judged(GOOD, 2.4, ended=True)
    assert coherent(zero, zero) == (True, "")
    assert coherent(Judged("A lock.", 7.0, True), zero) == (True, "")
    assert coherent(Judged("A lock.", 7.3, True), zero) == (False, "")  # perplexity over 3 x 2.4
    assert coherent(Judged("lock the " * 30, 1.5, True), zero) == (
        False,
        "",
    )  # a loop, whatever its perplexity
    assert coherent(Judged("", 1.0, True), zero) == (False, "")
    assert coherent(Judged(GOOD, 2.4, ended=False), zero) == (False, "")
    assert coherent(Judged(GOOD, 2.4, ended=False), Judged(GOOD, 2.4, ended=False)) == (True, "")
    assert coherent(Judged(GOOD, None, True), zero) == (None, "perplexity is not known")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("style:ters", "did you mean 'terse'"),
        ("style", "expected style:AXIS"),
        ("distinct-12", "expected distinct-1 to distinct-9"),
    ],
)
def test_names_that_mean_nothing(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        metric(name)
