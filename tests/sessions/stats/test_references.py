"""The numbers against other people's: scipy and statsmodels, and brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.stats import mstats
from statsmodels.stats.proportion import proportion_confint

from labtui_sessions.stats import sign_flips
from labtui_sessions.stats.intervals import mean_interval, paired_rates, t_quantile, wilson
from labtui_sessions.stats.null import consistency, percentile

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 12, 19, 39, 200, 1999, 2001, 50_000])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_students_t(degrees: int, level: float) -> None:
    expected = scipy_stats.t.ppf(0.5 + level / 2, degrees)
    assert t_quantile(degrees, level) == pytest.approx(expected, rel=1e-3 if degrees > 2_000 else 1e-9)


def test_the_interval_of_a_mean() -> None:
    values = np.array([3.0, 9.0, 4.0, 4.0, 20.0])
    low, high = mean_interval(
        np.array([values.mean(), 1.0]), np.array([values.std(ddof=1), np.nan]), np.array([5, 1])
    )
    expected = scipy_stats.t.interval(0.95, 4, values.mean(), scipy_stats.sem(values))
    assert (low[0], high[0]) == pytest.approx(expected)
    assert np.isnan(low[1]) and np.isnan(high[1])  # one value has no spread


@given(st.integers(1, 400), st.data())
@settings(deadline=None)
def test_wilson(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = wilson(np.array([hits / trials]), np.array([trials]))
    expected = proportion_confint(hits, trials, method="wilson")
    assert (low[0], high[0]) == pytest.approx(expected, abs=1e-12)


def test_wilson_without_trials_and_at_the_ends() -> None:
    low, high = wilson(np.array([np.nan, 0.0, 1.0]), np.array([0, 20, 20]))
    assert np.isnan(low[0]) and np.isnan(high[0])
    assert low[1] == 0 and high[1] > 0.1 and low[2] < 0.9 and high[2] == 1


def test_newcombes_paired_interval() -> None:
    """Newcombe (1998), Table II: 36 + 12 + 2 + 0 pairs, method 10: (0.0569, 0.3404)."""
    ours = np.array([1.0] * 36 + [1.0] * 12 + [0.0] * 2)
    theirs = np.array([1.0] * 36 + [0.0] * 12 + [1.0] * 2)
    phi = np.corrcoef(ours, theirs)[0, 1]
    low, high = paired_rates(
        np.array([ours.mean()]), np.array([theirs.mean()]), np.array([phi]), np.array([50])
    )
    assert (low[0], high[0]) == pytest.approx((0.0569, 0.3404), abs=2e-3)


def test_a_rate_of_all_has_a_width() -> None:
    low, high = paired_rates(np.array([1.0]), np.array([1.0]), np.array([0.0]), np.array([20]))
    assert low[0] < -0.1 and high[0] > 0.1


@given(st.lists(st.floats(-50, 50).map(lambda v: round(v, 1)), min_size=2, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_exact_permutation_test(gaps: list[float]) -> None:
    """Against scipy's test of paired samples with the same statistic."""
    values = np.array(gaps)
    found = sign_flips(values[None, :])
    norm = np.sqrt((values**2).sum()) or 1.0
    expected = scipy_stats.permutation_test(
        (values,),
        lambda x, axis: np.abs(x.sum(axis=axis)) / norm,
        permutation_type="samples",
        n_resamples=10**6,
        alternative="greater",
    )
    assert found.exact
    assert found.p[0] == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.p_family[0] == found.p[0]  # a grid of one cell


def test_the_family_wise_p_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    gaps = rng.integers(-4, 6, (7, 8)).astype(float)
    gaps[2, 3:] = np.nan
    gaps[4] = np.nan
    found = sign_flips(gaps)
    known = np.nan_to_num(gaps)
    norm = np.sqrt((known**2).sum(axis=1))
    norm[norm == 0] = 1
    seen = np.abs(known.sum(axis=1)) / norm
    largest = [
        (np.abs(known @ np.array(signs)) / norm).max() for signs in itertools.product((1, -1), repeat=8)
    ]
    for cell in (0, 1, 2, 3, 5, 6):
        assert found.p_family[cell] == pytest.approx(np.mean(np.array(largest) >= seen[cell] - 1e-9))
    assert np.isnan(found.p[4]) and np.isnan(found.p_family[4])


def test_a_sample_of_flips_comes_near_the_exact_p() -> None:
    gaps = np.random.default_rng(1).normal(0.45, 1, (3, 14))
    exact, sampled = sign_flips(gaps), sign_flips(np.hstack([gaps, np.zeros((3, 1))]))
    assert exact.exact and not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=0.015)
    assert sampled.p_family == pytest.approx(exact.p_family, abs=0.015)
    again = sign_flips(np.hstack([gaps, np.zeros((3, 1))]))
    assert (again.p == sampled.p).all()  # the same numbers give the same p


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(-9, 9), min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
@settings(deadline=None)
def test_properties_of_the_test(rows: list[list[int]]) -> None:
    gaps = np.array(rows, float)
    found = sign_flips(gaps)
    assert ((found.p > 0) & (found.p <= 1)).all()
    assert (found.p_family >= found.p - 1e-12).all()  # the maximum is at least the cell's own
    assert sign_flips(-gaps).p == pytest.approx(found.p)  # two-sided
    assert sign_flips(3.5 * gaps).p_family == pytest.approx(found.p_family)  # without a unit
    assert sign_flips(gaps[:, ::-1]).p == pytest.approx(found.p)  # the order of prompts says nothing
    fewer = sign_flips(gaps[:1])
    assert fewer.p_family[0] <= found.p_family[0] + 1e-12  # more cells make it harder


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
@settings(deadline=None)
def test_the_percentile(values: list[float]) -> None:
    found = percentile(np.array([[*values, np.nan]]))
    assert found[0] == pytest.approx(np.quantile(values, 0.95, method="weibull"))
    assert found[0] == pytest.approx(float(mstats.mquantiles(values, [0.95], alphap=0, betap=0)[0]))
    assert np.isnan(percentile(np.full((1, 3), np.nan))[0]) and np.isnan(percentile(np.empty((1, 0)))[0])


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_the_intraclass_correlation_is_recovered(rho: float) -> None:
    rng = np.random.default_rng(9)
    levels, directions, prompts = 40, 20, 3
    level, direction, _ = (x.ravel() for x in np.indices((levels, directions, prompts)))
    own = np.repeat(rng.normal(0, np.sqrt(rho), (levels, directions))[:, :, None], prompts, axis=2)
    gap = own + rng.normal(0, np.sqrt(1 - rho), own.shape)
    gap *= rng.uniform(1, 50, (levels, 1, 1))  # sites differ in how much anything does
    found = consistency(level, direction, gap.ravel())
    assert found.rho == pytest.approx(rho, abs=0.06)
    assert found.rho is not None and found.rho <= found.upper < rho + 0.12 and found.directions == directions
    alone = consistency(level[::prompts], direction[::prompts], gap.ravel()[::prompts])
    assert (alone.rho, alone.upper) == (None, 1.0)  # one prompt a direction says nothing
