"""Clients that misbehave, stop, or are not allowed in: the kernel and the other clients do not notice."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from labtui.client import AsyncLab
from labtui_artifacts import paths
from labtui_artifacts.errors import Unreachable, UsageError
from labtui_kernels import protocol
from labtui_kernels.broker import registry
from labtui_kernels.protocol import LENGTH, MAX_FRAME
from tests.support import kernels

ME = protocol.ClientHello(1, 1, "raw", "test")


def raw(frames: bytes) -> list[protocol.BrokerMessage]:
    """Send bytes to the kernel; every message that comes back until it closes the connection."""
    found: list[protocol.BrokerMessage] = []
    decoder = protocol.Frames()
    with registry.connect("k", timeout=10) as connection:
        connection.sendall(frames)
        connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            found += [protocol.decode_broker(body) for body in decoder.feed(data)]
    return found


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


@pytest.mark.parametrize(
    ("sent", "pattern"),
    [
        (LENGTH.pack(MAX_FRAME + 1) + b"x" * 100, "announces 16,777,217 bytes"),
        (frame(b"\xc1\xc1 this is no msgpack"), "not msgpack"),
        (frame(msgspec.msgpack.encode({"m": "nonsense"})), "unexpected message"),
        (frame(msgspec.msgpack.encode({"m": "hello", "min_version": "one"})), "unexpected message"),
        (protocol.encode(protocol.Ping(1)), "first frame must be a hello"),
        (
            protocol.encode(protocol.ClientHello(7, 9, "future", "x")),
            "speaks protocol 1 to 1.*labtui kernel stop k",
        ),
        (LENGTH.pack(100) + b"torn", "ended within a frame"),
        (protocol.encode(ME) * 2, "second hello"),
        (frame(b"\x91" * 100_000), "not msgpack|unexpected"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "announces"),
    ],
    ids=[
        "long",
        "not msgpack",
        "unknown",
        "mistyped",
        "no hello",
        "version",
        "torn",
        "twice",
        "deep",
        "http",
    ],
)
async def test_bad_frames_get_one_line_and_the_kernel_lives(sent: bytes, pattern: str) -> None:
    kernels.start()
    faults = [message for message in raw(sent) if isinstance(message, protocol.Fault)]
    assert len(faults) == 1
    assert "\n" not in faults[0].message
    assert re.search(pattern, faults[0].message), faults[0].message
    assert registry.probe("k").hello is not None


async def test_a_stopped_client_slows_nobody_and_the_brokers_memory_stays_flat(tmp_path: Path) -> None:
    kernels.start(limits={"client_bytes": 300_000})
    lab = await kernels.ready()
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    stopped = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert stopped.stdout is not None
    try:
        assert stopped.stdout.readline() == "attached\n"
        os.kill(stopped.pid, signal.SIGSTOP)
        await kernels.finished(lab, await kernels.submit(lab, "flood 100"))
        before = (await lab.request("info"))["broker_memory"]
        view = await kernels.finished(lab, await kernels.submit(lab, "flood 2000"), 60)
        assert view.status == "done"
        after = (await lab.request("info"))["broker_memory"]
        assert after - before < 25_000_000, f"{before:,} -> {after:,} bytes for 40 MB of events"
        assert "client.behind" in (paths.logs() / "k.jsonl").read_text()
        await lab.request("session.title", text="the end")
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.stdout.readline() == f"caught up at {lab.state.seq}\n"
    finally:
        stopped.kill()
        stopped.wait()
    await lab.close()


CLIENT = """
import asyncio
from labtui.client import AsyncLab

async def main():
    lab = await AsyncLab.connect("k")
    print("attached", flush=True)
    with lab.subscribed() as take:
        while lab.state.title != "the end":
            await take()
    print("caught up at", lab.state.seq, flush=True)

asyncio.run(main())
"""


async def test_a_silent_connection_is_ended() -> None:
    kernels.start(limits={"ping_every": 0.2, "silent_after": 0.6, "hello_within": 0.5})
    with registry.connect("k", timeout=10) as mute:
        fault = protocol.decode_broker(next(protocol.Frames().feed(mute.recv(65536))))
        assert isinstance(fault, protocol.Fault) and "no hello" in fault.message
    with registry.connect("k", timeout=10) as silent:
        registry.exchange_hello(silent, "k")
        received = b""
        while data := silent.recv(65536):
            received += data
    kinds = [type(protocol.decode_broker(body)).__name__ for body in protocol.Frames().feed(received)]
    assert kinds and set(kinds) == {"Ping"}


async def test_events_come_without_a_gap_to_one_that_attaches_in_the_middle(tmp_path: Path) -> None:
    kernels.start()
    lab = await kernels.ready()
    job = await kernels.submit(lab, "a", f"wait {tmp_path / 'gate'}", *"bcdefghij", tokens=30)
    await kernels.until(lab, lambda: lab.state.jobs[job].cells == 1, "the middle")
    seen: list[int] = []
    late = await AsyncLab.connect("k", attach=False)
    with late.subscribed() as take:
        answer = await late.request("attach", after=5)
        (tmp_path / "gate").touch()
        while (view := late.state.jobs.get(job)) is None or view.live:
            change = await take()
            seen += [event.seq for event in change.events]
    assert answer["snapshot"] is None
    await kernels.finished(lab, job)
    assert late.state.seq >= seen[-1] and seen == list(range(seen[0], seen[-1] + 1))
    await lab.close()
    await late.close()


def test_another_user_can_neither_see_nor_reach_the_kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    kernels.start()
    path = registry.socket_path("k")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for folder in (paths.sessions(), paths.logs(), *paths.sessions().iterdir()):
        assert folder.stat().st_mode & 0o077 == 0, folder
    look = (
        "import os,socket\nos.setgid(65534);os.setuid(65534)\n"
        f"s=socket.socket(socket.AF_UNIX)\ns.connect({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr
    # and where the file system lets one through, the peer's credentials do not
    path.parent.chmod(0o711)
    path.chmod(0o666)
    done = subprocess.run(
        [sys.executable, "-c", look + "\nprint(s.recv(10))"], capture_output=True, text=True, check=False
    )
    path.parent.chmod(0o700)
    assert done.stdout == "b''\n" or "ConnectionReset" in done.stderr, done
    kernels.wait_for(
        lambda: '"client.foreign", "uid": 65534' in (paths.logs() / "k.jsonl").read_text(), "the log line"
    )


def _symlink(folder: Path) -> None:
    folder.symlink_to("/tmp")


def _foreign(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 65534, 65534)


def _open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "pattern"),
    [(_symlink, "symlink"), (_foreign, "belongs to uid 65534"), (_open, "written by others")],
)
def test_a_socket_folder_that_is_not_ours_alone_is_refused(
    make: Callable[[Path], None], pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is _foreign and os.geteuid() != 0:
        pytest.skip("needs root to give a folder away")
    place = tmp_path / "run"
    make(place)
    with monkeypatch.context() as patch:
        patch.setenv("LABTUI_RUNTIME", str(place))
        with pytest.raises(Unreachable, match=pattern):
            kernels.start()


def test_stale_sockets_are_cleaned_and_locked_names_are_not(tmp_path: Path) -> None:
    pid = kernels.start()
    kernels.kill(pid)
    assert registry.names() == ["k"] and registry.alive() == []
    with pytest.raises(Unreachable, match="not running any more"):
        registry.connect("k")
    lock = registry.Lock("k")
    assert registry.clean() == []
    with pytest.raises(UsageError, match="already running or starting"):
        registry.Lock("k")
    lock.release()
    assert registry.clean() == ["k"] and registry.names() == []
    with pytest.raises(Unreachable, match="no kernel 'k' here"):
        registry.connect("k")


def test_the_kernel_answers_within_a_second_and_lists_itself() -> None:
    kernels.start("one")
    kernels.start("two")
    assert registry.alive() == ["one", "two"]
    with pytest.raises(Unreachable, match=r"several kernels.*one, two"):
        registry.only()
