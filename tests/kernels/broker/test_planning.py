"""What a plan tells before a run is what then runs: shuffled labels of stored directions, and new rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels import recipes, specs
from labtui_kernels.broker.planning import named, planned
from tests.kernels.recipes.lab import Lab
from tests.support import kernels

SPEC: dict[str, Any] = {
    "kind": "sweep",
    "prompts": [f"What is a {thing}?" for thing in ("fox", "tide", "mutex", "comet")],
    "directions": ["brief"],
    "sites": "llm.1,2",
    "strengths": ["8%"],
    "max_new_tokens": 4,
    "metrics": ["words"],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab(tmp_path_factory.mktemp("store"))
    made.run({"kind": "direction", "name": "brief", "sites": "llm.1,2", "style": "terse"})
    made.direction("given", 5)
    return made


def told(lab: Lab, spec: dict[str, Any], cells: set[str] | None = None) -> dict[str, Any]:
    return planned(specs.load(spec), lab.shape, lab.store, cells)


@pytest.mark.parametrize("directions", [["brief"], ["given"], ["brief", "given"], ["0.5*brief + given"]])
def test_the_count_is_that_of_the_run(lab: Lab, directions: list[str]) -> None:
    spec = {**SPEC, "directions": directions}
    before = told(lab, spec)
    ctx, result = lab.run(spec)
    ran = Counter(row["control"] for cell in ctx.of("cell.committed") for row in cell["rows"])
    assert before["rows"] == before["new"] == result["committed"] == ran.total()
    assert before["controls"] == {name: rows for name, rows in sorted(ran.items()) if name}
    assert ("shuffled" in before["controls"]) == any("given" not in text for text in directions)
    assert before["missing"] == []


def test_a_direction_that_is_not_there_is_named(lab: Lab) -> None:
    assert told(lab, {**SPEC, "directions": ["brief", "brife"]})["missing"] == ["brife"]


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "generate", "prompt": "Hi", "edits": "2*brief@llm.1 + 8%*(brife - given)@llm.2"},
        {"kind": "generate", "prompt": "Hi", "edits": "!brife@llm.1"},
        {"kind": "patch", "prompt": "Hi", "edits": "random:1~brife@llm.1", "site": "llm.2", "position": 1},
        {"kind": "match", "prompts": ["Hi"], "direction": "given", "like": "8%*brife@llm.1"},
        {"kind": "calibrate", "prompts": ["Hi"], "direction": "brief + brife"},
    ],
    ids=lambda spec: f"{spec['kind']} {spec.get('edits', '')}",
)
def test_every_kind_with_edits_names_what_is_not_there(lab: Lab, spec: dict[str, Any]) -> None:
    assert told(lab, spec)["missing"] == ["brife"]
    if spec["kind"] != "calibrate":
        with pytest.raises(UsageError, match="no direction named 'brife'; did you mean 'brief'"):
            recipes.recipe(specs.load(spec)).plan(lab.context())


def test_what_a_look_scores_is_named_too(lab: Lab) -> None:
    prompt = [{"role": "user", "content": "Hi", "images": [f"sha256:{'a' * 64}"]}]
    spec = specs.load({"kind": "look", "prompt": prompt, "directions": ["*", "brief + brife"]})
    assert named(spec, lab.shape) == ["brief", "brife"]


@pytest.mark.parametrize(
    "more",
    [{"strengths": ["8%", "16%"]}, {"prompts": [*SPEC["prompts"], "What is a prism?"]}, {}],
    ids=["strengths", "prompts", "nothing"],
)
def test_new_rows_are_those_that_an_extension_runs(lab: Lab, more: dict[str, Any]) -> None:
    first, _ = lab.run(SPEC)
    cells = {cell["cell"] for cell in first.of("cell.committed")}
    before = told(lab, {**SPEC, **more, "table": "t"}, cells)
    ctx, result = lab.run({**SPEC, **more, "table": "t"}, committed=cells)
    ran = Counter(row["control"] for cell in ctx.of("cell.committed") for row in cell["rows"])
    assert before["new"] == result["committed"] == ran.total() and (before["new"] > 0) == bool(more)
    assert before["new_controls"] == {name: rows for name, rows in sorted(ran.items()) if name}
    assert more or before["rows"] == len(cells)


# -- a kernel's answer --------------------------------------------------------------------------------


async def test_a_kernel_tells_what_a_spec_would_add_to_a_table(tmp_path: Path, no_kernels_left: None) -> None:
    kernels.start()
    lab = await kernels.ready()
    spec = kernels.sweep("a", "b") | {"table": "echo"}
    plan = await lab.request("plan", spec=spec)
    assert (plan["extends"], plan["new"], plan["rows"]) == ("", plan["rows"], plan["rows"])
    assert plan["missing"] == [] and "seconds" not in plan
    job = await kernels.submit(lab, "a", "b")
    await kernels.finished(lab, job)
    again = await lab.request("plan", spec=spec)
    assert again["extends"] == "echo" and again["rows"] == plan["rows"]
    with pytest.raises(UsageError, match="is not open in this kernel"):
        await lab.request("plan", spec=spec, session="20000101-none")
    await lab.close()
