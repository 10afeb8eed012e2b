"""One file that holds a session: what goes in comes out, and hostile or damaged files are refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_sessions import bundle as bundles
from labtui_sessions.bundle import open_bundle, save
from labtui_sessions.journal import Journal, read_events
from labtui_sessions.log import row_text, state_at, tables_of
from labtui_sessions.tables import gather
from tests.sessions.random_events import sessions
from tests.sessions.scenario import MODEL, write_session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_session(tmp_path / "s1")


def test_a_saved_session_holds_every_event_and_table(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mutex.safetensors"
    summary = save(folder, out)
    events = list(read_events(folder))
    bundle = open_bundle(out)
    assert bundle.read() == events and bundle.last_seq == len(events) == summary.events
    assert bundle.read(5, limit=2) == events[4:6]
    assert bundle.read(5, limit_bytes=1) == events[4:5]
    assert bundle.read(len(events) + 1) == []
    ours, theirs = bundle.tables().table("sweep"), gather(events).table("sweep")
    assert ours.owners == theirs.owners and all(ours.owners)
    assert ours.page(0, 99) == theirs.page(0, 99) and ours.reasons == theirs.reasons
    assert state_at(bundle).snapshot() == state_at(bundle, len(events)).snapshot()
    assert row_text(bundle, "j1/steered").text.startswith("A mutex is a lock")
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_summary_says_where_it_came_from(folder: Path, tmp_path: Path) -> None:
    save(folder, tmp_path / "s.safetensors")
    summary = open_bundle(tmp_path / "s.safetensors").summary
    assert (summary.id, summary.title, summary.kernel, summary.tags) == ("s1", "mutex", "toy", ["terse"])
    assert summary.models == [MODEL] and summary.seeds == [0, 7] and summary.versions == {"torch": "2.8"}
    assert summary.jobs == {"generate": 1, "sweep": 1} and summary.notes == 1
    assert summary.saved > summary.created and "numpy" in summary.saved_with
    assert set(summary.sha256) == set(open_bundle(tmp_path / "s.safetensors").header.tensors)


def test_other_readers_see_the_columns(folder: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    save(folder, tmp_path / "s.safetensors")
    with safe_open(tmp_path / "s.safetensors", "numpy") as file:
        assert file.metadata()["labtui.kind"] == "session"
        assert file.get_tensor("table/sweep/words").tolist() == [18, 16, 14, 12]
        assert file.get_tensor("table/sweep/perplexity.present").tolist() == [1, 1, 0, 1]
        raw = file.get_tensor("table/sweep/text.bytes").tobytes()
        assert raw.startswith(b"A lock. A lock.")


def test_directions_that_were_used_are_included(folder: Path, tmp_path: Path) -> None:
    vector = np.arange(8, dtype=np.float32)
    files.write(tmp_path / "terse.safetensors", "direction", {"site/llm.4.out": vector}, {"method": "pair"})
    files.write(tmp_path / "unused.safetensors", "direction", {"site/llm.4.out": vector}, {})
    store = {name: tmp_path / f"{name}.safetensors" for name in ("terse", "unused")}
    save(folder, tmp_path / "s.safetensors", artifacts=store)
    bundle = open_bundle(tmp_path / "s.safetensors")
    assert [(a.name, a.kind) for a in bundle.summary.artifacts] == [("terse", "direction")]
    bundle.extract("terse", tmp_path / "out.safetensors")
    copy = files.read(tmp_path / "out.safetensors")
    assert copy.meta["method"] == "pair"
    np.testing.assert_array_equal(copy.tensor("site/llm.4.out"), vector)
    with pytest.raises(UsageError, match="includes no artifact 'unused'; it has terse"):
        bundle.artifact("unused")
    (tmp_path / "terse.safetensors").write_bytes(b"broken")
    assert "terse" in save(folder, tmp_path / "t.safetensors", artifacts=store).left_out


def test_an_existing_file_is_only_replaced_when_asked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.safetensors"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        save(folder, out)
    assert out.read_text() == "mine"
    save(folder, out, replace=True)
    assert open_bundle(out).last_seq > 0


def test_a_part_of_a_session(folder: Path, tmp_path: Path) -> None:
    save(folder, tmp_path / "s.safetensors", until=7)
    assert open_bundle(tmp_path / "s.safetensors").read() == list(read_events(folder))[:7]


def test_keyframes_are_the_states_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "KEYFRAME_BYTES", 2_000)
    folder = write_session(tmp_path / "s1", rows=300)
    save(folder, tmp_path / "s.safetensors")
    bundle = open_bundle(tmp_path / "s.safetensors")
    assert len(bundle.keyframes) > 2
    for seq in (1, bundle.keyframes[0], bundle.keyframes[1] + 1, bundle.last_seq):
        kept = bundle.keyframe(seq)
        if seq < bundle.keyframes[0]:
            assert kept is None
        else:
            assert kept is not None and kept.seq == max(k for k in bundle.keyframes if k <= seq)
            assert kept.snapshot() == state_at(bundle, kept.seq).snapshot()


def test_a_long_summary_becomes_a_tensor(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s") as journal:
        for n in range(300):
            row = {f"column {n} {i}": i for i in range(9)}
            cell = {"job": "j", "cell": "c", "table": f"table {n}", "rows": [row]}
            journal.append("cell.committed", cell)
    save(tmp_path / "s", tmp_path / "s.safetensors")
    raw = (tmp_path / "s.safetensors").read_bytes()
    header = struct.unpack("<Q", raw[:8])[0]
    assert header < 1_000_000
    bundle = open_bundle(tmp_path / "s.safetensors")
    assert "summary" in bundle.header.tensors and len(bundle.summary.tables) == 300
    assert bundle.tables().table("table 299").row(0)["column 299 8"] == 8


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_session_survives_the_round_trip(tmp_path: Path, data: st.DataObject) -> None:
    events = data.draw(sessions(max_size=25))
    folder = tmp_path / "random"
    with Journal.open(folder) as journal:
        for event in events:
            journal.append(event.kind, event.data, event.t)
    save(folder, tmp_path / "r.safetensors", replace=True)
    (folder / "journal.bin").unlink()
    bundle = open_bundle(tmp_path / "r.safetensors")
    back = bundle.read()
    assert [(e.seq, e.kind) for e in back] == [(e.seq, e.kind) for e in events]
    assert state_at(bundle).seq == len(events)
    rebuilt = tables_of(bundle)
    assert {n: t.rows for n, t in bundle.tables().by_name.items()} == {
        n: t.rows for n, t in rebuilt.by_name.items()
    }


def test_damage_anywhere_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    save(folder, tmp_path / "s.safetensors")
    whole = (tmp_path / "s.safetensors").read_bytes()
    damaged = tmp_path / "d.safetensors"
    for at in [*range(0, 4000, 61), *range(4000, len(whole), 401)]:
        raw = bytearray(whole)
        raw[at] ^= 0xA5
        damaged.write_bytes(raw)
        _use_or_refuse(damaged)
    for size in range(0, len(whole), 997):
        damaged.write_bytes(whole[:size])
        with pytest.raises(BadFile):
            open_bundle(damaged)


def _use_or_refuse(path: Path) -> None:
    """Reading all of it either works or raises one line; nothing else."""
    try:
        bundle = open_bundle(path)
        bundle.read()
        bundle.tables()
        for seq in bundle.keyframes:
            bundle.keyframe(seq)
    except LabError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_000


def _rewritten(folder: Path, tmp_path: Path, **changes: np.ndarray) -> Path:
    """The scenario's file with some tensors replaced: a file made to mislead."""
    save(folder, tmp_path / "s.safetensors", replace=True)
    source = files.read(tmp_path / "s.safetensors")
    tensors = source.tensors() | {name.replace("__", "/"): array for name, array in changes.items()}
    files.write(tmp_path / "hostile.safetensors", "session", tensors, source.meta)
    return tmp_path / "hostile.safetensors"


@pytest.mark.parametrize(
    ("name", "array", "pattern"),
    [
        ("events/offsets", np.array([0, 5, 3], np.int64), "events/offsets does not fit"),
        ("events/offsets", np.array([0, 2**62], np.int64), "events/offsets does not fit"),
        ("events/offsets", np.array([], np.int64), "events/offsets does not fit"),
        ("events/offsets", np.array([0.0, 1.0]), "not a list of int64"),
        ("events/frames", np.zeros((2, 2), np.uint8), "not a list of bytes"),
        ("keyframes/seq", np.array([5, 5], np.int64), "damaged keyframe index"),
    ],
)
def test_misleading_indices_are_refused(
    folder: Path, tmp_path: Path, name: str, array: np.ndarray, pattern: str
) -> None:
    with pytest.raises(BadFile, match=pattern):
        open_bundle(_rewritten(folder, tmp_path, **{name: array}))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("table/sweep/words", np.zeros(99, np.int64)),
        ("table/sweep/words", np.zeros(4, np.float32)),
        ("table/sweep/text.offsets", np.array([0, 9, 3, 4, 2**40], np.int64)),
        ("table/sweep/text.bytes", np.full(10_000, 0xFF, np.uint8)),
        ("table/sweep/#seq", np.array([3, 2, 1, 0], np.int64)),
        ("table/sweep/perplexity.present", np.zeros(1, np.uint8)),
    ],
)
def test_misleading_columns_are_refused(folder: Path, tmp_path: Path, name: str, array: np.ndarray) -> None:
    bundle = open_bundle(_rewritten(folder, tmp_path, **{name: array}))
    with pytest.raises(BadFile):
        bundle.tables()


def test_a_session_opens_without_torch(folder: Path, tmp_path: Path) -> None:
    save(folder, tmp_path / "s.safetensors")
    code = """
import sys
for name in ("torch", "transformers", "pyarrow"):
    sys.modules[name] = None
from labtui_sessions.bundle import open_bundle
from labtui_sessions.log import state_at
print(state_at(open_bundle(sys.argv[1])).title)
"""
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / wing) for wing in ("", "kernels", "artifacts", "sessions"))
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s.safetensors")],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert out.stdout.strip() == "mutex"


def test_a_number_that_json_cannot_hold_is_absent_from_the_summary(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    with Journal.open(folder) as journal:
        journal.append("session.opened", {"id": "odd", "created": float("nan")}, 1.0)
        journal.append("model.ready", {"info": {"name": "m", "memory_bytes": float("inf")}}, 2.0)
    save(folder, tmp_path / "odd.safetensors")
    assert open_bundle(tmp_path / "odd.safetensors").summary.events == 2
