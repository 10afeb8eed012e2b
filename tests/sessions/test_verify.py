"""verify finds damage and lies, each where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile
from labtui_sessions import bundle as bundles
from labtui_sessions.bundle import save, sha256
from labtui_sessions.journal import FILE, Journal
from labtui_sessions.state import SessionState
from labtui_sessions.verify import Report, verify
from tests.sessions.scenario import write_session

Tensors = dict[str, np.ndarray]


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundles, "KEYFRAME_BYTES", 2_000)
    save(write_session(tmp_path / "s1", rows=40), tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def tampered(saved: Path, change: Callable[[Tensors, dict[str, Any]], None]) -> Report:
    """The report on a file rewritten with a change, its checksums made to fit."""
    source = files.read(saved)
    tensors, meta = source.tensors(), json.loads(json.dumps(source.meta))
    change(tensors, meta)
    meta["sha256"] = {name: sha256(array) for name, array in tensors.items()}
    files.write(saved, "session", tensors, meta)
    return verify(saved)


def errors(report: Report) -> str:
    return "\n".join(f"{f.where}: {f.message}" for f in report.findings if f.level == "error")


def test_a_sound_file_has_no_findings(saved: Path) -> None:
    report = verify(saved)
    assert report.ok and report.findings == []
    assert report.events > 40 and report.tables == 1 and report.keyframes > 0 and report.tensors > 15
    report.raise_if_bad()


def test_flipped_bytes_are_found_wherever_they_are(saved: Path) -> None:
    whole = saved.read_bytes()
    for at in range(8, len(whole), 613):
        raw = bytearray(whole)
        raw[at] ^= 0xFF
        saved.write_bytes(raw)
        report = verify(saved)
        assert not report.ok, at
        with pytest.raises(BadFile) as caught:
            report.raise_if_bad()
        assert "\n" not in str(caught.value)


def test_a_truncated_or_foreign_file(saved: Path, tmp_path: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    assert "truncated" in errors(verify(saved))
    files.write(tmp_path / "d.safetensors", "direction", {"x": np.zeros(3, np.float32)}, {})
    assert "expected a session" in errors(verify(tmp_path / "d.safetensors"))


def test_a_changed_table_is_found_though_its_checksum_fits(saved: Path) -> None:
    def change(tensors: Tensors, meta: dict[str, Any]) -> None:
        tensors["table/sweep/words"][3] += 1

    assert "table sweep: column words, row 3: holds 13, the events give 12" in errors(tampered(saved, change))


def test_a_changed_reason_a_missing_table_and_a_stray_tensor(saved: Path) -> None:
    def change(tensors: Tensors, meta: dict[str, Any]) -> None:
        meta["tables"][0]["reasons"] = False
        tensors["table/other/x"] = np.zeros(2)

    found = errors(tampered(saved, change))
    assert "other reasons" in found and "tensor table/other/x: belongs to no table" in found

    def drop(tensors: Tensors, meta: dict[str, Any]) -> None:
        meta["tables"] = []

    assert "table sweep: is in the events but not in the file" in errors(tampered(saved, drop))


def test_a_false_keyframe_is_found(saved: Path) -> None:
    def change(tensors: Tensors, meta: dict[str, Any]) -> None:
        lie = SessionState(seq=int(tensors["keyframes/seq"][0]), title="never so").snapshot()
        rest = tensors["keyframes/states"][tensors["keyframes/offsets"][1] :]
        tensors["keyframes/states"] = np.concatenate([np.frombuffer(lie, np.uint8), rest])
        tensors["keyframes/offsets"][1:] += len(lie) - tensors["keyframes/offsets"][1]

    report = tampered(saved, change)
    assert "is not the state that the events give" in errors(report)


def test_a_false_summary_is_found(saved: Path) -> None:
    def change(tensors: Tensors, meta: dict[str, Any]) -> None:
        meta.update(title="another", events=3)

    found = errors(tampered(saved, change))
    assert "title is 'another', the events say 'mutex'" in found and "says 3 events" in found


def test_unlisted_and_missing_checksums(saved: Path) -> None:
    source = files.read(saved)
    meta = dict(source.meta)
    del meta["sha256"]["table/sweep/words"]
    meta["sha256"]["gone"] = "0" * 64
    files.write(saved, "session", source.tensors(), meta)
    found = errors(verify(saved))
    assert "tensor table/sweep/words: has no checksum" in found
    assert "tensor gone: is in the list of checksums but not in the file" in found


def test_a_journal_with_a_torn_tail_and_odd_events(tmp_path: Path) -> None:
    folder = write_session(tmp_path / "s1")
    assert verify(folder).ok
    with Journal.open(folder) as journal:
        journal.append("tag.added", {"tag": 7})
        journal.append("hologram.shown", {})
        cell = {"job": "j2", "cell": "c0", "table": "sweep", "rows": []}
        journal.append("cell.committed", cell)
    report = verify(folder)
    notes = "\n".join(f.message for f in report.findings)
    assert report.ok and "malformed data of kind tag.added" in notes
    assert "unknown to this version" in notes and "1 cells were committed again" in notes
    with (folder / FILE).open("ab") as file:
        file.write(b"half a frame")
    report = verify(folder / FILE)
    assert not report.ok and "a torn tail: 12 bytes" in errors(report)
    Journal.open(folder).close()
    report = verify(folder)
    assert report.ok and "12 bytes were cut" in "\n".join(f.message for f in report.findings)
    (folder / FILE).write_bytes(b"PK" + bytes(60))
    assert "not a session journal" in errors(verify(folder))
