"""The tour of the README over a real ssh connection: start, steer, lose the line, come back, save, replay."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import labtui as lab_package
from tests.conftest import need
from tests.e2e.lab import LABTUI, labtui, must, one_line
from tests.e2e.sshd import Sshd
from tests.e2e.terminal import Terminal
from tests.support.tiny import tiny

NO_TORCH = """
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers"}:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Refuse())
"""


@dataclass(frozen=True)
class Node:
    """A cluster node: an ssh server and a lab home of its own."""

    sshd: Sshd
    env: dict[str, str]

    def remote(self, *arguments: str) -> str:
        """``labtui …`` as a shell line for the node."""
        words = ["env", *(f"{key}={value}" for key, value in self.env.items()), str(LABTUI), *arguments]
        return shlex.join(words)

    def terminal(self, *arguments: str, width: int = 80, height: int = 24) -> Terminal:
        """A terminal at home in which ``ssh node labtui …`` runs."""
        return Terminal(self.sshd.interactive(self.remote(*arguments)), width=width, height=height)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    need("tmux")
    runtime = Path(tempfile.mkdtemp(prefix="lt-"))
    (tmp_path / "ssh").mkdir()
    with Sshd(tmp_path / "ssh") as sshd:
        env = {"LABTUI_HOME": str(tmp_path / "home"), "LABTUI_RUNTIME": str(runtime)}
        yield Node(sshd, env)
        done = labtui("kernel", "ps", "--json", env=env)
        for kernel in json.loads(done.stdout or "[]"):
            labtui("kernel", "stop", kernel["name"], env=env)
    shutil.rmtree(runtime, ignore_errors=True)


def wait_until(condition, timeout: float = 60.0, what: str = "the condition") -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {timeout:.0f} s"
        time.sleep(0.1)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_first_steered_answer_over_ssh(node: Node, tmp_path: Path, width: int, height: int) -> None:
    """Nothing runs yet; one key starts the bundled model, one makes a direction, a prompt gives two answers."""
    with node.terminal(width=width, height=height) as screen:
        screen.wait_for(r"No kernel|no kernel")
        screen.keys("b")
        screen.wait_for(r"toy.*ready", 90)
        screen.keys("2")
        screen.wait_for("Steered")
        screen.keys("D")
        screen.wait_for("terse +against verbose")
        screen.keys("j", "j", "j", "Enter")
        wait_until(
            lambda: "terse" in labtui("artifact", "ls", env=node.env).stdout, 90, "the direction 'terse'"
        )
        screen.wait_for(r"toy.*ready", 60)
        ask(screen, "30%*terse@llm.1", "What is a compiler?")
        shown = screen.wait_for(r"(?s)Plain.*\d+ words.*\d+ words", 60)
        assert "compiler" in shown
        screen.keys("C-q")
        screen.wait_ended()
    ps = json.loads(labtui("kernel", "ps", "--json", env=node.env).stdout)
    assert [kernel["state"] for kernel in ps] == ["ready"]


def ask(screen: Terminal, edits: str, prompt: str) -> None:
    """Write the edit and the prompt on the Steer screen, and run.

    Each key waits for what the one before it did: a terminal sends escape and the next key as one when they
    come together.
    """
    screen.keys("e")
    screen.type(edits)
    screen.wait_for(re.escape(edits))
    screen.keys("Escape")
    screen.wait_for(", Less")
    screen.keys("i")
    screen.wait_for("New line")
    screen.type(prompt)
    screen.wait_for(re.escape(prompt))
    screen.keys("Enter")


def slow_model(folder: Path) -> Path:
    """A random model big enough to take some seconds for the answers of this test."""
    loaded = tiny("qwen3", num_hidden_layers=24, hidden_size=256, intermediate_size=512)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def test_the_line_is_cut_mid_stream_and_everything_is_there_again(node: Node, tmp_path: Path) -> None:
    model = slow_model(tmp_path / "model")
    started = labtui("kernel", "start", "far", "--model", str(model), "--wait", env=node.env)
    assert started.returncode == 0, started.stderr
    with node.terminal() as screen:
        screen.wait_for(r"far.*ready")
        screen.keys("2")
        screen.wait_for("Steered")
        ask(screen, "20%*random:7@llm.3", "Count for me.")
        screen.wait_for(r"far.*busy")
        screen.wait_for(r"Steered.*(writing|\d+ tok|\d+ words|…)", 30)
        node.sshd.cut()
        screen.wait_for("Pane is dead|closed")
    wait_until(
        lambda: (
            json.loads(labtui("kernel", "info", "far", "--json", env=node.env).stdout)["state"] == "ready"
        ),
        what="the end of the answer that nobody watched",
    )
    with node.terminal() as back:
        back.wait_for(r"far.*ready")
        back.keys("2")
        live = back.wait_for(r"(?s)Plain.*\d+ words.*\d+ words")
        saved = tmp_path / "line.safetensors"
        sessions = json.loads(labtui("session", "ls", "--json", env=node.env).stdout)
        assert len(sessions) == 1
        done = labtui("session", "save", sessions[0]["id"], str(saved), env=node.env)
        assert done.returncode == 0, done.stderr
        back.keys("C-q")
    replay_elsewhere(saved, live, tmp_path)


def panes(screen: str) -> list[str]:
    """The two answers and their frames: what a live and a replayed Steer screen have in common at 80x24."""
    lines = screen.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"─Plain", line))
    end = max(i for i, line in enumerate(lines) if line.strip() and i < len(lines) - 3)
    return lines[start : end + 1]


def replay_elsewhere(saved: Path, live: str, tmp_path: Path) -> None:
    """Another home, no kernel, torch not importable: the file alone shows the same screen."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_TORCH, encoding="utf-8")
    env = {
        "LABTUI_HOME": str(tmp_path / "laptop"),
        "LABTUI_RUNTIME": str(tmp_path / "lt"),
        "PYTHONPATH": str(site),
    }
    text = labtui("replay", str(saved), env=env)
    assert text.returncode == 0, text.stderr
    assert "Count for me." in text.stdout
    shown = json.loads(labtui("session", "show", str(saved), "--json", env=env).stdout)
    last = shown.get("events") or shown["seq"]
    words = [
        "env",
        *(f"{key}={value}" for key, value in env.items()),
        str(LABTUI),
        "replay",
        str(saved),
        "--at",
        str(last),
    ]
    with Terminal(shlex.join(words)) as screen:
        replayed = screen.wait_for(r"(?s)Plain.*\d+ words.*\d+ words")
    assert panes(replayed)[:8] == panes(live)[:8]


def test_every_command_works_through_via(node: Node, tmp_path: Path) -> None:
    """``--via "ssh node"`` for commands and for Python: the same kernel, from another home."""
    started = labtui("kernel", "start", "far", "--model", "toy-qwen3", "--wait", env=node.env)
    assert started.returncode == 0, started.stderr
    wrapper = tmp_path / "labtui-there"
    exports = "\n".join(f"export {key}={value}" for key, value in node.env.items())
    wrapper.write_text(
        f'#!/bin/sh\necho "Welcome to the cluster"\n{exports}\nexec {LABTUI} "$@"\n', encoding="utf-8"
    )
    wrapper.chmod(0o755)
    env = {"LABTUI_REMOTE": str(wrapper), "LABTUI_HOME": str(tmp_path / "laptop")}
    via = ["--via", node.sshd.via(), "--kernel", "far"]
    done = labtui(*via, "kernel", "info", "far", "--json", env=env)
    assert done.returncode == 0, done.stderr
    spec = tmp_path / "generate.toml"
    spec.write_text('kind = "generate"\nprompt = "What is a compiler?"\n', encoding="utf-8")
    done = labtui(*via, "run", str(spec), "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert "compiler" in done.stdout
    code = (
        "import labtui; lab = labtui.connect('far', via=__import__('sys').argv[1]); "
        "print(lab.generate('What is a compiler?').plain)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, node.sshd.via()],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "compiler" in run.stdout
    gone = labtui("--via", node.sshd.via(), "--kernel", "ghost", "run", str(spec), env=env)
    assert gone.returncode == 3
    assert "ghost" in one_line(gone)


def test_no_tcp_port_is_opened(node: Node) -> None:
    """The kernel listens on its Unix socket and on nothing else."""
    started = labtui("kernel", "start", "far", "--model", "toy-qwen3", "--wait", env=node.env)
    assert started.returncode == 0, started.stderr
    info = json.loads(labtui("kernel", "info", "far", "--json", env=node.env).stdout)
    ours = {int(info["pid"]), int(info["worker_pid"])}
    inodes = set()
    for pid in ours:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink()) if link.is_symlink() else ""
            if match := re.match(r"socket:\[(\d+)\]", target):
                inodes.add(match.group(1))
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        assert not inodes & {line.split()[9] for line in lines}


def test_the_package_exports_the_promised_names() -> None:
    assert callable(lab_package.connect)
    assert callable(lab_package.start)
    assert must("--version").startswith("labtui ")
