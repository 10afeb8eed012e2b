"""Calibration: the search against the full grid on surfaces of known shape, and on the bundled model."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.models.load import load
from labtui_kernels.recipes.rounds import Rounds
from labtui_sessions.phases import page, phases_of
from labtui_sessions.stats.search import flip_chance
from tests.kernels.recipes.lab import Context, Lab
from tests.kernels.recipes.surfaces import NULL, Surface, World, planned, rise, search, steps_apart, whole

FLAT = rise(1e9, 0)


def always(pct: float) -> float:
    return 1.0


def sound(collapse: float, slope: float = 8.0) -> Any:
    """Text that is coherent up to about a strength."""
    ruin = rise(collapse, 1, slope)
    return lambda pct: 1 - ruin(pct)


def both(surface: Surface, seed: int = 0, **fields: Any) -> tuple[Rounds, Any, Any]:
    """The search at one site, what it found, and the zone of the full grid."""
    spec, plan = planned(sites="llm.3", **fields)
    world, known = World({"llm.3": surface}, seed), {}
    rounds = search(spec, plan, world, known)
    (finding,) = rounds.findings(known)
    (zone,) = whole(spec, plan, {row.cell: world.answer(row) for row in plan.rows}).values()
    return rounds, finding, zone


@pytest.mark.parametrize(
    "surface",
    [
        Surface(rise(20, -15), sound(150)),
        Surface(rise(60, 45, 4), sound(300)),
        Surface(rise(8, -20), always),
        Surface(FLAT, sound(40)),
        Surface(FLAT, always, rise(30, 8, 2)),
        Surface(rise(5, -25), sound(6)),
        Surface(rise(350, -25, 20), always),
    ],
    ids=["usual", "slow", "no collapse", "no effect", "nothing", "at once", "at the end"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_thresholds_are_within_a_step_of_the_full_grid_s(surface: Surface, seed: int) -> None:
    rounds, finding, zone = both(surface, seed)
    spec = rounds.spec
    apart = dict(steps_apart(spec, finding.zone, zone))
    assert max(apart.values()) <= 1, (finding, zone)
    assert rounds.rows <= rounds.grid / 3
    assert not finding.open and finding.zone.known


def test_many_random_surfaces_land_within_a_step_at_a_third_of_the_rows() -> None:
    """Bands, slopes, heights, noise and null at random; one in 25 may be off, where an effect hugs the bound."""
    near, off, open_lines = 0, 0, 0
    for seed in range(12):
        draw = random.Random(seed)
        surfaces = {f"llm.{block}": _any(draw) for block in range(4)}
        spec, plan = planned(sites="llm.0-3")
        world, known = World(surfaces, seed), {}
        rounds = search(spec, plan, world, known)
        assert rounds.rows <= rounds.grid / 3
        full = whole(spec, plan, {row.cell: world.answer(row) for row in plan.rows})
        for finding in rounds.findings(known):
            apart = dict(steps_apart(spec, finding.zone, full[finding.line]))
            good = max(apart["dead"], apart["first"], apart["collapse"]) <= 1
            near, off, open_lines = near + good, off + (not good), open_lines + finding.open
    assert near + off == 48 and off <= 2 and open_lines <= 2


def _any(draw: random.Random) -> Surface:
    at = 10 ** draw.uniform(0.7, 2.2)
    height = draw.choice([-1, 1]) * 10 ** draw.uniform(0.9, 1.5)
    ruin = at * 10 ** draw.uniform(-0.1, 1.0)
    null = rise(10 ** draw.uniform(1.5, 2.5), 10 ** draw.uniform(0.5, 1.4), 2)
    return Surface(rise(at, height, draw.uniform(2, 10)), sound(ruin, draw.uniform(3, 12)), null)


def test_what_does_not_rise_in_order_is_flagged() -> None:
    def back(pct: float) -> float:
        return -20.0 if 8 < pct < 20 or pct > 80 else 0.0

    _, finding, zone = both(Surface(back, lambda pct: 1.0, rise(100, 2, 2)))
    assert not finding.zone.monotone and not zone.monotone
    assert finding.zone.dead == zone.dead and finding.zone.effective == zone.effective

    def healed(pct: float) -> float:
        return 0.0 if 30 < pct < 90 else 1.0

    _, finding, zone = both(Surface(rise(8, -20), healed))
    assert not finding.zone.monotone and finding.zone.collapse == zone.collapse == 34.3


def test_an_interrupted_search_asks_for_the_same_rows_in_any_order_of_arrival() -> None:
    spec, plan = planned(sites="llm.1,2")
    surfaces = {"llm.1": Surface(rise(20, -15), sound(150)), "llm.2": Surface(rise(90, 25, 3), sound(300))}
    whole_world, known = World(surfaces, 3), {}
    rounds = search(spec, plan, whole_world, known)
    asked = list(whole_world.asked)
    assert len(asked) == len(set(asked)) == rounds.rows
    for cut in (1, 57, len(asked) // 2, len(asked) - 1):
        draw = random.Random(cut)
        # Rows of the round that was cut off may have come in any order, and rows of other jobs be there too.
        there = set(asked[:cut]) | {row.cell for row in draw.sample(plan.rows, 30)}
        before = {cell: known.get(cell) or World(surfaces, 3).answer(_row(plan, cell)) for cell in there}
        again, resumed = World(surfaces, 3), dict(draw.sample(list(before.items()), len(before)))
        second = search(spec, plan, again, resumed)
        assert not set(again.asked) & there
        assert set(again.asked) | there >= set(asked) and set(again.asked) <= set(asked)
        assert second.findings(resumed) == rounds.findings(known)


def _row(plan: Any, cell: str) -> Any:
    return next(row for row in plan.rows if row.cell == cell)


def test_the_bound_on_rows_holds_and_what_is_not_sure_is_not_said() -> None:
    shape = Surface(rise(60, 25, 2), sound(300), NULL)
    for share in (0.08, 0.12, 0.2):
        rounds, finding, zone = both(shape, share=share)
        assert rounds.rows <= share * rounds.grid
        if finding.open:
            index = {percent: number for number, percent in enumerate(rounds.spec.percents)}
            told = finding.zone.collapse
            assert told is None or zone.collapse is None or index[told] >= index[zone.collapse]
    assert both(shape, share=0.08)[1].open


def test_without_null_rows_only_the_collapse_is_searched() -> None:
    rounds, finding, zone = both(Surface(rise(20, -15), sound(150)), nulls=0)
    assert not finding.zone.known and finding.zone.dead is None and finding.zone.effective is None
    assert finding.zone.collapse == zone.collapse and rounds.rows <= rounds.grid / 3


def test_the_chance_that_more_rows_say_otherwise() -> None:
    """Against a count over all ways: 1 + seen draws of a uniform rate are exchangeable (Polya's urn)."""
    for good, seen, rows in ((3, 3, 6), (2, 4, 9), (0, 2, 5)):
        total = 0.0
        for ways in itertools.product((0, 1), repeat=rows - seen):
            chance, a, n = 1.0, good + 1, seen + 2
            for one in ways:
                chance *= (a if one else n - a) / n
                a, n = a + one, n + 1
            total += chance * ((good + sum(ways) < rows / 2) != (good < seen / 2))
        assert flip_chance(good, seen, rows) == pytest.approx(total)
    assert flip_chance(7, 8, 40) < 0.01 < flip_chance(6, 8, 40)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weakest": 400}, "strongest: 400% is not more than weakest, 400%"),
        ({"strongest": 4.01}, "steps: 16 strengths that near each other"),
        ({"nulls": 4}, "nulls: 4 directions give no null"),
        ({"outcome": "coherent"}, "outcome: coherent tells of the collapse"),
        ({"outcome": "wrds"}, "did you mean 'words'"),
        ({"prompts": []}, "prompts: the list is empty"),
        ({"prompts": {"set": "a", "file": "b"}}, "prompts: expected { file"),
        ({"few": 1}, "few: expected a whole number >= 2"),
        ({"share": 0}, "share: expected a number > 0"),
        ({"directions": ["terse"]}, "unknown key 'directions'; did you mean 'direction'?"),
        ({"direction": ""}, "direction, column 1: expected a direction's name"),
        ({"table": "My Table"}, "table: 'My Table' is no name"),
    ],
)
def test_a_bad_calibration_is_one_line_that_names_the_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        specs.load({"kind": "calibrate", "direction": "terse", **change})
    line = str(refused.value)
    assert line.startswith("spec calibrate: ") and said in line and "\n" not in line


def test_its_cells_are_those_of_the_sweep_over_its_grid() -> None:
    spec, plan = planned(sites="llm.3")
    grid = specs.load(specs.to_dict(spec.grid()))
    assert isinstance(grid, specs.Sweep) and len(spec.percents) == 16
    assert (spec.percents[0], spec.percents[-1]) == (4.0, 400.0)
    from labtui_kernels.specs.plan import plan_sweep
    from tests.kernels.recipes.surfaces import SHAPE

    assert [row.cell for row in plan_sweep(grid, SHAPE).rows] == [row.cell for row in plan.rows]


# -- on the bundled model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("store"), loaded=load("toy-qwen3", dtype="float32", device="cpu"))
    lab.run({"kind": "direction", "name": "terse", "style": "terse", "sites": "llm.1,2"})
    return lab


SMALL: dict[str, Any] = {
    "kind": "calibrate",
    "direction": "terse",
    "sites": "llm.1",
    "weakest": 20,
    "steps": 8,
    "few": 4,
    "prompts": {"set": "neutral"},
    "max_new_tokens": 16,
}


def lines(ctx: Context) -> dict[str, dict[str, Any]]:
    return {cell["cell"]: cell["rows"][0] for cell in ctx.of("cell.committed")}


def test_on_the_bundled_model_it_finds_the_grid_s_thresholds_and_goes_on_where_it_was_cut(toy: Lab) -> None:
    """A grid this small has few rows to leave out: with more of them allowed, every threshold is to be said."""
    wide = SMALL | {"share": 0.7}
    ctx, result = toy.run(wide)
    rows = lines(ctx)
    assert len(rows) == result["rows"] == result["committed"] <= 0.7 * result["grid"]
    spec = specs.load(wide)
    assert isinstance(spec, specs.Calibrate)
    rest = toy.context(committed=rows)
    rest.run(specs.to_dict(spec.grid()))
    known = {**rows, **lines(rest)}
    assert len(known) == result["grid"]
    (zone,) = whole(spec, planned_on(toy, spec), known).values()
    (told,) = phases_of(result)
    index = {percent: number for number, percent in enumerate(spec.percents)}
    for name, threshold in (("dead", zone.dead), ("collapse", zone.collapse)):
        assert (told[name] is None) == (threshold is None), name
        if threshold is not None:
            assert abs(index[told[name]["pct"]] - index[threshold]) <= 1
    assert not told["open"] and told["collapse"] is not None
    text = "\n".join(page(result))
    assert f"{result['rows']} of the {result['grid']} rows" in text and "llm.1: " in text

    half = list(rows)[: len(rows) // 2]
    again = toy.context(committed=half)
    again.known = {cell: {name: rows[cell][name] for name in spec.judged_by} for cell in half}
    second = again.run(wide)
    fresh = lines(again)
    assert not set(fresh) & set(half) and set(fresh) | set(half) == set(rows)
    assert second["phases"] == result["phases"] and second["committed"] == len(rows) - len(half)
    assert all(fresh[cell]["text"] == rows[cell]["text"] for cell in fresh)


def planned_on(lab: Lab, spec: specs.Calibrate) -> Any:
    from labtui_artifacts.kinds.direction import DirectionFile
    from labtui_kernels.specs.plan import plan_sweep

    shuffles = DirectionFile.view(lab.store.get("terse", kind="direction"), "terse").shuffles
    return plan_sweep(spec.grid(), lab.shape, shuffles={"terse": shuffles})


def test_a_group_of_sites_shares_its_dose(toy: Lab) -> None:
    spec = SMALL | {"sites": "llm.1+2", "dose": "total", "nulls": 0, "steps": 4, "share": 0.6}
    ctx, result = toy.run(spec)
    (told,) = phases_of(result)
    assert told["site"] == "llm.1+2" and told["collapse"] is not None
    row = next(r for r in lines(ctx).values() if r["strength_pct"] == pytest.approx(told["collapse"]["pct"]))
    assert told["collapse"]["alpha"] == pytest.approx(row["strength"])
    assert told["collapse"]["abs"] == pytest.approx(row["strength_abs"])
