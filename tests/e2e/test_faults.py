"""Kills, slow disks and full disks: nothing that was shown is lost, and every job ends as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labtui_artifacts import paths
from labtui_artifacts.errors import LabError
from labtui_sessions.journal import FILE
from tests.conftest import need
from tests.e2e import rig
from tests.e2e.lab import LABTUI, labtui, one_line
from tests.e2e.terminal import Terminal


@pytest.fixture(autouse=True)
def no_kernels_left(lab_home: Path) -> Iterator[None]:
    yield
    rig.kill_all()


async def test_three_kills_lose_nothing_that_was_shown(tmp_path: Path) -> None:
    """The worker, two clients and the broker die at random moments of a sweep and a streaming answer."""
    seed = random.randrange(2**32)
    print("seed", seed)
    moment = random.Random(seed)
    rig.start()
    async with rig.watching("k") as watcher:
        table, spoken = await rig.undisturbed(watcher)
        await kill_the_worker(watcher, moment)
        sweep = await kill_two_clients(watcher, moment, tmp_path)
        events = watcher.check()
        rig.check_sweep(events, sweep, table)
        sweep, generate = await kill_the_broker(watcher, moment)
        for job in (sweep, generate):
            assert (await watcher.finished(job)).status == "done"
        events = watcher.check()
        cut = [event.data for event in events if event.kind == "journal.cut"]
        assert [one["bytes"] for one in cut] == [9]
        lost = [event for event in events if event.kind == "worker.lost"]
        assert len(lost) == 1
        jobs = {str(e.data["job"]): str(e.data["kind"]) for e in events if e.kind == "job.queued"}
        for job, kind in jobs.items():
            if kind == "sweep":
                rig.check_sweep(events, job, table)
            else:
                assert rig.answers(events, job) == spoken
        assert len(jobs) == 7


async def kill_the_worker(watcher: rig.Watcher, moment: random.Random) -> None:
    """Kill it after some tokens; the broker starts another, and both jobs end."""
    pid = await rig.worker_pid(watcher.lab)
    sweep, generate = await both(watcher)
    await some_tokens(watcher, generate if moment.random() < 0.5 else sweep, moment)
    rig.kill(pid)
    for job in (sweep, generate):
        assert (await watcher.finished(job)).status == "done"
    assert await rig.worker_pid(watcher.lab) != pid


async def kill_two_clients(watcher: rig.Watcher, moment: random.Random, folder: Path) -> str:
    """Kill ``labtui run`` and the app while they show a sweep; the kernel finishes it."""
    before = set(watcher.lab.state.jobs)
    running = rig.command("run", str(rig.spec_file(folder, rig.SWEEP)))
    with Terminal(f"{LABTUI} --kernel k", width=100, height=30) as terminal:
        await watcher.until(lambda: set(watcher.lab.state.jobs) - before, "the job")
        (job,) = set(watcher.lab.state.jobs) - before
        await asyncio.to_thread(terminal.wait_for, "toy-qwen3")
        await some_tokens(watcher, job, moment)
        rig.kill(terminal.pane_pid())
    rig.kill(running.pid)
    running.communicate()
    assert (await watcher.finished(job)).status == "done"
    return job


async def kill_the_broker(watcher: rig.Watcher, moment: random.Random) -> tuple[str, str]:
    """Kill it, leave half a frame at the end of its journal, and start the kernel again by its name."""
    broker, worker = watcher.lab.hello.pid, await rig.worker_pid(watcher.lab)
    sweep, generate = await both(watcher)
    await some_tokens(watcher, sweep if moment.random() < 0.5 else generate, moment)
    rig.kill(broker)
    rig.wait_for(lambda: rig.state_of(worker) in ("", "Z", "X"), "the worker to die with its broker")
    with (paths.sessions() / watcher.lab.session / FILE).open("ab") as file:
        file.write(b"\x40\x00\x00\x00\x01torn")
    await asyncio.to_thread(rig.again)
    watcher.lab.retry_now()
    await watcher.until(lambda: watcher.lab.link.up, "the reconnection")
    return sweep, generate


async def both(watcher: rig.Watcher) -> tuple[str, str]:
    """A sweep, and an answer that is streamed before it goes on."""
    sweep = await watcher.submit(rig.SWEEP)
    await watcher.until(lambda: watcher.count("row.tokens", sweep), "the sweep's first tokens")
    return sweep, await watcher.submit(rig.GENERATE)


async def some_tokens(watcher: rig.Watcher, job: str, moment: random.Random) -> None:
    """A random number of chunks of the job's tokens, or its end."""
    wanted = watcher.count("row.tokens", job) + moment.randrange(1, 12)
    await watcher.until(
        lambda: watcher.count("row.tokens", job) >= wanted or not watcher.lab.state.jobs[job].live,
        f"{wanted} chunks of {job}",
    )
