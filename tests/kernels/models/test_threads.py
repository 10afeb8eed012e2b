"""Threads: cores rather than processors, and never more than a container may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labtui_kernels.models.threads import usable_cores


def machine(
    root: Path, processors: int, per_core: int, cgroup: str = "", files: dict[str, str] | None = None
) -> Path:
    """A made-up /sys and /proc: neighbours of ``per_core`` processors share a core."""
    for number in range(processors):
        folder = root / f"sys/devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        first = number // per_core * per_core
        (folder / "thread_siblings_list").write_text(f"{first}-{first + per_core - 1}\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in (files or {}).items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_two_processors_of_a_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, 8, 2)
    assert usable_cores(root, range(8)) == 4
    assert usable_cores(root, [0, 1, 2]) == 2


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/job/step", {"job/cpu.max": "200000 100000\n", "job/step/cpu.max": "max 100000\n"}, 2),
        ("0::/job", {"job/cpu.max": "50000 100000\n"}, 1),
        ("0::/job", {"job/cpu.max": "max 100000\n"}, 16),
        ("0::/job", {"job/cpu.max": "nonsense\n"}, 16),
        ("4:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu,cpuacct:/x", {"cpu,cpuacct/x/cpu.cfs_quota_us": "-1", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 16),
        ("5:memory:/x", {"memory/x/cpu.max": "100000 100000"}, 16),
    ],
)  # fmt: skip
def test_a_quota_bounds_them(tmp_path: Path, cgroup: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(machine(tmp_path, 16, 1, cgroup, files), range(16)) == cores


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, [3, 5]) == 2


@pytest.mark.parametrize("asked", [None, "1"])
def test_torch_gets_them_unless_the_environment_says_how_many(asked: str | None) -> None:
    code = "from labtui_kernels.models.threads import *; print(settle_threads(), usable_cores())"
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if asked:
        env["OMP_NUM_THREADS"] = asked
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    threads, cores = map(int, done.stdout.split())
    assert threads == (int(asked) if asked else cores)
