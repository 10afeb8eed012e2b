"""Kills, slow disks and full disks: nothing that was shown is lost, and jobs end as if nothing had been."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labtui_artifacts import paths
from labtui_sessions.journal import FILE
from tests.conftest import need
from tests.e2e import rig
from tests.e2e.lab import LABTUI, labtui, one_line
from tests.e2e.terminal import Terminal

pytestmark = pytest.mark.usefixtures("no_kernels_left")


async def test_three_kills_lose_nothing_that_was_shown(tmp_path: Path) -> None:
    """The worker, two clients and the broker die at random moments of a sweep and a streaming answer."""
    seed = int(os.environ.get("LABTUI_SOAK_SEED") or random.randrange(2**32))
    print(f"LABTUI_SOAK_SEED={seed}")
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
    await another_worker(watcher, pid)  # when both jobs had just ended, the loss may not be noticed yet


async def another_worker(watcher: rig.Watcher, old: int) -> None:
    """Wait until the kernel names another worker than the one that was killed."""
    async with asyncio.timeout(rig.PATIENCE):
        while await rig.worker_pid(watcher.lab) in (None, old):
            await asyncio.sleep(0.05)


async def kill_two_clients(watcher: rig.Watcher, moment: random.Random, folder: Path) -> str:
    """Kill ``labtui run`` and the app while they show a sweep; the kernel finishes it."""
    before = set(watcher.lab.state.jobs)
    running = rig.command("run", str(rig.spec_file(folder, rig.SWEEP)))
    with Terminal(f"{LABTUI} --kernel k", width=100, height=30) as terminal:
        await watcher.until(lambda: set(watcher.lab.state.jobs) - before, "the job")
        (job,) = set(watcher.lab.state.jobs) - before
        await asyncio.to_thread(terminal.wait_for, r"k · (toy-qwen3 · )?(ready|busy)")
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
    """A random number of chunks of the job's tokens (a sweep shows some twelve), or its end."""
    wanted = watcher.count("row.tokens", job) + moment.randrange(1, 8)
    await watcher.until(
        lambda: watcher.count("row.tokens", job) >= wanted or not watcher.lab.state.jobs[job].live,
        f"{wanted} chunks of {job}",
    )


# ---------------------------------------------------------------- a disk that is slow to flush

SLOW_DISK = """
import os, sys, time

def _slowly(flush):
    def slow(handle):
        time.sleep(2.0)
        flush(handle)
    return slow
if "labtui_kernels.broker.daemon" in sys.orig_argv:
    os.fsync, os.fdatasync = _slowly(os.fsync), _slowly(os.fdatasync)
"""


async def test_a_flush_of_two_seconds_delays_durability_and_no_token(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK, encoding="utf-8")
    rig.start(env={"PYTHONPATH": str(tmp_path)})
    async with rig.watching("k") as watcher:
        lab = watcher.lab
        warm = await watcher.submit(rig.GENERATE)  # reference norms are measured, and saved, once
        await watcher.finished(warm)
        jobs = [await watcher.submit(rig.GENERATE) for _ in range(6)]
        moments: list[float] = []
        behind: list[int] = []

        def note() -> None:
            shown = sum(watcher.count("row.tokens", job) for job in jobs)
            if len(moments) < shown:
                moments.append(time.monotonic())
                behind.append(lab.state.seq - lab.durable)

        lab.on_change(note)
        for job in jobs:
            await watcher.finished(job)
        gaps = [after - before for before, after in itertools.pairwise(moments)]
        assert len(moments) > 20
        assert max(gaps) < 1.5, f"tokens stood still for {max(gaps):.2f} s"
        assert max(behind) > 20, "durability kept up, so nothing was slow"
        seq = lab.state.seq
        asked = time.monotonic()
        for _ in range(20):
            await lab.request("info")
        assert time.monotonic() - asked < 1.5, "questions waited for the disk"
        await watcher.until(lambda: lab.durable >= seq, "durability to catch up")
        watcher.check()


# ---------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``LABTUI_HOME`` on a file system of its own of 3 MB, which a test can fill."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test mounts a small file system: it needs root")
        pytest.skip("needs root to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(disk)], check=True, timeout=20
    )
    monkeypatch.setenv("LABTUI_HOME", str(disk / "home"))
    yield disk
    rig.kill_all()
    subprocess.run([need("umount"), "--lazy", str(disk)], check=True, timeout=20)


def fill(disk: Path) -> Path:
    """A file that takes the last byte of the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            try:
                file.write(bytes(65536))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                while True:
                    file.write(bytes(64))
    assert os.statvfs(disk).f_bavail == 0
    return ballast


async def test_a_full_disk_holds_the_sweep_and_it_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    rig.start()
    async with rig.watching("k") as watcher:
        lab = watcher.lab
        table, _ = await rig.undisturbed(watcher)
        worker = await rig.worker_pid(lab)
        job, ballast = await fill_during_a_sweep(watcher, small_disk)
        told = await asyncio.to_thread(labtui, "kernel", "info", "k")
        assert told.returncode == 0 and "No space left on device" in told.stdout, told
        long = f"prompt={'Why? ' * 2000}"  # what is left of the journal's last page may take a short one
        refused = await asyncio.to_thread(labtui, "run", "generate", "--set", long, "--kernel", "k")
        assert refused.returncode == 1 and "No space left on device" in one_line(refused)
        committed = rig.cells(rig.on_disk(lab.session), job)
        assert len(committed) < rig.CELLS
        ballast.unlink()
        assert (await watcher.finished(job)).status == "done"
        await watcher.until(lambda: not lab.status.get("stalled"), "the end of the stall")
        events = watcher.check()
        assert rig.cells(events, job)[: len(committed)] == committed
        rig.check_sweep(events, job, table)
        assert not [event for event in events if event.kind == "worker.lost"]
        assert await rig.worker_pid(lab) == worker

        # The same once more, and the broker dies meanwhile: the next one waits for room as well.
        job, ballast = await fill_during_a_sweep(watcher, small_disk)
        rig.kill(lab.hello.pid)
        starting = rig.command("kernel", "start", "k", "--wait")
        await asyncio.to_thread(says, starting, b"No space left on device")
        ballast.unlink()
        assert await asyncio.to_thread(starting.wait, 60) == 0
        lab.retry_now()
        await watcher.until(lambda: lab.link.up, "the reconnection")
        assert (await watcher.finished(job)).status == "done"
        rig.check_sweep(watcher.check(), job, table)


async def fill_during_a_sweep(watcher: rig.Watcher, disk: Path) -> tuple[str, Path]:
    """Fill the disk when two cells are committed, and wait for the kernel to say so; the job, the ballast."""
    lab = watcher.lab
    job = await watcher.submit(rig.SWEEP)
    await watcher.until(lambda: watcher.count("cell.committed", job) >= 2, "two cells")
    ballast = fill(disk)
    await watcher.until(lambda: lab.status.get("stalled"), "the stall")
    assert "No space left on device" in lab.status["detail"] and "free some space" in lab.status["detail"]
    return job, ballast


def says(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Wait until the process has printed the words."""
    assert process.stdout is not None
    seen = b""
    while words not in seen:
        data = os.read(process.stdout.fileno(), 65536)
        assert data, f"ended without {words!r}: {seen!r}"
        seen += data
