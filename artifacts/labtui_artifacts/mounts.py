"""Which file system a path lies on, from /proc/self/mountinfo."""

from __future__ import annotations

import os
from pathlib import Path

NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "smbfs", "afs", "9p", "fuse.sshfs",
     "glusterfs", "fuse.glusterfs", "pvfs2", "panfs", "wekafs", "orangefs"}
)  # fmt: skip
"""File system types that several machines may share."""


def kind(path: Path) -> str:
    """The file system type under ``path`` ("ext4", "nfs4"); "unknown" where the system does not say."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        device = place.stat().st_dev
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    wanted = f"{os.major(device)}:{os.minor(device)}"
    found = "unknown"
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 4 and fields[2] == wanted and after:
            found = after.split()[0]
    return found


def is_network(path: Path) -> bool:
    """Whether ``path`` lies on a file system that other machines may write too."""
    return kind(path) in NETWORK
