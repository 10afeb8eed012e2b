"""Jobs in a real kernel: order, pause, cancel, force, failure, audit, several clients."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from labtui.client import AsyncLab
from labtui_artifacts.errors import UsageError
from tests.support import kernels


async def test_a_job_runs_and_every_client_sees_the_same() -> None:
    kernels.start()
    one, two = await kernels.ready(), await AsyncLab.connect("k")
    job = await kernels.submit(one, "a", "b", "c")
    view = await kernels.finished(one, job)
    await kernels.finished(two, job)
    assert (view.status, view.cells, view.audit["ok"]) == ("done", 3, True)
    page = await two.page("echo", 0, 10)
    assert [row[page.columns.index("prompt")] for row in page.rows] == ["a", "b", "c"]
    await kernels.until(one, lambda: two.state.seq == one.state.seq, "both at one event")
    assert one.state.snapshot() == two.state.snapshot()
    assert (await two.result(job))["table"] == "echo" and await two.result("none") == {}
    text = await two.row_text(f"{job}/c1")
    assert (text.text, text.ids) == ("b", [0, 1])
    await asyncio.gather(one.close(), two.close())


async def test_interactive_preempts_a_batch_and_batches_take_turns(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    gate = tmp_path / "gate"
    slow = await kernels.submit(lab, f"wait {gate}")
    await kernels.until(lab, lambda: lab.state.jobs[slow].status == "running", "the batch")
    behind = await kernels.submit(lab, "later")
    quick = await kernels.submit(lab, "now", priority="interactive")
    assert (await kernels.finished(lab, quick)).status == "done"
    assert lab.state.jobs[slow].status == "running"
    assert lab.state.jobs[behind].status == "queued"
    gate.touch()
    assert (await kernels.finished(lab, behind)).status == "done"
    await lab.close()


async def test_pause_stands_still_resume_goes_on_cancel_ends(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    gate = tmp_path / "gate"
    job = await kernels.submit(lab, f"wait {gate}", "b")
    await kernels.until(lab, lambda: lab.state.jobs[job].status == "running", "running")
    await lab.request("job.pause", job=job)
    await kernels.until(lab, lambda: lab.state.jobs[job].status == "paused", "paused")
    gate.touch()
    other = await kernels.submit(lab, "meanwhile")
    assert (await kernels.finished(lab, other)).status == "done"
    assert lab.state.jobs[job].cells == 0
    await lab.request("job.resume", job=job)
    assert (await kernels.finished(lab, job)).status == "done"
    third = await kernels.submit(lab, f"wait {tmp_path / 'never'}")
    queued = await kernels.submit(lab, "x")
    await lab.request("job.cancel", job=queued)
    await lab.request("job.cancel", job=third)
    assert (await kernels.finished(lab, third)).status == "cancelled"
    assert lab.state.jobs[queued].status == "cancelled"
    with pytest.raises(UsageError, match="not queued or running"):
        await lab.request("job.cancel", job=third)
    await lab.close()


async def test_force_kills_the_worker_and_the_other_job_goes_on(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    first = (await lab.request("info"))["worker_pid"]
    gate = tmp_path / "gate"
    innocent = await kernels.submit(lab, f"wait {gate}", "b", priority="interactive")
    await kernels.until(lab, lambda: lab.state.jobs[innocent].status == "running", "running")
    await lab.request("job.pause", job=innocent)
    await kernels.until(lab, lambda: lab.state.jobs[innocent].status == "paused", "paused")
    stuck = await kernels.submit(lab, f"wait {tmp_path / 'never'}")
    await kernels.until(lab, lambda: lab.state.jobs[stuck].status == "running", "running")
    await lab.request("job.cancel", job=stuck, force=True)
    view = await kernels.finished(lab, stuck)
    assert (view.status, view.error) == ("cancelled", "stopped by force")
    gate.touch()
    await lab.request("job.resume", job=innocent)
    assert (await kernels.finished(lab, innocent)).status == "done"
    assert (await lab.request("info"))["worker_pid"] != first
    await lab.close()


async def test_a_failing_job_says_why_and_a_dirty_audit_fails_it_and_replaces_the_worker() -> None:
    kernels.start()
    lab = await kernels.ready()
    view = await kernels.finished(lab, await kernels.submit(lab, "a", "fail"))
    assert (view.status, view.error) == ("failed", "the prompt asked to fail")
    first = (await lab.request("info"))["worker_pid"]
    view = await kernels.finished(lab, await kernels.submit(lab, "dirty"))
    assert view.status == "failed" and "a hook was left behind" in (view.error or "")
    view = await kernels.finished(lab, await kernels.submit(lab, "clean"))
    assert view.status == "done"
    assert (await lab.request("info"))["worker_pid"] != first
    await lab.close()


async def test_a_bad_spec_is_refused_at_the_door() -> None:
    kernels.start()
    lab = await kernels.ready()
    with pytest.raises(UsageError, match=r"promt.*prompt"):
        await lab.request("submit", spec={"kind": "generate", "promt": "x"})
    with pytest.raises(UsageError, match="speed"):
        await lab.request("submit", spec=kernels.sweep("a"), speed=3)
    with pytest.raises(UsageError, match="no_such_method"):
        await lab.request("no_such_method")
    with contextlib.suppress(UsageError):
        await lab.request("job.pause", job="x" * 10_000)
    assert (await lab.request("info"))["state"] == "ready"
    await lab.close()


async def test_notes_tags_titles_and_a_second_session(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, f"wait {tmp_path / 'gate'}")
    first = lab.session
    await lab.request("session.note", text="looks odd", job=job)
    await lab.request("session.tag", text="pilot")
    await lab.request("session.title", text="first")
    await lab.request("session.new", title="second")
    other = await AsyncLab.connect("k")
    assert other.session != first and other.state.title == "second"
    (tmp_path / "gate").touch()
    await kernels.finished(lab, job)
    assert [note.text for note in lab.state.notes.values()] == ["looks odd"]
    assert (lab.state.tags, lab.state.title) == (["pilot"], "first")
    assert job not in other.state.jobs
    saved = await other.request("session.save", session=first, path=str(tmp_path / "s.safetensors"))
    assert Path(saved["path"]).stat().st_size == saved["bytes"]
    assert {one["id"] for one in await other.request("session.list")} == {first, other.session}
    await asyncio.gather(lab.close(), other.close())
