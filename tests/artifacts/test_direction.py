"""The direction kind: its typed view, and what a damaged or foreign file is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.kinds.direction import SITE, DirectionFile, build, sort_key


def save(path: Path, tensors: dict[str, Any], meta: dict[str, Any], kind: str = "direction") -> Path:
    files.write(path, kind, tensors, meta)
    return path


def test_a_direction_tells_everything_that_was_stored(tmp_path: Path) -> None:
    tensors, meta = build(
        {"llm.0.out": np.array([3.0, 4.0]), "llm.5.out": np.array([0.0, 2.0])},
        references={"llm.0.out": (10.0, 40.0)},
        meta={
            "method": "mean-difference",
            "gaps": {"llm.0.out": 1.5},
            "split_half": {"llm.5.out": 0.9},
            "read": "last",
            "model": {"name": "toy"},
            "seed": 0,
        },
    )
    view = DirectionFile.open(save(tmp_path / "terse.safetensors", tensors, meta))
    assert (view.name, view.sites, view.method, view.read) == (
        "terse",
        ("llm.0.out", "llm.5.out"),
        "mean-difference",
        "last",
    )
    assert view.vector("llm.0.out").tolist() == [3.0, 4.0] and view.vector("llm.0.out").dtype == np.float32
    assert view.norm("llm.0.out") == 5.0 and view.meta["norms"] == {"llm.0.out": 5.0, "llm.5.out": 2.0}
    assert view.reference("llm.0.out") == 10.0 and view.reference_mean("llm.0.out") == 40.0
    assert view.reference("llm.5.out") is None and view.reference_mean("llm.5.out") is None
    assert view.gap("llm.0.out") == 1.5 and view.gap("llm.5.out") is None
    assert view.split_half("llm.5.out") == 0.9 and view.split_half("llm.0.out") is None
    assert view.width("llm.5.out") == 2 and view.model == {"name": "toy"}


def test_shuffled_controls_are_kept_as_unit_vectors(tmp_path: Path) -> None:
    nulls = np.array([[0.0, 3.0], [4.0, 3.0]])
    tensors, meta = build({"llm.0.out": np.array([3.0, 4.0])}, shuffled={"llm.0.out": nulls})
    view = DirectionFile.open(save(tmp_path / "a.safetensors", tensors, meta))
    assert view.sites == ("llm.0.out",) and view.shuffles == 2
    assert np.allclose(view.shuffled("llm.0.out", 1), [0.8, 0.6], atol=1e-3)
    with pytest.raises(UsageError, match=r"has 2 shuffled-label controls at llm\.0\.out, so no number 2"):
        view.shuffled("llm.0.out", 2)
    without = DirectionFile.open(
        save(tmp_path / "b.safetensors", *build({"llm.0.out": np.array([3.0, 4.0])}))
    )
    assert without.shuffles == 0
    with pytest.raises(UsageError, match=r"shape \[2, 2\]"):
        build({"llm.0.out": np.ones(3)}, shuffled={"llm.0.out": nulls})
    tensors["shuffled/llm.0.out"] = np.ones((2, 3), dtype=np.float16)
    with pytest.raises(BadFile, match=r"shuffled/llm.0.out is F16 \[2, 3\], expected F16 \[count, 2\]"):
        _ = DirectionFile.open(save(tmp_path / "c.safetensors", tensors, meta)).shuffles


def test_a_site_it_does_not_have_is_answered_with_those_it_has(tmp_path: Path) -> None:
    tensors, meta = build({f"llm.{k}.out": np.ones(2) for k in range(20)})
    view = DirectionFile.open(save(tmp_path / "d.safetensors", tensors, meta))
    for ask in (view.vector, view.norm, view.reference, view.reference_mean, view.gap, view.width):
        with pytest.raises(UsageError, match=r"no vector at llm.30.out: it has llm.0.out, .*\(20 sites\)"):
            ask("llm.30.out")


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ({}, "at one site at least"),
        ({"llm.01.out": np.ones(2)}, "'llm.01.out' is no site"),
        ({"llm.1": np.ones(2)}, "is no site"),
        ({"llm.1.out": np.ones((2, 2))}, r"shape \[2, 2\], expected \[d\]"),
        ({"llm.1.out": np.ones(0)}, r"shape \[0\], expected \[d\]"),
        ({"llm.1.out": np.array([1.0, np.nan])}, "NaN or infinity"),
    ],
)
def test_no_direction_is_built_of_these(vectors: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(vectors)


ONE = {"site/llm.1.out": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("tensors", "meta", "says"),
    [
        ({}, {"sites": []}, "differ"),
        (ONE, {}, "differ"),
        (ONE, {"sites": ["llm.2.out"]}, "differ"),
        (ONE, {"sites": ["llm.1.out", "llm.1.out"]}, "differ"),
        (ONE, {"sites": {"llm.1.out": 1}}, "differ"),
        ({"site/../x": np.ones(2, np.float32)}, {"sites": ["../x"]}, "is no site"),
        ({"site/llm.1.out": np.ones((1, 2), np.float32)}, {"sites": ["llm.1.out"]}, r"F32 \[1, 2\]"),
        ({"site/llm.1.out": np.ones(2, np.int32)}, {"sites": ["llm.1.out"]}, "I32"),
        ({**ONE, "ref/median": np.ones(2, np.float32)}, {"sites": ["llm.1.out"]}, "ref/median is F32"),
        (ONE, {"sites": ["llm.1.out"], "gaps": [1]}, "gaps must map sites to numbers"),
    ],
)
def test_damaged_directions_are_refused(
    tmp_path: Path, tensors: dict[str, Any], meta: dict[str, Any], says: str
) -> None:
    path = save(tmp_path / "d.safetensors", tensors, meta)
    with pytest.raises(BadFile, match=says) as caught:
        DirectionFile.open(path)
    assert "\n" not in str(caught.value)


def test_a_nan_in_a_vector_is_found_when_it_is_read(tmp_path: Path) -> None:
    tensors = {"site/llm.1.out": np.array([1, np.inf], np.float32)}
    view = DirectionFile.open(save(tmp_path / "d.safetensors", tensors, {"sites": ["llm.1.out"]}))
    with pytest.raises(BadFile, match="NaN or infinity"):
        view.vector("llm.1.out")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="holds a probe"):
        DirectionFile.open(save(tmp_path / "d.safetensors", {}, {}, kind="probe"))


def test_sites_sort_as_the_model_runs_them() -> None:
    run = [
        "vision.embed",
        "vision.2.out",
        "vision.merged",
        "llm.embed",
        "llm.2.in",
        "llm.2.out",
        "llm.10.out",
    ]
    run.append("llm.norm")
    assert all(SITE.fullmatch(site) for site in run)
    assert sorted(set(run), key=sort_key) == run
