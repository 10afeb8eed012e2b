"""The build id: tells whether two processes run the same code, as after an upgrade under a running kernel."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

import labtui_artifacts
import labtui_kernels
import labtui_sessions


@cache
def version() -> str:
    """The version of the installed distribution, or ``0`` in a bare checkout."""
    try:
        return metadata.version("labtui")
    except metadata.PackageNotFoundError:
        return "0"


@cache
def build_id() -> str:
    """Version and a digest of the kernel side's source files: paths, sizes and times of change.

    Contents are not read: it takes a few milliseconds, and an upgrade changes sizes or times.
    """
    digest = hashlib.sha256()
    for package in (labtui_artifacts, labtui_sessions, labtui_kernels):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            stat = path.stat()
            digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"{version()}+{digest.hexdigest()[:12]}"
