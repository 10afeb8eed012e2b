"""Clients beside each other: a stopped one, one behind a dead link, strangers, and many at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labtui import client as client_module
from labtui.client import AsyncLab
from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, Unreachable
from labtui_kernels import protocol
from tests.e2e import rig
from tests.e2e.lab import LABTUI, labtui

HERE = Path(__file__).parent
NOBODY = 65534
NOTE = "n" * 16_000
FLOOD = 450
CLIENT_BYTES = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def folders() -> Iterator[dict[str, str]]:
    """A kernel for all tests here. Its folders lie where a stranger may look for them."""
    base = Path(tempfile.mkdtemp(prefix="lt-"))
    base.chmod(0o755)
    env = {"LABTUI_HOME": str(base / "home"), "LABTUI_RUNTIME": str(base / "run")}
    rig.start(env=env)
    yield env
    labtui("kernel", "stop", "k", "--force", env=env)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(autouse=True)
def kernel(folders: dict[str, str], lab_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in folders.items():
        monkeypatch.setenv(name, value)
    return folders


def helper(name: str, *arguments: str) -> subprocess.Popen[str]:
    """One of the programs beside this file."""
    return subprocess.Popen(
        [sys.executable, str(HERE / name), *arguments], stdout=subprocess.PIPE, text=True, bufsize=1
    )


# ---------------------------------------------------------------- a client that stands still


async def flood(lab: AsyncLab) -> float:
    """Write notes as fast as the kernel takes them; the seconds that took."""
    begun = time.monotonic()
    for _ in range(FLOOD // 15):
        await asyncio.gather(*(lab.request("session.note", text=NOTE) for _ in range(15)))
    return time.monotonic() - begun


async def test_a_stopped_client_slows_nobody_and_comes_back_without_a_gap() -> None:
    async with rig.watching("k") as watcher:
        lab, broker = watcher.lab, watcher.lab.hello.pid
        await watcher.lab.request("session.new", title="flood")
        await lab.switch(None)
        await watcher.until(lambda: lab.state.title == "flood", "the new session")
        free = await flood(lab)
        first = lab.state.seq
        with helper("follower.py", "k") as follower:
            assert follower.stdout is not None
            begun = follower.stdout.readline().split()
            assert begun[0] == "reset" and int(begun[1]) >= first
            os.kill(follower.pid, signal.SIGSTOP)
            rig.wait_for(lambda: rig.state_of(follower.pid) == "T", "the follower to stand still")
            beside = await flood(lab)
            full = rig.resident(broker)
            beside = min(beside, await flood(lab))
            assert rig.resident(broker) - full < CLIENT_BYTES, "the broker hoards for a stopped client"
            assert beside < 3 * free + 1.0, f"{beside:.2f} s beside a stopped client, {free:.2f} s without"
            last = lab.state.seq
            assert last >= first + 2 * FLOOD
            os.kill(follower.pid, signal.SIGCONT)
            await asyncio.to_thread(follow_to, follower, int(begun[1]), last)
            follower.kill()
    log = labtui("kernel", "logs", "k", "-n", "400").stdout
    assert '"client.behind"' in log


def follow_to(follower: subprocess.Popen[str], seen: int, last: int) -> None:
    """Read what the follower was shown, up to ``last``; each run of events follows the one before."""
    assert follower.stdout is not None
    while seen < last:
        words = follower.stdout.readline().split()
        assert words, "the follower has ended"
        if words[0] == "reset":
            seen = max(seen, int(words[1]))
            continue
        start, end = int(words[0]), int(words[1])
        assert start == seen + 1, f"event {start} was shown after {seen}"
        seen = end


# ---------------------------------------------------------------- a link whose packets vanish


async def test_a_link_that_goes_dark_is_noticed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PING_EVERY", 0.3)
    monkeypatch.setattr(client_module, "SILENT_AFTER", 1.5)
    monkeypatch.setenv("LABTUI_REMOTE", str(LABTUI))
    via = shlex.join([sys.executable, str(HERE / "tunnel.py"), str(tmp_path)])
    async with rig.watching("k") as near, rig.watching("k", via) as far:
        job = await near.submit(rig.SWEEP)
        await far.until(lambda: far.count("row.tokens", job), "tokens through the tunnel")
        (tmp_path / "dark").touch()
        seen = far.lab.state.seq
        await far.until(lambda: far.lab.link.phase == "lost", "the silence to be noticed", 30)
        assert "silent" in far.lab.link.detail and far.lab.link.attempt >= 1
        (tmp_path / "dark").unlink()
        await far.until(lambda: far.lab.link.up, "the reconnection")
        await far.finished(job)
        await near.finished(job)
        assert far.lab.state.seq > seen
        far.check()
        near.check()
        assert far.phases[0] == "lost" and far.phases[-1] == "up" and "lost" not in near.phases


# ---------------------------------------------------------------- two clients, one state


def digest(lab: AsyncLab) -> str:
    """The state as one short word."""
    return hashlib.sha256(msgspec.msgpack.encode(lab.state.snapshot())).hexdigest()


def remember(lab: AsyncLab) -> dict[int, str]:
    """From now on, the state at every sequence number at which this client stands still for a moment."""
    states: dict[int, str] = {}
    lab.on_change(lambda: states.__setitem__(lab.state.seq, digest(lab)))
    return states


async def test_two_clients_agree_and_an_answer_pre_empts_a_sweep_without_changing_it() -> None:
    async with rig.watching("k") as one, rig.watching("k") as two:
        expected, spoken = await rig.undisturbed(one)
        left, right = remember(one.lab), remember(two.lab)
        sweep = await one.submit(rig.SWEEP)
        await two.until(lambda: two.count("row.tokens", sweep), "the sweep's first tokens")
        generate = await two.submit(rig.GENERATE)
        for watcher in (one, two):
            for job in (sweep, generate):
                assert (await watcher.finished(job)).status == "done"
        events = one.check()
        two.check()
        first = next(e.seq for e in events if e.kind == "row.tokens" and e.data["job"] == generate)
        ends = {e.data["job"]: e.seq for e in events if e.kind == "job.finished"}
        assert first < ends[generate] < ends[sweep], "the answer waited for the sweep"
        queued = next(e.seq for e in events if e.kind == "job.queued" and e.data["job"] == generate)
        between = [e for e in events[queued:first] if e.kind == "cell.committed" and e.data["job"] == sweep]
        assert len(between) <= 3, "the sweep went on while the answer waited"
        rig.check_sweep(events, sweep, expected)
        assert rig.answers(events, generate) == spoken
        common = left.keys() & right.keys()
        assert len(common) > 20
        assert {seq: left[seq] for seq in common} == {seq: right[seq] for seq in common}


# ---------------------------------------------------------------- strangers


def stranger(act: Callable[[], object]) -> str:
    """What comes of it when somebody else does this: ``repr`` of its result, or of its OSError or LabError.

    A forked child that gives up being us: so it needs no program that the other user may run.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                said = repr(act())
            except (OSError, LabError) as error:
                said = repr(error)
            os.write(write_end, said.encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def knock(path: Path) -> bytes:
    """Connect to a socket and say something: the answer, empty when the other side just leaves."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        try:
            client.sendall(bytes(4))
            return client.recv(100)
        except ConnectionError:
            return b""


def need_root() -> None:
    """Another user can only be played by root; with ``CI=true`` that is not optional."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("this test plays another user and mounts: it needs root")
        pytest.skip("needs root to play another user")


def test_another_user_can_neither_list_nor_read_nor_connect(kernel: dict[str, str]) -> None:
    need_root()
    home, run = Path(kernel["LABTUI_HOME"]), Path(kernel["LABTUI_RUNTIME"])
    (journal, *_) = home.rglob("journal.bin")
    assert "home'" in stranger(lambda: sorted(home.parent.iterdir())), "nothing here can be looked at"
    assert "PermissionError" in stranger(lambda: sorted(home.iterdir()))
    assert "PermissionError" in stranger(lambda: sorted(run.iterdir()))
    assert "PermissionError" in stranger(journal.read_bytes)
    assert "PermissionError" in stranger(lambda: knock(run / "k.sock"))
    refused = stranger(paths.runtime)
    assert refused.startswith("Unreachable(") and "belongs to uid 0" in refused, refused
    for path in (home, run, *home.rglob("*"), *run.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} has mode {mode:04o}"


def test_another_user_is_turned_away_even_where_the_folder_is_open(kernel: dict[str, str]) -> None:
    need_root()
    run = Path(kernel["LABTUI_RUNTIME"])
    sock = run / "k.sock"
    run.chmod(0o777)
    sock.chmod(0o666)
    try:
        assert stranger(lambda: knock(sock)) == "b''"
        assert knock(sock) != b""
    finally:
        sock.chmod(0o600)
        run.chmod(0o700)
    assert f'"uid": {NOBODY}' in labtui("kernel", "logs", "k", "-n", "50").stdout
    assert rig.info()["state"] in ("ready", "busy")


# ---------------------------------------------------------------- many at once


async def test_many_short_contacts_while_a_job_streams_are_all_answered_soon() -> None:
    async with rig.watching("k") as watcher:
        job = await watcher.submit(rig.SWEEP)
        await watcher.until(lambda: watcher.count("row.tokens", job), "the sweep's first tokens")
        probers = [helper("prober.py", "k", "25") for _ in range(4)]
        commands = [
            rig.command("kernel", "ps"),
            rig.command("kernel", "start", "k", "--model", "toy-qwen3", "--wait"),
            rig.command("artifact", "ls"),
            rig.command("kernel", "info", "k"),
        ]
        said = await asyncio.gather(*(asyncio.to_thread(end, process) for process in [*probers, *commands]))
        assert (await watcher.finished(job)).status == "done"
        watcher.check()
    times = [float(line.split()[0]) for text in said[:4] for line in text.splitlines()]
    assert len(times) == 100
    assert max(times) < 10.0, f"the slowest contact took {max(times):.1f} s"


def end(process: subprocess.Popen[Any]) -> str:
    """What a process said; it ended well and soon."""
    try:
        said, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{process.args} hangs: {process.communicate()[0]!r}") from None
    assert process.returncode == 0, f"{process.args} -> {process.returncode}: {said!r}"
    return said if isinstance(said, str) else said.decode()


@pytest.mark.parametrize("leaves", [True, False], ids=["closes", "falls silent"])
async def test_a_kernel_that_goes_after_its_hello_is_unreachable_and_not_waited_for(
    leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PING_EVERY", 0.1)
    monkeypatch.setattr(client_module, "SILENT_AFTER", 0.5)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await protocol.read_frame(reader)
        hello = protocol.Hello(protocol.MIN_VERSION, protocol.VERSION, "half", "test", "", 1, "ready")
        writer.write(protocol.encode(hello))
        await protocol.read_frame(reader)
        if leaves:
            writer.close()

    server = await asyncio.start_unix_server(greet, paths.socket_path("half"))
    try:
        async with asyncio.timeout(20):
            with pytest.raises(Unreachable, match="closed the connection" if leaves else "silent"):
                await AsyncLab.connect("half")
    finally:
        server.close()
        paths.socket_path("half").unlink()
