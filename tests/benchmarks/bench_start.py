"""App start to first paint and kernel start to HELLO, each against bare ``python -c "import textual"``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.pty_app import PtyProgram

RUNS = 7
LABTUI = str(Path(sys.executable).with_name("labtui"))


def bare() -> float:
    """Seconds for a Python that only imports Textual's App."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
    return time.perf_counter() - start


def first_paint(env: dict[str, str]) -> float:
    """Seconds from the start of ``labtui`` to its first frame (the title in its header)."""
    with PtyProgram([LABTUI], 120, 40, env) as app:
        app.wait_for(
            b"\x1b[?1049h"
        )  # the alternate screen, so that a line of an error is not taken for a frame
        return app.wait_for(b"start the bundled toy") - app.started


def hello(env: dict[str, str], run: int) -> float:
    """Seconds of ``labtui kernel start`` without ``--wait``: it returns when the broker has said HELLO."""
    name = f"bench{run}"
    start = time.perf_counter()
    command = [LABTUI, "kernel", "start", name, "--model", "toy-qwen3"]
    subprocess.run(command, check=True, env=env, capture_output=True)
    seconds = time.perf_counter() - start
    subprocess.run([LABTUI, "kernel", "stop", "--force", name], check=True, env=env, capture_output=True)
    return seconds


def main() -> list[dict[str, object]]:
    """Medians of seven runs, the three taken in turn so that drift falls on all."""
    times: dict[str, list[float]] = {"bare": [], "paint": [], "hello": []}
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        env = {**os.environ, "LABTUI_HOME": f"{folder}/home", "LABTUI_RUNTIME": f"{folder}/run"}
        for run in range(RUNS):
            times["bare"].append(bare())
            times["paint"].append(first_paint(env))
            times["hello"].append(hello(env, run))
    base = statistics.median(times["bare"])
    against = f'`python -c "import textual.app"` {base:.2f} s'
    rows: list[dict[str, object]] = []
    for key, what in (("paint", "app start to first paint"), ("hello", "kernel start to HELLO")):
        value = statistics.median(times[key])
        rows.append(
            {"what": what, "figure": f"{value:.2f} s", "against": against, "ratio": f"{value / base:.1f}x"}
        )
    return rows
