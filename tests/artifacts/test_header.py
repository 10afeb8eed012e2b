"""Headers of hostile files: every cut, every flipped bit, and each rule of the format by name."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtui_artifacts import files, kinds
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.header import MAX_HEADER, read_header, read_layout


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    tensors = {"site/llm.1.out": np.arange(4, dtype=np.float32), "ref/median": np.ones(1, np.float64)}
    files.write(path, "direction", tensors, {"method": "pair", "sites": ["llm.1.out"]})
    return path


def craft(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + body)
    return path


def ours(**changes: str) -> dict[str, Any]:
    said = {"labtui.kind": "probe", "labtui.schema": "1", "labtui.min_reader": "1", "labtui.meta": "{}"}
    said.update({f"labtui.{key}": value for key, value in changes.items()})
    return {"__metadata__": said}


def one_line(error: LabError, path: Path) -> None:
    text = str(error)
    assert "\n" not in text and str(path) in text and len(text) < 500 + len(str(path))


def test_a_header_is_read_without_its_body(good: Path) -> None:
    header = read_header(good, kind="direction")
    assert header.kind == "direction" and header.schema == kinds.SCHEMAS["direction"]
    assert header.tensors == {"site/llm.1.out": ("F32", (4,)), "ref/median": ("F64", (1,))}
    assert header.meta == {"method": "pair", "sites": ["llm.1.out"]}


def test_every_truncation_is_refused_in_one_line(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadFile) as caught:
            read_header(cut)
        one_line(caught.value, cut)


def test_a_flipped_bit_never_leads_outside_the_file(good: Path, tmp_path: Path) -> None:
    whole = bytearray(good.read_bytes())
    bad = tmp_path / "bad.safetensors"
    header_end = 8 + struct.unpack("<Q", whole[:8])[0]
    refused = 0
    for bit in range(0, 8 * header_end, 3):  # every byte, and each bit place in turn
        whole[bit // 8] ^= 1 << bit % 8
        bad.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        try:
            tensors = files.read(bad).tensors()
        except LabError as error:
            refused += 1
            one_line(error, bad)
        else:
            assert sum(array.nbytes for array in tensors.values()) == len(whole) - header_end
    assert refused > header_end


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(data)
    with pytest.raises(BadFile) as caught:
        read_header(path)
    one_line(caught.value, path)


F4 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "body", "says"),
    [
        (b"[]", b"", "expected a JSON object, found list"),
        (b"{'a'", b"", "not the JSON expected"),
        (b'{"a": NaN}', b"", "NaN is no JSON number"),
        (b'{"a":1,"a":2}', b"", "a key occurs twice"),
        (b'{"a":' + b"[" * 100_000, b"", "nested too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "not the JSON expected"),
        (b'{"\xff": 1}', b"", "not UTF-8 at byte 10"),
        ({"__metadata__": {"a": 1}}, b"", "must map names to strings"),
        ({"__metadata__": []}, b"", "must map names to strings"),
        ({"": F4}, b"1234", "its name must be"),
        ({"a\nb": F4}, b"1234", "its name must be"),
        ({"a": [1]}, b"", "expected exactly dtype, shape and data_offsets"),
        ({"a": {**F4, "more": 1}}, b"1234", "expected exactly dtype"),
        ({"a": {**F4, "dtype": "F99"}}, b"1234", "unknown dtype 'F99'"),
        ({"a": {**F4, "dtype": ["F32"]}}, b"1234", "unknown dtype"),
        ({"a": {**F4, "shape": [-1]}}, b"1234", "whole numbers from 0"),
        ({"a": {**F4, "shape": [1.0]}}, b"1234", "whole numbers from 0"),
        ({"a": {**F4, "shape": [True]}}, b"1234", "whole numbers from 0"),
        ({"a": {**F4, "shape": [1] * 9}}, b"1234", "at most 8 whole numbers"),
        ({"a": {**F4, "shape": [2]}}, b"1234", "needs 8 bytes, its range has 4"),
        ({"a": {**F4, "shape": [2**40, 2**40]}}, b"1234", "its range has 4"),
        ({"a": {**F4, "data_offsets": [4, 0]}}, b"1234", "two rising whole numbers"),
        ({"a": {**F4, "data_offsets": [0]}}, b"1234", "two rising whole numbers"),
        ({"a": F4, "b": F4}, b"1234", "overlaps another"),
        ({"a": {**F4, "data_offsets": [4, 8]}}, b"12345678", "leaves a gap"),
        ({"a": F4}, b"123", "truncated: its header promises"),
        ({"a": F4}, b"12345", "1 bytes after the last tensor"),
        ({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"12", "needs 1.5 bytes"),
    ],
)
def test_each_rule_of_the_format(tmp_path: Path, header: Any, body: bytes, says: str) -> None:
    path = craft(tmp_path / "x", header, body)
    with pytest.raises(BadFile, match=says) as caught:
        read_layout(path)
    one_line(caught.value, path)


def test_a_promised_header_of_gigabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = craft(tmp_path / "x", b"{}", length=MAX_HEADER + 1)
    with pytest.raises(BadFile, match="not a safetensors file"):
        read_layout(path)
    path = craft(tmp_path / "x", b"{}", length=MAX_HEADER)
    with pytest.raises(BadFile, match="truncated"):
        read_layout(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min_reader": "2"}, "needs a reader of version 2, this labtui has version 1: update"),
        ({"min_reader": "-1"}, "labtui.min_reader must be a whole number"),
        ({"min_reader": "9" * 50}, "labtui.min_reader must be a whole number"),
        ({"schema": "one"}, "labtui.schema must be a whole number"),
        ({"schema": "²"}, "labtui.schema must be a whole number"),
        ({"schema": "0"}, "schema 0 that cannot be upgraded"),
        ({"kind": "painting"}, "unknown kind 'painting'"),
        ({"kind": "sae"}, "holds a sae, expected a probe"),
        ({"meta": "[]"}, "damaged labtui.meta: expected a JSON object"),
        ({"meta": "{" * 10}, "damaged labtui.meta"),
        ({"meta": '{"a": ' + "[" * 50_000}, "nested too deeply"),
        ({"meta": '{"a": "' + "x" * (1 << 20) + '"}'}, "at most 1048576 are accepted"),
    ],
)
def test_each_rule_of_our_header(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    path = craft(tmp_path / "x", ours(**changes))
    with pytest.raises(BadFile, match=says) as caught:
        read_header(path, kind="probe")
    one_line(caught.value, path)


def test_a_newer_schema_that_this_reader_may_read_is_read(tmp_path: Path) -> None:
    path = craft(tmp_path / "x", ours(schema="7", meta='{"later": 1}'))
    header = read_header(path)
    assert header.schema == 7 and header.meta == {"later": 1}


def test_an_older_schema_is_upgraded_on_reading_and_never_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = craft(tmp_path / "x", ours(meta='{"bias": 2}'))
    before = path.read_bytes()
    monkeypatch.setitem(kinds.SCHEMAS, "probe", 3)
    monkeypatch.setitem(kinds.UPGRADES, ("probe", 1), lambda meta: {"intercept": meta["bias"]})
    monkeypatch.setitem(kinds.UPGRADES, ("probe", 2), lambda meta: {**meta, "classes": 2})
    assert read_header(path).meta == {"intercept": 2, "classes": 2}
    assert path.read_bytes() == before
    damaged = craft(tmp_path / "y", ours(meta="{}"))
    with pytest.raises(BadFile, match="cannot be upgraded"):
        read_header(damaged)


def test_someone_elses_safetensors_file_is_named_as_such(tmp_path: Path) -> None:
    path = craft(tmp_path / "x", {"a": F4}, b"1234")
    with pytest.raises(BadFile, match=r"not one of labtui's"):
        read_header(path)
    assert read_layout(path).tensors == {"a": ("F32", (1,))}


def test_missing_folders_pipes_and_the_like(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_header(tmp_path / "nothing")
    with pytest.raises(BadFile, match="is a folder"):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="not a regular file"):
        read_header(tmp_path / "pipe")
