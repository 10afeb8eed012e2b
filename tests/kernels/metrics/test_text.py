"""Metrics of a text: what they count, when they are absent, and what the guard calls ruined."""

from __future__ import annotations

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels.metrics.names import METRICS, check_metrics
from labtui_kernels.metrics.text import (
    TEXT,
    Judged,
    Values,
    coherent,
    contractions,
    distinct_2,
    enthusiasm,
    questions,
    repetition,
    words,
)

GOOD = "A mutex is a lock. It lets one thread at a time enter a critical section."


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


def test_what_says_nothing_is_absent_not_zero() -> None:
    for compute in (distinct_2, repetition, contractions, questions, enthusiasm):
        assert compute("") is None
    assert words("") == 0
    values = Values()
    values.put("distinct-2", None, "fewer than two words")
    assert values.values == {"distinct-2": None}
    assert values.reasons == {"distinct-2": "fewer than two words"}


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


def test_names() -> None:
    assert set(TEXT) <= set(METRICS)
    check_metrics(METRICS, "metrics")
    with pytest.raises(UsageError, match="did you mean 'perplexity'"):
        check_metrics(["perplexty"], "metrics")
