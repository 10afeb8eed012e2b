"""A plan of tens of thousands of rows: asked about, with its size and time, or refused with the flag that allows it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labtui.consent import size
from tests.support import kernels

LARGE: dict[str, Any] = {
    "kind": "sweep",
    "prompts": [f"p{number}" for number in range(10_001)],
    "directions": ["random:1"],
    "sites": "llm.0,1",
    "strengths": ["8%"],
    "controls": "none",
    "max_new_tokens": 2,
}


@pytest.fixture(autouse=True)
def no_kernels_left(lab_home: Path) -> Iterator[None]:
    yield
    kernels.stop_all()


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "large.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in LARGE.items()))
    return str(path)


def labtui(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labtui", *words]
    return subprocess.run(command, capture_output=True, text=True, input="", timeout=60, check=False)


def queued() -> list[str]:
    info = json.loads(labtui("kernel", "info", "k", "--json").stdout)
    return [event.kind for event in kernels.journal(info["session"]) if event.kind == "job.queued"]


def test_with_nobody_to_ask_it_is_refused_and_the_flag_lets_it_run(spec: str) -> None:
    kernels.start()
    kernels.wait_for(lambda: '"ready"' in labtui("kernel", "info", "k", "--json").stdout, "the model")
    done = labtui("run", spec)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "labtui: the plan has 20,002 rows, at most 40,004 tokens: --yes (or confirm = true in the spec) runs it\n"
    )
    assert queued() == []
    assert labtui("run", spec, "--yes", "--detach").returncode == 0
    assert queued() == ["job.queued"]


@pytest.mark.parametrize(("answer", "code", "jobs"), [(b"n\n", 2, []), (b"y\n", 0, ["job.queued"])])
def test_at_a_terminal_it_is_asked_about(spec: str, answer: bytes, code: int, jobs: list[str]) -> None:
    kernels.start()
    kernels.wait_for(lambda: '"ready"' in labtui("kernel", "info", "k", "--json").stdout, "the model")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "labtui", "run", spec, "--detach"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"Run it?" not in said:
        said += os.read(ours, 4096)
    assert b"The plan has 20,002 rows, at most 40,004 tokens. Run it? [y/N]" in said
    os.write(ours, answer)
    assert process.wait(60) == code
    os.close(ours)
    assert queued() == jobs


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"seconds": 19_200.0, "measured": "sweep"}, " (about 5 h 20 min, at the speed of the last sweep)"),
        ({"seconds": 19_200.0, "measured": "answers"}, " (about 5 h 20 min, or less)"),
        ({}, ""),
    ],
)
def test_the_size_says_how_long_where_that_was_measured(measured: dict[str, Any], words: str) -> None:
    counts = {"rows": 30_000, "tokens": 7_680_000, **measured}
    assert size(counts) == f"30,000 rows, at most 7,680,000 tokens{words}"
