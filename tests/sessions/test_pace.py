"""How long what is planned takes, from what was timed."""

from __future__ import annotations

from typing import Any

import pytest

from labtui_sessions.events import Event
from labtui_sessions.fields import JobView
from labtui_sessions.pace import Speed, seconds_for
from labtui_sessions.state import SessionState, reduce


def state(*events: tuple[str, float, dict[str, Any]]) -> SessionState:
    found = SessionState()
    for seq, (kind, t, data) in enumerate(events, 1):
        reduce(found, Event(seq, t, kind, data))
    return found


def test_time_is_by_the_speed_of_the_last_sweep() -> None:
    speed = Speed()
    assert speed.seconds(100, 64, SessionState()) == {}
    speed.note({"tokens_per_second": 200.0, "tokens": 1_000, "committed": 50})
    assert speed.seconds(100, 64, SessionState()) == {"seconds": 10.0, "measured": "sweep"}
    assert speed.seconds(100, 5, SessionState())["seconds"] == 2.5, "no row has more tokens than the limit"
    for nothing in (None, {}, {"tokens_per_second": None, "tokens": 0, "committed": 0}):
        speed.note(nothing)
    assert speed.rate == 200.0, "a sweep with nothing new measures nothing"


def test_before_the_first_sweep_it_is_by_answers_written_alone() -> None:
    there = state(
        ("job.queued", 0.0, {"job": "j", "kind": "generate", "spec": {}, "priority": "interactive"}),
        ("row.started", 1.0, {"job": "j", "row": "plain", "arm": "plain"}),
        ("row.finished", 5.0, {"job": "j", "row": "plain", "finish": "stop", "tokens": 40, "text": "a"}),
    )
    assert Speed().seconds(10, 64, there) == {"seconds": pytest.approx(40.0), "measured": "answers"}


def test_seconds_are_those_that_the_last_readings_took() -> None:
    def job(kind: str, prompts: int, seconds: float | None, status: str = "done") -> JobView:
        return JobView(job="j", kind=kind, status=status, seconds=seconds, plan={"prompts": prompts})

    wanted = {"prompts": 30}
    assert seconds_for(wanted, []) is None
    assert seconds_for({}, [job("direction", 10, 2.0)]) is None
    done = [job("diagnose", 10, 2.0), job("direction", 10, 5.0), job("sweep", 10, 90.0)]
    assert seconds_for(wanted, done) == pytest.approx(15.0)
    assert seconds_for(wanted, [*done, job("diagnose", 10, 9.0, "failed")]) == pytest.approx(15.0)
