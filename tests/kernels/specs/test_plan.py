"""A sweep's plan: which rows, which controls, stable keys, and counts that agree with the rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.lang.edits import format_edits, parse_edits
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.specs.plan import Axis, Plan, count, count_sweep, plan_sweep

SHAPE = ModelShape("qwen3", blocks=8, width=64)
STYLES = {"terse": Axis("Be brief.", "Be long.")}
BASE: dict[str, Any] = {
    "kind": "sweep",
    "prompts": ["Explain a mutex.", "What is a tide?"],
    "directions": ["terse"],
    "sites": "llm.2,4",
    "strengths": [-1, 0, 2],
    "controls": "none",
}


def plan(**change: Any) -> Plan:
    spec = specs.load(BASE | change)
    assert isinstance(spec, specs.Sweep)
    made = plan_sweep(spec, SHAPE, STYLES)
    assert count_sweep(spec, SHAPE, STYLES) == made.counts
    assert made.counts["rows"] == len(made.rows)
    assert [row.index for row in made.rows] == list(range(len(made.rows)))
    return made


def controls(made: Plan) -> Counter[str]:
    return Counter(row.control for row in made.rows)


def test_without_controls_the_grid_is_all_there_is() -> None:
    made = plan()
    assert controls(made) == {"": 2 * 3 * 2}
    assert {(row.site, str(row.strength)) for row in made.rows} == {
        (site, strength) for site in ("llm.2", "llm.4") for strength in ("-1.0", "0.0", "2.0")
    }


def test_the_zero_control_is_run_once_a_prompt_and_stands_for_every_site() -> None:
    made = plan(controls={"zero": True})
    assert controls(made) == {"": 2 * 2 * 2, "zero": 2, "prompt": 2}
    zeros = [row for row in made.rows if row.control == "zero"]
    assert made.rows[:2] == tuple(zeros)
    assert all(row.site == "" and row.edits[0].strength.value == 0 for row in zeros)
    assert all(row.edits[0].sites for row in zeros)


def test_prompt_only_rows_take_the_words_of_the_style() -> None:
    rows = [
        row
        for row in plan(controls={"zero": False}, directions=["terse", "-terse", "other"]).rows
        if row.control
    ]
    assert [row.messages[0].content for row in rows] == ["Be brief."] * 2 + ["Be long."] * 2
    assert all(row.edits == () and row.messages[1].role == "user" for row in rows)


def test_random_controls_are_spread_over_the_prompts_and_take_the_direction_s_norm() -> None:
    made = plan(
        controls={"random": 6, "prompt": False}, strengths=[-2, 2, "8%"], directions=["0.5*a - 0.2*b"]
    )
    rows = [row for row in made.rows if row.control == "random"]
    assert len(rows) == 6 * 2 * 2 * 2
    first = [row for row in rows if row.site == "llm.2" and str(row.strength) == "2.0"]
    assert [row.prompt for row in first] == [0, 1] * 6
    names = ["random:0~(0.5*a - 0.2*b)", "random:1~(0.5*a - 0.2*b)"]
    assert [row.direction for row in first[:4]] == [names[0], names[0], names[1], names[1]]
    assert all(parse_edits(format_edits(row.edits), SHAPE) == row.edits for row in rows)


def test_auto_brings_twenty_null_directions_to_each_site_and_strength_once_there_are_twenty_prompts() -> None:
    made = plan(controls="auto", prompts=[f"p{i}" for i in range(30)])
    grid = 2 * 2
    assert controls(made) == {
        "": grid * 30, "zero": 30, "prompt": 30, "negated": grid * 20, "random": grid * 20,
        "shuffled": grid * 20
    }  # fmt: skip
    null = [r for r in made.rows if (r.control, r.site, r.strength.value) == ("shuffled", "llm.2", 2.0)]
    assert [row.direction for row in null] == [f"shuffled:{k}~terse" for k in range(10) for _ in range(2)]
    nulls = [r for r in made.rows if r.control in ("random", "shuffled") and r.site == "llm.2"]
    assert {row.prompt for row in nulls if row.strength.value == 2.0} == set(range(30))
    quick = plan(controls="auto", prompts=["a", "b", "c"])
    assert controls(quick)["random"] == controls(quick)["shuffled"] == grid * 2


def test_a_direction_without_shuffled_controls_gets_random_ones_in_their_place() -> None:
    spec = specs.load(BASE | {"controls": {"random": 2, "shuffled": 4}, "directions": ["terse", "a"]})
    assert isinstance(spec, specs.Sweep)
    made = plan_sweep(spec, SHAPE, STYLES, {"a": 0, "terse": 20})
    assert (
        controls(made)
        == controls(plan_sweep(spec, SHAPE, STYLES, {"a": 0}))
        == made.counts["controls"] | {"": made.counts["grid"]}
    )
    names = {row.direction for row in made.rows if row.control in ("random", "shuffled")}
    assert names == {
        *(f"random:{k}~terse" for k in range(2)),
        *(f"shuffled:{k}~terse" for k in range(4)),
        *(f"random:{k}~a" for k in range(6)),
    }


def test_positions_are_an_axis_of_the_grid() -> None:
    made = plan(where=["all", "last"])
    assert controls(made) == {"": 2 * (2 * 3 * 2)}
    assert {str(row.where) for row in made.rows} == {"all", "last"}
    assert {row.cell for row in plan(where="last").rows} < {row.cell for row in made.rows}
    with pytest.raises(UsageError, match=r"where.*twice"):
        plan(where=["last", "last"])


def test_sites_that_act_at_once_may_share_the_strength() -> None:
    def strengths(**change: Any) -> set[float]:
        return {row.edits[0].strength.value for row in plan(sites="llm.2+4", **change).rows}

    assert strengths(strengths=[8.0]) == strengths(strengths=[8.0], dose="each") == {8.0}
    assert strengths(strengths=[8.0], dose="total") == {4.0}
    each, total = (
        plan(sites="llm.2+4", strengths=["8%"]),
        plan(sites="llm.2+4", strengths=["8%"], dose="total"),
    )
    assert not {r.cell for r in each.rows} & {r.cell for r in total.rows}
    assert {r.cell for r in plan(dose="total").rows} == {r.cell for r in plan().rows}


def test_negated_rows_only_where_the_grid_has_no_such_strength() -> None:
    made = plan(controls={"zero": False, "negated": True, "prompt": False}, strengths=[-1, 1, 2])
    assert {str(row.strength) for row in made.rows if row.control == "negated"} == {"-2.0"}


def test_keys_are_stable_and_belong_to_the_row_not_to_its_place() -> None:
    keys = {(row.site, str(row.strength), row.prompt): row.cell for row in plan().rows}
    again = {(row.site, str(row.strength), row.prompt): row.cell for row in plan(sites="llm.4,2").rows}
    assert keys == again
    assert len(set(keys.values())) == 12
    for change in (
        {"max_new_tokens": 9},
        {"where": "last"},
        {"system": "x"},
        {"prefill": "So"},
        {"temperature": 1.0},
    ):
        assert not set(keys.values()) & {row.cell for row in plan(**change).rows}


def test_what_is_refused() -> None:
    def said(**change: Any) -> str:
        spec = specs.load(BASE | change)
        assert isinstance(spec, specs.Sweep)
        with pytest.raises(UsageError) as failure:
            plan_sweep(spec, SHAPE, STYLES)
        assert "\n" not in str(failure.value)
        return str(failure.value)

    assert "llm.0 to llm.7" in said(sites="llm.9")
    assert "prompt 2 is there twice" in said(prompts=["a", "a"])
    assert "set confirm = true" in said(prompts=[f"p{i}" for i in range(4000)])
    assert "at most 200,000" in said(controls={"random": 100_000}, strengths=[1, 2, 3, 4, 5, 6, 7])
    assert "is read where the spec is written" in said(prompts={"file": "p.txt"})


def test_a_confirmed_plan_may_be_large() -> None:
    assert len(plan(prompts=[f"p{i}" for i in range(4000)], confirm=True).rows) == 24_000


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([-2, -1, 0, 1, 2, "8%", "|39|", "-8%"]), min_size=1, max_size=5, unique=True),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
    st.lists(
        st.sampled_from(["terse", "-terse", "a + b", "random:3~terse"]), min_size=1, max_size=3, unique=True
    ),
)
def test_counts_agree_with_rows(
    strengths: list[Any], zero: bool, random: int, shuffled: int, negated: bool, directions: list[str]
) -> None:
    made = plan(
        strengths=strengths,
        directions=directions,
        controls={"zero": zero, "random": random, "shuffled": shuffled, "negated": negated, "prompt": True},
    )
    assert {name: n for name, n in controls(made).items() if name} == made.counts["controls"]
    assert len({row.cell for row in made.rows}) == len(made.rows)


def test_other_kinds_are_counted() -> None:
    generate = specs.load({"kind": "generate", "prompt": "a", "edits": "2*terse@llm.3", "n": 3})
    assert count(generate, SHAPE)["rows"] == 6
    direction = specs.load({"kind": "direction", "name": "terse", "style": "terse"})
    counted = count(direction, SHAPE)
    assert counted["sites"] == 8 and counted["prompts"] >= 24
    with pytest.raises(UsageError, match=r"no style .tense."):
        count(specs.load({"kind": "direction", "name": "t", "style": "tense"}), SHAPE)


def counted(**change: Any) -> dict[str, Any]:
    return count(specs.load({"kind": "diagnose", "style": "terse"} | change), SHAPE)


def test_a_diagnosis_counts_its_prompts_and_cells() -> None:
    neutral = 24
    made = counted()
    assert (made["sites"], made["landscape"], made["cells"]) == (8, 8, 9)
    assert made["prompts"] == 2 * 64 + neutral
    made = counted(sites="llm.1,llm.3.in", landscape="llm.1", directions=["a", "b"])
    assert (made["sites"], made["landscape"], made["cells"], made["directions"]) == (2, 1, 1 + 1 + 2, 2)
    assert counted(landscape="none")["prompts"] == 2 * 64
    stored = counted(style="", direction="a", directions=["b"])
    assert "prompts" not in stored and stored["directions"] == 2
    assert counted(directions=["*"])["directions"] == 0
    with pytest.raises(UsageError, match=r"landscape: llm\.4 is not among"):
        counted(sites="llm.1", landscape="llm.4")
    with pytest.raises(UsageError, match="did you mean"):
        counted(style="tarse")
