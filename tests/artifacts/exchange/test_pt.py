"""PyTorch files: plain tensors are read, code never runs, and a machine without torch is told so."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labtui_artifacts import exchange
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange import Reading, read_foreign
from tests.conftest import need_module

torch: Any = need_module("torch", whole_file=True)


def test_stacks_single_vectors_and_dicts_of_layers(tmp_path: Path) -> None:
    path = tmp_path / "d.pt"
    stack = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    torch.save(stack, path)
    assert exchange.detect(path) == "pt"
    tensors, meta, notes = read_foreign(path)
    assert meta["sites"] == ["llm.0.out", "llm.1.out"] and any(
        "--rows hidden-states" in note for note in notes
    )
    assert tensors["site/llm.1.out"].tolist() == [3.0, 4.0, 5.0]
    torch.save({"vector": stack[1]}, path)
    tensors, _, _ = read_foreign(path, reading=Reading(site="llm.7.out"))
    assert tensors["site/llm.7.out"].tolist() == [3.0, 4.0, 5.0]
    torch.save({3: stack[0], "12": stack[1][None]}, path)
    tensors, meta, _ = read_foreign(path)
    assert meta["sites"] == ["llm.3.out", "llm.12.out"]
    assert tensors["site/llm.12.out"].tolist() == [3.0, 4.0, 5.0]
    torch.save({"llm.3.in": stack[0], "llm.norm": stack[1]}, path)
    assert read_foreign(path)[1]["sites"] == ["llm.3.in", "llm.norm"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": torch.ones(2), "b": torch.ones(2)}, "holds a dict, expected a tensor"),
        ([torch.ones(2)], "holds a list"),
        ({1: torch.ones(2), 2: 3}, "is a int, expected a tensor"),
        ({1: torch.ones(2, 2), 2: torch.ones(2)}, r"has shape \[2, 2\]"),
        (torch.ones(2, dtype=torch.complex64), "complex"),
        (torch.full((1, 2), float("nan")), "NaN"),
    ],
)
def test_what_is_refused(tmp_path: Path, value: Any, says: str) -> None:
    torch.save(value, tmp_path / "d.pt")
    with pytest.raises(BadFile, match=says):
        read_foreign(tmp_path / "d.pt")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.target}",))


def test_code_in_a_file_never_runs(tmp_path: Path) -> None:
    torch.save({"x": Bomb(tmp_path / "ran")}, tmp_path / "zip.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    for name in ("zip.pt", "old.pt"):
        with pytest.raises(BadFile, match=r"not a .pt file of plain tensors") as caught:
            read_foreign(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_damaged_files(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "good.pt")
    whole = (tmp_path / "good.pt").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(BadFile):
            read_foreign(tmp_path / "cut.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "no tensors here")
    with pytest.raises(BadFile):
        read_foreign(tmp_path / "other.pt")


def test_pt_is_not_written(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones((2, 2)))
    assert "pt" not in exchange.EXPORTS
    from labtui_artifacts import files
    from labtui_artifacts.kinds.direction import DirectionFile

    tensors, meta, _ = read_foreign(tmp_path / "d.npy")
    files.write(tmp_path / "d.safetensors", "direction", tensors, meta)
    with pytest.raises(UsageError, match="can carry code"):
        exchange.write_foreign(DirectionFile.open(tmp_path / "d.safetensors"), tmp_path / "o.pt", "pt")


def test_without_torch_one_line_says_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "d.pt")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from labtui_artifacts.errors import UsageError\n"
        "from labtui_artifacts.exchange import read_foreign\n"
        "try: read_foreign(Path(sys.argv[1]))\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d.pt")], capture_output=True, text=True, check=True
    )
    assert 'needs torch: pip install "labtui[kernel]"' in done.stdout and done.stdout.count("\n") == 1
