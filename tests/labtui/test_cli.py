"""The command line as a process: exit codes, one-line errors, JSON, progress on stderr, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kernels


@pytest.fixture(autouse=True)
def no_kernels_left(lab_home: Path) -> Iterator[None]:
    yield
    kernels.stop_all()


def labtui(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labtui", *words]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60, check=False)


def spec(*prompts: str, tokens: int = 2) -> str:
    return "\n".join(
        [
            'kind = "sweep"',
            f"prompts = {json.dumps(prompts)}",
            'directions = ["random:1"]',
            'sites = "llm.0"',
            'strengths = ["8%"]',
            f"max_new_tokens = {tokens}",
        ]
    )


def test_help_is_fast_and_imports_no_command() -> None:
    look = (
        "import sys; from labtui.cli import run; code = run(['--help']);"
        "heavy = ('torch', 'textual', 'numpy');"
        "print(code, [m for m in sys.modules if m.startswith('labtui.commands') or m in heavy])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for name in (
        "kernel",
        "run",
        "session",
        "claim",
        "replay",
        "artifact",
        "model",
        "trace",
        "doctor",
        "spec",
        "demo",
    ):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "pattern"),
    [
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["kernel", "start"], 2, "Missing argument 'NAME'"),
        (["kernel", "start", "K!", "--model", "toy-qwen3"], 2, "kernel name 'K!'"),
        (["kernel", "start", "k"], 2, "has not run here before"),
        (["kernel", "start", "k", "--model", "/nowhere/model"], 2, "/nowhere/model: no such file"),
        (["kernel", "start", "k", "--model", "toy"], 2, "no bundled model has that name"),
        (["kernel", "start", "k", "--model", "toy-qwen3", "--idle-ttl", "soon"], 2, "--idle-ttl 'soon'"),
        (["kernel", "start", "k", "--model", "toy-qwen3", "--device", "tpu"], 2, "--device 'tpu'"),
        (["kernel", "info", "ghost"], 3, "no kernel 'ghost' here"),
        (["kernel", "logs", "ghost"], 3, "no log"),
        (["run", "missing.toml"], 2, "missing.toml"),
        (["run", "-"], 2, "not TOML"),
        (["spec", "swep"], 2, "sweep"),
        (["model", "show", "/nowhere/model"], 2, "/nowhere/model"),
        (["--via", "sh -c 'exit 255' --", "kernel", "info", "k"], 3, ""),
        ([], 2, "needs a terminal"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(words: list[str], code: int, pattern: str) -> None:
    done = labtui(*words, stdin="kind = = x")
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert pattern in done.stderr and len(done.stderr.strip().splitlines()) == bool(pattern)


def test_debug_shows_where() -> None:
    assert "Traceback" in labtui("kernel", "info", "ghost", "--debug").stderr


def test_run_prints_the_table_and_says_how_far_it_is(tmp_path: Path) -> None:
    kernels.start("k")
    path = tmp_path / "s.toml"
    path.write_text(spec("a", "b"))
    done = labtui("run", str(path), "--set", "max_new_tokens=3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["row", "prompt", "pid"] and [line.split()[1] for line in lines[1:]] == [
        "a",
        "b",
    ]
    assert "sweep-" in done.stderr
    found = json.loads(labtui("run", "-", "--json", "--kernel", "k", stdin=spec("c")).stdout)
    assert found["status"] == "done" and found["audit"]["ok"]
    assert [row["prompt"] for row in found["tables"]["echo"]] == ["a", "b", "c"]


def test_a_job_that_fails_ends_the_command_with_its_code(tmp_path: Path) -> None:
    kernels.start("k", limits={"retry_delays": [0.0, 0.0, 0.0, 0.0]})
    done = labtui("run", "-", stdin=spec("fail"))
    assert done.returncode == 2 and "the prompt asked to fail" in done.stderr
    done = labtui("run", "-", stdin=spec(f"die {tmp_path / 'always'}"))
    assert done.returncode == 1 and "set aside" in done.stderr


def test_ctrl_c_cancels_the_job_and_detach_leaves_it(tmp_path: Path) -> None:
    kernels.start("k")
    command = [sys.executable, "-m", "labtui", "run", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(spec(f"wait {tmp_path / 'never'}"))
    process.stdin.close()

    def jobs() -> list[dict[str, object]]:
        return json.loads(labtui("kernel", "info", "k", "--json").stdout)["open_jobs"]

    kernels.wait_for(lambda: [job["status"] for job in jobs()] == ["running"], "the job")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert process.stderr is not None and "is cancelled" in process.stderr.read()
    assert jobs() == []
    done = labtui("run", "-", "--detach", stdin=spec(f"wait {tmp_path / 'gate'}"))
    assert done.returncode == 0 and [job["job"] for job in jobs()] == [done.stdout.strip()]
    (tmp_path / "gate").touch()
    kernels.wait_for(lambda: not jobs(), "the detached job")


def test_ps_info_logs_stop_and_gc(tmp_path: Path) -> None:
    pid = kernels.start("k")
    other = kernels.start("gone")
    kernels.kill(other)
    (row,) = json.loads(labtui("kernel", "ps", "--json").stdout)
    assert (row["name"], row["model"], row["jobs"]) == ("k", "echo", 0)
    assert "k" in labtui("kernel", "ps").stdout and "state" in labtui("kernel", "info").stdout
    lines = [json.loads(line) for line in labtui("kernel", "logs", "k").stdout.splitlines()]
    assert lines[0]["event"] == "starting" and all(line["kernel"] == "k" for line in lines)
    assert json.loads(labtui("kernel", "gc", "--json").stdout) == {"removed": ["gone.sock"]}
    done = labtui("kernel", "stop", "k")
    assert done.returncode == 0 and "has stopped" in done.stderr
    kernels.wait_for(lambda: not kernels.alive(pid), "the end of the process")
    assert json.loads(labtui("kernel", "ps", "--json").stdout) == []


def test_logs_are_followed(tmp_path: Path) -> None:
    kernels.start("k")
    command = [sys.executable, "-m", "labtui", "kernel", "logs", "k", "-f", "-n", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    begun = time.monotonic()
    labtui("kernel", "info", "k")
    while '"client.hello"' not in process.stdout.readline():
        assert time.monotonic() - begun < 20
    process.kill()
    process.wait()


def test_kernel_commands_run_at_the_other_end_of_via(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("LABTUI_REMOTE", f"{sys.executable} -m labtui")
    kernels.start("k")
    (row,) = json.loads(labtui("--via", "env", "kernel", "ps", "--json").stdout)
    assert row["name"] == "k"
    done = labtui("run", "-", "--via", "env", "--kernel", "k", stdin=spec("a"))
    assert done.returncode == 0 and "echo" not in done.stderr
    assert labtui("kernel", "stop", "ghost", "--via", "env").returncode == 3


def test_a_trace_has_the_spans_of_worker_and_journal(tmp_path: Path) -> None:
    kernels.start("k")
    job = json.loads(labtui("run", "-", "--json", stdin=spec("a", "b")).stdout)["job"]
    out = tmp_path / "trace.json"
    assert labtui("trace", job, str(out)).returncode == 0
    events = [event for event in json.loads(out.read_text())["traceEvents"] if event["ph"] == "X"]
    assert {"plan", "decode", "audit", "journal.write"} <= {event["name"] for event in events}
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events)
    done = labtui("trace", "sweep-none", str(tmp_path / "x.json"))
    assert done.returncode == 2 and "no such job" in done.stderr


def test_models_and_specs_are_shown_without_a_kernel() -> None:
    rows = json.loads(labtui("model", "ls", "--json").stdout)
    assert "toy-qwen3" in [row["model"] for row in rows]
    shown = json.loads(labtui("model", "show", "toy-qwen3", "--json").stdout)
    assert shown["sites"][0]["site"] == "llm.embed" and shown["family"] == "qwen3"
    assert 'kind = "sweep"' in labtui("spec", "sweep").stdout


def test_a_line_for_a_person_stands_behind_what_was_printed_before_it() -> None:
    code = "from labtui import output; print('a table'); output.note('a note'); print('more')"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    assert done.stdout.splitlines() == ["a table", "a note", "more"]
