"""From submitting an interactive generation to its first token: during a sweep, against an idle kernel.

A real kernel with toy-qwen3 (and one with real weights where LABTUI_REAL_QWEN names them). The sweep fills every slot the
whole time; what stands in the way is the step that is under way when the request comes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from labtui.client import AsyncLab

KERNEL = "first"
ASKED = 15
GENERATE: dict[str, Any] = {
    "kind": "generate",
    "prompt": "Explain what a mutex is.",
    "edits": "8%*random:1@llm.4",
    "max_new_tokens": 4,
    "metrics": [],
}
SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": {"set": "neutral"},
    "directions": ["random:1", "random:2"],
    "sites": "llm.2,4,6",
    "strengths": ["4%", "8%", "12%", "16%"],
    "controls": "none",
    "max_new_tokens": 250,
}


async def first_token(lab: AsyncLab) -> float:
    """Milliseconds until the first token of a generation is here; returns after its end."""
    began = time.perf_counter()
    found = 0.0
    with lab.subscribed() as take:
        job = (await lab.request("submit", spec=GENERATE, priority="interactive"))["job"]
        while True:
            for event in (await take()).events:
                if event.data.get("job") != job:
                    continue
                if event.kind == "row.tokens" and not found:
                    found = time.perf_counter() - began
                if event.kind == "job.finished":
                    assert event.data["status"] == "done", event.data
                    return found * 1e3


async def measure() -> tuple[list[float], list[float]]:
    """Milliseconds to the first token on an idle kernel, and during a sweep."""
    lab = await AsyncLab.connect(KERNEL)
    try:
        await first_token(lab)
        idle = [await first_token(lab) for _ in range(ASKED)]
        job = (await lab.request("submit", spec=SWEEP))["job"]
        with lab.subscribed() as take:
            while not any(e.kind == "job.started" and e.data["job"] == job for e in (await take()).events):
                pass
        await asyncio.sleep(3.0)  # its slots are full
        busy = []
        for _ in range(ASKED):
            await asyncio.sleep(0.37)
            assert lab.state.jobs[job].live, "the sweep ended too early"
            busy.append(await first_token(lab))
        await lab.request("job.cancel", job=job)
        return idle, busy
    finally:
        await lab.close()


def of_model(name: str, model: str) -> dict[str, object]:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "LABTUI_HOME": home, "LABTUI_RUNTIME": f"{home}/run"}
        os.environ.update(env)
        command = [str(Path(sys.executable).with_name("labtui")), "kernel"]
        subprocess.run(
            [*command, "start", KERNEL, "--model", model, "--dtype", "float32", "--wait"], check=True
        )
        try:
            idle, busy = asyncio.run(measure())
        finally:
            subprocess.run([*command, "stop", KERNEL], check=True)
    here, there = statistics.median(busy), statistics.median(idle)
    return {
        "what": f"{name}: first token during a sweep, median of {ASKED} (slowest {max(busy):.0f} ms)",
        "figure": f"{here:.0f} ms",
        "against": f"an idle kernel {there:.0f} ms (slowest {max(idle):.0f}); aim 2x",
        "ratio": f"{here / there:.2f}x",
    }


def main() -> list[dict[str, object]]:
    """toy-qwen3, and the real weights where they are."""
    lines = [of_model("toy-qwen3", "toy-qwen3")]
    folder = os.environ.get("LABTUI_REAL_QWEN")
    if folder:
        lines.append(of_model("Qwen2.5-Coder-0.5B", str(Path(folder) / "model.gguf")))
    return lines


if __name__ == "__main__":
    for line in main():
        print(line)
