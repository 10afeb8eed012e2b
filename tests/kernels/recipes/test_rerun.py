"""The recipe ``rerun`` on rows that were recorded by other recipes, as a session would hand them over."""

from __future__ import annotations

from typing import Any

import pytest

from labtui_artifacts.errors import JobFailed
from labtui_kernels import recipes, specs
from labtui_kernels.recipes.context import KnobTurn
from tests.kernels.recipes.lab import Context, Lab

GENERATE: dict[str, Any] = {
    "kind": "generate",
    "prompt": "Explain what a mutex is.",
    "edits": "30%*terse@llm.1+2 - 0.5*terse@llm.0@generated[2:]",
    "max_new_tokens": 12,
}


def recorded(lab: Lab, ctx: Context) -> dict[str, Any]:
    """The spec of a rerun, put together from a job's events."""
    rows = []
    for started in ctx.of("row.started"):
        row = ctx.row(started["row"])
        knobs = [[k["step"], k["edit"], k["strength"]] for k in ctx.of("knob") if k["row"] == started["row"]]
        rows.append(
            {
                "key": f"{ctx.job}/{started['row']}",
                **{key: started[key] for key in ("ids", "content", "edits", "sampling", "seed", "stop_ids")},
                "max_new_tokens": started["max_new_tokens"],
                "forced": row["ids"],
                "logprobs": row["logprobs"],
                "gaps": row["gaps"],
                "knobs": knobs,
            }
        )
    return {
        "kind": "rerun",
        "tolerance": 1e-3,
        "dtype": "float32",
        "model": lab.loaded.info.to_dict(),
        "rows": rows,
        "directions": {"terse": "terse"},
    }


def test_what_was_recorded_passes(lab: Lab) -> None:
    lab.direction("terse", 1)
    first, _ = lab.run(GENERATE)
    ctx, result = lab.run(recorded(lab, first), job="j2")
    assert result["passed"] == result["rows"] == 2 and result["failed"] == 0
    assert result["max_abs_diff"] < 1e-3
    lines = [row for cell in ctx.of("cell.committed") for row in cell["rows"]]
    assert [line["row"] for line in lines] == ["j1/plain", "j1/steered"]
    assert all(line["ok"] and line["first_diff"] is None for line in lines)


def test_knobs_are_replayed(lab: Lab) -> None:
    lab.direction("terse", 1)
    first = lab.context()
    steps = recipes.recipe(specs.load(GENERATE)).run(first)
    for _ in range(9):
        next(steps)
    first.turns.append(KnobTurn("steered", 0, "-60%"))
    for _ in range(2):
        next(steps)
    first.turns.append(KnobTurn("steered", 1, 2.0))
    for _ in steps:
        pass
    spec = recorded(lab, first)
    assert len(spec["rows"][1]["knobs"]) == 2
    assert lab.run(spec, job="j2")[1]["failed"] == 0
    spec["rows"][1]["knobs"] = []
    with pytest.raises(JobFailed, match="1 of 2 rows differ"):
        lab.run(spec, job="j3")


def test_a_sweep_can_be_repeated(lab: Lab) -> None:
    lab.direction("terse", 1)
    sweep = {
        "kind": "sweep",
        "prompts": ["What is a fox?", "Why?"],
        "directions": ["terse"],
        "sites": "llm.1",
        "strengths": ["20%"],
        "max_new_tokens": 6,
        "controls": {"random": 2},
        "metrics": ["words"],
    }
    first, _ = lab.run(sweep)
    assert lab.run(recorded(lab, first), job="j2")[1]["passed"] == first.counts["rows"]


def test_a_changed_direction_is_found_out(lab: Lab) -> None:
    lab.direction("terse", 1)
    first, _ = lab.run(GENERATE)
    spec = recorded(lab, first)
    lab.direction("other", 2)
    spec["directions"] = {"terse": "other"}
    ctx = lab.context("j2")
    with pytest.raises(JobFailed) as failure:
        ctx.run(spec)
    line = str(failure.value)
    assert line.startswith("rerun: 1 of 2 rows differ by up to ") and "(tolerance 0.001 for float32)" in line
    assert "row j1/steered first at token" in line and "\n" not in line
    steered = ctx.of("cell.committed")[1]["rows"][0]
    assert not steered["ok"] and steered["first_diff"] is not None
    assert steered["first_diff_gap"] > 0 and steered["token_recorded"] != steered["token_now"]
    assert failure.value.result["failed"] == 1  # type: ignore[attr-defined]


def test_another_model_is_refused(lab: Lab) -> None:
    first, _ = lab.run(GENERATE | {"edits": ""})
    spec = recorded(lab, first)
    spec["model"]["weight_hash"] = "else"
    with pytest.raises(JobFailed, match="with other weights than"):
        lab.run(spec)
    assert lab.run(spec | {"any_model": True})[1]["passed"] == 1
