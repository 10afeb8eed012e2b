"""``labtui session`` as a user calls it: real processes, real files, exit codes and one line of trouble."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labtui_sessions.bundle import open_bundle, save
from labtui_sessions.journal import FILE, Journal, read_events
from tests.sessions.scenario import write_session


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home" / "sessions"
    root.mkdir(parents=True, mode=0o700)
    (tmp_path / "home").chmod(0o700)
    write_session(root / "s-one")
    write_session(root / "s-two", rows=3)
    return tmp_path / "home"


def run(home: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``labtui session ...`` in a process of its own that must end with that exit code."""
    root = Path(__file__).parents[2]
    env = {
        **os.environ,
        "LABTUI_HOME": str(home),
        "LABTUI_RUNTIME": str(home / "run"),
        "PYTHONPATH": os.pathsep.join(str(root / wing) for wing in ("", "kernels", "artifacts", "sessions")),
    }
    command = [sys.executable, "-m", "labtui", "session", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=home, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def as_json(home: Path, *words: str, code: int = 0) -> Any:
    return json.loads(run(home, *words, "--json", code=code).stdout)


def test_ls_and_show(home: Path) -> None:
    listed = as_json(home, "ls")
    assert {one["id"]: one["rows"] for one in listed} == {"s-one": 4, "s-two": 3}
    assert "toy-qwen3" in run(home, "ls").stdout
    shown = as_json(home, "show", "s-one")
    assert shown["jobs"]["j1"]["status"] == "done" and shown["tables"]["sweep"]["rows"] == 4
    text = run(home, "show", "s-on").stdout  # the only one that begins so
    assert "shorter, still names the lock" in text and "2.0*terse@llm.4" in text


def test_save_verify_and_show_the_file(home: Path) -> None:
    saved = as_json(home, "save", "s-one", "m.safetensors")
    assert saved["events"] == 39 and saved["bytes"] == (home / "m.safetensors").stat().st_size
    assert as_json(home, "verify", "m.safetensors")["ok"] is True
    assert run(home, "verify", "s-one").stdout.startswith("ok")
    assert as_json(home, "show", "m.safetensors")["id"] == "s-one"
    error = run(home, "save", "s-one", "m.safetensors", code=2).stderr
    assert "exists already" in error and error.count("\n") == 1
    run(home, "save", "s-one", "m.safetensors", "--force")


def test_damage_has_exit_code_4(home: Path) -> None:
    save(home / "sessions" / "s-one", home / "m.safetensors")
    raw = bytearray((home / "m.safetensors").read_bytes())
    raw[-1] ^= 1
    (home / "m.safetensors").write_bytes(raw)
    done = run(home, "verify", "m.safetensors", code=4)
    assert "error" in done.stdout and done.stderr.startswith("labtui: m.safetensors: damaged")
    assert as_json(home, "verify", "m.safetensors", code=4)["ok"] is False
    (home / "n.safetensors").write_bytes(raw[: len(raw) // 2])
    for words in (["show"], ["verify"], ["report"], ["export"], ["rerun"]):
        assert "truncated" in run(home, *words, "n.safetensors", code=4).stderr


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["show", "nope"], "no session 'nope'"),
        (["show", "../s-one"], "no such file"),
        (["show", "x.safetensors"], "no such file"),
        (["verify", "x.safetensors"], "no such file"),
        (["export", "s-one", "--table", "nope"], "no table 'nope'"),
        (["export", "s-one", "--format", "parquet"], "give the file with --out"),
        (["export", "s-one", "--format", "xls"], "Invalid value"),
        (["note", "s-one", "  "], "the text is empty"),
        (["tag", "s-one", "x" * 65], "1 to 64"),
        (["rerun", "s-one", "--job", "j2"], "nothing to rerun"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(home: Path, words: list[str], pattern: str) -> None:
    error = run(home, *words, code=2).stderr
    assert pattern in error and error.count("\n") == 1


def test_a_rerun_without_a_kernel_has_exit_code_3(home: Path) -> None:
    assert run(home, "rerun", "s-one", "--kernel", "nope", code=3).stderr.count("\n") == 1


def test_export_to_stdout_and_to_files(home: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(home, "export", "s-one", "--table", "sweep").stdout)))
    assert [row["words"] for row in rows] == ["18", "16", "14", "12"]
    lines = run(home, "export", "s-one", "--format", "jsonl").stdout.splitlines()
    assert json.loads(lines[2])["reasons"] == {"perplexity": "the answer is empty"}
    run(home, "export", "s-one", "--format", "parquet", "--out", "t.parquet")
    assert (home / "t.parquet").read_bytes()[:4] == b"PAR1"


def test_notes_tags_and_titles_of_a_session_that_no_kernel_has(home: Path) -> None:
    run(home, "note", "s-one", "look again")
    run(home, "tag", "s-one", "later")
    run(home, "tag", "s-one", "terse", "--remove")
    run(home, "title", "s-one", "mutex, again")
    shown = as_json(home, "show", "s-one")
    assert [note["text"] for note in shown["notes"].values()][-1] == "look again"
    assert (shown["tags"], shown["title"]) == (["later"], "mutex, again")
    save(home / "sessions" / "s-one", home / "m.safetensors")
    assert "a saved file is not changed" in run(home, "tag", "m.safetensors", "x", code=2).stderr


def test_diff_and_report(home: Path) -> None:
    assert as_json(home, "diff", "s-one", "s-one")["same"] is True
    different = as_json(home, "diff", "s-one", "s-two")
    assert different["same"] is False and different["tables"][0]["rows_b"] == 3
    assert "table sweep: 4 and 3 rows" in run(home, "diff", "s-one", "s-two").stdout
    assert run(home, "report", "s-one").stdout.startswith("# mutex\n")
    run(home, "report", "s-one", "page.md")
    assert (home / "page.md").read_text().startswith("# mutex\n")


def test_gc_says_what_would_go_and_goes_only_when_told(home: Path) -> None:
    with Journal.open(home / "sessions" / "s-empty") as journal:
        journal.append("session.opened", {"id": "s-empty"}, 1_700_000_000.0)
        told = as_json(home, "gc", "--yes")  # it is open now
        assert (told["candidates"], told["removed"]) == ([], [])
    assert [one["id"] for one in as_json(home, "gc")["candidates"]] == ["s-empty"]
    assert "nothing was removed: --yes" in run(home, "gc").stderr
    assert (home / "sessions" / "s-empty" / FILE).exists()
    assert as_json(home, "gc", "--yes")["removed"] == ["s-empty"]
    assert sorted(place.name for place in (home / "sessions").iterdir()) == ["s-one", "s-two"]


def test_a_session_is_saved_while_it_is_written(home: Path) -> None:
    folder = home / "sessions" / "s-one"
    with Journal.open(folder) as journal:
        journal.append("note.added", {"id": "n2", "text": "while it is open"})
        run(home, "save", "s-one", "live.safetensors")
        journal.append("note.added", {"id": "n3", "text": "after"})
    assert open_bundle(home / "live.safetensors").read() == list(read_events(folder))[:40]
