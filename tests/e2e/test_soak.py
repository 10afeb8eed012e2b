"""Hundreds of kills at random moments: ``LABTUI_SOAK_KILLS`` says how many, ``LABTUI_SOAK_SEED`` which."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from labtui_artifacts import paths
from labtui_sessions.journal import FILE
from tests.e2e import rig

pytestmark = [pytest.mark.soak, pytest.mark.timeout(4 * 3600), pytest.mark.usefixtures("no_kernels_left")]


class Storm:
    """Kills of worker, broker and clients while a sweep and an answer are always under way."""

    def __init__(self, watcher: rig.Watcher, chance: random.Random, folder: Path) -> None:
        self.watcher = watcher
        self.chance = chance
        self.spec = rig.spec_file(folder, rig.SWEEP)
        self.sweeps: list[str] = []
        self.answers: list[str] = []
        self.torn = 0

    async def keep_busy(self) -> None:
        """Queue what has come to its end again; a worker may be lost in a job only so often."""
        jobs = self.watcher.lab.state.jobs
        for queue, spec in ((self.sweeps, rig.SWEEP), (self.answers, rig.GENERATE)):
            if not queue or queue[-1] not in jobs or not jobs[queue[-1]].live:
                queue.append(await self.watcher.submit(spec))

    async def strike(self) -> None:
        """Wait for a random moment, then kill something."""
        await self.keep_busy()
        seq = self.watcher.lab.state.seq + self.chance.randrange(0, 30)
        lab = self.watcher.lab
        await self.watcher.until(lambda: lab.state.seq >= seq or not self._live(), "a random moment", 120)
        victim = self.chance.choice(["worker", "worker", "broker", "client"])
        if victim == "worker":
            await self.kill_worker()
        elif victim == "broker":
            await self.kill_broker()
        else:
            await self.kill_client()

    def _live(self) -> bool:
        jobs = self.watcher.lab.state.jobs
        return any(jobs[queue[-1]].live for queue in (self.sweeps, self.answers) if queue[-1] in jobs)

    async def kill_worker(self) -> None:
        """It may be loading still, or gone already."""
        pid = await rig.worker_pid(self.watcher.lab)
        if pid:
            rig.kill(pid)
        # A job is set aside after three losses without a cell: this one may go on first.
        cells = self._cells()
        await self.watcher.until(lambda: self._cells() > cells or not self._live(), "a cell", 180)

    def _cells(self) -> int:
        return sum(kind == "cell.committed" for kind, _ in self.watcher.kinds)

    async def kill_broker(self) -> None:
        """Sometimes with a torn frame at the end of the journal, as a machine that dies leaves it."""
        lab = self.watcher.lab
        rig.kill(lab.hello.pid)
        if self.chance.random() < 0.5:
            self.torn += 1
            with (paths.sessions() / lab.session / FILE).open("ab") as file:
                file.write(b"\x40\x00\x00\x00" + self.chance.randbytes(self.chance.randrange(1, 60)))
        await asyncio.to_thread(rig.again)
        lab.retry_now()
        await self.watcher.until(lambda: lab.link.up, "the reconnection", 60)

    async def kill_client(self) -> None:
        """``labtui run``, while it follows its sweep."""
        before = set(self.watcher.lab.state.jobs)
        running = rig.command("run", str(self.spec), "--kernel", "k")
        await self.watcher.until(lambda: set(self.watcher.lab.state.jobs) - before, "its job")
        self.sweeps.extend(set(self.watcher.lab.state.jobs) - before)
        rig.kill(running.pid)
        running.communicate()


async def test_hundreds_of_kills_lose_nothing_that_was_shown(tmp_path: Path) -> None:
    kills = int(os.environ.get("LABTUI_SOAK_KILLS", "200"))
    seed = int(os.environ.get("LABTUI_SOAK_SEED") or random.randrange(2**32))
    print(f"LABTUI_SOAK_KILLS={kills} LABTUI_SOAK_SEED={seed}")
    rig.start()
    async with rig.watching("k") as watcher:
        table, spoken = await rig.undisturbed(watcher)
        storm = Storm(watcher, random.Random(seed), tmp_path)
        for number in range(kills):
            await storm.strike()
            if number % 20 == 19:
                watcher.check()
        for job in [*storm.sweeps, *storm.answers]:
            await watcher.until(lambda job=job: _over(watcher, job), f"the end of {job}", 600)
        events = watcher.check()
    ends = {e.data["job"]: e.data for e in events if e.kind == "job.finished"}
    for job in storm.sweeps:
        assert ends[job]["status"] == "done", ends[job]
        rig.check_sweep(events, job, table)
    for job in storm.answers:
        assert ends[job]["status"] == "done", ends[job]
        assert rig.answers(events, job) == spoken
    assert sum(event.kind == "journal.cut" for event in events) == storm.torn


def _over(watcher: rig.Watcher, job: str) -> bool:
    return watcher.count("job.finished", job) > 0
