"""Whether the system killed a process for memory, as opposed to a person who killed it."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def oom_kills(source: Path = VMSTAT) -> int | None:
    """How many processes the system has killed for memory since it booted, or None where it does not tell.

    Linux counts them in ``/proc/vmstat`` as ``oom_kill``, those of a cgroup's limit included.
    """
    try:
        lines = source.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdigit():
            return int(count)
    return None


def killed_for_memory(status: int | None, before: int | None, now: int | None) -> bool:
    """Whether a worker that ended with ``status`` ran out of memory, given the counts at its start and now.

    Without the counts every SIGKILL is taken for one: halving the batch costs time, not halving it could cost
    the worker again.
    """
    if status != -9:
        return False
    return before is None or now is None or now > before
