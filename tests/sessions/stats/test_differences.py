"""One sweep less another: paired over the prompts that both have, absent with a reason where nothing matches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labtui_sessions.stats import Difference, Sheet, differences
from labtui_sessions.stats.effects import effects
from labtui_sessions.stats.intervals import t_quantile
from labtui_sessions.stats.null import null_of
from tests.sessions.stats.sweeps import World, draw

Row = dict[str, Any]


def row(prompt: str, strength: float, words: float | None, control: str = "", **more: Any) -> Row:
    return {
        "prompt": prompt, "direction": "" if control else "terse", "site": "" if control else "llm.4",
        "where": "all", "strength": strength, "strength_abs": 10 * strength, "strength_pct": 4 * strength,
        "seed": 0, "control": control, "finish": "stop", "words": words, **more,
    }  # fmt: skip


def sweep(effects: dict[str, float], strength: float = 2.0, **more: Any) -> list[Row]:
    rows = [row(prompt, 0.0, 30.0, "zero", **more) for prompt in effects]
    return rows + [row(prompt, strength, 30.0 + gap, **more) for prompt, gap in effects.items()]


def less(one: list[Row], other: list[Row], metric: str = "words") -> Difference:
    (found,) = differences(Sheet.from_rows(one), Sheet.from_rows(other), metric)
    return found


def test_it_is_the_mean_over_the_prompts_that_both_have_with_its_interval() -> None:
    found = less(sweep({"a": -6, "b": -9, "c": -3, "x": 99}), sweep({"c": -1, "b": -2, "a": -3, "y": 50}))
    gaps = np.array([-3.0, -7.0, -2.0])
    half = t_quantile(2) * gaps.std(ddof=1) / np.sqrt(3)
    assert (found.prompts, found.reason) == (3, "") and found.effect == pytest.approx(-4)
    assert (found.low, found.high) == (pytest.approx(-4 - half), pytest.approx(-4 + half))
    assert (found.here, found.there) == (pytest.approx(-6), pytest.approx(-2))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (sweep({"a": -1}, strength=3.0), "the baseline has no such cell"),
        ([{**r, "site": r["site"] and "llm.5"} for r in sweep({"a": -1})], "the baseline has no such cell"),
        ([{**r, "where": "last"} for r in sweep({"a": -1})], "the baseline has no such cell"),
        (sweep({"b": -1}), "no prompt is in both sweeps"),
        ([{**r, "words": None, "tokens": 3} for r in sweep({"a": -1})], "the baseline has no words"),
        ([{**r, "words": r["words"] if r["control"] else None} for r in sweep({"a": -1})],
         "no prompt has words and its zero row in both sweeps"),
    ],
    ids=["strength", "site", "positions", "prompts", "metric", "value"],
)  # fmt: skip
def test_what_has_no_counterpart_is_absent_with_a_reason(other: list[Row], reason: str) -> None:
    found = less(sweep({"a": -6}), other)
    assert (found.effect, found.low, found.prompts, found.reason) == (None, None, 0, reason)


def test_one_prompt_has_no_interval_and_a_rate_that_never_differs_has_none() -> None:
    assert less(sweep({"a": -6}), sweep({"a": -2})).low is None
    same = [{**r, "words": True} for r in sweep({"a": 0, "b": 0, "c": 0})]
    found = less(same, same)
    assert (found.effect, found.low, found.prompts) == (0.0, None, 3)
    numbers = less(sweep({"a": -6, "b": -6}), sweep({"a": -6, "b": -6}))
    assert (numbers.effect, numbers.low, numbers.high) == (0.0, 0.0, 0.0)


def test_two_directions_are_held_against_each_other_at_equal_share_of_the_norm() -> None:
    formal = [{**r, "direction": r["direction"] and "formal"} for r in sweep({"a": -1}, strength=5.0)]
    assert less(sweep({"a": -6}), formal).reason == "the baseline has no such cell"
    there = [{**r, "strength_pct": 8.01 if r["strength"] else 0.0} for r in formal]
    assert less(sweep({"a": -6}), there).effect == -5
    both = [*there, *sweep({"a": -2}, strength=7.0)]
    assert less(sweep({"a": -6}), both).reason == "the baseline has no such cell", "which one is not said"


def test_prompts_are_the_same_by_id_and_by_text_only_where_ids_are_lacking() -> None:
    one = [*sweep({"go on": -6}, prompt_id="p1"), *sweep({"why": -8}, prompt_id="p3")]
    other = [*sweep({"go on": -1}, prompt_id="p2"), *sweep({"why": -2}, prompt_id="p3")]
    found = less(one, other)
    assert (found.effect, found.prompts) == (-6, 1), "equal texts of two chats are two prompts"
    old = [{k: v for k, v in r.items() if k != "prompt_id"} for r in other]
    assert less(one, old).prompts == 2
    twice = [*one, *sweep({"go on": -60}, prompt_id="p9")]
    assert (less(twice, old).effect, less(twice, old).prompts) == (-6, 1), "which go on is meant is not known"


def test_cut_answers_make_it_a_bound() -> None:
    plain = sweep({"a": -6, "b": -9})

    def cut(rows: list[Row], zero: bool) -> list[Row]:
        return [{**r, "finish": "length" if bool(r["control"]) == zero else "stop"} for r in rows]

    steered, unsteered = cut(plain, False), cut(plain, True)
    found = [less(a, b).bound for a, b in ((plain, plain), (steered, plain), (plain, steered))]
    assert found == ["", "lower", "upper"]
    assert [less(steered, unsteered).bound, less(steered, steered).bound] == ["lower", "unclear"]


def whole(seed: int, **change: Any) -> Sheet:
    world = World(sites=1, strengths=1, nulls=40, **change)
    return Sheet.from_columns(draw(world, seed))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_two_directions_that_mean_nothing_differ_by_more_than_the_null_in_one_of_twenty(share: float) -> None:
    found = [
        differences(whole(2 * n, share=share), whole(2 * n + 1, share=share), "words")[0] for n in range(200)
    ]
    beyond = [abs(one.effect) > one.null_bound for one in found if one.effect and one.null_bound]
    assert len(beyond) > 190 and sum(beyond) / len(beyond) <= 0.09


def test_the_null_of_a_difference_is_wider_than_either_and_needs_both() -> None:
    one, other = whole(1), whole(2)
    (found,) = differences(one, other, "words")
    alone = [null_of(sheet, effects(sheet, "words")).bound[0] for sheet in (one, other)]
    assert found.null_bound is not None and max(alone) < found.null_bound < sum(alone)
    plain = draw(World(sites=1, strengths=1, nulls=0), 2)
    assert differences(one, Sheet.from_columns(plain), "words")[0].null_bound is None
    rows = [draw(World(sites=1, strengths=1, nulls=20, per_direction=1), n) for n in (3, 4)]
    single, again = map(Sheet.from_columns, rows)
    (found,) = differences(single, again, "words")
    alone = [null_of(sheet, effects(sheet, "words")).row_bound[0] for sheet in (single, again)]
    assert found.null_bound == pytest.approx(float(np.hypot(*alone))), "single rows are all there is"
