"""Sweeps with controls, seeds and metrics under fault: the table is that of an undisturbed run, here or elsewhere.

Thirty-four processes are killed at moments that are drawn (``LABTUI_SOAK_SEED`` repeats them) in ``make soak``: a worker
takes some seconds to come back. ``test_faults.py`` kills one of each sort in every run, and
``tests/kernels/recipes/test_sweep_resumed.py`` cuts the same recipe short some forty times without the processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e import rig
from tests.e2e.lab import labtui, must

pytestmark = pytest.mark.usefixtures("no_kernels_left")

SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": ["Explain what a mutex is.", "What is a cache?", "Describe a lighthouse."],
    "directions": ["terse"],
    "sites": "llm.1,3",
    "strengths": ["20%", "40%"],
    "seeds": [1, 2],
    "temperature": 0.7,
    "controls": {"zero": True, "random": 1, "shuffled": 1, "negated": True, "prompt": True},
    "metrics": ["words", "distinct-2", "perplexity", "kl", "kl-mean", "coherent", "perturbation"],
    "max_new_tokens": 24,
    "batch": 6,
}
WORKERS, BROKERS = 30, 4


def direction() -> None:
    """The direction of the sweep, with its shuffled-label controls."""
    must("run", "direction", "--set", "name=terse", "--set", "style=terse", "--set", "sites=llm.1,3")


async def run(watcher: rig.Watcher, spec: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Run a sweep undisturbed: its job and its table."""
    job = await watcher.submit(spec)
    view = await watcher.finished(job)
    assert view.status == "done", view.error
    return job, rig.lines(rig.on_disk(watcher.lab.session), job)


class Killing:
    """Sweeps one after the other, whose worker or broker is killed at random moments."""

    def __init__(self, watcher: rig.Watcher, chance: random.Random) -> None:
        self.watcher = watcher
        self.chance = chance
        self.sweeps: list[str] = []
        self._begun = 0
        self._cells = 0
        self._barren = 0

    @property
    def live(self) -> bool:
        jobs = self.watcher.lab.state.jobs
        return bool(self.sweeps) and (self.sweeps[-1] not in jobs or jobs[self.sweeps[-1]].live)

    def count(self, kind: str) -> int:
        return self.watcher.count(kind, self.sweeps[-1])

    async def moment(self) -> None:
        """A sweep has been taken up since the last kill, and a random number of its tellings has come.

        A job is set aside after three losses without a cell, so the third waits for one.
        """
        if not self.live:
            self.sweeps.append(await self.watcher.submit(SWEEP))
            self._begun = self._cells = self._barren = 0
        watcher = self.watcher
        await watcher.until(
            lambda: self.count("job.started") > self._begun or not self.live, "the sweep to be taken up"
        )
        if self._barren >= 2:
            await watcher.until(
                lambda: self.count("cell.committed") > self._cells or not self.live, "a cell to be committed"
            )
        told = watcher.told + self.chance.randrange(0, 12)
        await watcher.until(lambda: watcher.told >= told or not self.live, "a random moment")
        barren = self.count("cell.committed") == self._cells
        self._barren = self._barren + 1 if barren else 1
        self._begun, self._cells = self.count("job.started"), self.count("cell.committed")

    async def kill_worker(self) -> None:
        rig.kill(await rig.worker_pid(self.watcher.lab))

    async def kill_broker(self) -> None:
        rig.kill(self.watcher.lab.hello.pid)
        await asyncio.to_thread(rig.again)
        self.watcher.lab.retry_now()
        await self.watcher.until(lambda: self.watcher.lab.link.up, "the reconnection")


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_kills_at_random_moments_change_no_table() -> None:
    """Texts and counts equal, numbers to float32 rounding, no cell twice, none missing, nothing shown is lost."""
    seed = int(os.environ.get("LABTUI_SOAK_SEED") or random.randrange(2**32))
    print(f"LABTUI_SOAK_SEED={seed}")
    chance = random.Random(seed)
    victims = ["worker"] * WORKERS + ["broker"] * BROKERS
    chance.shuffle(victims)
    rig.start()
    direction()
    async with rig.watching("k") as watcher:
        _, table = await run(watcher, SWEEP)
        assert len({row["control"] for row in table}) == 6 and {row["seed"] for row in table} == {1, 2}
        killing = Killing(watcher, chance)
        for victim in victims:
            await killing.moment()
            await (killing.kill_worker() if victim == "worker" else killing.kill_broker())
        for job in killing.sweeps:
            assert (await watcher.finished(job)).status == "done"
        events = watcher.check()
    for job in killing.sweeps:
        rig.check_sweep(events, job, table)


async def test_in_bfloat16_committed_cells_stand_byte_for_byte() -> None:
    """What is committed is what the table of the finished sweep shows, to the last bit, after two kills."""
    must("kernel", "start", "k", "--model", "toy-qwen3", "--dtype", "bfloat16", "--wait", timeout=180)
    spec = SWEEP | {"directions": ["random:1"], "controls": {"random": 0, "prompt": False}, "seeds": [1]}
    async with rig.watching("k") as watcher:
        job = await watcher.submit(spec)
        before: dict[str, bytes] = {}
        for _ in range(2):
            seen = watcher.count("cell.committed", job)
            await watcher.until(lambda seen=seen: watcher.count("cell.committed", job) > seen, "a cell")
            rig.kill(await rig.worker_pid(watcher.lab))
            before |= committed(rig.on_disk(watcher.lab.session), job)
        view = await watcher.finished(job)
        assert view.status == "done", view.error
        events = watcher.check()
        after = committed(events, job)
        assert 2 <= len(before) < len(after) == len(rig.cells(events, job))
        assert {cell: after[cell] for cell in before} == before
        page = await watcher.lab.page(job, 0, 1000)
        shown = [dict(zip(page.columns, row, strict=True)) for row in page.rows]
        kept = {row["row"]: row for event in before.values() for row in msgspec.msgpack.decode(event)}
        for row in shown:
            if row["row"] in kept:
                assert {key: row[key] for key in kept[row["row"]] if key != "reasons"} == {
                    key: value for key, value in kept[row["row"]].items() if key != "reasons"
                }
        assert len(shown) == len(after)


def committed(events: list[Any], job: str) -> dict[str, bytes]:
    """The rows of each committed cell of a job, as bytes."""
    return {
        event.data["cell"]: msgspec.msgpack.encode(event.data["rows"])
        for event in events
        if event.kind == "cell.committed" and event.data["job"] == job
    }


async def test_a_session_that_is_copied_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's folder and the direction in another home: a kernel there runs the missing cells only."""
    rig.start()
    direction()
    async with rig.watching("k") as watcher:
        _, table = await run(watcher, SWEEP)
        job = await watcher.submit(SWEEP)
        await watcher.until(lambda: watcher.count("cell.committed", job) >= 3, "three cells")
        session = watcher.lab.session
        rig.kill(watcher.lab.hello.pid)
    here, there = Path(os.environ["LABTUI_HOME"]), tmp_path / "home"
    for part in (f"sessions/{session}", "artifacts"):
        shutil.copytree(here / part, there / part)
    lock = there / "sessions" / session / "lock"
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"host": "elsewhere", "boot": "another"}))
    for folder in (there, *there.iterdir(), there / "sessions" / session):
        folder.chmod(0o755)  # as a copy over ssh may leave them
    done = rig.cells(rig.on_disk(session), job)
    monkeypatch.setenv("LABTUI_HOME", str(there))
    assert labtui("kernel", "start", "b", "--session", "20200101-000000-no").returncode == 2
    other = labtui(
        "kernel", "start", "a", "--session", session, "--model", "toy-qwen3", "--dtype", "bfloat16", "--wait"
    )
    assert f"job {job} cannot go on here" in other.stderr and "float32" in other.stderr, other.stderr
    must("kernel", "stop", "a")
    told = labtui("kernel", "start", "b", "--session", session, "--wait", timeout=180)
    assert told.returncode == 0 and "toy-qwen3" in told.stderr, told.stderr
    async with rig.watching("b") as watcher:
        assert watcher.lab.session == session
        view = watcher.lab.state.jobs[job]
        if view.live:
            view = await watcher.finished(job)
        assert view.status == "done", view.error
        events = rig.on_disk(session)
    rig.check_sweep(events, job, table)
    assert rig.cells(events, job)[: len(done)] == done
    started = [event.data["plan"]["committed"] for event in events if rig._of(event, "job.started", job)]
    assert started == [0, len(done)]
    loaded = [event.data["info"]["dtype"] for event in events if event.kind == "model.ready"]
    assert loaded == ["float32", "bfloat16", "float32"]
