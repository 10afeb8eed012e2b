"""The line that drives a replay: where it is, how fast it goes, and a bar to scrub."""

from __future__ import annotations

from typing import Protocol

from textual import events
from textual.content import Content
from textual.widgets import Static


class Played(Protocol):
    """A replay as the transport line sees it."""

    @property
    def seq(self) -> int: ...

    @property
    def last(self) -> int: ...

    @property
    def playing(self) -> bool: ...

    @property
    def speed(self) -> float: ...

    @property
    def at_event(self) -> str: ...

    def seek(self, seq: int) -> None: ...


class Transport(Static):
    """``▶ 123/456 ━━━━━━●────── 2x  row.tokens``; a click seeks."""

    def __init__(self) -> None:
        super().__init__(id="transport")
        self._replay: Played | None = None
        self._bar = (0, 1)

    def show(self, replay: Played) -> None:
        """Bring the line up to date."""
        self._replay = replay
        width = max(40, self.size.width or 80)
        head = f"{'▶' if replay.playing else '❚❚'} event {replay.seq}/{replay.last} "
        tail = f" {replay.speed:g}x  {replay.at_event}"
        room = max(8, width - len(head) - 26)
        at = round((room - 1) * (replay.seq / replay.last)) if replay.last else 0
        self._bar = (len(head) + 1, room)
        self.update(
            Content.assemble(
                (head, "bold"),
                ("━" * at, "$lab-second"),
                ("●", "bold $lab-second"),
                ("─" * (room - at - 1), "$lab-line"),
                (tail, "$lab-dim"),
            ),
            layout=False,
        )

    def on_click(self, event: events.Click) -> None:
        start, room = self._bar
        if self._replay is not None and start <= event.x < start + room:
            self._replay.seek(round((event.x - start) / max(1, room - 1) * self._replay.last))
