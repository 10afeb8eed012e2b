"""A session of a real kernel with the bundled model: saved, fetched, checked, and run again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labtui_sessions.bundle import open_bundle
from labtui_sessions.journal import Journal, read_events
from labtui_sessions.log import each, state_at
from tests.conftest import need_module

ROOT = Path(__file__).parents[2]
WORK = """
import asyncio, sys
from labtui.client import AsyncLab
from labtui.running import Run, run

async def main():
    lab = await AsyncLab.connect("t")
    specs = [
        dict(kind="direction", name="terse", method="mean-difference", style="terse", sites="llm.3"),
        dict(kind="generate", prompt="Explain what a mutex is.", edits="0.5*terse@llm.3", max_new_tokens=24),
        dict(kind="generate", prompt="What is rain?", max_new_tokens=16, temperature=0.9, seed=3),
    ]
    for spec in specs:
        await run(lab, spec)
    await turn_a_knob(lab)
    await lab.close()

async def turn_a_knob(lab):
    spec = dict(kind="generate", prompt="Explain what a mutex is.", edits="0.2*terse@llm.3", plain=False,
                system="Answer at great length.", temperature=1.5, seed=5, max_new_tokens=300)
    job = Run(lab, spec)
    await job.submit()
    with lab.subscribed() as take:
        while not (rows := lab.state.rows_of(job.outcome.job)) or not rows[0].tokens:
            await take()
    await lab.request("knob", job=job.outcome.job, row=rows[0].row, edit=0, strength="-1.5")
    (await job.wait()).check()

asyncio.run(main())
"""


class Lab:
    """A home folder with a kernel ``t`` on the bundled model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "LABTUI_HOME": str(folder / "home"),
            "LABTUI_RUNTIME": str(folder / "run"),
            "LABTUI_REMOTE": f"{sys.executable} -m labtui",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(str(ROOT / w) for w in ("", "kernels", "artifacts", "sessions")),
        }

    def python(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words], env=self.env, cwd=self.folder, capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL, timeout=240,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """``labtui ...``"""
        return self.python("-m", "labtui", *words, code=code)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need_module("torch")
    lab = Lab(tmp_path_factory.mktemp("live"))
    lab("kernel", "start", "t", "--model", "toy-qwen3", "--wait")
    try:
        lab.python("-c", WORK)
        yield lab
    finally:
        lab("kernel", "stop", "t", "--force")


def test_saved_here_and_fetched_through_the_kernel_are_the_same(lab: Lab) -> None:
    lab("session", "save", "current", "s.safetensors", "--kernel", "t")
    assert lab("session", "verify", "s.safetensors").stdout.startswith("ok")
    lab("session", "pull", "current", "p.safetensors", "--kernel", "t", "--via", "env")
    mine, theirs = open_bundle(lab.folder / "s.safetensors"), open_bundle(lab.folder / "p.safetensors")
    assert mine.read() == theirs.read()[: mine.last_seq]
    assert [a.name for a in mine.summary.artifacts] == ["terse"]
    assert mine.summary.models[0]["weight_hash"] and mine.summary.versions["torch"]
    state = state_at(mine)
    assert (state.skipped, state.unknown) == (0, {}) and len(state.tried) == 4


def test_notes_go_through_the_kernel_that_has_the_session_open(lab: Lab) -> None:
    session = json.loads(lab("session", "ls", "--json").stdout)[0]
    assert session["open"]
    lab("session", "note", session["id"], "by its id")
    lab("session", "tag", "current", "live", "--kernel", "t")
    shown = json.loads(lab("session", "show", session["id"], "--json").stdout)
    assert [n["text"] for n in shown["notes"].values()] == ["by its id"] and shown["tags"] == ["live"]


def test_run_again_it_passes(lab: Lab) -> None:
    lab("session", "save", "current", "again.safetensors", "--kernel", "t")
    result: dict[str, Any] = json.loads(
        lab("session", "rerun", "again.safetensors", "--kernel", "t", "--json").stdout
    )
    assert (result["status"], result["rows"], result["passed"]) == ("done", 4, 4)
    assert result["max_abs_diff"] < result["tolerance"] == 1e-3


def test_a_turned_knob_is_replayed(lab: Lab) -> None:
    """With the knob's event taken out, the same tokens get other numbers: so the knob was what made them."""
    lab("session", "save", "current", "knob.safetensors", "--kernel", "t")
    log = open_bundle(lab.folder / "knob.safetensors")
    (turn,) = [event.data for event in each(log) if event.kind == "knob"]
    assert (turn["edit"], turn["strength"]) == (0, -1.5) and turn["step"] > 0
    with Journal.open(lab.folder / "no-knob") as journal:
        for event in each(log):
            if event.kind != "knob":
                journal.append(event.kind, event.data, event.t)
    lab("session", "rerun", "knob.safetensors", "--kernel", "t", "--job", turn["job"])
    done = lab("session", "rerun", "no-knob", "--kernel", "t", "--job", turn["job"], code=1)
    assert "1 of 1 rows differ" in done.stderr


def test_a_direction_that_is_gone_or_changed_is_taken_from_the_file(lab: Lab) -> None:
    lab("session", "save", "current", "whole.safetensors", "--kernel", "t")
    bundle = open_bundle(lab.folder / "whole.safetensors")
    store = lab.folder / "home" / "artifacts" / "terse.safetensors"
    recorded = store.read_bytes()
    store.unlink()
    assert "uploaded the recorded direction as terse\n" in lab(
        "session", "rerun", "whole.safetensors", "--kernel", "t"
    ).stderr  # fmt: skip
    assert store.read_bytes() == recorded
    info, tensors = bundle.artifact("terse")
    from labtui_artifacts import files

    files.write(store, info.kind, {n: a * 0 + 1 for n, a in tensors.items()}, info.meta)
    again = lab("session", "rerun", "whole.safetensors", "--kernel", "t")
    assert "uploaded the recorded direction as terse.rerun-" in again.stderr
    assert again.stdout.startswith("ok  4 rows")
    store.write_bytes(recorded)


def test_another_number_in_the_record_is_found(lab: Lab) -> None:
    lab("session", "save", "current", "true.safetensors", "--kernel", "t")
    changed = ""
    with Journal.open(lab.folder / "changed") as journal:
        for event in each(open_bundle(lab.folder / "true.safetensors")):
            data = event.data
            if event.kind == "row.tokens" and not changed and len(data["logprobs"]) > 1:
                data = {**data, "logprobs": [*data["logprobs"][:-1], data["logprobs"][-1] - 0.25]}
                changed = f"{data['job']}/{data['row']}"
            journal.append(event.kind, data, event.t)
    assert changed and len(list(read_events(lab.folder / "changed"))) > 10
    done = lab("session", "rerun", "changed", "--kernel", "t", code=1)
    line = done.stderr.splitlines()[-1]
    assert "1 of 4 rows differ by up to 0.25 nats (tolerance 0.001 for float32)" in line
    assert changed in done.stdout and "0.25" in done.stdout
