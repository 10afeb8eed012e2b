"""The installed command line as a user runs it: a process, its exit code and its two streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LABTUI = Path(sys.executable).with_name("labtui")


def labtui(
    *arguments: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``labtui …`` to its end; never raises for its exit code."""
    return subprocess.run(
        [str(LABTUI), *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        input=stdin if stdin is not None else "",
    )


def must(*arguments: str, timeout: float = 120, cwd: Path | None = None) -> str:
    """Run ``labtui …``, expect exit code 0 and return its stdout."""
    done = labtui(*arguments, timeout=timeout, cwd=cwd)
    assert done.returncode == 0, (
        f"labtui {' '.join(arguments)} -> {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The single line of complaint on stderr; fails when there is a traceback, or more than one line."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    complaints = [line for line in lines if line.startswith("labtui")]
    assert len(complaints) == 1, done.stderr or done.stdout
    return complaints[0]
