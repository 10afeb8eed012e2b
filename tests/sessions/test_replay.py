"""Replay: at every sequence number the state is the live one, from a file and from a journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtui_artifacts.errors import UsageError
from labtui_sessions import bundle as bundles
from labtui_sessions import replay as replays
from labtui_sessions.bundle import open_bundle, save
from labtui_sessions.journal import Journal, JournalReader, read_events
from labtui_sessions.log import EventLog
from labtui_sessions.replay import Replay
from labtui_sessions.state import SessionState, reduce
from tests.sessions.scenario import write_session


@pytest.fixture(params=["file", "journal"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    monkeypatch.setattr(bundles, "KEYFRAME_BYTES", 4_000)
    monkeypatch.setattr(replays, "_KEEP_EVERY", 10)
    folder = write_session(tmp_path / "s1", rows=60)
    if request.param == "journal":
        return JournalReader.open(folder)
    save(folder, tmp_path / "s.safetensors")
    bundle = open_bundle(tmp_path / "s.safetensors")
    assert bundle.keyframes
    return bundle


@pytest.fixture
def live(log: EventLog) -> list[bytes]:
    """The live state after each event, as bytes; index 0 is the empty one."""
    state = SessionState()
    states = [state.snapshot()]
    for event in log.read():
        reduce(state, event)
        states.append(state.snapshot())
    return states


def test_every_sequence_number_forwards_backwards_and_by_jumps(log: EventLog, live: list[bytes]) -> None:
    replay = Replay(log)
    last = replay.last_seq
    jumps = [5, 60, 3, last, 0, last // 2, last // 2 - 1, last]
    for seq in [*range(last + 1), *range(last, -1, -1), *jumps]:
        assert replay.seek(seq).snapshot() == live[seq]
    assert replay.step(-2).seq == last - 2
    assert replay.step(99).seq == last and replay.at_end
    assert replay.seek(-5).seq == 0


def test_playing_gives_every_event_once_and_caps_pauses(log: EventLog, live: list[bytes]) -> None:
    replay = Replay(log, speed=2.0, max_gap=1.0)
    seen = []
    while (delay := replay.delay()) is not None:
        assert 0.0 <= delay <= 0.5
        event = replay.advance()
        assert event is not None
        seen.append(event.seq)
        assert replay.state.snapshot() == live[event.seq]
    assert seen == list(range(1, replay.last_seq + 1))
    assert replay.advance() is None and replay.next_event() is None
    replay.seek(10)
    next_event = replay.next_event()
    assert next_event is not None and next_event.seq == 11


async def test_tables_and_texts_are_those_of_that_moment(log: EventLog) -> None:
    replay = Replay(log)
    cells = [event.seq for event in log.read() if event.kind == "cell.committed"]
    for count, seq in enumerate(cells[:9], 1):
        replay.seek(seq)
        page = await replay.page("sweep", 0, 99, sort="words")
        assert page.total == count == replay.state.tables["sweep"].rows
    tokens = [event.seq for event in log.read() if event.kind == "row.tokens"]
    replay.seek(tokens[0])
    assert (await replay.row_text("j1/plain")).text == "A mutex is"
    replay.seek(replay.last_seq)
    row = await replay.row_text("j1/steered")
    assert row.finish == "stop" and [k.step for k in row.knobs] == [6] and len(row.ids) == 11
    with pytest.raises(UsageError, match="no row 'j9/x'"):
        await replay.row_text("j9/x")


async def test_a_result_is_whole_however_long_and_there_from_its_event_on(tmp_path: Path) -> None:
    long = {"table": "t", "phases": [{"site": f"llm.{n}", "text": "x" * 200} for n in range(30)]}
    journal = Journal.open(tmp_path / "s")
    journal.append("job.queued", {"job": "j1", "kind": "calibrate", "spec": {}})
    journal.append("job.finished", {"job": "j1", "status": "done", "seconds": 1.0, "result": long})
    journal.append("job.finished", {"job": "j2", "status": "failed", "seconds": 1.0, "error": "no"})
    journal.close()
    replay = Replay(JournalReader.open(tmp_path / "s"))
    replay.seek(1)
    assert await replay.result("j1") == {}
    replay.seek(3)
    kept = replay.state.jobs["j1"].result
    assert kept is not None and "phases" not in kept, "the state keeps what fits"
    assert await replay.result("j1") == long and await replay.result("j2") == {}


def test_the_last_state_is_that_of_the_journal_file(log: EventLog, tmp_path: Path) -> None:
    state = SessionState()
    for event in read_events(tmp_path / "s1"):
        reduce(state, event)
    assert Replay(log).seek(log.last_seq).snapshot() == state.snapshot()
