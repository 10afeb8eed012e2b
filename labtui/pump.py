"""How often the screens are painted: frames a second, and bytes a second where the line is slow.

The latest state wins; frames in between are dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SOON = 0.002
"""Shortest wait in seconds before a paint: changes that come together are painted together."""
OWED = 0.25
"""Seconds of the budget that may be owed when a frame is painted."""
LONGEST, LONGEST_SLOW = 1.5, 6.0
"""The longest wait for a frame in seconds: over SSH, where a picture drawn anew costs ten seconds' bytes and an answer is
waited for behind it, and on a line that was called slow."""


@dataclass
class Rates:
    """Frames a second, of text and of charts, and bytes a second to the terminal (None: as many as come)."""

    text: float = 15.0
    chart: float = 8.0
    bytes: float | None = None
    longest: float = LONGEST

    @classmethod
    def suited(cls, *, low_bandwidth: bool, environ: Mapping[str, str] | None = None) -> Rates:
        """8 chart frames a second here, 2 over SSH with 20 KB/s; fewer, with 4 KB/s, for a slow line."""
        environ = os.environ if environ is None else environ
        remote = bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))
        rates = cls(10.0, 2.0, 20_000.0) if remote else cls()
        return cls(rates.text / 2.5, rates.chart / 2, 4_000.0, LONGEST_SLOW) if low_bandwidth else rates


@dataclass
class Meter:
    """What the frames cost: bytes written to the terminal, against so many a second.

    A frame that cost much delays the next one, by ``longest`` seconds at most, so that a slow line never holds a queue
    of frames between a key and what it changes. What keys paint is counted and never delayed.
    """

    budget: float | None
    longest: float = LONGEST
    clock: Callable[[], float] = time.monotonic
    _level: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def spend(self, count: int) -> None:
        """``count`` bytes were written."""
        if self.budget:
            self._level = min(self._left() + count, (OWED + self.longest) * self.budget)
            self._at = self.clock()

    def wait(self) -> float:
        """Seconds until another frame is affordable; `OWED` seconds' bytes may be owed."""
        return max(0.0, self._left() / self.budget - OWED) if self.budget else 0.0

    def _left(self) -> float:
        return max(0.0, self._level - (self.clock() - self._at) * (self.budget or 0.0))


@dataclass
class Pump:
    """Paints at a bounded rate.

    ``paint(charts)`` is called on the event loop, with ``charts`` telling whether charts are due as well;
    ``later(seconds, call)`` is the app's timer.
    """

    paint: Callable[[bool], None]
    later: Callable[[float, Callable[[], None]], object]
    rates: Rates
    clock: Callable[[], float] = time.monotonic
    frozen: bool = False
    meter: Meter = field(init=False)
    _last: float = field(default=-1e9, init=False)
    _last_chart: float = field(default=-1e9, init=False)
    _waiting: bool = field(default=False, init=False)
    _chart_waiting: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.rates.bytes, self.rates.longest, self.clock)

    def suit(self, rates: Rates) -> None:
        """Paint at other rates from now on."""
        self.rates = rates
        self.meter.budget, self.meter.longest = rates.bytes, rates.longest

    def changed(self) -> None:
        """Something is new: paint as soon as the rates allow, once for however many changes."""
        if self._waiting or self.frozen:
            return
        self._waiting = True
        self.later(max(SOON, self._last + 1 / self.rates.text - self.clock(), self.meter.wait()), self._due)

    def _due(self) -> None:
        if not self._waiting:
            return
        wait = self.meter.wait()  # the frame before is written after it was asked for
        if wait and not self.frozen:
            self.later(max(SOON, wait), self._due)
            return
        if not self.frozen:
            self.now()
        self._waiting = False

    def _chart_due(self) -> None:
        wait = self.meter.wait()
        if wait and not self.frozen:
            self.later(max(SOON, wait), self._chart_due)
            return
        self._chart_waiting = False
        if not self.frozen:
            self.now()

    def now(self) -> None:
        """Paint at once, whatever the rate; charts follow when they are due."""
        moment = self.clock()
        charts = moment - self._last_chart >= 1 / self.rates.chart - 1e-6
        self._last, self._waiting = moment, False
        if charts:
            self._last_chart = moment
        self.paint(charts)
        if not charts and not self._chart_waiting:
            self._chart_waiting = True
            self.later(max(SOON, self._last_chart + 1 / self.rates.chart - moment), self._chart_due)

    def thaw(self) -> None:
        """Paint what was held back."""
        self.frozen = False
        self.now()
