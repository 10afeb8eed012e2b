"""What the screens read, and how often they are painted.

A screen is a projection of a session's state. It reads a :class:`Source`, which is a live kernel or a
replayed file, and never knows which. :class:`Pump` bounds the rate: the latest state wins, frames in
between are
dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labtui_artifacts.errors import LabError, Unreachable
from labtui_kernels.lang.shape import ModelShape
from labtui_sessions.source import Source as SessionSource

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView, RowView
    from labtui_sessions.state import SessionState

Changed = Callable[[], None]
SOON = 0.002
"""Shortest wait in seconds before a paint: changes that come together are painted together."""


class Source(SessionSource, Protocol):
    """A session as the screens see it: its state now, its tables and texts by range, and when it changes."""

    @property
    def live(self) -> bool:
        """Whether a kernel stands behind it, so that requests make sense."""
        ...

    def on_change(self, changed: Changed) -> None:
        """Call ``changed`` after anything here has changed, on the app's own event loop."""
        ...


@dataclass(frozen=True)
class Link:
    """How the line to the kernel is: ``phase`` is ``up``, ``connecting``, ``lost`` or ``closed``."""

    phase: str = "up"
    detail: str = ""
    attempt: int = 0
    retry_at: float = 0.0
    """When the next attempt is made, in seconds of ``time.monotonic``; 0 where none is planned."""

    @property
    def up(self) -> bool:
        return self.phase == "up"


class Kernel(Source, Protocol):
    """A live kernel: a source that also takes requests."""

    @property
    def name(self) -> str: ...

    @property
    def link(self) -> Link: ...

    @property
    def telemetry(self) -> Mapping[str, Any]: ...

    async def request(self, method: str, **params: Any) -> Any:
        """Ask the kernel; raises a LabError with its one line."""
        ...

    def retry_now(self) -> None:
        """Do not wait for the next attempt to reconnect."""
        ...

    async def close(self) -> None:
        """Detach; the kernel goes on."""
        ...


@dataclass(frozen=True)
class KernelCard:
    """A kernel in the list of Home. Sizes in bytes, times in seconds; None where it was not said."""

    name: str
    state: str = ""
    model: str = ""
    detail: str = ""
    progress: float | None = None
    device: str = ""
    memory_used: int | None = None
    memory_total: int | None = None
    clients: int | None = None
    uptime: float | None = None
    error: str = ""


@dataclass(frozen=True)
class SessionCard:
    """A session in a list: one that lies in the home folder, or a saved file. ``when`` is seconds since
    the epoch."""

    id: str
    title: str = ""
    when: float = 0.0
    model: str = ""
    events: int | None = None
    jobs: int | None = None
    tags: tuple[str, ...] = ()
    path: str = ""
    kernel: str = ""


@dataclass(frozen=True)
class Start:
    """What starts a kernel; empty text leaves a choice to the kernel."""

    name: str
    model: str
    dtype: str = "auto"
    device: str = "auto"
    quantize: str = ""

    def command(self) -> str:
        """The same start as a command line."""
        from shlex import quote

        words = ["labtui", "kernel", "start", quote(self.name), "--model", quote(self.model)]
        if self.dtype != "auto":
            words += ["--dtype", self.dtype]
        if self.device != "auto":
            words += ["--device", self.device]
        if self.quantize:
            words += ["--quantize", self.quantize]
        return " ".join(words)


class Lobby(Protocol):
    """The machine as Home sees it: kernels that run, sessions that lie there, and ways to start and open
    them."""

    async def kernels(self) -> list[KernelCard]: ...

    async def sessions(self) -> list[SessionCard]: ...

    async def models(self) -> list[str]: ...

    async def profiles(self) -> dict[str, Start]: ...

    async def start(self, start: Start) -> None: ...

    async def stop(self, name: str) -> None: ...

    async def connect(self, name: str) -> Kernel: ...

    async def open(self, card: SessionCard) -> Source: ...

    async def save(self, kernel: Kernel, path: Path) -> None:
        """Fetch the kernel's session as one file on this machine, in place of one that is there."""
        ...


@dataclass
class Rates:
    """Frames a second, of text and of charts, and bytes a second to the terminal (None: as many as come)."""

    text: float = 15.0
    chart: float = 8.0
    bytes: float | None = None

    @classmethod
    def suited(cls, *, low_bandwidth: bool, environ: Mapping[str, str] | None = None) -> Rates:
        """8 chart frames a second here, 2 over SSH with 20 KB/s; fewer, with 4 KB/s, for a slow line."""
        environ = os.environ if environ is None else environ
        remote = bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))
        rates = cls(10.0, 2.0, 20_000.0) if remote else cls()
        return cls(rates.text / 2.5, rates.chart / 2, 4_000.0) if low_bandwidth else rates


@dataclass
class Meter:
    """What the frames cost: bytes written to the terminal, against so many a second.

    A frame that cost much delays the next one, by a second at most, so that a slow line never holds a queue of
    frames between a key and what it changes. What keys paint is counted and never delayed.
    """

    budget: float | None
    clock: Callable[[], float] = time.monotonic
    _level: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def spend(self, count: int) -> None:
        """``count`` bytes were written."""
        if self.budget:
            self._level = min(self._left() + count, 1.25 * self.budget)
            self._at = self.clock()

    def wait(self) -> float:
        """Seconds until another frame is affordable; a quarter of a second's bytes may be owed."""
        return max(0.0, self._left() / self.budget - 0.25) if self.budget else 0.0

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
        self.meter = Meter(self.rates.bytes, self.clock)

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


def shape_of(state: SessionState) -> ModelShape | None:
    """The shape of the session's model; None before one was loaded."""
    info = state.model or {}
    blocks, width = info.get("blocks"), info.get("width")
    if not isinstance(blocks, int) or not isinstance(width, int) or blocks < 1:
        return None
    return ModelShape(
        family=str(info.get("family", "")),
        blocks=blocks,
        width=width,
        vision_blocks=_whole(info.get("vision_blocks")),
        vision_width=_whole(info.get("vision_width")),
        deepstack=_whole(info.get("deepstack")),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def last_job(state: SessionState, *kinds: str) -> JobView | None:
    """The last job of any of ``kinds`` that the state still holds."""
    found = [job for job in state.jobs.values() if job.kind in kinds]
    return found[-1] if found else None


def arms(state: SessionState, job: str) -> tuple[list[RowView], list[RowView]]:
    """The kept rows of a generation: those of the plain arm, and all others."""
    rows = state.rows_of(job)
    return [r for r in rows if r.arm == "plain"], [r for r in rows if r.arm != "plain"]


def rate(row: RowView, now: float) -> float | None:
    """Tokens a second of a row, up to its end or to ``now`` (seconds since the epoch)."""
    seconds = (row.finished or now) - row.started
    return row.tokens / seconds if seconds > 0.05 and row.tokens else None


def need(kernel: Kernel | None) -> Kernel:
    """The kernel, or the one line that says there is none."""
    if kernel is None:
        raise Unreachable("no kernel is attached: press 1 for Home, then b starts the bundled toy")
    return kernel


def one_line(error: BaseException) -> str:
    """What went wrong, on one line for the user."""
    if isinstance(error, LabError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the kernel did not answer in time"
    return f"{type(error).__name__}: {error}"
