"""What identifies a model, and a direction's match with it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labtui_artifacts.errors import BadFile
from labtui_kernels.models import hashing
from labtui_kernels.models.compatibility import compatibility, warning
from labtui_kernels.models.describe import rope_scaling, sliding_window
from labtui_kernels.models.info import ModelInfo
from labtui_kernels.models.sites import site_table
from tests.support.tiny import tiny, tiny_config

INFO = replace(tiny("qwen3").info, weight_hash="aa", name="Qwen/A", revision="r1")


@pytest.mark.parametrize(
    ("theirs", "match"),
    [
        ({}, "same"),
        ({"dtype": "bfloat16"}, "precision"),
        ({"quantisation": "nf4"}, "precision"),
        ({"weight_hash": "bb"}, "precision"),  # the same revision of the same Hub model, in other files
        ({"weight_hash": "bb", "revision": "r2"}, "width"),
        ({"weight_hash": "bb", "revision": ""}, "width"),
        ({"weight_hash": "bb", "name": "Qwen/B"}, "width"),
        ({"weight_hash": "bb", "revision": "", "width": 64}, "no"),
        ({"width": 64}, "no"),
    ],
)
def test_compatibility_of_a_direction_with_a_model(theirs: dict[str, Any], match: str) -> None:
    fingerprint = INFO.to_dict() | theirs
    found = compatibility({"model": fingerprint}, INFO)
    assert found == match == compatibility(fingerprint, INFO)
    line = warning(found, {"model": fingerprint}, INFO)
    assert (line == "") == (match == "same") and "\n" not in line


@pytest.mark.parametrize(
    ("theirs", "sites", "match"),
    [
        ({}, ["vision.1.out"], "same"),
        ({"width": 64}, ["vision.1.out", "vision.embed"], "width"),
        ({"width": 64}, ["vision.1.out", "vision.merged"], "width"),
        ({"width": 64}, ["vision.merged"], "no"),
        ({"width": 64}, ["llm.1.out"], "no"),
        ({"vision_width": 64}, ["vision.1.out"], "no"),
        ({"vision_width": 0}, ["vision.premerge"], "no"),
        ({"vision_width": 64}, ["vision.1.out", "llm.1.out"], "width"),
        ({"vision_width": 64}, ["vision.merged"], "width"),
        ({"width": 64, "vision_width": 64}, ["vision.1.out", "llm.1.out"], "no"),
    ],
)
def test_what_counts_is_the_width_where_the_direction_lies(
    theirs: dict[str, Any], sites: list[str], match: str
) -> None:
    seeing = replace(INFO, vision_blocks=3, vision_width=32, merge=2)
    other = {"weight_hash": "bb", "revision": ""} if theirs else {}
    meta = {"model": seeing.to_dict() | other | theirs}
    found = compatibility(meta, seeing, sites)
    assert found == match
    if match == "no":
        said = warning(found, meta, seeing, sites)
        assert ("tower width" in said) == ("vision_width" in theirs), said
        assert said.count("64") == len(theirs) or theirs == {"vision_width": 0}, said


def test_a_model_without_a_tower_has_no_width_there() -> None:
    meta = {"model": INFO.to_dict()}
    assert compatibility(meta, INFO, ["vision.1.out"]) == "no"
    assert warning("no", meta, INFO, ["vision.1.out"]).endswith("has no vision tower")


def test_nothing_is_compatible_without_a_fingerprint() -> None:
    assert compatibility({}, INFO) == "no"
    assert compatibility({"model": "Qwen"}, INFO) == "no"
    unknown = replace(INFO, weight_hash="", revision="")
    assert compatibility({"model": unknown.to_dict()}, unknown) == "width"
    assert "unknown model" in warning("no", {}, INFO)


def test_info_survives_newer_fields_and_names_missing_ones() -> None:
    data = INFO.to_dict() | {"of_a_newer_version": 1}
    assert ModelInfo.from_dict(data) == INFO
    del data["blocks"]
    with pytest.raises(BadFile, match="blocks"):
        ModelInfo.from_dict(data)


def test_small_files_are_hashed_whole(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"two" * 1_000_000)
    (tmp_path / "a").write_bytes(b"one")
    expected = hashlib.sha256()
    for name in ("a", "b"):
        content = (tmp_path / name).read_bytes()
        expected.update(len(content).to_bytes(8, "little") + content)
    told: list[float] = []
    assert hashing.weight_hash([tmp_path / "b", tmp_path / "a"], told.append) == expected.hexdigest()
    assert told == sorted(told) and told[-1] == 1.0
    (tmp_path / "b").rename(tmp_path / "c")
    assert hashing.weight_hash([tmp_path / "a", tmp_path / "c"]) == expected.hexdigest()


def test_large_files_are_sampled_at_head_tail_and_between(tmp_path: Path) -> None:
    file = tmp_path / "large"
    size = hashing.WHOLE + 123_457
    with file.open("wb") as handle:
        handle.truncate(size)
    plain = hashing.weight_hash([file])
    covered = sum(length for _, length in hashing._extents(size))
    samples = hashing.SAMPLES * hashing.BLOCK
    assert covered == 2 * hashing.HEAD + samples and covered < size
    assert all(start >= 0 and start + length <= size for start, length in hashing._extents(size))
    for place in (0, hashing.HEAD - 1, hashing.HEAD + 5, hashing._extents(size)[30][0], size - 1):
        assert any(start <= place < start + length for start, length in hashing._extents(size))
        with file.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"x")
        assert hashing.weight_hash([file]) != plain, place
        with file.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"\0")
    assert hashing.weight_hash([file]) == plain


def test_positions_and_windows_are_described() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
    config = tiny_config("qwen3", vocab_size=320, rope_parameters=yarn)
    assert rope_scaling(config) == "yarn x4 from 32768"
    assert rope_scaling(tiny_config("qwen3", vocab_size=320)) == "default"
    assert sliding_window(tiny_config("qwen3", vocab_size=320)) is None
    windowed = tiny_config(
        "qwen2", vocab_size=320, use_sliding_window=True, sliding_window=64, max_window_layers=2
    )
    assert sliding_window(windowed) == 64


def test_the_site_table_lists_every_site_with_its_other_names() -> None:
    rows = site_table(INFO.shape)
    assert len(rows) == 4 * 4 + 2
    assert rows[0]["site"] == "llm.embed" and rows[-1]["site"] == "llm.norm"
    assert {row["width"] for row in rows} == {48}
    names: Any = {row["site"]: row["also"] for row in rows}
    assert names["llm.1.out"]["transformers"] == "hidden_states[2]"
    assert "after the final norm" in names["llm.3.out"]["transformers"]
