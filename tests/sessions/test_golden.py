"""Files that a released version wrote, kept as they are: every later version reads them the same.

``golden/schema-N`` is a session folder, ``golden/schema-N.safetensors`` the file saved from it. They are made
once, by ``scenario.write_session`` of that release, and never again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from labtui_sessions.bundle import open_bundle
from labtui_sessions.journal import JournalReader
from labtui_sessions.log import EventLog, row_text, state_at
from labtui_sessions.rerun import build
from labtui_sessions.verify import verify

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=["schema-1", "schema-1.safetensors"])
def log(request: pytest.FixtureRequest) -> EventLog:
    place = GOLDEN / request.param
    return JournalReader.open(place) if place.is_dir() else open_bundle(place)


def test_the_state_is_what_it_was(log: EventLog) -> None:
    assert log.last_seq == 39
    state = state_at(log)
    assert (state.id, state.title, state.tags) == ("schema-1", "mutex", ["terse"])
    assert (state.skipped, state.unknown) == (0, {})
    assert [(job.job, job.kind, job.status, job.rows) for job in state.jobs.values()] == [
        ("j1", "generate", "done", 0), ("j2", "sweep", "done", 4),
    ]  # fmt: skip
    assert [(p.alpha, p.pct, p.words, p.perplexity) for p in state.tried] == [
        (0.0, 0.0, 30, 1.5), (2.0, 8.0, 9, 3.5),
    ]  # fmt: skip
    row = state.rows["j1/steered"]
    assert row.text == "A mutex is a lock, held by one thread." and row.knobs[0].step == 6
    assert state.notes["n1"].text == "shorter, still names the lock"
    assert state.losses[0].exit == -9


def test_tables_texts_and_reruns_are_what_they_were(log: EventLog) -> None:
    assert row_text(log, "j1/plain").ids == list(range(10, 50))
    assert [row["key"] for row in build(log)["rows"]] == ["j1/plain", "j1/steered"]


def test_the_saved_file_is_sound() -> None:
    assert verify(GOLDEN / "schema-1").ok
    assert verify(GOLDEN / "schema-1.safetensors").ok
    table = open_bundle(GOLDEN / "schema-1.safetensors").tables().table("sweep")
    assert table.columns["words"].values == [18, 16, 14, 12]
    assert table.reasons == {2: {"perplexity": "the answer is empty"}}
