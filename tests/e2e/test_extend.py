"""A sweep that is extended: only the new cells run, and the table is that of the whole grid."""

from __future__ import annotations

import pytest

import labtui
from labtui_artifacts.errors import UsageError
from tests.e2e.lab import must

pytestmark = pytest.mark.usefixtures("no_kernels_left")

SPEC = {
    "kind": "sweep",
    "prompts": ["What is a fox?", "Define a fraction."],
    "directions": ["terse"],
    "sites": "llm.1",
    "table": "grid",
    "controls": {"zero": True, "shuffled": 2, "prompt": False},
    "max_new_tokens": 12,
    "metrics": ["words", "kl-mean"],
}


def key(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("prompt", "direction", "strength_text", "control", "text", "kl-mean"))


def test_only_the_new_cells_run_and_the_table_is_that_of_the_whole_grid() -> None:
    must("kernel", "start", "toy", "--model", "toy-qwen3", "--dtype", "float32", "--wait")
    lab = labtui.connect("toy")
    lab.direction("terse", style="terse")
    first = lab.run(SPEC | {"strengths": ["20%"]}).result
    assert (first["committed"], first["skipped"]) == (2 + 2 + 4, 0)
    more = lab.run(SPEC | {"strengths": ["20%", "40%"]}).result
    assert (more["committed"], more["skipped"]) == (2 + 4, 2 + 2 + 4)
    grid = lab.session.table("grid").rows
    whole = lab.run(SPEC | {"strengths": ["20%", "40%"], "table": "whole"}).result
    assert whole["skipped"] == 0
    assert sorted(map(key, grid), key=str) == sorted(map(key, lab.session.table("whole").rows), key=str)
    assert len({row["row"] for row in grid}) == len(grid) == 14
    lab.direction("terse", style="terse", replace=True)
    with pytest.raises(UsageError, match=r"terse was made anew after the first rows of table 'grid'"):
        lab.run(SPEC | {"strengths": ["60%"]})
    lab.close()
