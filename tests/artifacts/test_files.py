"""Artifacts on disk: round trips, an independent reader, atomic and private writing, a full disk."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labtui_artifacts import files, kinds
from labtui_artifacts.errors import BadFile, JobFailed, UsageError
from tests.conftest import need_module

DTYPES = [dtype for dtype in files.DTYPES.values() if dtype.isbuiltin == 1]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)
names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=st.dictionaries(names, arrays, max_size=4),
    meta=st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    kind=st.sampled_from(sorted(kinds.SCHEMAS)),
)
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, tensors: dict[str, Any], meta: dict[str, Any], kind: str
) -> None:
    path = tmp_path / "a.safetensors"
    files.write(path, kind, tensors, meta)
    artifact = files.read(path, kind=kind)
    assert artifact.meta == meta
    assert set(artifact.header.tensors) == set(tensors)
    for name, array in tensors.items():
        back = artifact.tensor(name)
        assert back.dtype == array.dtype and back.shape == array.shape
        assert back.tobytes() == np.ascontiguousarray(array).tobytes()
    independent = safetensors.numpy.load_file(path)
    assert set(independent) == set(tensors)
    assert all(independent[name].tobytes() == np.asarray(tensors[name]).tobytes() for name in tensors)


def test_bfloat16_is_read_and_written_without_torch(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.0e38, 1e-30], dtype=ml_dtypes.bfloat16)
    files.write(tmp_path / "a.safetensors", "activations", {"x": values}, {})
    back = files.read(tmp_path / "a.safetensors").tensor("x")
    assert back.dtype == ml_dtypes.bfloat16
    assert back.tobytes() == values.tobytes()


def test_torch_reads_our_bfloat16_as_the_same_numbers(tmp_path: Path) -> None:
    torch = need_module("torch")
    from safetensors.torch import load_file

    values = np.linspace(-3, 3, 17, dtype=np.float32).astype(ml_dtypes.bfloat16)
    files.write(tmp_path / "a.safetensors", "activations", {"x": values}, {})
    loaded = load_file(tmp_path / "a.safetensors")["x"]
    assert loaded.dtype == torch.bfloat16
    assert loaded.float().tolist() == values.astype(np.float32).tolist()


def test_the_header_carries_the_promised_metadata(tmp_path: Path) -> None:
    files.write(tmp_path / "a.safetensors", "probe", {"w": np.zeros(3, np.float32)}, {"seed": 7})
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as opened:
        said = opened.metadata()
    assert said["labtui.kind"] == "probe"
    assert said["labtui.schema"] == str(kinds.SCHEMAS["probe"])
    assert said["labtui.min_reader"] == "1"
    assert said["labtui.meta"] == '{"seed":7}'


@given(start=st.integers(-8, 8), stop=st.integers(-8, 8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_a_slice_of_the_tensor(tmp_path: Path, start: int, stop: int) -> None:
    path = tmp_path / "rows.safetensors"
    table = np.arange(15, dtype=np.int32).reshape(5, 3)
    if not path.exists():
        files.write(path, "index", {"t": table, "pad": np.zeros(3, np.float64)}, {})
    assert files.read(path).rows("t", start, stop).tolist() == table[start:stop].tolist()


def test_numpy_scalars_and_paths_in_meta_become_json(tmp_path: Path) -> None:
    header = files.write(
        tmp_path / "a.safetensors", "probe", {}, {"n": np.float32(0.5), "k": np.arange(2), "p": Path("/x")}
    )
    assert header.meta == {"n": 0.5, "k": [0, 1], "p": "/x"}


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    assert files.write(tmp_path / "a.safetensors", "session", {}, {"text": "a\ud83d b"}).meta == {
        "text": "a\ud83d b"
    }


@pytest.mark.parametrize(
    ("kind", "tensors", "meta", "says"),
    [
        ("painting", {}, {}, "unknown kind 'painting'"),
        ("probe", {}, {"x": float("nan")}, "meta cannot be stored as JSON"),
        ("probe", {}, {"x": object()}, "object is not JSON"),
        ("probe", {}, {"x": "y" * (1 << 20)}, "store the long part as a tensor"),
        ("probe", {"x": np.array(["a"])}, {}, "has dtype <U1"),
        ("probe", {"__metadata__": np.zeros(1)}, {}, "cannot name a tensor"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is_left(
    tmp_path: Path, kind: str, tensors: dict[str, Any], meta: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        files.write(tmp_path / "a.safetensors", kind, tensors, meta)
    assert list(tmp_path.iterdir()) == []


def test_files_are_private_and_no_temporary_stays(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files.write(tmp_path / "a.safetensors", "probe", {"w": np.zeros(3)}, {})
        files.write(tmp_path / "a.safetensors", "probe", {"w": np.ones(3)}, {})
    finally:
        os.umask(old)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o600


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write(path, "probe", {"w": np.arange(3.0)}, {})

    def breaks(out: Any) -> None:
        out.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        files.write_atomically(path, breaks)
    assert files.read(path).tensor("w").tolist() == [0.0, 1.0, 2.0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"not written \(No such file or directory\)") as caught:
        files.write(tmp_path / "no" / "a.safetensors", "probe", {}, {})
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_after_its_header_was_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    files.write(path, "probe", {"w": np.arange(3.0)}, {})
    artifact = files.read(path)
    files.write(path, "probe", {"w": np.arange(30.0)}, {})
    with pytest.raises(BadFile, match="has changed since"):
        artifact.tensor("w")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_gives_one_line_and_leaves_the_old_file_whole(small_disk: Path) -> None:
    path = small_disk / "a.safetensors"
    files.write(path, "activations", {"x": np.arange(100, dtype=np.float32)}, {"version": 1})
    before = path.read_bytes()
    with pytest.raises(
        JobFailed, match=r"the disk is full, it needs \d+ bytes \(\d+ bytes are free"
    ) as caught:
        files.write(path, "activations", {"x": np.zeros(1 << 20, dtype=np.float32)}, {"version": 2})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in small_disk.iterdir()] == ["a.safetensors"]
    files.write(path, "activations", {"x": np.zeros(4, dtype=np.float32)}, {"version": 3})
    assert files.read(path).meta == {"version": 3}
