"""The recipe ``sweep``: its table against generation by hand, refilled slots, controls, and resuming."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labtui_artifacts.errors import JobFailed
from labtui_kernels import recipes, specs
from labtui_kernels.engine import Batch, Emitted, Engine
from tests.kernels.recipes.lab import Context, Lab, generate_by_hand

PROMPTS = ["Explain what a mutex is.", "What is a fox?", "Naïve?"]
SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": PROMPTS,
    "directions": ["terse"],
    "sites": "llm.1,2",
    "strengths": [-1, 0, 1.5],
    "max_new_tokens": 8,
    "metrics": ["words", "perplexity"],
    "controls": {"zero": True, "prompt": True},
    "batch": 4,
}
COLUMNS = [
    "row",
    "prompt",
    "direction",
    "site",
    "where",
    "strength",
    "strength_abs",
    "strength_pct",
    "seed",
    "control",
    "text",
    "tokens",
    "finish",
]


def table(ctx: Context) -> list[dict[str, Any]]:
    rows = [row for cell in ctx.of("cell.committed") for row in cell["rows"]]
    return sorted(rows, key=lambda row: row["row"])


def test_every_row_equals_generation_by_hand(lab: Lab) -> None:
    vectors = lab.direction("terse", 1)
    ctx, result = lab.run(SWEEP)
    rows = table(ctx)
    assert result["rows"] == len(rows) == ctx.counts["rows"] == 2 * 2 * 3 + 3 + 3
    assert [row["row"] for row in rows] == list(range(len(rows)))
    started = {data["row"]: data for data in ctx.of("row.started")}
    for row in rows:
        assert list(row)[: len(COLUMNS)] == COLUMNS or set(COLUMNS) <= set(row)
        ids = started[f"r{row['row']}"]["ids"]
        edits = {}
        if row["site"]:
            block = int(row["site"].removeprefix("llm."))
            edits = {block: row["strength"] * torch.from_numpy(vectors[f"llm.{block}.out"])}
        tokens, _ = generate_by_hand(lab, ids, edits, 8)
        assert ctx.row(f"r{row['row']}")["ids"] == tokens
        assert row["text"] == lab.loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        assert row["words"] == len(row["text"].split())


def test_controls_and_strengths_in_the_table(lab: Lab) -> None:
    lab.direction("terse", 1)
    rows = table(lab.run(SWEEP | {"controls": {"random": 4, "negated": True}, "strengths": ["8%", 2]})[0])
    by_control = {
        control: [r for r in rows if r["control"] == control]
        for control in ("", "zero", "random", "negated", "prompt")
    }
    assert {k: len(v) for k, v in by_control.items()} == {
        "": 12,
        "zero": 3,
        "random": 32,
        "negated": 12,
        "prompt": 3,
    }
    assert all(r["strength"] == 0 and r["site"] == "" for r in by_control["zero"] + by_control["prompt"])
    percent = [r for r in by_control[""] + by_control["random"] if r["strength_text"] == "8%"]
    assert all(r["strength_pct"] == pytest.approx(8) for r in percent)
    for site in ("llm.1", "llm.2"):
        norms = {
            round(r["strength_abs"], 3) for r in rows if r["site"] == site and r["strength_text"] == "2.0"
        }
        assert len(norms) == 1  # the random directions have the norm of the direction they stand beside
    assert all(
        pytest.approx(r["strength_pct"]) == -8.0 for r in by_control["negated"] if "%" in r["strength_text"]
    )


def test_shuffled_controls_are_the_stored_ones_at_the_direction_s_norm(lab: Lab) -> None:
    lab.run({"kind": "direction", "name": "brief", "sites": "llm.1,2", "style": "terse"})
    spec = SWEEP | {
        "directions": ["brief"],
        "strengths": ["8%"],
        "controls": {"shuffled": 3, "prompt": False},
    }
    rows = [row for row in table(lab.run(spec)[0]) if row["control"] == "shuffled"]
    assert len(rows) == 2 * 3 * 2
    assert {row["direction"] for row in rows} == {f"shuffled:{k}~brief" for k in range(3)}
    assert all(row["strength_pct"] == pytest.approx(8) for row in rows)
    lab.direction("given", 5)
    rows = table(lab.run(spec | {"directions": ["given"]})[0])
    assert {row["direction"] for row in rows if row["control"] == "random"} == {
        f"random:{k}~given" for k in range(3)
    }


def test_positions_and_a_shared_dose_in_the_table(lab: Lab) -> None:
    lab.direction("terse", 1)
    spec = SWEEP | {
        "sites": "llm.1+2",
        "strengths": [2.0, "8%"],
        "where": ["all", "last"],
        "controls": "none",
    }
    each, total = (table(lab.run(spec | {"dose": dose})[0]) for dose in ("each", "total"))
    assert {row["where"] for row in each} == {"all", "last"} and {row["site"] for row in each} == {"llm.1+2"}
    assert [row["strength_text"] for row in each] == [row["strength_text"] for row in total]
    for row in total:
        assert row["strength" if row["strength_text"] == "2.0" else "strength_pct"] == pytest.approx(
            2.0 if row["strength_text"] == "2.0" else 8.0
        )
    assert [row["text"] for row in each] != [row["text"] for row in total]


def test_a_resumed_sweep_runs_what_is_not_committed_and_the_same_table_comes_out(lab: Lab) -> None:
    lab.direction("terse", 1)
    spec = SWEEP | {"metrics": ["words", "perplexity", "kl", "kl-mean", "coherent", "distinct-2"]}
    whole = {cell["cell"]: cell["rows"] for cell in lab.run(spec)[0].of("cell.committed")}
    first = lab.context()
    steps = recipes.recipe(specs.load(spec)).run(first)
    while len(first.of("cell.committed")) < 5:
        next(steps)
    steps.close()
    done = {cell["cell"]: cell["rows"] for cell in first.of("cell.committed")}
    assert 5 <= len(done) < len(whole)
    second, result = lab.run(spec, committed=set(done))
    rest = {cell["cell"]: cell["rows"] for cell in second.of("cell.committed")}
    assert second.counts["committed"] == result["skipped"] == len(done)
    assert not set(done) & set(rest)
    together = done | rest
    assert set(together) == set(whole)
    for cell, rows in whole.items():
        for key, value in rows[0].items():
            again = together[cell][0][key]
            assert again == (
                pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
            ), key
    assert lab.engine.audit().ok


def test_nothing_is_left_to_do(lab: Lab) -> None:
    lab.direction("terse", 1)
    cells = {cell["cell"] for cell in lab.run(SWEEP)[0].of("cell.committed")}
    ctx, result = lab.run(SWEEP, committed=cells)
    assert result["committed"] == 0 and not ctx.of("cell.committed")


def test_metrics_that_compare_with_the_unsteered_row(lab: Lab) -> None:
    lab.direction("terse", 1)
    spec = SWEEP | {"metrics": ["perplexity", "kl", "coherent"], "controls": {"prompt": False}}
    rows = table(lab.run(spec)[0])
    zeros = [row for row in rows if row["control"] == "zero"]
    assert all(row["kl"] == pytest.approx(0, abs=1e-6) and row["coherent"] is True for row in zeros)
    assert all(row["kl"] > 0 and row["coherent"] in (True, False) for row in rows if row["control"] == "")
    bare = table(lab.run(spec | {"controls": "none"})[0])
    assert all(row["coherent"] is None and row["reasons"]["coherent"] for row in bare)


def test_a_direction_read_at_another_site_is_said_in_the_table(lab: Lab) -> None:
    vectors = lab.direction("terse", 1)
    rows = table(lab.run(SWEEP | {"directions": ["terse[llm.3]"], "strengths": [1], "sites": "llm.1"})[0])
    steered = [row for row in rows if row["control"] == ""]
    assert {row["direction"] for row in steered} == {"terse[llm.3]"}
    ctx, _ = lab.run(SWEEP | {"directions": ["terse[llm.3]"], "strengths": [1], "sites": "llm.1"})
    started = next(d for d in ctx.of("row.started") if d["row"] == f"r{steered[0]['row']}")
    vector = {1: torch.from_numpy(vectors["llm.3.out"])}
    tokens, _ = generate_by_hand(lab, started["ids"], vector, 8)
    assert ctx.row(started["row"])["ids"] == tokens


def test_a_forced_direction_is_noted_in_the_table(lab: Lab) -> None:
    info = lab.loaded.info.to_dict() | {"weight_hash": "else", "name": "Other", "revision": ""}
    lab.direction("terse", 2, model=info)
    rows = table(lab.run(SWEEP | {"force": True, "strengths": ["|3|"]})[0])
    assert all("fitted on Other" in row["note"] for row in rows if row["control"] == "")


class Scarce:
    """An engine on a device that holds no more than ``room`` rows at a time."""

    def __init__(self, engine: Engine, room: int) -> None:
        self._engine, self._room = engine, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def batch(self, slots: int, *, fill: bool = False) -> Batch:
        batch = self._engine.batch(slots, fill=fill)
        step = batch.step

        def scarce() -> list[Emitted]:
            if len(batch.running) > self._room:
                raise torch.OutOfMemoryError("no memory left")
            return step()

        batch.step = scarce  # type: ignore[method-assign]
        return batch


def test_out_of_device_memory_halves_the_batch_and_goes_on(lab: Lab) -> None:
    lab.direction("terse", 1)
    whole = {row["row"]: row["text"] for row in table(lab.run(SWEEP)[0])}
    ctx = lab.context()
    ctx.engine = Scarce(lab.engine, 2)  # type: ignore[assignment]
    result = ctx.run(SWEEP)
    assert result["notes"] == ["out of memory: went on with 2 rows together"]
    assert {row["row"]: row["text"] for row in table(ctx)} == whole
    ctx = lab.context()
    ctx.engine = Scarce(lab.engine, 0)  # type: ignore[assignment]
    with pytest.raises(JobFailed, match="no memory left for a single row"):
        ctx.run(SWEEP)


@pytest.mark.parametrize("batch", [1, 3])
def test_stop_texts_end_rows_of_a_sweep(lab: Lab, batch: int) -> None:
    lab.direction("terse", 1)
    whole = table(lab.run(SWEEP)[0])
    stop = whole[0]["text"][3:5]
    cut = table(lab.run(SWEEP | {"stop": [stop], "batch": batch})[0])
    for row, was in zip(cut, whole, strict=True):
        assert row["text"] == was["text"].split(stop)[0]
        assert row["finish"] == ("stop" if stop in was["text"] else was["finish"])


def test_progress_goes_to_the_end(lab: Lab) -> None:
    lab.direction("terse", 1)
    ctx, _ = lab.run(SWEEP)
    rows = [(done, total) for done, total, text in ctx.told if text.startswith("rows")]
    assert rows[-1] == (18, 18)
    assert all(0 <= done <= total for done, total in rows)
