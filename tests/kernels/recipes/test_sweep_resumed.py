"""A sweep that is cut short at random steps, again and again, gives the table of an undisturbed one.

The recipe, engine and model are real; a cut is what a killed worker amounts to here: whatever was not emitted is
lost, and the next run is told which cells are committed. Real kills of real processes are in ``tests/e2e``.
``LABTUI_SOAK_SEED`` repeats a run.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels import recipes, specs
from tests.kernels.recipes.lab import Lab

CUTS = 36
SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": [
        "Explain what a mutex is.",
        "What is a fox?",
        "Naïve?",
        "Why does the dog rest in the shade?",
    ],
    "directions": ["terse"],
    "sites": "llm.1,2",
    "strengths": [0.5, "12%"],
    "seeds": [3, 4],
    "temperature": 0.9,
    "top_p": 0.95,
    "max_new_tokens": 9,
    "metrics": ["words", "distinct-2", "perplexity", "kl", "kl-mean", "coherent", "perturbation"],
    "controls": {"zero": True, "random": 2, "shuffled": 2, "negated": True, "prompt": True},
    "batch": 5,
}

Table = dict[str, dict[str, Any]]


@pytest.fixture
def steered(lab: Lab) -> Lab:
    """With a fitted direction, which brings shuffled-label controls along."""
    lab.run({"kind": "direction", "name": "terse", "sites": "llm.1,2", "style": "terse"})
    return lab


def same(new: Any, old: Any) -> bool:
    if isinstance(new, float) and isinstance(old, float):
        return math.isclose(new, old, rel_tol=1e-5, abs_tol=2e-6)
    return new == old


class Sweep:
    """One sweep over several lives of its worker."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.table: Table = {}
        self.lives = 0

    def live(self, most: int | None = None) -> bool:
        """Run what is not committed for at most so many steps; True when that was its end."""
        self.lives += 1
        ctx = self.lab.context(committed=set(self.table))
        recipe = recipes.recipe(specs.load(SWEEP))
        recipe.plan(ctx)
        steps = recipe.run(ctx)
        ended = False
        while not ended and (most is None or ctx.steps < most):
            try:
                next(steps)
            except StopIteration:
                ended = True
            ctx.steps += 1
        steps.close()
        for cell in ctx.of("cell.committed"):
            assert cell["cell"] not in self.table, "a committed cell was run again"
            (self.table[cell["cell"]],) = cell["rows"]
        self.steps = ctx.steps
        return ended


def test_thirty_cuts_at_random_steps_change_no_table(steered: Lab) -> None:
    seed = int(os.environ.get("LABTUI_SOAK_SEED") or random.randrange(2**32))
    print(f"LABTUI_SOAK_SEED={seed}")
    chance = random.Random(seed)
    whole = Sweep(steered)
    assert whole.live()
    assert {row["control"] for row in whole.table.values()} == {
        "", "zero", "random", "shuffled", "negated", "prompt",
    }  # fmt: skip
    cuts = 0
    while cuts < CUTS:
        sweep = Sweep(steered)
        # Now and then so soon that nothing is committed, now and then late.
        while not sweep.live(chance.choice([chance.randrange(1, 40), chance.randrange(1, whole.steps // 2)])):
            cuts += 1
        assert sweep.table.keys() == whole.table.keys()
        differing = [
            f"row {row['row']} {key}: {sweep.table[cell].get(key)!r} is not {value!r}"
            for cell, row in whole.table.items()
            for key, value in row.items()
            if not same(sweep.table[cell].get(key), value)
        ]
        assert not differing, "\n".join(differing)
        assert all(sweep.table[cell].keys() == row.keys() for cell, row in whole.table.items())
    assert steered.engine.audit().ok


def test_a_direction_that_changed_since_is_refused(steered: Lab) -> None:
    spec = SWEEP | {"seeds": [0], "temperature": 0, "controls": "none"}
    ctx, _ = steered.run(spec)
    made_with = ctx.counts["made_with"]
    assert list(made_with) == ["terse"] and len(made_with["terse"]) == 16
    (first, *_) = ctx.of("cell.committed")
    again = steered.context(committed={first["cell"]})
    again.made_with = made_with
    assert again.run(spec)["committed"] == len(ctx.of("cell.committed")) - 1
    steered.store.delete("terse")
    steered.direction("terse", 9)
    other = steered.context(committed={first["cell"]})
    other.made_with = made_with
    with pytest.raises(
        UsageError, match=r"'terse' has changed: the 1 finished cells were made with [0-9a-f]{16}"
    ):
        other.run(spec)
