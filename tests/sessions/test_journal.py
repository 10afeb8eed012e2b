"""The journal on real files: damage at every byte, a full disk, and a writer killed with -9."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_sessions import frames
from labtui_sessions.events import Event, encode
from labtui_sessions.journal import FILE, Journal, JournalReader, read_events


def fill(folder: Path, count: int = 5) -> list[Event]:
    """A small journal with frames of different lengths."""
    with Journal.open(folder) as journal:
        return [
            journal.append("row.tokens", {"job": "j1", "row": "a", "start": i, "pieces": ["x" * (i % 5)]})
            for i in range(count)
        ]


def test_append_read_and_reopen(tmp_path: Path) -> None:
    written = fill(tmp_path, 50)
    with Journal.open(tmp_path) as journal:
        assert journal.last_seq == 50
        assert journal.read() == written
        assert journal.read(10, limit=3) == written[9:12]
        assert journal.read(51) == []
        few = journal.read(1, limit_bytes=200)
        assert few == written[: len(few)] and 0 < len(few) < 50
        assert journal.read(7, limit_bytes=1) == written[6:7]
        assert journal.read(1, limit_bytes=10**9) == written
        size = frames.FRAME.size + len(encode(written[0]))
        assert journal.read(1, limit_bytes=size) == written[:1]
        assert journal.sync() == 50
    assert list(read_events(tmp_path)) == written
    assert list(read_events(tmp_path, after=48)) == written[48:]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_cut_at_every_byte(tmp_path: Path) -> None:
    written = fill(tmp_path / "whole")
    whole = (tmp_path / "whole" / FILE).read_bytes()
    ends = [*frames.scan(memoryview(whole)).offsets[1:], len(whole)]
    for size in range(len(whole)):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / FILE).write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        assert list(read_events(folder)) == written[:kept] if size >= 16 else True
        with Journal.open(folder) as journal:
            events = journal.read()
            torn = size - (ends[kept - 1] if kept else 16)
            assert events[:kept] == written[:kept]
            if torn > 0:
                (cut,) = events[kept:]
                assert (cut.kind, cut.data["bytes"], cut.data["lost"]) == ("journal.cut", torn, 0)
                aside = folder / cut.data["file"]
                assert aside.read_bytes() == whole[size - torn : size]
                aside.unlink()
            else:
                assert len(events) == kept
            new = journal.append("tag.added", {"tag": "after"})
        assert [e.seq for e in read_events(folder)] == list(range(1, new.seq + 1))
        (folder / FILE).unlink()


def test_flip_at_every_byte_loses_one_event_at_most(tmp_path: Path) -> None:
    written = fill(tmp_path / "whole")
    whole = (tmp_path / "whole" / FILE).read_bytes()
    for at in range(frames.HEADER.size, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        (tmp_path / FILE).write_bytes(damaged)
        with Journal.open(tmp_path) as journal:
            events = journal.read()
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        lost = [w for w in written if w not in events]
        assert len(lost) == 1, at
        assert events[-1].kind == "journal.cut"
        if lost[0] is not written[-1]:
            assert events[lost[0].seq - 1].kind == "journal.gap"
            assert events[-1].data["lost"] == 1
        for aside in tmp_path.glob("journal.cut-*"):
            aside.unlink()


def test_zeros_after_a_power_cut_are_no_frames(tmp_path: Path) -> None:
    written = fill(tmp_path)
    with (tmp_path / FILE).open("ab") as file:
        file.write(bytes(5000))
    with Journal.open(tmp_path) as journal:
        assert journal.read()[:-1] == written
        assert journal.read()[-1].data["bytes"] == 5000
    with Journal.open(tmp_path) as journal:
        assert journal.last_seq == len(written) + 1  # a sound journal is not cut again


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"PK\x03\x04" + bytes(40), "not a session journal"),
        (b"LAB", None),
        (b"nope", "not a session journal"),
        (frames.HEADER.pack(frames.MAGIC, 9, 9, 0), "needs a reader of schema 9"),
    ],
)
def test_a_file_that_is_no_journal(tmp_path: Path, content: bytes, pattern: str | None) -> None:
    (tmp_path / FILE).write_bytes(content)
    if pattern is None:
        Journal.open(tmp_path).close()
        assert list(read_events(tmp_path)) == []
        return
    with pytest.raises(BadFile, match=pattern):
        Journal.open(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_hostile_length_costs_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff\xff\xff\xff" * 3 + b"\x94" * 300_000)
    before = time.monotonic()
    with Journal.open(tmp_path) as journal:
        assert journal.last_seq == 4
    assert time.monotonic() - before < 20


def test_two_writers_are_refused_and_readers_are_not(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append("tag.added", {"tag": "one"})
        with pytest.raises(LabError, match="in use by process"):
            Journal.open(tmp_path)
        with JournalReader.open(tmp_path) as reader:
            journal.append("tag.added", {"tag": "two"})
            assert [event.data["tag"] for event in reader.read()] == ["one"]
    Journal.open(tmp_path).close()


def test_a_missing_journal_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such session journal"):
        JournalReader.open(tmp_path / "nope")


def test_an_event_too_large_or_not_plain_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.append("tag.added", {"tag": "one"})
        with pytest.raises(LabError, match="at most"):
            journal.append("note.added", {"id": "n", "text": "x" * (frames.MAX_PAYLOAD + 1)})
        with pytest.raises(LabError, match="cannot be written"):
            journal.append("tag.added", {"tag": 2**80})
        assert journal.append("tag.added", {"tag": "two"}).seq == 2
    assert len(list(read_events(tmp_path))) == 2


def test_full_disk_keeps_everything_before(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the rest of a write, as a full disk does: after a short write."""
    code = """
import resource, signal, sys
from labtui_artifacts.errors import LabError
from labtui_sessions.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
failed = 0
for i in range(400):
    try:
        journal.append("note.added", {"id": str(i), "text": "x" * 100})
    except LabError as error:
        assert "\\n" not in str(error) and "not written" in str(error), error
        failed += 1
    assert journal.path.stat().st_size == journal.size <= 20_000
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append("tag.added", {"tag": "space again"})
print(failed, journal.last_seq)
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=_env(), check=True
    )
    failed, last = map(int, out.stdout.split())
    assert failed > 100 and failed + last == 401
    events = list(read_events(tmp_path))
    assert [e.seq for e in events] == list(range(1, last + 1))
    assert events[-1].data == {"tag": "space again"}


WRITER = """
import sys
from labtui_sessions.journal import Journal
journal = Journal.open(sys.argv[1])
i = 0
while True:
    event = journal.append("note.added", {"id": str(i), "text": "word " * (i % 400)})
    sys.stdout.buffer.write(event.seq.to_bytes(8, "little"))  # told only after it was written
    sys.stdout.buffer.flush()
    i += 1
"""


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.soak)])
def test_kill_9_loses_nothing_that_was_told(tmp_path: Path, kills: int) -> None:
    told = 0
    for _ in range(kills):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=_env()
        )
        assert writer.stdout is not None
        first = told
        while told < first + 300:
            told = int.from_bytes(writer.stdout.read(8), "little")
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read()
        told = int.from_bytes(rest[(len(rest) // 8 - 1) * 8 :][:8], "little") if len(rest) >= 8 else told
        writer.wait()
        events = list(read_events(tmp_path))
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        assert len(events) >= told
        told = len(events)


def test_scan_reads_a_long_journal_quickly_and_in_bounded_memory(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for i in range(20_000):
            journal.append("row.tokens", {"job": "j", "row": "r", "start": i, "pieces": ["word"], "ids": [i]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert sum(1 for _ in read_events(tmp_path)) == 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5


def _env() -> dict[str, str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / wing) for wing in ("", "kernels", "artifacts", "sessions"))
    return {**os.environ, "PYTHONPATH": path}
