"""What the Look screen says of a look at a video."""

from __future__ import annotations

from typing import Any

import pytest

from labtui.look_text import head_text
from labtui.looking import check_rects, effect_of, effect_spec, only_there, sight_of
from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.edits import parse_edits
from labtui_sessions.events import Event
from labtui_sessions.state import SessionState, reduce

DIGEST = "sha256:" + "a" * 64
PLAN = {"table": "look-1", "at": ["llm.1"], "digest": DIGEST, "number": 0, "grid": [2, 3], "size": [96, 64],
        "start": 28, "frame": 1, "frames": 4, "when": 1.25}  # fmt: skip


def state_of(*jobs: tuple[str, dict[str, Any], dict[str, Any]]) -> SessionState:
    state = SessionState()
    seq = 0
    for job, spec, plan in jobs:
        for kind, data in (("job.queued", {"job": job, "kind": "look", "spec": spec}),
                           ("job.started", {"job": job, "plan": plan})):  # fmt: skip
            seq += 1
            reduce(state, Event(seq, float(seq), kind, data))
    return state


def test_the_head_says_which_frame_is_in_view() -> None:
    job = state_of(("look-1", {}, PLAN)).jobs["look-1"]
    sight = sight_of(job)
    assert sight is not None and (sight.frame, sight.frames, sight.when) == (1, 4, 1.25)
    assert "frame 1 of 0-3, at 1.2 s (the first is shown)" in head_text(sight, "clip.mp4", "").plain
    first = sight_of(state_of(("look-1", {}, PLAN | {"frame": 0, "when": 0.25})).jobs["look-1"])
    assert first is not None and "frame 0 of 0-3, at 0.2 s ·" in head_text(first, "clip.mp4", "").plain
    picture = {name: value for name, value in PLAN.items() if name not in ("frame", "frames", "when")}
    still = sight_of(state_of(("look-1", {}, picture)).jobs["look-1"])
    assert still is not None and "frame" not in head_text(still, "photo.png", "").plain


@pytest.mark.parametrize(
    "wrong", [{"frame": 4}, {"frame": -1}, {"frame": "1"}, {"frames": None}, {"frames": True}]
)
def test_a_plan_that_names_no_frame_is_of_a_picture(wrong: dict[str, Any]) -> None:
    sight = sight_of(state_of(("look-1", {}, PLAN | wrong)).jobs["look-1"])
    assert sight is not None and (sight.frame, sight.frames) == (0, 1)


def test_what_an_edit_moved_is_of_the_same_frame() -> None:
    spec = {
        "prompt": [{"role": "user", "content": "x", "images": [DIGEST]}],
        "number": 0,
        "frame": 1,
        "fps": 4.0,
    }
    asked = effect_spec(spec, "8%*terse@llm.1")
    assert (asked["frame"], asked["fps"], asked["read"]) == (1, 4.0, ["effect"])
    moved = {"edits": "8%*terse@llm.1", "read": ["effect"]}
    state = state_of(("look-1", spec, PLAN), ("look-2", moved, PLAN | {"frame": 2, "table": "look-2"}))
    seen = sight_of(state.jobs["look-1"])
    assert seen is not None
    row = {"site": "llm.1", "patch": 0, "change": 1.0, "share": 0.1}
    reduce(
        state,
        Event(
            9, 9.0, "cell.committed", {"job": "look-2", "cell": "c", "table": "look-2-effect", "rows": [row]}
        ),
    )
    assert effect_of(state, seen) is None
    state.jobs["look-2"].plan["frame"] = 1
    assert effect_of(state, seen) is not None


def test_edits_may_name_any_frame_of_the_video() -> None:
    sight = sight_of(state_of(("look-1", {}, PLAN)).jobs["look-1"])
    assert sight is not None
    check_rects(parse_edits("8%*terse@llm.1@image0[2:4,0:2,1:3]"), sight)
    for wrong, line in (
        ("[2:5,0:2,1:3]", "is a video of 4 frames"),
        ("[0:1,0:3,0:1]", "has 2 rows and 3 columns"),
    ):
        with pytest.raises(UsageError, match=line):
            check_rects(parse_edits(f"8%*terse@llm.1@image0{wrong}"), sight)
    marked = only_there("8%*terse@llm.1@image0[2:4,0:2,1:3]", (0, 1, 0, 1), 0, "terse", "llm.1")
    assert marked.endswith("@image0[2:4,0:1,0:1]")
    assert only_there(marked, None, 0, "terse", "llm.1").endswith("@image0")
