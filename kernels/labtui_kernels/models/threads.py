"""How many threads the model's arithmetic should use: the whole processor cores that this process may really have.

torch counts every core that it sees. Two threads on one core, or more threads than a container's CPU quota, wait for
each other at the end of every operation, which makes a decode step several times slower.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path


def usable_cores(root: Path = Path("/"), allowed: Collection[int] | None = None) -> int:
    """Cores among the ``allowed`` processors (default: this process's), at most the CPU quota of its control groups."""
    processors = sorted(os.sched_getaffinity(0) if allowed is None else allowed)
    cores = {_siblings(root, number) for number in processors}
    quota = _quota(root)
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


def settle_threads() -> int:
    """Give torch that many threads, unless ``OMP_NUM_THREADS`` says how many; the number it has then."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


def _siblings(root: Path, number: int) -> str:
    """The processors that share a core with this one, as the system writes them; its own number where it does not."""
    path = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
    try:
        return path.read_text().strip() or str(number)
    except OSError:
        return str(number)


def _quota(root: Path) -> float | None:
    """The tightest CPU quota in cores over this process's control groups (version 2, then 1)."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in groups:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / controllers
        folder = base / place.lstrip("/")
        while folder == base or base in folder.parents:
            found += _limit(folder, version_2=not controllers)
            folder = folder.parent
    return min(found) if found else None


def _limit(folder: Path, version_2: bool) -> list[float]:
    try:
        if version_2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return [int(quota) / int(period)] if quota not in ("max", "-1") else []
    except (OSError, ValueError, ZeroDivisionError):
        return []
