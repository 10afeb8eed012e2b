"""From rows to verdicts: pairing, absent values, cut answers, controls, zones, sentences."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_sessions.stats import Cell, Sheet, Summary, permute, summarise, zones
from labtui_sessions.stats.verdicts import Evidence, judge
from tests.sessions.stats.sweeps import World, draw

Row = dict[str, Any]


def row(prompt: str, strength: float, words: Any, control: str = "", **more: Any) -> Row:
    steered = control not in ("zero", "prompt")
    return {
        "prompt": prompt, "direction": "terse" if control != "zero" else "",
        "site": "llm.4" if steered else "", "where": "all", "strength": strength, "strength_abs": 10 * strength,
        "strength_pct": strength, "seed": 0, "control": control, "finish": "stop", "words": words, **more,
    }  # fmt: skip


def sweep(prompts: int = 20, effect: float = -6.0, nulls: int = 20) -> list[Row]:
    rows = []
    for p in range(prompts):
        rows.append(row(f"p{p}", 0.0, 20 + p, "zero"))
        rows.append(row(f"p{p}", 2.0, 20 + p + effect + p % 3 - 1))
    for i in range(nulls):
        name = f"random:{i // 2}~terse"
        rows.append(row(f"p{i % prompts}", 2.0, 20 + i % prompts + (i % 5 - 2) / 2, "random", direction=name))
    return rows


def only(rows: list[Row], metric: str = "words", **how: Any) -> Cell:
    (cell,) = summarise(Sheet.from_rows(rows), metric, **how).grid
    return cell


def test_effects_are_paired_by_prompt_and_seed_with_seeds_averaged() -> None:
    rows = [
        row("a", 0.0, 10, "zero", seed=0), row("a", 0.0, 20, "zero", seed=1), row("b", 0.0, 5, "zero", seed=0),
        row("a", 1.0, 8, seed=0), row("a", 1.0, 14, seed=1), row("b", 1.0, 9, seed=0),
        row("b", 1.0, 99, seed=1),  # its zero row is not there (yet)
    ]  # fmt: skip
    cell = only(rows)
    assert cell.effect == pytest.approx(((-2 + -6) / 2 + 4) / 2) == 0
    assert (cell.prompts, cell.rows, cell.absent) == (2, 4, 1)
    assert cell.base == pytest.approx((15 + 5) / 2)
    assert cell.value == pytest.approx((11 + 54) / 2) and cell.value_prompts == 2


def test_prompts_of_equal_shown_text_are_told_apart_by_their_ids() -> None:
    def both(prompt: str, id: str, base: int, words: int) -> list[Row]:
        return [row(prompt, 0.0, base, "zero", prompt_id=id), row(prompt, 1.0, words, prompt_id=id)]

    rows = [*both("go on", "one", 10, 4), *both("go on", "two", 30, 20), *both("why", "three", 8, 8)]
    sheet = Sheet.from_rows(rows)
    assert sheet.prompts == ("go on", "go on", "why") and sheet.prompt_ids == ("one", "two", "three")
    cell = only(rows)
    assert cell.prompts == 3 and cell.effect == pytest.approx((-6 - 10 + 0) / 3)
    merged = only([{k: v for k, v in r.items() if k != "prompt_id"} for r in rows])
    assert merged.prompts == 2, "a table without ids has only the texts to go by"
    assert "prompt_index" not in Sheet.from_rows([{**r, "prompt_index": 3} for r in rows]).metrics()


def test_rows_from_before_ids_stay_with_the_prompt_of_their_text() -> None:
    old = [row("why", 0.0, 10, "zero"), row("go on", 0.0, 30, "zero")]
    new = [row("why", 1.0, 4, prompt_id="three"), row("go on", 1.0, 20, prompt_id="one")]
    other = row("go on", 1.0, 21, prompt_id="two")
    assert only([*old, *new]).effect == pytest.approx((-6 - 10) / 2)
    cell = only([*old, *new, other])
    assert (cell.effect, cell.prompts, cell.absent) == (-6, 1, 2), "nothing says whose the old row is"


def test_a_strength_below_zero_has_the_null_of_its_size() -> None:
    """A table has norm and % with the sign of the strength; a random direction has no side."""
    rows = [
        {**r, "strength": -2.0, "strength_abs": -20.0, "strength_pct": -2.0} if not r["control"] else r
        for r in sweep()
    ]
    cell, other = only(rows), only(sweep())
    assert (cell.null_rows, cell.null_bound, cell.verdict) == (20, other.null_bound, "called")


def test_an_effect_is_called_and_says_so() -> None:
    cell = only(sweep())
    assert cell.effect == pytest.approx(-6.05) and cell.verdict == "called"
    assert cell.p_family is not None and cell.p_family < 0.001 and cell.null_rows == 20
    assert cell.sentence.startswith("words -6.05 [-6.44, -5.66] over 20 prompts; called: p = 0.0001 over the")


def test_each_reason_not_to_call() -> None:
    assert "under 20 prompts this is descriptive" in only(sweep(prompts=19)).sentence
    few = only(sweep(nulls=19))
    assert few.verdict == "descriptive" and "with 19 null rows here, of at least 20" in few.sentence
    assert only(sweep(nulls=0)).sentence.endswith("; without null rows this is descriptive")
    untested = only(sweep(), run_test=False)
    assert untested.verdict == "untested" and untested.p is None
    wild = [r | {"words": r["words"] * 3} if r["control"] == "random" else r for r in sweep()]
    cell = only(wild)
    assert cell.verdict == "not called" and "null rows (95%) reach" in cell.sentence
    weak = only(sweep(effect=0.0))
    assert weak.verdict == "inconclusive" and "no ±δ was declared" in weak.sentence
    assert only(sweep(effect=0.0), delta=2.0).verdict == "no effect"
    assert "leaves ±0.1" in only(sweep(effect=0.0), delta=0.1).sentence
    assert "though smaller than ±9" in only(sweep(), delta=9.0).sentence


def test_without_zero_rows_there_is_no_effect_but_a_value() -> None:
    cell = only([r for r in sweep() if r["control"] != "zero"])
    assert (cell.effect, cell.verdict, cell.prompts) == (None, "descriptive", 0)
    assert cell.value == pytest.approx(23.45) and cell.null_bound is None
    assert "no prompt has words both here and in its zero row" in cell.sentence


def test_a_strength_of_0_in_the_grid_stands_for_the_zero_rows() -> None:
    rows = [r | {"control": "", "site": "llm.4"} if r["control"] == "zero" else r for r in sweep()]
    assert only(rows).effect == pytest.approx(-6.05)


def test_absent_values_are_left_out_pairwise_and_counted() -> None:
    rows = sweep()
    rows[0]["words"] = None  # a zero row: its prompt is lost
    rows[3]["words"] = float("nan")  # a steered row
    cell = only(rows)
    assert (cell.prompts, cell.absent, cell.value_prompts) == (18, 2, 19)
    assert cell.null_rows == 19  # the null row of the first prompt has nothing to be paired with
    assert cell.verdict == "descriptive"


def test_cut_answers_make_bounds() -> None:
    rows = sweep()
    rows[1]["finish"] = "length"
    cell = only(rows)
    assert (cell.cut, cell.bound) == (1, "lower") and "words ≥-6.05" in cell.sentence
    assert "larger or less negative" in cell.sentence
    rows[0]["finish"] = "length"
    assert only(rows).bound == "unclear"
    rows[1]["finish"] = "stop"
    assert only(rows).bound == "upper"
    other = [r | {"perplexity": float(r["words"])} for r in rows]
    assert only(other, "perplexity").bound == ""  # a cut answer's perplexity is what it is
    still = sweep(effect=0.0)
    still[1]["finish"] = "length"
    assert "cut answers leave the effect open" in only(still, delta=5.0).sentence


def test_rates_have_wilson_intervals_and_width_where_all_agree() -> None:
    rows = [r | {"coherent": True} for r in sweep()]
    cell = only(rows, "coherent")
    assert cell.value == 1 and cell.value_low == pytest.approx(0.8389, abs=1e-4) and cell.value_high == 1
    assert cell.effect == 0 and cell.low is not None and cell.low < -0.1
    assert cell.collapsed is False
    ruined = [r | {"coherent": i % 3 == 0} if not r["control"] else r for i, r in enumerate(rows)]
    assert only(ruined, "coherent").collapsed is True


def test_controls_stand_beside_the_grid_and_are_never_called() -> None:
    rows = sweep()
    rows += [row(f"p{p}", -2.0, 40 + p, "negated") for p in range(20)]
    rows += [row(f"p{p}", 0.0, 9, "prompt") for p in range(20)]
    summary = summarise(Sheet.from_rows(rows), "words")
    assert [cell.point.control for cell in summary.beside] == ["negated", "prompt"]
    assert len(summary.grid) == 1 and summary.grid[0].verdict == "called"
    assert all(cell.p is None and cell.verdict == "descriptive" for cell in summary.beside)
    assert summary.beside[0].sentence.startswith("the negated direction: words +20 [")


def test_shuffled_rows_belong_to_the_null_and_norms_are_what_is_matched() -> None:
    rows = sweep(nulls=10)
    rows += [row(f"p{i}", 2.0, 20 + i, "shuffled", direction=f"shuffled:{i // 2}~terse") for i in range(10)]
    assert only(rows).null_rows == 20
    for r in rows:
        if r["control"] in ("random", "shuffled"):
            r["strength"], r["strength_abs"] = 9.0, 20.0 * (1 + 1e-7)  # another alpha, the same norm
    assert only(rows).null_rows == 20
    for r in rows:
        r["strength_abs"] = None  # then alpha decides, and these differ
    assert only(rows).null_rows == 0


def test_strengths_that_differ_in_their_last_digits_are_one_cell() -> None:
    rows = [r | {"strength": r["strength"] * (1 + i * 1e-9)} for i, r in enumerate(sweep())]
    assert len(summarise(Sheet.from_rows(rows), "words").grid) == 1
    assert len(summarise(Sheet.from_rows([*sweep(), row("p0", 2.1, 9)]), "words").grid) == 2


def test_tables_that_are_no_sweeps_and_metrics_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="no column 'direction'"):
        Sheet.from_columns({"prompt": ["a"], "words": [1]}, "other")
    sheet = Sheet.from_rows(sweep())
    assert sheet.metrics() == ["words"]
    with pytest.raises(UsageError, match="no metric 'kl' in this table; it has words"):
        summarise(sheet, "kl")
    empty = Sheet.from_columns({name: [] for name in sweep()[0]})
    assert summarise(empty, "words").cells == () and zones(empty, "words") == []
    assert summarise(Sheet.from_rows([r for r in sweep() if r["control"] == "zero"]), "words").cells == ()


@pytest.mark.filterwarnings("error")
def test_strange_values_do_no_harm() -> None:
    strange: list[Any] = [1e308, -1e308, "many", [1], {"a": 1}, 2**63 - 1, float("inf"), True, None]
    for place in ("words", "strength", "strength_abs", "prompt", "seed", "site", "control", "finish"):
        rows = sweep()
        for i, value in enumerate(strange):
            rows[i][place] = value
            rows[-1 - i][place] = value
        summary = summarise(Sheet.from_rows(rows), "words", delta=1.0)
        assert all(cell.effect is None or abs(cell.effect) < 1e309 for cell in summary.cells)
        zones(Sheet.from_rows(rows), "words")


def test_a_kept_test_is_used_again() -> None:
    sheet = Sheet.from_rows(sweep())
    kept = permute(sheet, "words")
    assert summarise(sheet, "words", flips=kept) == summarise(sheet, "words")


def line(*cells: tuple[float, float, bool]) -> list[Row]:
    """A zero row per prompt, then (strength, effect, coherent) of each cell, each with its null."""
    rows = [row(f"p{p}", 0.0, 30 + p, "zero", coherent=True) for p in range(20)]
    for strength, effect, coherent in cells:
        for p in range(20):
            rows.append(row(f"p{p}", strength, 30 + p + effect, coherent=coherent))
            name = f"random:{p // 2}~terse"
            gap = (p * 7 % 11 - 5) / 2
            rows.append(row(f"p{p}", abs(strength), 30 + p + gap, "random", direction=name, coherent=True))
    return [r | {"strength_abs": abs(r["strength_abs"])} for r in rows]


def test_zones_along_the_strengths() -> None:
    rows = line(
        (1, 0.1, True), (2, -0.2, True), (4, -9, True), (8, -15, True), (16, 60, False), (-1, 9, True)
    )
    up, down = sorted(zones(Sheet.from_rows(rows), "words"), key=lambda zone: -zone.side)
    assert (up.dead, up.effective, up.collapse, up.monotone, up.known) == (2.0, (4.0, 8.0), 16.0, True, True)
    assert (down.dead, down.effective, down.collapse, down.side) == (None, (-1.0, -1.0), None, -1)


def test_zones_that_go_back_are_flagged_and_few_null_rows_say_nothing() -> None:
    (back,) = zones(Sheet.from_rows(line((1, 9, True), (2, 0, True), (4, 9, True))), "words")
    assert (back.dead, back.effective, back.monotone) == (None, (1.0, 4.0), False)
    (again,) = zones(Sheet.from_rows(line((1, 9, True), (2, 9, False), (4, 9, True))), "words")
    assert (again.collapse, again.monotone) == (2.0, False)
    few = [r for r in line((1, 0, True), (2, 9, False)) if r["control"] != "random" or r["prompt"] != "p3"]
    (unknown,) = zones(Sheet.from_rows(few), "words")
    assert (unknown.known, unknown.dead, unknown.effective, unknown.collapse) == (False, None, None, 2.0)


def numbers(summary: Summary) -> dict[Any, Any]:
    return {
        c.point: [
            None if v is None else pytest.approx(v) for v in (c.effect, c.low, c.high, c.null_bound, c.p)
        ]
        for c in summary.cells
    }


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_rows_says_nothing(seed: int, order: int) -> None:
    """Cells are committed as they finish: any order gives the same numbers (exact test: 8 prompts)."""
    columns = draw(World(prompts=8, sites=2, strengths=2, nulls=20), seed)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    first = numbers(summarise(Sheet.from_rows(rows), "words"))
    random.Random(order).shuffle(rows)
    second = summarise(Sheet.from_rows(rows), "words")
    assert {c.point: [c.effect, c.low, c.high, c.null_bound, c.p] for c in second.cells} == first


@given(
    st.integers(0, 40), st.integers(0, 40), st.floats(0, 1), st.floats(-9, 9), st.floats(0, 9),
    st.floats(0, 9), st.one_of(st.none(), st.floats(0, 20)), st.sampled_from(["", "lower", "upper", "unclear"]),
)  # fmt: skip
def test_the_rule(
    prompts: int,
    nulls: int,
    p: float,
    effect: float,
    width: float,
    null: float,
    delta: float | None,
    cut: str,
) -> None:
    e = Evidence("words", effect, effect - width, effect + width, prompts, p, null, nulls, False, cut, delta)
    verdict, sentence = judge(e)
    if prompts < 20 or nulls < 20:
        assert verdict == "descriptive" and "descriptive" in sentence
    else:
        assert (verdict == "called") == (p < 0.05 and abs(effect) > null)
        inside = delta is not None and not cut and effect - width >= -delta and effect + width <= delta
        assert (verdict == "no effect") == (inside and verdict != "called")
        assert verdict in sentence


def test_a_large_sweep_is_summarised_while_it_fills() -> None:
    """36 blocks x 9 strengths x 20 prompts with 20 null rows each: well under 100 ms of processor time."""
    columns = draw(World(sites=36, strengths=9), 0)
    summary = summarise(Sheet.from_columns(columns), "words", run_test=False)
    spent = []
    for _ in range(3):
        began = time.process_time()
        summarise(Sheet.from_columns(columns), "words", run_test=False)
        spent.append(time.process_time() - began)
    assert len(summary.grid) == 324 and len(columns["words"]) == 12_980
    assert min(spent) < 0.1


def test_numbers_agree_with_a_plain_computation() -> None:
    columns = draw(World(prompts=9, sites=2, strengths=2), 4)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    zero = {r["prompt"]: r["words"] for r in rows if r["control"] == "zero"}
    for cell in summarise(Sheet.from_columns(columns), "words").grid:
        gaps = [
            r["words"] - zero[r["prompt"]]
            for r in rows
            if not r["control"] and (r["site"], r["strength"]) == (cell.point.site, cell.point.strength)
        ]
        half = 2.306004135 * np.std(gaps, ddof=1) / 3  # t of 8 degrees
        assert cell.effect == pytest.approx(np.mean(gaps))
        assert (cell.low, cell.high) == pytest.approx((np.mean(gaps) - half, np.mean(gaps) + half))
