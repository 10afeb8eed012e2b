"""``labtui replay`` where there is no terminal, and what the demo prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labtui import demo
from labtui.cli import run
from labtui_kernels import specs
from labtui_sessions.bundle import save
from tests.labtui.test_app_replay import Log
from tests.support.fake_kernel import PLAIN, STEERED
from tests.support.stories import kernel

BLOCKED = """
import sys
class Never:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "textual"):
            raise ImportError(name)
sys.meta_path.insert(0, Never())
from labtui.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    made = kernel("done")
    assert made is not None
    save(Log(made.events), tmp_path / "mutex.safetensors")
    return tmp_path / "mutex.safetensors"


def test_a_session_is_told_as_text(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(saved)]) == 0
    told = capsys.readouterr().out
    for part in ("session 20260101-toy", STEERED, PLAIN, "note  terse bites", "table s1: 14 rows"):
        assert part in told
    events = save_count(saved)
    assert told.rstrip().endswith(f"{events} of {events} events")


def save_count(path: Path) -> int:
    from labtui_sessions.bundle import open_bundle

    return open_bundle(path).last_seq


def test_it_stops_at_the_event_that_was_asked_for(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(saved), "--at", "4"]) == 0
    told = capsys.readouterr().out
    assert told.rstrip().endswith(f"4 of {save_count(saved)} events") and STEERED not in told


def test_a_damaged_file_is_one_line_and_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{not it}")
    assert run(["replay", str(path)]) == 4
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.strip().splitlines()) == 1 and "bad.safetensors" in said.err


def test_a_missing_file_is_2(tmp_path: Path) -> None:
    assert run(["replay", str(tmp_path / "none.safetensors")]) == 2


def test_text_replay_needs_neither_torch_nor_textual(saved: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "replay", str(saved)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert STEERED in done.stdout


def test_the_demo_is_a_sweep_that_loads() -> None:
    spec = specs.load(demo.SWEEP)
    assert spec.kind == "sweep"


def test_the_demos_table_has_means_and_marks_lower_bounds() -> None:
    rows = [
        {
            "control": "",
            "site": "llm.1",
            "strength": 0.5,
            "strength_pct": 40.0,
            "words": 10,
            "finish": "stop",
        },
        {
            "control": "",
            "site": "llm.1",
            "strength": 0.5,
            "strength_pct": 40.0,
            "words": 21,
            "finish": "length",
        },
        {"control": "zero", "site": "", "strength": 0.0, "strength_pct": 0.0, "words": 30, "finish": "stop"},
    ]
    zero, point = demo.means(rows)
    assert zero["control"] == "zero" and zero["words"] == "30.0"
    assert point["words"] == "≥15.5" and point["of_reference"] == "40%" and point["rows"] == 2
    assert point["perplexity"] is None
