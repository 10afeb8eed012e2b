"""The writer's lock between real processes: exclusion, death of the holder, and other machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labtui_artifacts import lock, mounts
from labtui_artifacts.errors import LabError
from labtui_artifacts.lock import Holder, Lock

HOLD = """
import sys
from pathlib import Path
from labtui_artifacts.lock import Lock
with Lock(Path(sys.argv[1]), what="thing"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_elsewhere(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_another_process_is_kept_out_and_the_line_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = hold_elsewhere(path)
    try:
        with pytest.raises(
            LabError, match=rf"thing: in use by process {child.pid} on \S+: try again"
        ) as caught:
            Lock(path, what="thing", timeout=0).acquire()
        assert "\n" not in str(caught.value)
        holder = lock.read_holder(path)
        assert holder is not None and holder.is_alive is True and holder.boot == lock.boot_id()
    finally:
        child.communicate("")
    with Lock(path, what="thing", timeout=0):
        assert lock.read_holder(path) == Holder.here()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = hold_elsewhere(path)
    child.kill()
    child.communicate()
    holder = lock.read_holder(path)
    assert holder is not None and holder.pid == child.pid and holder.is_alive is False
    with Lock(path, what="thing", timeout=0):
        pass


def test_waiting_ends_when_the_holder_is_done(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = hold_elsewhere(path)
    waiter = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.communicate("")
    assert waiter.stdout is not None and waiter.stdout.readline() == "held\n"
    waiter.communicate("")


def test_two_locks_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with Lock(path, what="thing"), pytest.raises(LabError, match=f"process {os.getpid()}"):
        Lock(path, what="thing", timeout=0).acquire()


def test_a_reused_pid_is_not_taken_for_the_holder() -> None:
    me = Holder.here()
    assert me.is_alive is True
    assert Holder(me.host, me.boot, me.pid, me.started + 1).is_alive is False
    assert Holder(me.host, "before-the-reboot", me.pid, me.started).is_alive is False
    assert Holder("elsewhere", "other-boot", me.pid, me.started).is_alive is None


@pytest.mark.parametrize("network", [False, True])
def test_a_holder_on_another_machine_is_believed_on_a_shared_file_system_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool
) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "node7", "boot": "other-boot", "pid": 42, "started": 9}))
    if network:
        monkeypatch.setattr(mounts, "NETWORK", frozenset({mounts.kind(tmp_path)}))
        with pytest.raises(
            LabError, match=r"in use by process 42 on node7, another machine.*remove .*\.lock"
        ):
            Lock(path, what="thing", timeout=0).acquire()
        path.unlink()
    with Lock(path, what="thing", timeout=0):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]", b'{"host": 1}', b"x" * 5000])
def test_a_lock_file_with_rubbish_in_it_is_taken_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".lock"
    path.write_bytes(content)
    with Lock(path, what="thing", timeout=0):
        assert lock.read_holder(path) == Holder.here()
    assert path.read_bytes() == b""


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(LabError, match="cannot be opened"):
        Lock(tmp_path / ".lock", what="thing").acquire()
    assert (tmp_path / "victim").read_text() == "precious"


def test_the_file_system_of_proc_is_known() -> None:
    assert mounts.kind(Path("/proc/self/status")) == "proc"
    assert not mounts.is_network(Path("/proc"))
