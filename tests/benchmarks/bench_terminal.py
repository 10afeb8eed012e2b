"""The app in a terminal while a kernel streams: from a key to its paint, and bytes a second to the terminal.

A real kernel with toy-qwen3, the real app in a pseudo-terminal of two sizes, believing that it is reached over
SSH. The reached rate of tokens is stated with each figure: it is what this machine gives beside the app.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.pty_app import PtyProgram

LABTUI = str(Path(sys.executable).with_name("labtui"))
SIZES = ((200, 60), (80, 24))
KEYS = 100
SECONDS = 15.0
KERNEL = "bench"
RARE = "".join(chr(code) for code in range(0x0430, 0x0450))
"""Letters that appear nowhere in the app or the answers, so that their bytes mark their paint."""
KEY_AIM, BYTES_AIM, LOW_AIM = 30.0, 20_000.0, 4_000.0


class Counter(threading.Thread):
    """Reads what ``streaming`` tells; :meth:`rate` is the tokens a second between two moments."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._told: list[tuple[float, int]] = []
        self.streaming = threading.Event()
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            moment, tokens = line.split()
            self._told.append((float(moment), int(tokens)))
            if int(tokens):
                self.streaming.set()

    def rate(self, start: float, stop: float) -> float:
        """Tokens a second between two moments of ``time.perf_counter``."""
        if self._process.poll() is not None:
            raise AssertionError("the generations have ended: see the error above")
        inside = [(moment, tokens) for moment, tokens in self._told if start <= moment <= stop]
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


@contextlib.contextmanager
def streaming(env: dict[str, str]) -> Iterator[Counter]:
    """A process that keeps the kernel streaming."""
    command = [sys.executable, "-m", "tests.benchmarks.streaming", KERNEL]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        counter = Counter(process)
        if not counter.streaming.wait(60):
            raise AssertionError("no token came within 60 s")
        yield counter
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def app(env: dict[str, str], size: tuple[int, int], *options: str) -> Iterator[PtyProgram]:
    """The app on its Steer screen, settled."""
    with PtyProgram([LABTUI, "--kernel", KERNEL, *options], *size, env) as program:
        program.wait_for(b"Steered")
        program.drain(4.0)
        yield program


def key_times(program: PtyProgram) -> list[float]:
    """Milliseconds from each of many keys, typed into the prompt at uneven moments, to the paint of its letter."""
    chooser = random.Random(1)
    program.write(b"i")
    program.drain(0.5)
    times: list[float] = []
    for number in range(KEYS):
        if number % len(RARE) == 0:
            program.write(b"\x15")  # ctrl+u: an empty line, on which no letter stands yet
            program.drain(0.5)
        letter = RARE[number % len(RARE)].encode()
        pressed = time.perf_counter()
        program.write(letter)
        times.append((program.wait_for(letter) - pressed) * 1e3)
        program.drain(chooser.uniform(0.03, 0.15))
    return times


def percentile(times: list[float], share: float) -> float:
    """The smallest time that at least ``share`` of all do not exceed."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def keys(env: dict[str, str], size: tuple[int, int]) -> list[dict[str, object]]:
    """Key to paint, on an idle kernel and on one that streams."""
    with app(env, size) as program:
        idle = key_times(program)
    with streaming(env) as counter, app(env, size) as program:
        start = time.perf_counter()
        busy = key_times(program)
        rate = counter.rate(start, time.perf_counter())
    at = f"{size[0]}x{size[1]}, {rate:.0f} tokens/s"
    calm = percentile(idle, 0.99)
    p99 = percentile(busy, 0.99)
    return [
        {
            "what": f"key to paint, p50 ({at})",
            "figure": f"{statistics.median(busy):.1f} ms",
            "against": f"an idle kernel {statistics.median(idle):.1f} ms",
            "ratio": f"{statistics.median(busy) / statistics.median(idle):.2f}x",
        },
        {
            "what": f"key to paint, p99 ({at}; idle kernel {calm:.1f} ms)",
            "figure": f"{p99:.1f} ms",
            "against": f"aim {KEY_AIM:.0f} ms",
            "ratio": f"{p99 / KEY_AIM:.2f}x",
        },
    ]


def traffic(env: dict[str, str], size: tuple[int, int]) -> list[dict[str, object]]:
    """Bytes a second to the terminal, the chart of strengths living where the screen has room for it."""
    rows: list[dict[str, object]] = []
    for name, options, aim in (("normal", (), BYTES_AIM), ("--low-bandwidth", ("--low-bandwidth",), LOW_AIM)):
        with streaming(env) as counter, app(env, size, *options) as program:
            start = time.perf_counter()
            found = program.drain(SECONDS) / SECONDS
            rate = counter.rate(start, time.perf_counter())
        rows.append(
            {
                "what": f"to the terminal over SSH, {name} ({size[0]}x{size[1]}, {rate:.0f} tokens/s)",
                "figure": f"{found / 1e3:.1f} KB/s",
                "against": f"aim {aim / 1e3:.0f} KB/s",
                "ratio": f"{found / aim:.2f}x",
            }
        )
    return rows


def main() -> list[dict[str, object]]:
    """Both sizes, on one kernel."""
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        env = {
            **os.environ,
            "LABTUI_HOME": f"{folder}/home",
            "LABTUI_RUNTIME": f"{folder}/run",
            "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22",
        }
        subprocess.run(
            [LABTUI, "kernel", "start", KERNEL, "--model", "toy-qwen3", "--wait"], check=True, env=env
        )
        try:
            return [row for size in SIZES for row in (*keys(env, size), *traffic(env, size))]
        finally:
            subprocess.run([LABTUI, "kernel", "stop", "--force", KERNEL], check=True, env=env)


if __name__ == "__main__":
    for line in main():
        print(line)
