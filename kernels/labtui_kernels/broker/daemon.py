"""Starting a kernel: a process of its own that outlives the terminal, and the wait for its HELLO."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, UsageError, from_code
from labtui_kernels import protocol
from labtui_kernels.broker import config as configuration
from labtui_kernels.broker import registry
from labtui_kernels.broker.config import KernelConfig, Record
from labtui_kernels.broker.logs import Log

START_TIMEOUT = 20.0
MAX_RESTARTS = 3
SETTLED = 60.0
RESTARTS = "LABTUI_RESTARTS"
MODULE = "labtui_kernels.broker.daemon"


class Boot(msgspec.Struct):
    """What a starting broker tells the process that started it."""

    ok: bool
    code: int = 1
    message: str = ""


# ---------------------------------------------------------------- the side that starts


def start(config: KernelConfig, command: list[str] | None = None, session: str = "") -> protocol.Hello:
    """Start a kernel and return its HELLO. LabError with its own line when it cannot start.

    ``command`` is the program that runs :func:`main` (tests put their own broker there); ``session`` the one
    that it goes on with (empty: the one it was in).
    """
    configuration.check(config)
    registry.socket_path(config.name)
    read_end, write_end = os.pipe()
    try:
        with _private(paths.logs() / f"{config.name}.boot.log") as log:
            child = subprocess.Popen(
                [*(command or [sys.executable, "-m", MODULE]), config.name, str(write_end)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                start_new_session=True,
            )
    finally:
        os.close(write_end)
    with contextlib.suppress(BrokenPipeError):  # it forks at once: the child here ends
        child.communicate(msgspec.json.encode(Record(config, session)))
    with os.fdopen(read_end, "rb") as pipe:
        boot = _boot(pipe.read(), config.name)
    if not boot.ok:
        raise from_code(boot.code, boot.message)
    with registry.connect(config.name, START_TIMEOUT) as connection:
        return registry.exchange_hello(connection, config.name)


def _private(path: Path) -> BinaryIO:
    """A fresh file that only we may read, whatever the umask of who starts a kernel."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.fchmod(handle, 0o600)
    return os.fdopen(handle, "wb")


def _boot(said: bytes, name: str) -> Boot:
    if said:
        return msgspec.json.decode(said, type=Boot)
    log = paths.logs() / f"{name}.boot.log"
    lines = log.read_text(errors="replace").strip().splitlines()
    return Boot(
        False, 1, f"kernel {name!r} died while it started: {lines[-1] if lines else 'no reason given'}"
    )


# ---------------------------------------------------------------- the daemon


def main(arguments: list[str]) -> None:
    """``NAME [FD]``: run the broker of that name; ``FD`` is told whether it came up."""
    name = arguments[0]
    report = int(arguments[1]) if len(arguments) > 1 else None
    given = sys.stdin.buffer.read() if report is not None else b""
    if report is not None and os.fork():
        os._exit(0)  # the one who started us does not become our parent
    detach()
    try:
        record = prepare(name, given)
        lock = registry.Lock(name)
        begun = time.monotonic()
        restart = serve(record, report)
        lock.release()
    except LabError as error:
        if report is None:
            raise
        tell(report, Boot(False, error.exit_code, str(error)))
        return
    if restart:
        start_again(sys.orig_argv[: -len(arguments)], name, time.monotonic() - begun)


def detach() -> None:
    """No terminal, no signals from one, files private."""
    os.umask(0o077)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.enable()


def prepare(name: str, given: bytes) -> Record:
    """The kernel's record: from what the starting process gave, over what is remembered."""
    known = configuration.read_record(name)
    if not given:
        if known is None:
            raise UsageError(f"kernel {name!r} has never run: it needs a model")
        return known
    record = msgspec.json.decode(given, type=Record)
    if not record.session and known is not None and known.config.model == record.config.model:
        record.session = known.session
    return record


def tell(report: int, boot: Boot) -> None:
    """Answer the process that waits for us."""
    with contextlib.suppress(OSError):
        os.write(report, msgspec.json.encode(boot))
        os.close(report)


def serve(record: Record, report: int | None) -> bool:
    """Bind the socket, say so, and serve until the kernel stops. True: start again with new code."""
    from labtui_kernels.broker.server import Broker, bind

    log = Log(record.config.name)
    listener = bind(record.config.name)
    path = registry.socket_path(record.config.name)

    async def run() -> bool:
        broker = Broker(record.config, record, log)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            reason = f"signal {number.name}"
            loop.add_signal_handler(number, lambda reason=reason: broker.stop(reason=reason))
        if report is not None:
            tell(report, Boot(True))
        return await broker.run(listener)

    log.write("starting", pid=os.getpid(), model=record.config.model, session=record.session or None)
    try:
        return asyncio.run(run())
    finally:
        path.unlink(missing_ok=True)
        log.close()


def start_again(command: list[str], name: str, lived: float) -> None:
    """Replace this process by a broker of the code that is on disk now, run by the same ``command``.

    Not more than a few times on end: ``lived`` is how many seconds this one ran.
    """
    count = 1 if lived > SETTLED else int(os.environ.get(RESTARTS, "0")) + 1
    if count > MAX_RESTARTS:
        print(f"kernel {name}: labtui keeps changing under it; start it again", file=sys.stderr)
        return
    os.environ[RESTARTS] = str(count)
    os.execv(sys.executable, [*command, name])


if __name__ == "__main__":
    main(sys.argv[1:])
