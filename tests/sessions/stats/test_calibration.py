"""What is called, and how often, where the truth is known. Bounds allow for three binomial standard errors."""

from __future__ import annotations

import math

import pytest

from labtui_sessions.stats import Sheet, Summary, summarise
from labtui_sessions.stats.effects import effects
from tests.sessions.stats.sweeps import World, draw


def at_most(share: float, trials: int) -> float:
    return share + 3 * math.sqrt(share * (1 - share) / trials)


def sweep(world: World, seed: int, planted: dict[tuple[int, int], float] | None = None) -> Summary:
    return summarise(Sheet.from_columns(draw(world, seed, planted)), "words")


def test_a_thousand_sweeps_without_an_effect() -> None:
    """Skewed tied counts, sites that share their zero rows: grids with a p < 0.05 at most 5%, and so calls."""
    world = World(sites=4, strengths=3)
    summaries = [sweep(world, seed) for seed in range(1_000)]
    significant = sum(any((cell.p_family or 1) < 0.05 for cell in s.grid) for s in summaries)
    called = sum(any(cell.verdict == "called" for cell in s.grid) for s in summaries)
    assert significant / 1_000 <= at_most(0.05, 1_000)
    assert called <= significant
    assert significant > 5  # the test is a test: it does reject now and then


def test_grids_of_the_size_that_people_run() -> None:
    """8 blocks x 9 strengths x 20 prompts with the controls that ``auto`` brings: 72 cells are no more lenient."""
    world = World(sites=8, strengths=9, nulls=40)
    summaries = [sweep(world, 10_000 + seed) for seed in range(150)]
    significant = sum(any((cell.p_family or 1) < 0.05 for cell in s.grid) for s in summaries)
    called = sum(any(cell.verdict == "called" for cell in s.grid) for s in summaries)
    assert called <= significant <= 150 * at_most(0.05, 150)
    planted = {(5, strength): 0.4 for strength in range(4, 9)}  # 40% of the words from the fifth strength on
    calls = {True: 0, False: 0}
    for seed in range(10):
        for cell in sweep(world, 20_000 + seed, planted).grid:
            there = cell.point.site == "llm.5" and (cell.point.strength or 0) > 4
            calls[there] += cell.verdict == "called"
    assert calls[True] >= 0.9 * 50 and calls[False] <= 0.01 * 670


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8])
def test_a_direction_no_better_than_a_random_one_seldom_exceeds_the_null(share: float) -> None:
    """Each cell's direction is itself a random one, with effects of its own: at most 5% exceed the bound."""
    world = World(sites=6, strengths=4, share=share, same=0.0)
    cells = [cell for seed in range(40) for cell in sweep_untested(world, seed).grid]
    exceed = sum(abs(cell.effect or 0) > (cell.null_bound or math.inf) for cell in cells)
    assert exceed / len(cells) <= at_most(0.05, len(cells))


def test_resampled_means_of_null_rows_would_not_do() -> None:
    """Where random directions differ in what they do to all prompts, sqrt(V / n) is exceeded far too often."""
    exceed = cells = 0
    for seed in range(20):
        sheet = Sheet.from_columns(draw(World(share=0.8, same=0.0), seed))
        found = effects(sheet, "words")
        for index, effect in enumerate(found.effect):
            gaps = found.row_gaps[sheet.null & (sheet.level == sheet.point_level[index])]
            exceed += abs(effect) > 1.96 * gaps.std(ddof=1) / math.sqrt(found.prompts[index])
            cells += 1
    assert exceed / cells > 0.15


@pytest.mark.parametrize(("factor", "power"), [(0.4, 0.95), (0.5, 0.75)])
def test_planted_effects_are_found(factor: float, power: float) -> None:
    """A cell whose answers have 40% or 50% of their words is called in at least that share of sweeps."""
    world = World(sites=6, strengths=6, nulls=40)
    spot = (2, 3)
    found = 0
    for seed in range(40):
        cells = sweep(world, seed, {spot: factor}).grid
        verdicts = {(cell.point.site, cell.point.strength): cell.verdict for cell in cells}
        found += verdicts["llm.2", 4.0] == "called"
    assert found / 40 >= power


def test_single_null_rows_are_severe_and_said_to_be() -> None:
    summary = sweep(World(per_direction=1, nulls=20), 3, {(0, 0): 0.5})
    assert summary.consistency.rho is None
    assert "single rows" in next(cell.sentence for cell in summary.grid if "null rows" in cell.sentence)


def sweep_untested(world: World, seed: int) -> Summary:
    return summarise(Sheet.from_columns(draw(world, seed)), "words", run_test=False)
