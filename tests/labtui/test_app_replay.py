"""A saved session on the same screens: equal to the live ones at the same event, and read-only."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labtui.projection import last_job
from labtui.replaying import Player, open_player
from labtui.screens.draft import Draft
from labtui_sessions.bundle import save
from labtui_sessions.events import Event
from tests.support.fake_kernel import FakeKernel, FakeLobby, direction_file
from tests.support.settling import workers_done
from tests.support.stories import kernel


class Log:
    """Events in memory, as an event log."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    @property
    def last_seq(self) -> int:
        return len(self.events)

    def read(
        self, from_seq: int = 1, limit: int | None = None, limit_bytes: int | None = None
    ) -> list[Event]:
        return self.events[from_seq - 1 : None if limit is None else from_seq - 1 + limit]


async def settled(pilot) -> None:
    for _ in range(2):
        await workers_done(pilot.app)
        pilot.app.screen.set_focus(None)
        pilot.app.pump.now()
        await pilot.pause()


def body(app) -> list[str]:
    """The painted cells between the bars, as text lines."""
    lines = ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]
    return lines[1:-2]


def up_to(made: FakeKernel, seq: int) -> FakeKernel:
    """A live kernel that has seen only the first events."""
    live = FakeKernel()
    for event in made.events[:seq]:
        live.emit(event.kind, **event.data)
    return live


@pytest.mark.parametrize("screen", ["sweep", "steer"])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
async def test_live_and_replayed_screens_are_equal_at_the_same_event(
    make_app, tmp_path: Path, screen: str, share: float
) -> None:
    made = kernel("running")
    assert made is not None
    seq = round(len(made.events) * share)
    seen = {}
    live = make_app(up_to(made, seq), first=screen)
    async with live.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        seen["live"] = body(live)
    path = tmp_path / "saved.safetensors"
    save(Log(made.events), path, artifacts={"terse": direction_file(tmp_path / "terse.safetensors")})
    played = make_app(None, lobby=FakeLobby(), replay=open_player(path, at=seq), first=screen)
    async with played.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        seen["replay"] = body(played)
    assert seen["live"] == seen["replay"]


async def test_stepping_playing_and_seeking(make_app) -> None:
    made = kernel("done")
    assert made is not None
    player = Player(Log(made.events), at=3)
    app = make_app(None, lobby=FakeLobby(), replay=player)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("right_square_bracket", "right_square_bracket", "left_square_bracket")
        assert player.seq == 4
        await pilot.press("ctrl+end")
        assert player.seq == player.last
        await pilot.press("ctrl+home", "greater_than_sign")
        assert player.seq == 0 and player.speed == 2.0
        await pilot.press("G", *"12", "enter")
        await pilot.pause()
        assert player.seq == 12
        player.set_speed(1000.0)
        await pilot.press("space")
        async with asyncio.timeout(20):
            while player.seq < player.last:
                await pilot.pause(0.02)
        assert player.state == made.state


async def test_a_replay_is_read_only(make_app) -> None:
    made = kernel("done")
    assert made is not None
    app = make_app(None, lobby=FakeLobby(), replay=Player(Log(made.events), at=len(made.events)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r", "x", "A", "D", "n")
        await pilot.pause()
        assert app.screen is app.lab_screen
        assert app.said == "" and app.screen.query_one("#transport").display


async def test_a_replay_before_its_first_run_has_no_draft_of_another(make_app) -> None:
    made = kernel("done")
    assert made is not None
    player = Player(Log(made.events), at=len(made.events))
    app = make_app(None, lobby=FakeLobby(), replay=player, first="steer")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.screen.draft.prompt  # type: ignore[attr-defined]
        await pilot.press("ctrl+home")
        await settled(pilot)
        assert app.screen.draft == Draft()  # type: ignore[attr-defined]


async def test_a_saved_file_plays_without_a_kernel(make_app, tmp_path: Path) -> None:
    made = kernel("done")
    assert made is not None
    path = tmp_path / "mutex.safetensors"
    save(Log(made.events), path)
    player = open_player(path, at=len(made.events))
    app = make_app(None, lobby=FakeLobby(), replay=player)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        job = last_job(player.state, "generate")
        assert job is not None and app.screen.query_one("#steered").text  # type: ignore[attr-defined]
        await pilot.press("Q")
        assert app.replay is None and app.current_mode == "home"
