"""Chunks on disk: what is kept comes back, and what is damaged is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.kinds.chunks import Chunk, ChunksFile, build, layer_files

LABELS = ("red", "green", "blue")
SITES = ("vision.0.out", "vision.1.out", "vision.merged")


def made(seed: int = 0, width: int = 6) -> dict[tuple[str, str], Chunk]:
    draw = np.random.default_rng(seed)
    found = {}
    for sort in ("ink", "word"):
        for site in SITES:
            centres = draw.standard_normal((3, 2, width))
            norms = np.linalg.norm(centres, axis=-1)
            found[sort, site] = Chunk(
                LABELS,
                (centres / norms[..., None]).astype(np.float32),
                norms.astype(np.float32),
                draw.integers(1, 9, (3, 2)),
                draw.standard_normal((3, width)).astype(np.float32),
            )
    return found


def test_chunks_come_back_as_they_were_kept(tmp_path: Path) -> None:
    chunks = made()
    tensors, meta = build(
        chunks, references={"vision.0.out": 4.5}, meta={"name": "stroop", "read": "mean@image"}
    )
    files.write(tmp_path / "c.safetensors", "chunks", tensors, meta)
    opened = ChunksFile.open(tmp_path / "c.safetensors")
    assert opened.labels == LABELS and opened.sorts == ("ink", "word") and opened.sites == SITES
    assert opened.reference("vision.0.out") == 4.5 and opened.reference("vision.merged") is None
    for (sort, site), chunk in chunks.items():
        back = opened.at(sort, site)
        for part in ("centroids", "norms", "sizes", "means"):
            assert np.array_equal(getattr(back, part), getattr(chunk, part))
        assert np.array_equal(back.representatives, chunk.centroids[:, 0])
    with pytest.raises(UsageError, match=r"nothing of ink at vision\.9\.out"):
        opened.at("ink", "vision.9.out")


def test_layer_files_have_the_names_of_the_study(tmp_path: Path) -> None:
    chunks = made()
    tensors, meta = build(chunks)
    files.write(tmp_path / "c.safetensors", "chunks", tensors, meta)
    found = layer_files(ChunksFile.open(tmp_path / "c.safetensors"))
    assert sorted(found) == sorted(
        f"{sort}/{layer}_all.safetensors"
        for sort in ("color", "text")
        for layer in ("layer0", "layer1", "merged")
    )
    assert np.array_equal(
        found["text/layer1_all.safetensors"]["blue"], chunks["word", "vision.1.out"].centroids[2, 0]
    )


def test_what_fills_no_table_is_not_kept() -> None:
    chunks = made()
    del chunks["word", "vision.merged"]
    with pytest.raises(UsageError, match="each sort of label at each site"):
        build(chunks)
    chunks = made()
    odd = chunks["word", "vision.merged"]
    chunks["word", "vision.merged"] = Chunk(("a", "b", "c"), odd.centroids, odd.norms, odd.sizes, odd.means)
    with pytest.raises(UsageError, match="differ in labels"):
        build(chunks)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t, m: t.pop("ink/vision.0.out/norms"), "norms is missing"),
        (lambda t, m: m.update(labels=["red", "green"]), r"expected \[2"),
        (lambda t, m: m.update(labels="red"), "meta labels"),
        (lambda t, m: m.update(sites=["vision.0.out", "attic"]), "'attic' is no site"),
        (
            lambda t, m: t.update({"ink/vision.0.out/means": np.zeros((3, 5), np.float32)}),
            "do not belong together",
        ),
    ],
)
def test_damaged_chunks_are_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    tensors, meta = build(made())
    spoil(tensors, meta)
    files.write(tmp_path / "c.safetensors", "chunks", tensors, meta)
    with pytest.raises(BadFile, match=said) as caught:
        ChunksFile.open(tmp_path / "c.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (2.0, "not of norm 1")])
def test_values_that_are_no_chunks_are_refused(tmp_path: Path, value: float, said: str) -> None:
    tensors, meta = build(made())
    tensors["ink/vision.0.out/centroids"] = np.full((3, 2, 6), value, np.float32)
    files.write(tmp_path / "c.safetensors", "chunks", tensors, meta)
    opened = ChunksFile.open(tmp_path / "c.safetensors")
    with pytest.raises(BadFile, match=said):
        opened.at("ink", "vision.0.out")
