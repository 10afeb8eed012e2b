"""The folders: whose they are, what they lie on, how fast they are and how much room they have."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from labtui.doctor.check import Check, Status
from labtui.output import size
from labtui_artifacts import mounts, paths
from labtui_artifacts.errors import LabError

SLOW_FSYNC = 0.1
LITTLE_ROOM = 1 << 30


def checks() -> Iterator[Check]:
    """The home folder, the runtime folder and the cache of downloaded models."""
    yield from _ours("home", paths.home)
    yield from _ours("runtime", paths.runtime)
    yield _config()
    yield _cache()


def fsync_seconds(folder: Path, times: int = 5) -> float:
    """The median time to write 4 KB and fsync it in ``folder``."""
    path = folder / f".doctor-{secrets.token_hex(6)}"
    taken = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(times):
            start = time.perf_counter()
            os.write(descriptor, bytes(4096))
            os.fsync(descriptor)
            taken.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(taken)


def _ours(name: str, locate: Callable[[], Path]) -> Iterator[Check]:
    try:
        folder = locate()
        mode = stat.S_IMODE(folder.stat().st_mode)
        kind = mounts.kind(folder)
        seconds = fsync_seconds(folder)
        free = _free(folder)
    except (LabError, OSError) as problem:
        yield Check("folders", name, "fail", str(problem), "the lab cannot work without it")
        return
    data = {"path": str(folder), "mode": f"{mode:04o}", "filesystem": kind, "fsync": seconds, "free": free}
    what = f"{folder} (mode {mode:04o}, {kind}, fsync {seconds * 1000:.1f} ms, {size(free)} free)"
    yield Check("folders", name, *_verdict(name, folder, mode, kind, seconds, free, what), data=data)


def _verdict(
    name: str, folder: Path, mode: int, kind: str, seconds: float, free: int, what: str
) -> tuple[Status, str, str]:
    if name == "runtime":
        if problem := socket_problem(folder):
            return "fail", what, f"{problem}: set LABTUI_RUNTIME to a short path on a local disk"
        if kind in mounts.NETWORK:
            return "warn", what, "sockets do not work well over a network: set LABTUI_RUNTIME to a local disk"
        return "ok", what, ""
    if free < LITTLE_ROOM:
        return "warn", what, "little room for sessions: make some or set LABTUI_HOME to another disk"
    if seconds > SLOW_FSYNC:
        return (
            "warn",
            what,
            "slow to sync: results are announced that much later; LABTUI_HOME on a local disk is faster",
        )
    if mode & 0o077 and name == "home":
        return "ok", what + "; what is inside is private", ""
    return "ok", what, ""


def socket_problem(folder: Path) -> str:
    """Why no Unix socket can be made in ``folder``; empty when one can."""
    path = folder / f".doctor-{secrets.token_hex(6)}.sock"
    try:
        paths.check_socket_path(path)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    except (LabError, OSError) as problem:
        return f"no socket can be made there ({problem})"
    finally:
        with suppress(OSError):
            path.unlink()
    return ""


def _config() -> Check:
    from labtui import config

    place = config.location()
    try:
        found = config.settings()
    except LabError as problem:
        return Check("folders", "config", "fail", str(problem), "correct the file")
    if not place.exists():
        return Check("folders", "config", "ok", f"none at {place}: the defaults hold")
    return Check("folders", "config", "ok", f"{place}: {len(found.profiles)} profiles")


def _cache() -> Check:
    place = cache_folder()
    models = sorted(path.name for path in place.glob("models--*")) if place.is_dir() else []
    base = place
    while not base.exists() and base != base.parent:
        base = base.parent
    free = _free(base)
    what = f"{place}: {len(models)} models from the Hub, {size(free)} free"
    data = {"path": str(place), "models": len(models), "free": free}
    if models and not os.access(place, os.W_OK):
        return Check("folders", "models", "warn", what, "it cannot be written, only read", data)
    return Check("folders", "models", "ok", what, data=data)


def cache_folder() -> Path:
    """Where the Hub's library keeps models: HF_HUB_CACHE, else under HF_HOME, else ~/.cache/huggingface."""
    if chosen := os.environ.get("HF_HUB_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(  # noqa: PTH118
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"
    )
    return Path(home).expanduser() / "hub"


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
