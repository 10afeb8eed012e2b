"""Doing it again: the recorded rows as a spec, and a spec with one thing changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from labtui_artifacts.errors import UsageError
from labtui_sessions.journal import Journal, JournalReader
from labtui_sessions.rerun import TOLERANCE, build, job_spec, respec, tolerance
from tests.sessions.scenario import MODEL, answer, write_session


def test_recorded_rows_become_a_spec(tmp_path: Path) -> None:
    with JournalReader.open(write_session(tmp_path / "s1")) as log:
        spec = build(log)
        assert len(build(log, limit=1)["rows"]) == 1
        with pytest.raises(UsageError, match="job 'j2' has no recorded row"):
            build(log, job="j2")
    assert (spec["kind"], spec["source"], spec["dtype"], spec["tolerance"]) == (
        "rerun",
        "s1",
        "float32",
        1e-3,
    )
    assert spec["model"] == MODEL and spec["directions"] == {"terse": "terse"}
    plain, steered = spec["rows"]
    assert (plain["key"], plain["edits"], len(plain["forced"])) == ("j1/plain", "", 40)
    assert steered["edits"] == "2.0*terse@llm.4" and steered["knobs"] == [[6, 0, 1.0]]
    assert steered["forced"] == list(range(10, 21))
    assert len(steered["logprobs"]) == len(steered["gaps"]) == 11
    assert (steered["ids"], steered["content"]) == ([1, 2, 3], [False, True, True])
    assert (steered["seed"], steered["max_new_tokens"], steered["stop_ids"]) == (0, 64, [9])
    assert steered["sampling"] == {"temperature": 0.0, "top_p": 1.0, "top_k": 0}
    msgspec.msgpack.encode(spec)


def test_only_rows_of_the_last_model_are_repeated(tmp_path: Path) -> None:
    folder = write_session(tmp_path / "s1")
    with Journal.open(folder) as journal:
        journal.append("model.ready", {"info": MODEL})  # the same one, loaded again: its rows stay
    with JournalReader.open(folder) as log:
        assert len(build(log)["rows"]) == 2
    with Journal.open(folder) as journal:
        journal.append("model.ready", {"info": {**MODEL, "weight_hash": "x", "dtype": "torch.bfloat16"}})
        answer(journal, "j3", "new", 0.0, 4, 0.0)
    with JournalReader.open(folder) as log:
        spec = build(log)
    assert [row["key"] for row in spec["rows"]] == ["j3/new"]
    assert (spec["dtype"], spec["tolerance"]) == ("bfloat16", TOLERANCE["bfloat16"])


def test_tolerances_are_known_for_every_dtype() -> None:
    assert tolerance("float32") < tolerance("float16") < tolerance("bfloat16") == tolerance("strange")


def test_the_same_again_with_one_thing_changed(tmp_path: Path) -> None:
    with JournalReader.open(write_session(tmp_path / "s1")) as log:
        spec = job_spec(log, "j1")
        with pytest.raises(UsageError, match="no job 'j9' in this session; it has j1, j2"):
            job_spec(log, "j9")
    assert spec["kind"] == "generate" and spec["edits"] == "2.0*terse@llm.4"
    again = respec("j1", spec, {"edits": "1.0*terse@llm.4", "controls.random": 20, "prompt": spec["prompt"]})
    assert again.spec == {**spec, "edits": "1.0*terse@llm.4", "controls": {"random": 20}}
    assert again.parent == "j1"
    assert again.changed == {
        "edits": ("2.0*terse@llm.4", "1.0*terse@llm.4"), "controls.random": (None, 20),
    }  # fmt: skip
    assert spec["edits"] == "2.0*terse@llm.4" and "controls" not in spec
    assert "edits" not in respec("j1", spec, {"edits": None}).spec


@pytest.mark.parametrize("path", ["prompt.text", "", "a.", "prompt.x.y"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    spec: dict[str, Any] = {"prompt": "Why?"}
    with pytest.raises(UsageError, match="no such place"):
        respec("j1", spec, {path: 1})
