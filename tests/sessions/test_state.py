"""The reducer: what it shows, that it is bounded, and that live, replayed and resumed states are equal."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import BadFile
from labtui_sessions import rows as rowbook
from labtui_sessions.events import Event, decode, encode
from labtui_sessions.state import MAX_SNAPSHOT, SessionState, from_snapshot, reduce
from tests.sessions.random_events import sessions

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(*events: tuple[str, dict[str, Any]]) -> SessionState:
    state = SessionState()
    for seq, (kind, data) in enumerate(events, 1):
        reduce(state, decode(encode(Event(seq, 1000.0 + seq, kind, data))))
    return state


def replay(events: list[Event]) -> SessionState:
    state = SessionState()
    for event in events:
        reduce(state, event)
    return state


ROW: dict[str, Any] = {"job": "j1", "row": "r1"}


def tokens(start: int, *pieces: str, plain: bool = False) -> tuple[str, dict[str, Any]]:
    count = len(pieces)
    data = {**ROW, "start": start, "ids": [1] * count, "pieces": list(pieces), "logprobs": [-0.5] * count}
    return "row.tokens", {**data, "plain_logprobs": [-2.0] * count if plain else None}


def test_a_steered_answer_from_queue_to_end() -> None:
    strengths = [{"text": "8%", "alpha": 2.0, "abs": 39.0, "pct": 8.0}]
    state = play(
        ("session.opened", {"id": "s1", "title": "mutex", "kernel": "toy", "versions": {}, "created": 5.0}),
        ("kernel.state", {"state": "ready"}),
        ("model.ready", {"info": {"name": "toy-qwen3", "blocks": 8}}),
        ("job.queued", {"job": "j1", "kind": "generate", "spec": {"prompt": "Why?"}}),
        ("job.started", {"job": "j1", "plan": {"rows": 2, "cells": 4}}),
        ("row.started", {**ROW, "arm": "steered", "edits": "8%*terse@llm.4", "strengths": strengths}),
        tokens(0, "Be", "cause", plain=True),
        ("knob", {**ROW, "edit": 0, "strength": 1.0, "strength_text": "1.0", "step": 2}),
        tokens(2, " it", "."),
        ("row.finished", {**ROW, "finish": "stop", "text": "Because it.", "words": 2, "tokens": 4,
                          "metrics": {"perplexity": 1.7, "kl": None}, "reasons": {"kl": "not asked for"}}),
        ("cell.committed", {"job": "j1", "cell": "c1", "table": "sweep", "rows": [{"words": 2}]}),
        ("cell.committed", {"job": "j1", "cell": "c1", "table": "sweep", "rows": [{"words": 2}]}),
        ("job.finished", {"job": "j1", "status": "done", "seconds": 2.0, "audit": {"ok": True}}),
    )  # fmt: skip
    row = state.rows["j1/r1"]
    assert (row.text, row.pieces, row.whole) == ("Because it.", ["Be", "cause", " it", "."], True)
    assert row.plain_logprobs == [-2.0, -2.0, None, None]
    assert (row.finish, row.tokens, row.words, row.reasons["kl"]) == ("stop", 4, 2, "not asked for")
    assert [(k.edit, k.strength, k.step) for k in row.knobs] == [(0, 1.0, 2)]
    (point,) = state.tried
    assert (point.alpha, point.abs, point.pct, point.words, point.perplexity) == (2.0, 39.0, 8.0, 2, 1.7)
    assert point.knobbed
    assert (state.tables["sweep"].rows, state.tables["sweep"].cells) == (1, 1)  # the second was the same cell
    job = state.jobs["j1"]
    assert (job.status, job.cells, job.fraction, job.audit) == ("done", 1, 0.25, {"ok": True})
    assert state.prompts == ["Why?"] and state.last_jobs == {"generate": "j1"}
    assert (state.id, state.title, state.kernel.state, state.created) == ("s1", "mutex", "ready", 5.0)
    assert state.skipped == 0 and state.unknown == {}


def test_unknown_and_malformed_events_are_counted_and_change_nothing_else() -> None:
    state = play(
        ("tag.added", {"tag": "good", "colour": "a key of a newer version"}),
        ("hologram.shown", {"x": 1}),
        ("tag.added", {"tag": 7}),
        ("row.tokens", {**ROW, "start": 0, "pieces": ["a", "b"], "logprobs": [-1.0]}),
        ("note.added", {"id": "n" * 500, "text": ""}),
        ("job.queued", {}),
    )
    assert state.tags == ["good"]
    assert (state.skipped, state.unknown, state.seq) == (4, {"hologram.shown": 1}, 6)


def test_an_event_already_in_the_state_changes_nothing() -> None:
    state = play(("row.started", ROW), tokens(0, "a", "b"))
    before = state.snapshot()
    reduce(state, Event(2, 9.0, *tokens(0, "a", "b")))
    assert state.snapshot() == before


def test_overlapping_and_missing_chunks_of_a_row() -> None:
    state = play(("row.started", ROW), tokens(0, "a", "b"), tokens(1, "b", "c"))
    row = state.rows["j1/r1"]
    assert (row.text, row.tokens, row.first) == ("abc", 3, 0)
    reduce(state, Event(4, 0.0, *tokens(10, "k")))
    assert (row.pieces, row.first, row.tokens) == (["k"], 10, 11)


def test_a_row_that_begins_again_after_a_lost_worker_starts_empty() -> None:
    state = play(
        ("job.queued", {"job": "j1", "kind": "generate"}),
        ("job.started", {"job": "j1"}),
        ("row.started", ROW),
        tokens(0, "half"),
        ("worker.lost", {"reason": "killed", "exit": -9}),
        ("job.started", {"job": "j1"}),
        ("row.started", ROW),
        tokens(0, "whole"),
    )
    assert state.rows["j1/r1"].text == "whole"
    assert state.jobs["j1"].starts == 2
    assert [(loss.reason, loss.exit) for loss in state.losses] == [("killed", -9)]


def test_notes_tags_titles_and_artifacts_come_and_go() -> None:
    state = play(
        ("note.added", {"id": "1", "text": "look at block 12"}),
        ("note.added", {"id": "2", "text": "gone soon", "job": "j1"}),
        ("note.removed", {"id": "2"}),
        ("tag.added", {"tag": "a"}),
        ("tag.added", {"tag": "a"}),
        ("tag.added", {"tag": "b"}),
        ("tag.removed", {"tag": "a"}),
        ("session.titled", {"title": "T"}),
        ("artifact.saved", {"name": "terse", "kind": "direction", "meta": {"method": "pair"}}),
        ("artifact.saved", {"name": "old", "kind": "direction"}),
        ("artifact.renamed", {"old": "terse", "new": "terse-2"}),
        ("artifact.deleted", {"name": "old"}),
        ("patch.captured", {"job": "j", "row": "r", "site": "llm.3.out", "position": 4, "norm": 2.5}),
    )
    assert [n.text for n in state.notes.values()] == ["look at block 12"]
    assert (state.tags, state.title) == (["b"], "T")
    assert [(a.name, a.meta) for a in state.artifacts.values()] == [("terse-2", {"method": "pair"})]
    assert state.patches[0].site == "llm.3.out"


def test_the_oldest_texts_go_first_and_the_newest_row_keeps_its_own() -> None:
    state = SessionState()
    seq = 0
    for n in range(80):
        row = {"job": "j", "row": f"r{n}"}
        pieces = [" word"] * 400
        for kind, data in [
            ("row.started", row),
            ("row.tokens", {**row, "start": 0, "pieces": pieces, "logprobs": [-1.0] * 400}),
            ("row.finished", {**row, "finish": "length", "text": "".join(pieces), "tokens": 400}),
        ]:
            seq += 1
            reduce(state, Event(seq, 0.0, kind, data))
    assert len(state.rows) <= rowbook.MAX_ROWS
    views = list(state.rows.values())
    assert views[-1].pieces and views[-1].whole and views[-1].row == "r79"
    assert not views[0].pieces and views[0].first == 400
    assert [v.row for v in views] == [f"r{n}" for n in range(80 - len(views), 80)]


def test_a_very_long_running_row_keeps_its_end() -> None:
    state = play(("row.started", ROW))
    for n in range(200):
        reduce(state, Event(2 + n, 0.0, *tokens(100 * n, *[f"{100 * n + i} " for i in range(100)])))
    row = state.rows["j1/r1"]
    assert row.tokens == 20_000 and row.first + len(row.pieces) == 20_000 and row.first > 0
    assert row.text.endswith("19999 ") and not row.whole
    full = "".join(f"{i} " for i in range(20_000))
    assert full[row.text_from :] == row.text


@RELAXED
@given(sessions())
def test_any_session_reduces_without_an_error_to_a_bounded_state(events: list[Event]) -> None:
    state = replay(events)
    assert state.seq == len(events)
    assert len(state.snapshot()) <= MAX_SNAPSHOT
    for row in state.rows.values():
        bound = row.head_bytes + row.detail_bytes + row.text_bytes
        assert len(msgspec.msgpack.encode(row)) <= bound


@RELAXED
@given(sessions(), st.integers(0, 60))
def test_live_equals_replayed_equals_snapshot_and_tail(events: list[Event], at: int) -> None:
    live = replay(events)  # the objects themselves, as the broker reduces them
    replayed = replay([decode(encode(event)) for event in events])
    assert replayed.snapshot() == live.snapshot()
    resumed = from_snapshot(replay(events[:at]).snapshot())
    for event in events:  # those before are in it already
        reduce(resumed, decode(encode(event)))
    assert resumed.snapshot() == live.snapshot()


def test_a_hostile_session_stays_under_the_bound() -> None:
    """Everything as long as it may be, in every part at once."""
    rng = random.Random(0)
    state = SessionState()
    big = {f"key{i}" * 9: "v" * rng.choice([10, 300, 5000]) for i in range(60)}
    seq = 0

    def put(kind: str, /, **data: Any) -> None:
        nonlocal seq
        seq += 1
        reduce(state, Event(seq, 1.0, kind, data))

    put("session.opened", id="é" * 200, title="t" * 9999, kernel="k" * 999, versions=big)
    put("kernel.state", state="s" * 999, detail="d" * 9999)
    put("model.ready", info=big)
    for n in range(400):
        name = f"{n}-" + "漢" * 190
        put("job.queued", job=name, kind=f"kind{n}" * 30, spec={"prompt": "p" * 5000, "n": n}, client=name)
        put("job.started", job=name, plan=big)
        put("job.finished", job=name, status="failed", error="e" * 9999, audit=big, result=big)
        put("job.queued", job="live" + name, kind="generate", spec={"prompt": f"{n}" + "q" * 3000})
        put("note.added", id=name, text="n" * 9999)
        put("tag.added", tag=name)
        put("artifact.saved", name=name, kind="k" * 999, meta=big)
        put("patch.captured", job=name, row=name, site=name, position=n)
        put(
            "image.added",
            digest=f"sha256:{n:064x}",
            name="漢" * 199,
            width=99_999,
            height=99_999,
            thumbnail=b"x" * 9,
        )
        put("worker.lost", reason="r" * 9999)
        put("journal.cut", bytes=1, at=1, file="f" * 999)
        put(f"unknown{n}" * 30)
        columns = {f"{c}" * 90: 1 for c in range(200)}
        put("cell.committed", job=name, cell=name, table=name, rows=[columns])
        row = {"job": name, "row": name}
        images = [{"digest": f"sha256:{n:064x}", "start": 4, "rows": 9, "cols": 9, "grid": [1, 18, 18]}] * (
            n % 20
        )
        put(
            "row.started",
            **row,
            arm="a" * 999,
            edits="e" * 9999,
            pieces=["漢"] * 1500,
            edited=[9] * 999,
            images=images,
        )
        put("row.tokens", **row, start=0, pieces=["漢字"] * 2500, logprobs=[-0.1] * 2500)
        put("knob", **row, edit=0, strength=1.0, strength_text="x" * 999)
        put("row.finished", **row, text="t" * 90_000, metrics={f"m{i}": 0.1 for i in range(99)}, words=3)
        assert len(state.snapshot()) <= MAX_SNAPSHOT, n
    assert state.skipped == 0 and state.jobs_dropped > 0
    assert from_snapshot(state.snapshot()).snapshot() == state.snapshot()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x81\xa3seq\xa1x", bytes(MAX_SNAPSHOT + 1)])
def test_a_snapshot_that_is_none_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(BadFile, match="session snapshot") as caught:
        from_snapshot(data)
    assert "\n" not in str(caught.value)


def test_pictures_are_known_by_their_last_event_and_rows_by_where_they_had_them() -> None:
    one, two = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    view = {"width": 280, "height": 112, "thumbnail": b"png"}
    where = {"digest": one, "start": 3, "rows": 4, "cols": 10, "grid": [1, 8, 20]}
    state = play(
        ("image.added", {"digest": one, "name": "cat.png", **view}),
        ("image.added", {"digest": two, "name": "dog.png", **view}),
        ("image.added", {"digest": one, "name": "kitten.png", **view}),
        ("row.started", {**ROW, "images": [where]}),
        ("image.added", {"name": "no digest"}),
    )
    assert list(state.images) == [two, one] and state.skipped == 1
    assert (state.images[one].name, state.images[one].width, state.images[one].seq) == ("kitten.png", 280, 3)
    assert state.rows["j1/r1"].images == [where]
    again = from_snapshot(state.snapshot())
    assert again.images == state.images and again.rows["j1/r1"].images == [where]
