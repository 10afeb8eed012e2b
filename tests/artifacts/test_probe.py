"""Probe files: written and read back, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.kinds.probe import ProbeFile, build, softmax

WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=np.float32)
BIAS = np.array([0.0, 1.0], dtype=np.float32)
SITES = {"llm.1.out": (WEIGHTS, BIAS), "llm.norm": (-WEIGHTS, BIAS)}


def write(path: Path, tensors: dict[str, Any], meta: dict[str, Any]) -> Path:
    files.write(path, "probe", tensors, meta)
    return path


def test_written_and_read_back(tmp_path: Path) -> None:
    tensors, meta = build(SITES, ["sad", "glad"], {"read": "mean@generated"})
    found = ProbeFile.open(write(tmp_path / "mood.safetensors", tensors, meta))
    assert (found.name, found.labels, found.sites) == ("mood", ("sad", "glad"), ("llm.1.out", "llm.norm"))
    assert found.meta["read"] == "mean@generated" and found.label("glad") == 1
    weights, bias = found.at("llm.1.out")
    np.testing.assert_array_equal(weights, WEIGHTS)
    found.check("llm.1.out", 3)
    hidden = np.array([3.0, 1.0, 9.0])
    odds = math.exp(3.0 - (2.0 + 1.0))  # scores 3 and 3
    assert softmax(weights, bias, hidden) == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    assert softmax(weights, bias, 1e6 * hidden) == pytest.approx([1.0, 0.0])


def test_what_a_probe_does_not_have(tmp_path: Path) -> None:
    found = ProbeFile.open(write(tmp_path / "mood.safetensors", *build(SITES, ["sad", "glad"])))
    with pytest.raises(UsageError, match=r"not fitted at llm\.2\.out: it has llm\.1\.out, llm\.norm"):
        found.check("llm.2.out", 3)
    with pytest.raises(UsageError, match=r"its width at llm\.1\.out is 3, this model's is 4"):
        found.check("llm.1.out", 4)
    with pytest.raises(UsageError, match="no label 'angry': it has sad, glad"):
        found.label("angry")


@pytest.mark.parametrize(
    ("sites", "labels"),
    [
        ({}, ["a", "b"]),
        (SITES, ["a"]),
        (SITES, ["a", "a"]),
        (SITES, ["a", "b", "c"]),
        ({"layer 3": (WEIGHTS, BIAS)}, ["a", "b"]),
        ({"llm.1.out": (WEIGHTS * np.nan, BIAS)}, ["a", "b"]),
        ({"llm.1.out": (WEIGHTS[:, :0], BIAS)}, ["a", "b"]),
    ],
)
def test_what_is_no_probe_is_not_written(sites: dict[str, Any], labels: list[str]) -> None:
    with pytest.raises(UsageError):
        build(sites, labels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, meta: meta.update(labels="sad"),
        lambda tensors, meta: meta.update(labels=["sad", "sad"]),
        lambda tensors, meta: meta.update(labels=["sad"]),
        lambda tensors, meta: meta.update(labels=["sad", "glad", "mad"]),
        lambda tensors, meta: meta.update(sites=["llm.1.out", "llm.2.out"]),
        lambda tensors, meta: meta.pop("sites"),
        lambda tensors, meta: tensors.pop("site/llm.norm/bias"),
        lambda tensors, meta: tensors.update({"site/llm.norm/weights": np.zeros(3, np.float32)}),
        lambda tensors, meta: tensors.update({"site/llm.norm/weights": np.zeros((2, 3), np.int32)}),
    ],
)
def test_a_damaged_probe_is_one_line(tmp_path: Path, damage: Any) -> None:
    tensors, meta = build(SITES, ["sad", "glad"])
    damage(tensors, meta)
    path = write(tmp_path / "bad.safetensors", tensors, meta)
    with pytest.raises(BadFile, match="damaged probe") as refused:
        ProbeFile.open(path)
    assert "\n" not in str(refused.value)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    tensors, meta = build(SITES, ["sad", "glad"])
    tensors["site/llm.norm/bias"] = np.array([np.inf, 0], dtype=np.float32)
    found = ProbeFile.open(write(tmp_path / "bad.safetensors", tensors, meta))
    with pytest.raises(BadFile, match="NaN or infinity"):
        found.at("llm.norm")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    files.write(tmp_path / "x.safetensors", "sae", {"w": np.zeros(2, np.float32)}, {})
    with pytest.raises(BadFile, match="sae"):
        ProbeFile.open(tmp_path / "x.safetensors")
