"""Playing a session back: the clock that drives a :class:`labtui_sessions.replay.Replay` for the screens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from labtui_sessions.log import EventLog
from labtui_sessions.replay import Replay
from labtui_sessions.source import RowText
from labtui_sessions.state import SessionState
from labtui_sessions.tables import Page

BATCH = 400
"""Most events put into the state before the screen gets a turn."""


class Player:
    """A replay that plays: a source for the screens, with a position, a speed and a play button."""

    live = False

    def __init__(self, log: EventLog, *, speed: float = 1.0, at: int | None = None, title: str = "") -> None:
        """``at``: the event to begin at; None begins at the start and plays."""
        self._replay = Replay(log, speed=speed)
        self._changed: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self.title = title
        if at is not None:
            self._replay.seek(at)

    # -- source ---------------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        return self._replay.state

    def on_change(self, changed: Callable[[], None]) -> None:
        if changed not in self._changed:
            self._changed.append(changed)

    async def page(
        self,
        table: str,
        start: int,
        stop: int,
        *,
        sort: str | None = None,
        descending: bool = False,
        filter: str = "",
    ) -> Page:
        return await self._replay.page(table, start, stop, sort=sort, descending=descending, filter=filter)

    async def row_text(self, key: str) -> RowText:
        return await self._replay.row_text(key)

    # -- transport ------------------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        return self._replay.seq

    @property
    def last(self) -> int:
        return self._replay.last_seq

    @property
    def playing(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def speed(self) -> float:
        return self._replay.speed

    @property
    def at_event(self) -> str:
        """Kind of the event that comes next; ``end`` at the end."""
        event = self._replay.next_event()
        return event.kind if event is not None else "end"

    def seek(self, seq: int) -> None:
        """Go to an event; playing goes on from there."""
        self._replay.seek(seq)
        if self.playing:
            self.play()
        self._tell()

    def set_speed(self, speed: float) -> None:
        self._replay.speed = speed
        if self.playing:
            self.play()
        self._tell()

    def toggle(self) -> None:
        """Play, or pause; at the end it begins anew."""
        if self.playing:
            self.pause()
            return
        if self._replay.at_end:
            self._replay.seek(0)
        self.play()

    def play(self) -> None:
        """Play from here. Needs a running event loop."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._tell()

    def pause(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._tell()

    async def _run(self) -> None:
        """Wait for each event's time; events that are due together are put in together."""
        loop = asyncio.get_running_loop()
        due, put = loop.time(), 0
        while (delay := self._replay.delay()) is not None:
            due += delay
            wait = due - loop.time()
            if wait > 0.002 or put >= BATCH:
                self._tell()
                put = 0
                await asyncio.sleep(max(0.0, wait))
            self._replay.advance()
            put += 1
        self._task = None
        self._tell()

    def _tell(self) -> None:
        for changed in self._changed:
            changed()


def open_player(path: Path | str, *, speed: float = 1.0, at: int | None = None) -> Player:
    """A player of a saved session file; raises BadFile or UsageError with one line."""
    from labtui_sessions.bundle import open_bundle

    bundle = open_bundle(path)
    return Player(bundle, speed=speed, at=at, title=bundle.summary.title)
