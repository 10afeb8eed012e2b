"""``labtui artifact`` in real processes: the store here under its lock, and a kernel's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from labtui_artifacts import library
from labtui_artifacts.kinds.direction import DirectionFile, build
from labtui_artifacts.lock import Lock
from labtui_artifacts.store import Store
from tests.conftest import need_module

LABTUI = [sys.executable, "-m", "labtui"]
STACK = np.arange(12, dtype=np.float32).reshape(4, 3) + 1


class Home:
    """A home folder of its own, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LABTUI_")}
        self.environ = {
            **kept,
            "LABTUI_HOME": str(folder / "home"),
            "LABTUI_RUNTIME": str(folder / "run"),
            "OMP_NUM_THREADS": "1",
        }
        np.save(folder / "stack.npy", STACK)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LABTUI, *words], env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def store(self) -> Store:
        return Store(self.folder / "home" / "artifacts")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_import_list_show_export_rename_delete(home: Home) -> None:
    assert home.json("artifact", "ls") == []
    stored = home.json("artifact", "import", "stack.npy", "--as", "terse")
    assert stored["name"] == "terse" and stored["kind"] == "direction"
    assert any("counted from 0" in note for note in stored["notes"])
    (entry,) = home.json("artifact", "ls")
    assert (entry["name"], entry["kind"], entry["problem"]) == ("terse", "direction", "")
    shown = home.json("artifact", "show", "terse")
    assert shown["meta"]["sites"] == [f"llm.{block}.out" for block in range(4)]
    assert shown["tensors"]["site/llm.2.out"] == {"dtype": "F32", "shape": [3]}
    home.json("artifact", "export", "terse", "out.gguf", "--format", "gguf", "--site", "llm.2")
    (tensor,) = gguf.GGUFReader(home.folder / "out.gguf").tensors
    assert tensor.name == "direction.2" and tensor.data.tolist() == STACK[2].tolist()
    assert home.run("artifact", "rename", "terse", "brief").returncode == 0
    assert home.json("artifact", "rm", "brief") == {"deleted": "brief"}
    assert home.json("artifact", "ls") == []


def test_tables_for_people(home: Home) -> None:
    tensors, meta = build(
        {"llm.1.out": np.array([3.0, 4.0])},
        references={"llm.1.out": (50.0, 80.0)},
        meta={"method": "pair", "gaps": {"llm.1.out": 1.25}},
    )
    home.store.put("d", "direction", tensors, meta)
    home.store.put("p", "probe", {"w": np.zeros((2, 3))}, {"title": "a\x1b[31mred"})
    (home.store.root / "bad.safetensors").write_bytes(b"not what it says")
    listed = home.run("artifact", "ls").stdout
    assert "pair, llm.1.out" in listed and "not a safetensors file" in listed and "\x1b" not in listed
    shown = home.run("artifact", "show", "d").stdout
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["site", "norm", "reference", "percent", "gap"],
        ["llm.1.out", "5", "50", "10", "1.25"],
    ]
    assert "[2, 3]" in home.run("artifact", "show", "p").stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show", "nothing"], 2, "no artifact 'nothing'"),
        (["rm", "../x"], 2, "cannot name an artifact"),
        (["import", "nothing.npy"], 2, "nothing.npy: no such file"),
        (["import", "text.gguf"], 4, "not a safetensors file"),
        (["import", "cut.npy"], 4, "not a plain NumPy array"),
        (["import", "foreign.safetensors"], 4, "not one of labtui's"),
        (["import", "stack.npy", "--as", "Bad Name"], 2, "cannot name an artifact"),
        (["import", "stack.npy", "--site", "llm.1"], 2, "--site is for one"),
        (["import", "one.npy"], 2, "give its --site"),
        (["import", "one.npy", "--site", "llm.x"], 2, "llm.x"),
        (["import", "stack.npy", "--as", "taken"], 2, "'taken' exists already"),
        (["export", "taken", "x.onnx", "--format", "onnx"], 2, "'onnx' is not one of"),
        (["export", "taken", "stack.npy", "--format", "npy"], 2, "exists already"),
        (["export", "taken", "no/where.npy", "--format", "npy"], 1, "not written"),
        (["ls", "--kernel", "nope"], 3, "no kernel 'nope'"),
    ],
)
def test_bad_input_gets_one_line_and_its_code(home: Home, words: list[str], code: int, says: str) -> None:
    home.run("artifact", "import", "stack.npy", "--as", "taken")
    (home.folder / "text.gguf").write_text("hello, this is text")
    (home.folder / "cut.npy").write_bytes((home.folder / "stack.npy").read_bytes()[:-1])
    import safetensors.numpy

    safetensors.numpy.save_file({"x": STACK}, home.folder / "foreign.safetensors")
    np.save(home.folder / "one.npy", STACK[0])
    done = home.run("artifact", *words)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""
    assert home.store.names() == ["taken"]


def test_a_store_in_use_is_said(home: Home) -> None:
    store = home.store
    with Lock(store.root / ".lock", what="x"):
        done = home.run("artifact", "import", "stack.npy")
    assert done.returncode == 1 and f"in use by process {os.getpid()}" in done.stderr
    assert home.run("artifact", "import", "stack.npy").returncode == 0


@pytest.fixture
def kernel(home: Home) -> Iterator[Home]:
    need_module("torch")
    if "toy-qwen3" not in library.models():
        pytest.skip("the bundled model is not built")
    started = home.run("kernel", "start", "toy", "--model", "toy-qwen3", "--wait")
    assert started.returncode == 0, started.stderr
    try:
        yield home
    finally:
        assert home.run("kernel", "stop", "toy").returncode == 0


def test_a_running_kernel_is_told_of_changes_and_serves_its_store(kernel: Home) -> None:
    kernel.json("artifact", "import", "stack.npy", "--as", "terse")
    events = kernel.json("session", "show", "current", "--kernel", "toy")
    assert "terse" in events["artifacts"]
    (entry,) = kernel.json("artifact", "ls", "--kernel", "toy")
    assert entry["name"] == "terse"
    assert kernel.json("artifact", "show", "terse", "--kernel", "toy") == kernel.json(
        "artifact", "show", "terse"
    )
    kernel.json("artifact", "export", "terse", "far.npy", "--format", "npy", "--kernel", "toy")
    assert np.load(kernel.folder / "far.npy").tolist() == STACK.tolist()
    refused = kernel.run("artifact", "import", "stack.npy", "--as", "terse", "--kernel", "toy")
    assert refused.returncode == 2 and "exists already" in refused.stderr
    kernel.json("artifact", "import", "stack.npy", "--as", "terse", "--kernel", "toy", "--force")
    assert kernel.run("artifact", "rename", "terse", "brief").returncode == 0
    assert DirectionFile.view(kernel.store.get("brief")).vector("llm.3.out").tolist() == STACK[3].tolist()
    kernel.json("artifact", "rm", "brief", "--kernel", "toy")
    missing = kernel.run("artifact", "show", "brief", "--kernel", "toy")
    assert missing.returncode == 2 and "no artifact 'brief'" in missing.stderr
    assert kernel.json("session", "show", "current", "--kernel", "toy")["artifacts"] == {}
