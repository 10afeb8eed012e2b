"""Kills, crashes and stalls: what was shown is there afterwards, and the kernel goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from labtui.client import AsyncLab
from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, Unreachable, UsageError
from labtui_kernels.broker import daemon, registry
from labtui_kernels.broker.keeper import LOSSES_IN_WINDOW
from labtui_sessions.journal import FILE
from tests.support import kernels


async def test_a_killed_worker_is_replaced_and_its_job_goes_on_from_its_cells(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, "a", f"wait {tmp_path / 'gate'}", "c")
    await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "the first cell")
    first = (await lab.request("info"))["worker_pid"]
    (tmp_path / "gate").touch()
    kernels.kill(first)
    view = await kernels.finished(lab, job)
    assert (view.status, view.cells) == ("done", 3)
    assert "memory" in lab.state.losses[0].reason and lab.state.losses[0].exit == -signal.SIGKILL
    page = await lab.page("echo", 0, 10)
    pids = {row[page.columns.index("row")]: row[page.columns.index("pid")] for row in page.rows}
    assert pids["c0"] == first and pids["c2"] != first
    await lab.close()


async def test_a_worker_that_finishes_work_between_its_losses_is_replaced_each_time() -> None:
    """Only losses without progress are a crash loop, however close together they are."""
    kernels.start(limits={"retry_delays": [0.0, 0.0]})
    lab = await kernels.ready()
    for number in range(LOSSES_IN_WINDOW + 2):
        assert (await kernels.finished(lab, await kernels.submit(lab, f"job {number}"))).status == "done"
        kernels.kill((await lab.request("info"))["worker_pid"])
        await kernels.until(lab, lambda n=number: len(lab.state.losses) > n, "the loss")
    job = await kernels.submit(lab, "after all")
    assert (await kernels.finished(lab, job)).status == "done"
    await lab.close()


async def test_a_job_that_keeps_killing_the_worker_is_set_aside_and_the_next_one_runs(tmp_path: Path) -> None:
    kernels.start(limits={"retry_delays": [0.0, 0.0, 0.0, 0.0]})
    lab = await kernels.ready()
    bad = await kernels.submit(lab, "a", f"die {tmp_path / 'always'}")
    good = await kernels.submit(lab, "b")
    view = await kernels.finished(lab, bad)
    assert view.status == "lost" and "3 times" in (view.error or "") and view.cells == 1
    assert (await kernels.finished(lab, good)).status == "done"
    await lab.close()


async def test_a_worker_that_cannot_load_is_given_up_and_tried_again_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABTUI_ECHO", "crash")
    kernels.start(limits={"retry_delays": [0.0, 0.0]})
    lab = await AsyncLab.connect("k")
    await kernels.until(lab, lambda: "given up after 3" in lab.state.kernel.detail, "giving up")
    assert lab.state.kernel.state == "worker-lost"
    with pytest.raises(UsageError, match="no worker: given up"):
        await kernels.submit(lab, "a")
    await lab.request("worker.restart")
    await kernels.until(lab, lambda: len(lab.state.losses) >= 4, "another try")
    await lab.close()


async def test_a_model_that_is_refused_is_one_line_and_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_ECHO", "refuse")
    kernels.start()
    lab = await AsyncLab.connect("k")
    await kernels.until(lab, lambda: lab.state.kernel.state == "worker-lost", "the refusal")
    info = await lab.request("info")
    assert (info["failure_code"], info["failure"]) == (2, "echo: no such file or folder")
    assert not lab.state.losses
    await lab.close()


@pytest.mark.parametrize("moment", ["queued", "running", "committed"])
async def test_a_killed_broker_loses_nothing_that_was_shown(moment: str, tmp_path: Path) -> None:
    broker = kernels.start()
    lab = await kernels.ready()
    worker = (await lab.request("info"))["worker_pid"]
    blocker = await kernels.submit(lab, f"wait {tmp_path / 'gate'}") if moment == "queued" else ""
    job = await kernels.submit(lab, "a", f"wait {tmp_path / 'gate'}", "c", tokens=5)
    if moment == "running":
        await kernels.until(lab, lambda: lab.state.jobs[job].status == "running", "running")
    if moment == "committed":
        await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "a cell")
    kernels.kill(broker)
    shown = lab.state.seq
    before = lab.state.snapshot()
    await lab.close()
    kernels.wait_for(lambda: not kernels.alive(worker), "the worker to die with its broker")
    events = kernels.journal(lab.session)
    assert len(events) >= shown
    (tmp_path / "gate").touch()
    kernels.start()
    again = await kernels.ready()
    assert again.session == lab.session and again.state.seq > shown
    view = await kernels.finished(again, job)
    assert (view.status, view.cells) == ("done", 3)
    if blocker:
        assert (await kernels.finished(again, blocker)).status == "done"
    assert kernels.journal(lab.session)[: len(events)] == events
    assert before
    await again.close()


async def test_a_torn_tail_is_cut_and_said_so() -> None:
    broker = kernels.start()
    lab = await kernels.ready()
    await kernels.finished(lab, await kernels.submit(lab, "a"))
    kernels.kill(broker)
    await lab.close()
    with (paths.sessions() / lab.session / FILE).open("ab") as file:
        file.write(b"\x40\x00\x00\x00torn")
    kernels.start()
    again = await kernels.ready()
    assert [cut.bytes for cut in again.state.cuts] == [8]
    assert (await kernels.finished(again, await kernels.submit(again, "b"))).status == "done"
    await again.close()


async def test_a_client_reconnects_to_the_restarted_kernel_without_a_gap() -> None:
    broker = kernels.start()
    lab = await kernels.ready()
    await kernels.finished(lab, await kernels.submit(lab, "a"))
    shown = lab.state.seq
    kernels.kill(broker)
    await kernels.until(lab, lambda: lab.link.phase == "lost", "the loss")
    with pytest.raises(Unreachable):
        await lab.request("info")
    kernels.start()
    lab.retry_now()
    await kernels.until(lab, lambda: lab.link.up and lab.state.seq > shown, "the reconnection", 30)
    await kernels.until(lab, lambda: lab.state.kernel.state == "ready", "ready")
    assert [event.seq for event in kernels.journal(lab.session)] == list(range(1, lab.state.seq + 1))
    await lab.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
async def test_a_signal_drains_and_the_job_goes_on_at_the_next_start(
    number: signal.Signals, tmp_path: Path
) -> None:
    broker = kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, "a", f"wait {tmp_path / 'gate'}")
    await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "a cell")
    os.kill(broker, number)
    await kernels.until(lab, lambda: lab.state.kernel.state == "stopping", "stopping")
    kernels.wait_for(lambda: not kernels.alive(broker), "the end")
    await lab.close()
    states = [e.data["state"] for e in kernels.journal(lab.session) if e.kind == "kernel.state"]
    assert states[-2:] == ["draining", "stopping"]
    assert registry.names() == []
    (tmp_path / "gate").touch()
    kernels.start()
    again = await kernels.ready()
    assert (await kernels.finished(again, job)).status == "done"
    assert not again.state.cuts
    await again.close()


async def test_idle_time_to_live_ends_the_kernel_but_not_while_it_works(tmp_path: Path) -> None:
    broker = kernels.start(idle_ttl=0.4)
    lab = await kernels.ready()
    job = await kernels.submit(lab, f"wait {tmp_path / 'gate'}")
    await lab.close()
    begun = time.monotonic()
    kernels.wait_for(lambda: time.monotonic() - begun > 0.8, "twice the time to live")
    assert kernels.alive(broker)
    (tmp_path / "gate").touch()
    kernels.wait_for(lambda: not kernels.alive(broker), "the idle end")
    events = kernels.journal(lab.session)
    assert any(e.kind == "job.finished" and e.data["job"] == job for e in events)
    assert "idle" in [e.data["detail"] for e in events if e.kind == "kernel.state"][-1]


async def test_a_budget_that_is_exceeded_ends_the_worker_and_says_which_phase() -> None:
    kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, "hang")
    await kernels.until(lab, lambda: bool(lab.state.losses), "the watchdog")
    assert "phase 'decode' took longer than its budget of 1.5 s" in lab.state.losses[0].reason
    await lab.request("job.cancel", job=job, force=True)
    assert (await kernels.finished(lab, job)).status == "cancelled"
    await lab.close()


async def test_a_frozen_worker_is_noticed() -> None:
    kernels.start(limits={"beat_timeout": 2.5})
    lab = await kernels.ready()
    worker = (await lab.request("info"))["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    await kernels.until(lab, lambda: bool(lab.state.losses), "the watchdog")
    assert "no sign of life" in lab.state.losses[0].reason
    await kernels.until(lab, lambda: lab.state.kernel.state == "ready", "another worker")
    await lab.close()


async def test_a_slow_disk_delays_durability_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_SYNC", "2")
    kernels.start()
    lab = await kernels.ready()
    begun = time.monotonic()
    view = await kernels.finished(lab, await kernels.submit(lab, *"abcdefgh", tokens=20))
    assert view.status == "done"
    for _ in range(20):
        await lab.request("info")
    assert time.monotonic() - begun < 1.9, "the kernel waited for the disk"
    seq = lab.state.seq
    assert lab.durable < seq
    await kernels.until(lab, lambda: lab.durable >= seq, "durability")
    await lab.close()


async def test_a_full_disk_holds_jobs_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    monkeypatch.setenv("LABTUI_FULL", str(full))
    kernels.start(limits={"disk_retry": 0.1})
    lab = await kernels.ready()
    job = await kernels.submit(lab, "a", f"wait {tmp_path / 'gate'}", *"bcdefgh", tokens=40)
    await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "a cell")
    full.touch()
    (tmp_path / "gate").touch()
    await kernels.until(lab, lambda: lab.status.get("stalled"), "the stall")
    assert "No space left on device" in lab.status["detail"]
    with pytest.raises(LabError, match="No space left"):
        await lab.request("session.note", text="x")
    assert (await lab.request("info"))["stalled"]
    held = lab.state.seq
    full.unlink()
    view = await kernels.finished(lab, job)
    assert (view.status, view.cells) == ("done", 9)
    assert lab.state.seq > held
    await kernels.until(lab, lambda: not lab.status.get("stalled"), "the end of the stall")
    assert [e.seq for e in kernels.journal(lab.session)] == list(range(1, lab.state.seq + 1))
    await lab.close()


async def test_an_upgrade_under_a_running_kernel_starts_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_ECHO_BUILD", "9.9+other")
    pid = kernels.start()
    log = paths.logs() / "k.jsonl"
    kernels.wait_for(lambda: log.read_text().count('"starting"') >= 2, "the restart")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("upgraded" in str(line.get("reason")) for line in lines if line["event"] == "stopping")
    starts = [line["pid"] for line in lines if line["event"] == "starting"]
    assert starts[:2] == [pid, pid]


async def test_a_restart_with_another_model_opens_a_new_session() -> None:
    broker = kernels.start()
    lab = await kernels.ready()
    first = lab.session
    await lab.close()
    kernels.kill(broker)
    kernels.start(model="echo-2")
    again = await kernels.ready()
    assert again.session != first
    with pytest.raises(UsageError, match="already running"):
        await asyncio.to_thread(daemon.start, kernels.KernelConfig("k", "echo"), kernels.BROKER)
    await again.close()


async def test_a_kernel_that_loads_is_stopped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABTUI_ECHO", f"after {tmp_path / 'never'}")
    broker = kernels.start(limits={"quit_grace": 600})
    lab = await AsyncLab.connect("k")
    await kernels.until(lab, lambda: lab.state.kernel.state == "loading", "loading")
    worker = (await lab.request("info"))["worker_pid"]
    await lab.request("stop")
    kernels.wait_for(lambda: not kernels.alive(broker) and not kernels.alive(worker), "both to end")
    await lab.close()


async def test_a_job_waits_for_the_model_that_its_cells_were_made_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is taken up with other weights: its unfinished job stays, others run, and the right model ends it."""
    gate = tmp_path / "gate"
    monkeypatch.setenv("LABTUI_ECHO_WEIGHTS", "a" * 64)
    kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, "one", f"wait {gate}", "three")
    await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "a cell")
    kernels.kill((await lab.request("info"))["pid"])
    await lab.close()
    gate.touch()

    monkeypatch.setenv("LABTUI_ECHO_WEIGHTS", "b" * 64)
    kernels.start(idle_ttl=0.0)
    lab = await kernels.ready()
    other = await kernels.submit(lab, "x", "y")
    assert (await kernels.finished(lab, other)).status == "done"
    info = await lab.request("info")
    assert [(one["job"], one["status"]) for one in info["open_jobs"]] == [(job, "waits for its model")]
    assert info["detail"] == (
        f"job {job} cannot go on here: its 1 finished cells were made on echo (aaaaaaaaaaaa, float32), and this "
        "kernel holds echo (bbbbbbbbbbbb, float32); start a kernel with that model, or cancel the job"
    )
    await lab.request("stop")
    kernels.wait_for(lambda: not kernels.alive(info["pid"]), "the kernel to end")
    await lab.close()

    monkeypatch.setenv("LABTUI_ECHO_WEIGHTS", "a" * 64)
    kernels.start()
    lab = await kernels.ready()
    assert (await kernels.finished(lab, job)).status == "done"
    events = kernels.journal(lab.session)
    assert [e.data["cell"] for e in events if e.kind == "cell.committed" and e.data["job"] == job] == [
        "c0", "c1", "c2",
    ]  # fmt: skip
    await lab.close()
