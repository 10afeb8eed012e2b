"""An index whose build is killed: it goes on at its first missing shard and has the bytes of one built in one go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from labtui_artifacts import paths
from labtui_artifacts.kinds.index import IndexFile
from tests.e2e import rig
from tests.e2e.lab import must

pytestmark = pytest.mark.usefixtures("no_kernels_left")

SPEC: dict[str, Any] = {
    "kind": "index",
    "name": "captions",
    "captions": {"set": "plain"},
    "sites": "llm.*",
    "shard": 4,
}


def store() -> dict[str, bytes]:
    """The manifest and every shard, by path."""
    root = paths.artifacts()
    found = [root / "captions.safetensors", *(root / "shards").rglob("*.safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def written() -> int:
    """How many shards there are by now."""
    return sum(1 for _ in (paths.artifacts() / "shards").rglob("*.safetensors"))


async def build(watcher: rig.Watcher, kills: tuple[int, ...] = ()) -> tuple[str, Any]:
    """Build the index, killing the worker when so many shards are written; its job and how that ended."""
    job = await watcher.submit(SPEC)
    for count, shards in enumerate(kills, 1):
        await watcher.until(
            lambda n=count: watcher.count("job.started", job) == n, "the build to be taken up"
        )
        pid = await rig.worker_pid(watcher.lab)
        await asyncio.to_thread(rig.wait_for, lambda n=shards: written() >= n, f"{shards} shards")
        assert watcher.lab.state.jobs[job].live, "the build was over before it could be killed"
        rig.kill(pid)
    view = await watcher.finished(job)
    assert view.status == "done", view.error
    return job, view


@pytest.mark.timeout(300)
async def test_a_killed_build_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    rig.start()
    async with rig.watching("k") as watcher:
        job, _ = await build(watcher, kills=(5, 20))
        killed = store()
        events = rig.on_disk(watcher.lab.session)
        ended = [event.data for event in events if event.kind == "job.finished" and event.data["job"] == job]
        result = ended[-1]["result"]
        assert result["shards"] == len(killed) - 1 > 30
        assert 20 <= result["reused"] < result["shards"], (
            "what was written before the last kill is not read anew"
        )
        assert [event.data["table"] for event in events if event.kind == "cell.committed"] == [f"{job}-index"]
        IndexFile.open(paths.artifacts() / "captions.safetensors").verify()
        strays = [path.name for path in (paths.artifacts() / "shards").rglob("*") if path.is_file()]
        assert all(name.endswith(".safetensors") or name == ".lock" for name in strays), strays
        must("artifact", "rm", "captions")
        assert written() == 0
        again, _ = await build(watcher)
        whole = store()
        assert again != job and killed.keys() == whole.keys()
        assert [name for name in whole if killed[name] != whole[name]] == []
        watcher.check()
