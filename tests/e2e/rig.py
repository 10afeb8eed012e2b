"""A kernel under fault: started by the command line, watched by a client that remembers all it was shown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from labtui.client import AsyncLab, Change
from labtui_artifacts import paths
from labtui_kernels.broker import registry
from labtui_sessions.events import Event, encode
from labtui_sessions.journal import read_events
from tests.e2e.lab import LABTUI, labtui, must

PATIENCE = 150.0

SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": ["Explain what a mutex is.", "What is a cache?", "Describe a lighthouse."],
    "directions": ["random:1"],
    "sites": "llm.2,4",
    "strengths": ["4%", "8%"],
    "controls": "none",
    "max_new_tokens": 40,
    "batch": 3,
}
CELLS = 12

GENERATE: dict[str, Any] = {
    "kind": "generate",
    "prompt": "Explain what a mutex is.",
    "edits": "4%*random:1@llm.2",
    "max_new_tokens": 60,
}


def start(name: str = "k", *, env: Mapping[str, str] | None = None) -> str:
    """``labtui kernel start NAME --model toy-qwen3 --dtype float32 --wait``; what it said."""
    done = labtui(
        "kernel", "start", name, "--model", "toy-qwen3", "--dtype", "float32", "--wait", env=env, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def again(name: str = "k") -> None:
    """``labtui kernel start NAME --wait``, with nothing said about the model."""
    must("kernel", "start", name, "--wait", timeout=180)


def info(name: str = "k") -> dict[str, Any]:
    """``labtui kernel info NAME --json``."""
    return json.loads(must("kernel", "info", name, "--json"))


def state_of(pid: int) -> str:
    """The state letter of a process as the system shows it; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Look again and again until the condition gives something true."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {patience:g} s for {what}"
        time.sleep(0.02)
    return found


def kill(pid: int) -> None:
    """``kill -9``, and wait until the process has gone."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state_of(pid) in ("", "Z", "X"), f"process {pid} to end")


def kill_all() -> None:
    """Kill every kernel of this test's runtime folder; their workers die with them."""
    for name in registry.names():
        entry = registry.probe(name, timeout=5.0)
        if entry.hello is not None:
            with contextlib.suppress(ProcessLookupError):
                kill(entry.hello.pid)


def on_disk(session: str) -> list[Event]:
    """All events of a session's journal."""
    return list(read_events(paths.sessions() / session))


class Watcher:
    """A client that keeps the bytes of each event it was shown, and checks that none is missing."""

    def __init__(self, lab: AsyncLab) -> None:
        self.lab = lab
        self.first = lab.state.seq + 1
        self.shown: dict[int, bytes] = {}
        self.kinds: list[tuple[str, str]] = []
        self.told = 0
        """How often the kernel told of progress or memory."""
        self.resets = 0
        self.phases: list[str] = []
        self._task = asyncio.create_task(self._follow())
        self._news = asyncio.Event()

    async def _follow(self) -> None:
        async for change in self.lab.changes():
            self._take(change)

    def _take(self, change: Change) -> None:
        self.resets += change.reset
        self.told += change.telemetry
        for event in change.events:
            assert event.seq not in self.shown, f"event {event.seq} was shown twice"
            self.shown[event.seq] = encode(event)
            self.kinds.append((event.kind, str(event.data.get("job", ""))))
        if change.link and (not self.phases or self.phases[-1] != self.lab.link.phase):
            self.phases.append(self.lab.link.phase)
        self._news.set()

    def count(self, kind: str, job: str) -> int:
        """How many events of that kind the job has shown."""
        return self.kinds.count((kind, job))

    async def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait for news until the condition gives something true."""
        try:
            async with asyncio.timeout(patience):
                while not (found := condition()):
                    self._news.clear()
                    if self._task.done():
                        self._task.result()
                    await self._news.wait()
                return found
        except TimeoutError:
            lab = self.lab
            raise AssertionError(
                f"waited {patience:g} s for {what}; link {lab.link}, status {lab.status}, seq {lab.state.seq}"
            ) from None

    async def submit(self, spec: Mapping[str, Any]) -> str:
        """Queue a spec; its job."""
        return (await self.lab.request("submit", spec=dict(spec)))["job"]

    async def finished(self, job: str, patience: float = PATIENCE) -> Any:
        """Wait for the end of a job; its view."""
        await self.until(
            lambda: (view := self.lab.state.jobs.get(job)) and not view.live, f"the end of {job}", patience
        )
        return self.lab.state.jobs[job]

    def check(self) -> list[Event]:
        """Everything shown is on disk byte for byte, contiguous, without a gap; the events on disk."""
        if self._task.done():
            self._task.result()
        events = on_disk(self.lab.session)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert self.resets == 0, "the client lost the thread and took a snapshot"
        assert sorted(self.shown) == list(range(self.first, self.first + len(self.shown)))
        for seq, body in self.shown.items():
            assert seq <= len(events), f"event {seq} was shown and is lost; the journal ends at {len(events)}"
            assert encode(events[seq - 1]) == body, f"event {seq} is not what was shown"
        return events


@contextlib.asynccontextmanager
async def watching(name: str = "k", via: str | None = None) -> AsyncIterator[Watcher]:
    """A watcher of the kernel's current session."""
    lab = await AsyncLab.connect(name, via=via)
    watcher = Watcher(lab)
    try:
        yield watcher
    finally:
        watcher._task.cancel()
        await lab.close()


def cells(events: list[Event], job: str) -> list[str]:
    """The committed cells of a job, in their order."""
    return [str(e.data["cell"]) for e in events if e.kind == "cell.committed" and e.data["job"] == job]


def lines(events: list[Event], job: str) -> list[dict[str, Any]]:
    """The rows of a job's table, sorted by row."""
    found = [
        row
        for event in events
        if event.kind == "cell.committed" and event.data["job"] == job
        for row in event.data["rows"]
    ]
    return sorted(found, key=lambda row: row["row"])


def answers(events: list[Event], job: str) -> dict[str, tuple[str, str]]:
    """Arm, text and finish of each finished row of a job, the last word counts."""
    arms = {e.data["row"]: str(e.data.get("arm")) for e in events if _of(e, "row.started", job)}
    return {
        arms[e.data["row"]]: (e.data["text"], e.data["finish"]) for e in events if _of(e, "row.finished", job)
    }


def _of(event: Event, kind: str, job: str) -> bool:
    return event.kind == kind and event.data["job"] == job


def same(new: Any, old: Any) -> bool:
    """Equal; for measured numbers up to float32 rounding."""
    if isinstance(new, float) and isinstance(old, float):
        return math.isclose(new, old, rel_tol=1e-5, abs_tol=2e-6)
    return new == old


def check_sweep(events: list[Event], job: str, expected: list[dict[str, Any]]) -> None:
    """No cell twice, none missing, and the table is that of an undisturbed run.

    Texts and counts are equal; measured numbers are sums of float32 whose last bits depend on which rows
    happen to share a batch.
    """
    done = cells(events, job)
    assert len(done) == len(set(done)) == len(expected)
    differing = [
        f"row {new.get('row')} {key}: {new.get(key)!r} is not {old.get(key)!r}"
        for new, old in zip(lines(events, job), expected, strict=True)
        for key in new.keys() | old.keys()
        if not same(new.get(key), old.get(key))
    ]
    assert not differing, "\n".join(differing)


async def undisturbed(watcher: Watcher) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str]]]:
    """The table of :data:`SWEEP` and the answers of :data:`GENERATE` when nothing goes wrong."""
    sweep, generate = await watcher.submit(SWEEP), await watcher.submit(GENERATE)
    for job in (sweep, generate):
        view = await watcher.finished(job)
        assert view.status == "done", view.error
    events = on_disk(watcher.lab.session)
    table = lines(events, sweep)
    assert len(table) == CELLS
    return table, answers(events, generate)


async def worker_pid(lab: AsyncLab) -> int:
    """The process id of the kernel's worker."""
    return (await lab.request("info"))["worker_pid"]


def spec_file(folder: Path, spec: Mapping[str, Any]) -> Path:
    """The spec as a TOML file."""
    path = folder / "spec.toml"
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in spec.items())
    path.write_text(text, encoding="utf-8")
    return path


def command(*arguments: str) -> subprocess.Popen[bytes]:
    """``labtui …`` as a process that goes on while the test does other things."""
    return subprocess.Popen(
        [str(LABTUI), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
