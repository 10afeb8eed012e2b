"""What is read out of a Stroop recipe's tables, against SciPy and statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from labtui_sessions import stroop
from labtui_sessions.stats import is_sweep
from tests.sessions.stroop_tables import NORMS, SHARES, SITES, answers, choice, cosines, study, table

spearmanr: Any = stats.spearmanr


def test_tables_are_known_by_their_columns() -> None:
    kinds = {name: stroop.kind_of(one.columns) for name, one in study().items()}
    assert kinds == {"s": "answers", "s-cosines": "cosines", "s-choice": "choice", "s-judged": "answers"}
    assert stroop.kind_of(["prompt", "site", "direction"]) is None
    assert is_sweep(study()["s"]), "the Sweep screen shows it"


def test_cells_have_the_shares_of_their_rows() -> None:
    rows = answers()
    found = stroop.cells(rows)
    assert len(found) == 3 * len(SITES) * len(NORMS)
    for cell in found:
        for question in ("ink", "word"):
            mine = [
                row
                for row in rows
                if not row["control"]
                and (row["delta"], row["site"], row["strength_text"]) == (cell.delta, cell.site, cell.text)
                and row["question"] == question
            ]
            flips = [row["flip"] for row in mine if row["flip"] is not None]
            rate = cell.rate(question, "flip")
            assert rate.n == len(flips) < len(mine)
            assert rate.share == pytest.approx(np.mean(flips))
            low, high = proportion_confint(sum(flips), len(flips), method="wilson")
            assert (rate.low, rate.high) == (pytest.approx(low), pytest.approx(high))
            assert cell.rate(question, "right").n == len(mine)
    negated = stroop.cells(answers(judged=True), "negated")
    assert {cell.norm for cell in negated} == {10.0}


def test_aims_and_what_is_spared() -> None:
    by = {(c.delta, c.site, c.text): c for c in stroop.cells(answers())}
    color, text, both = (by[delta, "vision.2", "100%"] for delta in ("color", "text", "combined"))
    assert (
        color.flips == color.rate("ink", "flip").share and color.spared == color.rate("word", "stays").share
    )
    assert text.flips == text.rate("word", "flip").share and text.spared == text.rate("ink", "stays").share
    shares = [both.rate(question, "flip").share for question in ("ink", "word")]
    assert both.flips == min(share for share in shares if share is not None) and both.spared is None


def test_the_cell_with_most_flips_is_chosen_where_enough_stays() -> None:
    found = stroop.cells(answers())
    for one in stroop.choose(found, 0.8):
        assert (one.cell.site, one.cell.text, one.feasible) == ("vision.2", "100%", True)
        fit = [c for c in found if c.delta == one.cell.delta and (c.spared is None or c.spared >= 0.8)]
        assert one.cell.flips == max(c.flips or 0 for c in fit)


def test_the_weakest_of_cells_that_flip_about_as_many_is_chosen() -> None:
    rows = [row for row in answers() if row["site"] in ("vision.2", "") and row["delta"] in ("color", "")]
    weak = [
        {**row, "strength_text": "80%", "strength_abs": 8.0, "strength_pct": 80.0}
        for row in rows
        if row["strength_text"] == "100%"
    ]
    flipped = [row for row in weak if row["flip"] and row["question"] == "ink" and not row["control"]]
    flipped[0].update(flip=False, stays=True)
    (one,) = stroop.choose(stroop.cells([*rows, *weak]), 0.8)
    assert one.cell.text == "80%", "one flip of 30 fewer is within a standard error"
    for row in flipped[:6]:
        row.update(flip=False, stays=True)
    (one,) = stroop.choose(stroop.cells([*rows, *weak]), 0.8)
    assert one.cell.text == "100%"


def test_only_the_last_job_of_a_table_counts() -> None:
    twice = table("s", answers(1))
    twice.add("j2", "again", answers(2))
    assert stroop.rows_of(twice) == stroop.rows_of(table("s", answers(2)))
    rows = [
        {**row, "stays": False}
        if row["question"] == "word" and row["site"] == "vision.2" and row["stays"]
        else row
        for row in answers()
    ]
    color = stroop.choose([c for c in stroop.cells(rows) if c.delta == "color"], 0.8)[0]
    assert color.cell.site == "vision.1" and color.feasible, (
        "flips that cost the other answers are passed over"
    )
    none = [{**row, "stays": False if row["stays"] else row["stays"]} for row in answers()]
    worst = stroop.choose([c for c in stroop.cells(none) if c.delta == "color"], 0.8)[0]
    assert worst.cell.site == "vision.2" and not worst.feasible


def test_nulls_are_shares_by_direction() -> None:
    rows = answers(judged=True)
    cell = stroop.cells(rows)[0]
    for question in ("ink", "word"):
        null = stroop.null_of(rows, cell, question)
        by: dict[str, list[bool]] = {}
        for row in rows:
            if row["control"] == "random" and row["question"] == question and row["flip"] is not None:
                by.setdefault(row["direction"], []).append(row["flip"])
        shares = [float(np.mean(flips)) for flips in by.values()]
        assert null.directions == len(by) == 20 and null.rows == sum(map(len, by.values()))
        assert null.percentile == pytest.approx(np.quantile(shares, 0.95, method="weibull"))
        assert null.mean == pytest.approx(np.mean(shares))
    assert stroop.null_of(rows, cell, "ink", "shuffled").percentile is None


def test_interference_is_congruent_less_incongruent_accuracy() -> None:
    rows = answers(3, pictures=50, judged=True, wrong=0.3)
    found = {one.question: one for one in stroop.interference(rows)}
    assert list(found) == ["ink", "word"]
    for question, one in found.items():
        right = {
            subset: [
                r["right"]
                for r in rows
                if r["control"] == "zero" and r["question"] == question and r["subset"] == subset
            ]
            for subset in ("congruent", "incongruent")
        }
        a, b = right["congruent"], right["incongruent"]
        assert one.difference == pytest.approx(np.mean(a) - np.mean(b))
        low, high = confint_proportions_2indep(
            sum(a), len(a), sum(b), len(b), method="newcomb", compare="diff"
        )
        assert (one.low, one.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_rank_correlation_of_cosines_and_flips() -> None:
    found = stroop.cells(answers())
    by = {one.to: one for one in stroop.predictions(found, cosines())}
    net = {
        (r["delta"], r["site"], r["strength_text"]): r["net"] for r in cosines() if r["to"] == "color_only"
    }
    expected = spearmanr([net[c.delta, c.site, c.text] for c in found], [c.flips for c in found]).statistic
    one = by["color_only"]
    assert (
        one.rho is not None
        and one.rho == pytest.approx(expected)
        and one.cells == len(found)
        and one.sites == len(SITES)
    )
    assert one.low is not None and one.high is not None and one.low <= one.rho <= one.high
    assert one.within is not None and one.within > 0.8 and one.rho > 0.8
    assert by["text_only"].rho == pytest.approx(-expected)
    assert stroop.predictions(found, cosines()) == stroop.predictions(found, cosines()), (
        "the draws have a seed"
    )


def test_a_gain_that_only_grows_with_strength_predicts_no_site() -> None:
    """Correlation over all cells is high because both grow with strength; at equal strength there is none."""
    rows = [{**row, "net": row["strength_abs"]} for row in cosines()]
    for one in stroop.predictions(stroop.cells(answers()), rows):
        assert one.rho is not None and one.rho > 0.3
        assert one.within is None, "a gain that does not vary has no ranks"


def test_rows_that_lack_what_they_need_are_passed_over() -> None:
    odd = [
        {"delta": "color", "control": ""},
        {"delta": "size", "strength_abs": 1.0},
        {"delta": "text", "strength_abs": True},
    ]
    assert stroop.cells(odd) == []
    assert stroop.interference([{"control": "zero", "right": 1}]) == []
    assert stroop.predictions([], cosines())[0].rho is None
    lone = stroop.cells([{"delta": "color", "strength_abs": 2.0, "control": "", "site": "vision.1"}])
    assert lone[0].flips is None and stroop.choose(lone, 0.8) == []


def test_spearman_has_ties_at_their_mean_rank() -> None:
    one, other = [1.0, 2.0, 2.0, 3.0, 5.0], [2.0, 1.0, 4.0, 4.0, 4.0]
    assert stroop.spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert np.isnan(stroop.spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))


def test_shares_of_the_story_are_found() -> None:
    found = {(c.delta, c.site): c.flips for c in stroop.cells(answers(pictures=200)) if c.text == "100%"}
    for site, share in SHARES.items():
        assert found["color", site] == pytest.approx(share, abs=0.1)
    assert stroop.kind_of(table("t", choice()).columns) == "choice"
