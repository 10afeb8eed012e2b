"""Kernels for tests: real broker processes with the echo worker, and ways to wait for a condition."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labtui.client import AsyncLab
from labtui_kernels.broker import daemon, registry
from labtui_kernels.broker.config import KernelConfig
from labtui_sessions.events import Event

BROKER = [sys.executable, str(Path(__file__).with_name("echo_broker.py"))]
PATIENCE = 20.0


def start(name: str = "k", *, limits: dict[str, Any] | None = None, **fields: Any) -> int:
    """Start an echo kernel; the broker's process id."""
    if limits is not None:
        os.environ["LABTUI_LIMITS"] = json.dumps(limits)
    return daemon.start(KernelConfig(name, fields.pop("model", "echo"), **fields), BROKER).pid


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process and, for a deadly signal, wait until it has gone."""
    os.kill(pid, number)
    if number == signal.SIGKILL:
        wait_for(lambda: not alive(pid), f"process {pid} to end")


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Poll until the condition gives something true; fails naming ``what``."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
        time.sleep(0.01)
    return found


async def until(lab: AsyncLab, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for changes of the lab until the condition gives something true."""
    async with asyncio.timeout(patience):
        with lab.subscribed() as take:
            while not (found := condition()):
                await take()
            return found
    raise AssertionError(what)


async def ready(name: str = "k") -> AsyncLab:
    """A lab attached to the kernel, its worker ready."""
    lab = await AsyncLab.connect(name)
    await until(lab, lambda: lab.state.kernel.state in ("ready", "busy"), "ready")
    return lab


def sweep(*prompts: str, tokens: int = 2) -> dict[str, Any]:
    """A spec for the echo recipe: a cell a prompt."""
    return {
        "kind": "sweep",
        "prompts": list(prompts),
        "directions": ["random:1"],
        "sites": "llm.0",
        "strengths": ["8%"],
        "max_new_tokens": tokens,
    }


async def submit(lab: AsyncLab, *prompts: str, tokens: int = 2, priority: str = "batch") -> str:
    """Submit such a spec; the job."""
    answer = await lab.request("submit", spec=sweep(*prompts, tokens=tokens), priority=priority)
    return answer["job"]


async def finished(lab: AsyncLab, job: str, patience: float = PATIENCE) -> Any:
    """Wait for the end of a job; its view."""
    await until(lab, lambda: (j := lab.state.jobs.get(job)) and not j.live, f"the end of {job}", patience)
    return lab.state.jobs[job]


def journal(session: str) -> list[Event]:
    """All the events of a session on disk."""
    from labtui_artifacts import paths
    from labtui_sessions.journal import read_events

    return list(read_events(paths.sessions() / session))


def stop_all() -> None:
    """Kill every kernel of this test's runtime folder; their workers die with them."""
    for name in registry.names():
        entry = registry.probe(name, timeout=2.0)
        if entry.hello is not None:
            kill(entry.hello.pid)
