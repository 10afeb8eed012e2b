"""The doctor in real processes: its report, its exit code, and the terminal at the other end of a pty."""

from __future__ import annotations

import ast
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labtui.doctor import folders, running, terminal
from labtui_artifacts import library
from tests.conftest import need_module

DOCTOR = [sys.executable, "-m", "labtui", "doctor"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another uid")


def environ(folder: Path) -> dict[str, str]:
    """The environment of a machine whose folders are in ``folder``."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("LABTUI_", "SLURM", "SSH"))
    }
    return {
        **kept,
        "LABTUI_HOME": str(folder / "home"),
        "LABTUI_RUNTIME": str(folder / "run"),
        "HF_HOME": str(folder / "hf"),
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True)
class Whole:
    """One report with the model side there, ``--deep`` where the bundled model is, and what its process had imported."""

    home: Path
    code: int
    found: dict[tuple[str, str], Any]
    ok: bool
    imported: list[str]


@pytest.fixture(scope="module")
def whole() -> Whole:
    folder = Path(tempfile.mkdtemp(prefix="lt-"))  # a short path: sockets have 107 bytes
    words = ["doctor", "--json", *(["--deep"] if "toy-qwen3" in library.models() else [])]
    code = (
        "import sys\n"
        "from labtui.cli import run\n"
        f"code = run({words!r})\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ(folder), capture_output=True, text=True, check=False
    )
    shutil.rmtree(folder, ignore_errors=True)
    found, ok = read(done.stdout)
    return Whole(folder / "home", done.returncode, found, ok, ast.literal_eval(done.stderr.strip()))


@pytest.fixture
def light(tmp_path: Path) -> dict[str, str]:
    """The environment of a laptop on which importing torch fails (and costs no time)."""
    for name in ("torch", "bitsandbytes"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "__init__.py").write_text("raise ImportError('libcudart is missing')\n")
    return {**environ(tmp_path), "PYTHONPATH": str(tmp_path / "broken")}


def report(environ: dict[str, str], *arguments: str) -> tuple[int, dict[tuple[str, str], Any], bool]:
    done = subprocess.run(
        [*DOCTOR, "--json", *arguments], env=environ, capture_output=True, text=True, check=False
    )
    return done.returncode, *read(done.stdout)


def read(output: str) -> tuple[dict[tuple[str, str], Any], bool]:
    """The checks of a report by area and name, and whether all is well."""
    document = json.loads(output)
    assert output.count("\n") == 1
    return {(c["area"], c["name"]): c for c in document["checks"]}, document["ok"]


def test_the_report_names_what_is_there(whole: Whole) -> None:
    found = whole.found
    assert (whole.code, whole.ok) == (0, True), found
    assert found["machine", "python"]["data"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert {"textual", "msgspec", "numpy"} <= set(found["machine", "packages"]["data"])
    home = found["folders", "home"]
    assert home["data"]["path"] == str(whole.home) and home["data"]["mode"] == "0700"
    assert home["data"]["fsync"] > 0 and home["data"]["free"] > 0
    assert found["kernels", "kernels"]["what"] == "none running"
    assert ("terminal", "colours") in found and ("terminal", "clipboard") in found
    torch = found["models", "torch"]
    need_module("torch")
    assert torch["status"] == "ok" and found["models", "transformers"]["status"] == "ok"


def test_people_get_a_mark_and_a_word_on_each_line(light: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "config.toml").write_text("kernal = 'x'\n")
    done = subprocess.run(DOCTOR, env=light, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ") and "→" not in line]
    assert len(lines) > 10 and all(line.split()[1] in ("ok", "warn", "fail") for line in lines)
    assert "✗ fail  config:" in done.stdout and "did you mean 'kernel'" in done.stdout
    assert done.returncode == 1 and done.stderr == ""


def test_output_that_cannot_show_the_marks_keeps_the_words(light: dict[str, str]) -> None:
    light["PYTHONIOENCODING"] = "ascii"
    done = subprocess.run(DOCTOR, env=light, capture_output=True, check=False)
    assert done.returncode == 0 and b"? ok    python: 3." in done.stdout
    assert b"warn  unicode: output is ascii" in done.stdout


def test_the_command_itself_never_imports_torch(whole: Whole) -> None:
    assert whole.imported == []


def test_without_the_model_side_there_is_a_warning_and_no_failure(light: dict[str, str]) -> None:
    code, found, ok = report(light)
    assert (code, ok) == (0, True)
    torch = found["models", "torch"]
    assert torch["status"] == "warn" and "ImportError: libcudart is missing" in torch["what"]
    assert 'pip install "labtui[kernel]"' in torch["todo"]


@needs_root
def test_folders_of_another_user_fail(light: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 12345, -1)
    code, found, ok = report(light)
    assert (code, ok) == (1, False)
    assert found["folders", "runtime"]["status"] == "fail"
    assert "belongs to uid 12345" in found["folders", "runtime"]["what"]
    assert found["kernels", "kernels"]["status"] == "fail"


def test_a_symlinked_runtime_folder_fails(light: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    code, found, _ = report(light)
    assert code == 1 and "is a symlink" in found["folders", "runtime"]["what"]


def test_a_runtime_path_too_long_for_a_socket_fails(light: dict[str, str], tmp_path: Path) -> None:
    light["LABTUI_RUNTIME"] = str(tmp_path / ("r" * 100))
    code, found, _ = report(light)
    assert code == 1 and "set LABTUI_RUNTIME to a short path" in found["folders", "runtime"]["todo"]


def test_a_socket_without_a_kernel_is_a_warning(light: dict[str, str], tmp_path: Path) -> None:
    import socket

    (tmp_path / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "run" / "old.sock"))
    code, found, _ = report(light)
    assert code == 0
    assert found["kernels", "old"]["status"] == "warn" and "gc" in found["kernels", "old"]["todo"]


@pytest.mark.skipif("toy-qwen3" not in library.models(), reason="the bundled model is not built")
def test_deep_steers_the_bundled_model_and_audits_it(whole: Whole) -> None:
    need_module("torch")
    found = whole.found
    assert (whole.code, whole.ok) == (0, True), found
    assert found["deep", "model"]["data"]["zero_equals_plain"] is True
    assert found["deep", "model"]["data"]["steered_differs"] is True
    assert (
        found["deep", "audit"]["status"] == "ok"
        and "every parameter compared" in found["deep", "audit"]["what"]
    )


class FakeTerminal:
    """The far end of a pty: a thread that answers what a terminal of that kind would."""

    def __init__(self, answer: bytes) -> None:
        self.master, self.slave = pty.openpty()
        self.asked = b""
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while select.select([self.master], [], [], 10)[0]:
            try:
                self.asked += os.read(self.master, 1024)
            except OSError:
                return
            if self.asked.endswith(b"\x1b[c"):
                if self._answer:
                    os.write(self.master, self._answer)
                return

    def ask(self, timeout: float) -> tuple[list[Any], bool]:
        code = (
            "import json, sys, termios\n"
            "from labtui.doctor import terminal\n"
            "before = termios.tcgetattr(0)\n"
            f"answer, seconds = terminal.ask({timeout})\n"
            "print(json.dumps([answer, seconds, before == termios.tcgetattr(0)]), file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=self.slave, stdout=self.slave, stderr=subprocess.PIPE,
            text=True, check=True,
        )  # fmt: skip
        answer, seconds, restored = json.loads(done.stderr)
        return [answer, seconds], restored


def test_a_terminal_is_asked_and_left_as_it_was() -> None:
    fake = FakeTerminal(b"\x1b_Gi=31;OK\x1b\\\x1b[?62;4;22c")
    (answer, seconds), restored = fake.ask(10.0)
    assert restored and seconds < 10.0
    assert terminal.graphics({}, answer) == {"kitty": "answered", "sixel": "answered"}
    assert b"\x1b_Gi=31" in fake.asked


def test_a_terminal_that_never_answers_costs_only_the_time_allowed() -> None:
    (answer, seconds), restored = FakeTerminal(b"").ask(0.3)
    assert answer == "" and restored and 0.25 < seconds < 5.0


@pytest.mark.parametrize(
    ("environ", "answer", "expected"),
    [
        ({"TERM": "xterm-256color"}, "\x1b[?62;22c", {}),
        ({"TERM": "xterm-256color"}, "\x1b[?62;41;14c", {}),
        ({"TERM": "xterm-kitty"}, "", {"kitty": "environment"}),
        ({"TERM": "foot"}, "", {"sixel": "environment"}),
        (
            {"TERM_PROGRAM": "WezTerm"},
            "\x1b[?65;4c",
            {"kitty": "environment", "sixel": "answered", "iterm": "environment"},
        ),
        ({"LC_TERMINAL": "iTerm2"}, "", {"iterm": "environment"}),
    ],
)  # fmt: skip
def test_picture_protocols(environ: dict[str, str], answer: str, expected: dict[str, str]) -> None:
    assert terminal.graphics(environ, answer) == expected


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({"TERM": "xterm", "NO_COLOR": "1", "COLORTERM": "truecolor"}, 0),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, 1 << 24),
        ({"TERM": "screen-256color"}, 256),
        ({"TERM": "linux"}, 16),
    ],
)
def test_colours(environ: dict[str, str], count: int) -> None:
    assert terminal.colours(environ) == count


def test_logins_and_jobs(tmp_path: Path) -> None:
    (tmp_path / "logind.conf").write_text("#KillUserProcesses=yes\n")
    assert not running.kills_at_logout(tmp_path)
    (tmp_path / "logind.conf.d").mkdir()
    (tmp_path / "logind.conf.d" / "10-site.conf").write_text("[Login]\nKillUserProcesses = yes\n")
    environ = {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22", "SLURM_JOB_ID": "42", "SLURM_JOB_END_TIME": "1"}
    found = {check.name: check for check in running.place(environ, tmp_path)}
    assert "10.0.0.1" in found["ssh"].what
    assert found["slurm"].status == "warn" and "job 42, 0 s left" in found["slurm"].what
    assert found["logout"].status == "warn" and "enable-linger" in found["logout"].todo


def test_measuring_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    assert folders.fsync_seconds(tmp_path) > 0
    assert folders.socket_problem(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_cache_of_models_follows_the_hubs_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert folders.cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert folders.cache_folder() == tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "x"))
    assert folders.cache_folder() == tmp_path / "x"
