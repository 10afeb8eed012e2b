"""What the screens read.

A screen is a projection of a session's state. It reads a :class:`Source`, which is a live kernel or a
replayed file, and never knows which. How often it is painted is told by :mod:`labtui.pump`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labtui_artifacts.errors import LabError, Unreachable
from labtui_kernels.lang.shape import ModelShape
from labtui_sessions.source import Source as SessionSource

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView, RowView
    from labtui_sessions.state import SessionState

Changed = Callable[[], None]


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

    via: str | None
    """The command that leads to another machine; None for this one."""

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
        merge=_whole(info.get("merge")),
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
