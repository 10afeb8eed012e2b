"""What runs here and for how long it may: kernels, ssh, Slurm, and what ends with a login."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from labtui.doctor.check import Check
from labtui.output import duration
from labtui_artifacts.errors import LabError


def checks() -> Iterator[Check]:
    """The kernels of this machine, and what the place they run in will do to them."""
    yield from _kernels()
    yield from place(os.environ, Path("/etc/systemd"))


def place(environ: Mapping[str, str], systemd: Path) -> Iterator[Check]:
    """Whether this is an ssh login or a Slurm job, and whether logging out ends what was started."""
    if environ.get("SSH_CONNECTION"):
        client = environ["SSH_CONNECTION"].split()[0]
        yield Check("kernels", "ssh", "ok", f"logged in from {client}")
    if job := environ.get("SLURM_JOB_ID"):
        left = _slurm_left(environ)
        what = f"job {job}" + (f", {duration(left)} left" if left is not None else "")
        todo = "" if left is None or left > 600 else "kernels here end with the job: save soon"
        yield Check("kernels", "slurm", "warn" if todo else "ok", what + ": kernels live until it ends", todo)
    if kills_at_logout(systemd):
        what = "systemd ends a user's processes at logout (KillUserProcesses=yes)"
        yield Check("kernels", "logout", "warn", what, "loginctl enable-linger keeps kernels alive")


def kills_at_logout(systemd: Path) -> bool:
    """Whether logind.conf or its drop-ins say ``KillUserProcesses=yes``; the last one said holds."""
    said = ""
    for path in [systemd / "logind.conf", *sorted((systemd / "logind.conf.d").glob("*.conf"))]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for match in re.finditer(r"^\s*KillUserProcesses\s*=\s*(\w+)", text, re.MULTILINE):
            said = match[1].lower()
    return said in ("yes", "true", "1", "on")


def _kernels() -> Iterator[Check]:
    from labtui_kernels.broker import registry

    try:
        entries = list(registry.entries())
    except LabError as problem:
        yield Check("kernels", "kernels", "fail", str(problem))
        return
    if not entries:
        yield Check("kernels", "kernels", "ok", "none running")
    for entry in entries:
        if entry.hello is None:
            yield Check(
                "kernels", entry.name, "warn", entry.problem, "labtui kernel gc clears what is left of it"
            )
        else:
            what = f"{entry.hello.state}, process {entry.hello.pid}, session {entry.hello.session or '-'}"
            yield Check("kernels", entry.name, "ok", what)


def _slurm_left(environ: Mapping[str, str]) -> float | None:
    end = environ.get("SLURM_JOB_END_TIME", "")
    return max(0.0, int(end) - time.time()) if end.isdigit() else None
