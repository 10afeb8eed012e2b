"""Playing a session back: the clock that drives a :class:`labtui_sessions.replay.Replay` for the screens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labtui.calibrating import GRIDS
from labtui_artifacts.errors import UsageError
from labtui_sessions.log import EventLog, each
from labtui_sessions.replay import Replay
from labtui_sessions.source import RowText
from labtui_sessions.state import SessionState
from labtui_sessions.tables import Page

READ = ("look", "diagnose")
"""Screens that are read at a session's end, not watched as it goes."""
END = 1 << 60
"""As ``at``: the session's last event."""
BATCH = 400
"""Most events put into the state before the screen gets a turn."""


class Player:
    """A replay that plays: a source for the screens, with a position, a speed and a play button."""

    live = False

    def __init__(self, log: EventLog, *, speed: float = 1.0, at: int | None = None, title: str = "") -> None:
        """``at``: the event to begin at; None is the start."""
        self._replay = Replay(log, speed=speed)
        self._changed: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._saved: dict[str, list[tuple[int, dict[str, Any]]]] | None = None
        self.title = title
        self._given = at is not None
        if at is not None:
            self._replay.seek(at)

    def begin(self) -> None:
        """Play a session that is watched as it goes, and show the end of one whose first screen is read: where a picture
        was looked at or poles were diagnosed, everything comes at once. An event that was asked for is where it stays.
        Needs a running event loop."""
        if self._given:
            return
        if self.first_screen in READ:
            self.seek(END)
        else:
            self.play()

    @property
    def first_screen(self) -> str:
        """The screen that shows most of the session: Look where a picture was read, else Steer, or Sweep or Diagnose
        where nothing else was run."""
        state = Replay(self._replay.log).seek(self.last)
        kinds = {job.kind for job in state.jobs.values()}
        if "look" in kinds:
            return "look"
        if kinds & {"generate", "patch"} or not kinds & {*GRIDS, "diagnose"}:
            return "steer"
        return "sweep" if kinds & set(GRIDS) else "diagnose"

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

    async def thumbnail(self, digest: str) -> bytes:
        return await self._replay.thumbnail(digest)

    async def result(self, job: str) -> dict[str, Any]:
        return await self._replay.result(job)

    async def detail(self, name: str) -> dict[str, Any]:
        """What an artifact's header said when it was saved, and its reference norms where they are kept."""
        if self._saved is None:
            self._saved = await asyncio.to_thread(_saved, self._replay.log)
        before = [meta for seq, meta in self._saved.get(name, ()) if seq <= self.seq]
        meta = before[-1] if before else {}
        return {"name": name, "meta": meta, "references": _references(self._replay.log, name)}

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


def _saved(log: EventLog) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """For each artifact, when it was saved (as sequence numbers) and with which header."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for event in each(log):
        meta = event.data.get("meta")
        if event.kind == "artifact.saved" and isinstance(meta, dict):
            found.setdefault(str(event.data.get("name")), []).append((event.seq, meta))
        elif event.kind == "artifact.renamed":
            old, new = str(event.data.get("old")), str(event.data.get("new"))
            found.setdefault(new, []).extend((event.seq, meta) for _, meta in found.get(old, ())[-1:])
    return found


def _references(log: EventLog, name: str) -> dict[str, dict[str, float]]:
    """The reference norms of a direction that a saved file includes, median and mean by site."""
    from labtui_sessions.bundle import Bundle  # here, because the app starts without numpy

    if not isinstance(log, Bundle):
        return {}
    try:
        info, tensors = log.artifact(name)
    except UsageError:
        return {}
    if info.kind != "direction" or not {"ref/median", "ref/mean"} <= tensors.keys():
        return {}
    sites = info.meta.get("sites", [])
    pairs = zip(tensors["ref/median"].tolist(), tensors["ref/mean"].tolist(), strict=True)
    return {
        str(site): {"median": median, "mean": mean}
        for site, (median, mean) in zip(sites, pairs, strict=False)
        if math.isfinite(median)
    }


def open_player(path: Path | str, *, speed: float = 1.0, at: int | None = None) -> Player:
    """A player of a saved session file; raises BadFile or UsageError with one line."""
    from labtui_sessions.bundle import open_bundle

    bundle = open_bundle(path)
    return Player(bundle, speed=speed, at=at, title=bundle.summary.title)
