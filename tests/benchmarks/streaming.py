"""Keeps a kernel streaming: ``python -m tests.benchmarks.streaming NAME``.

It submits one generation after another: the same prompt, plain and steered, resampled many times, at the next
of a few strengths, so that rows end all the time and the chart of words over strengths lives. Every tenth of a
second a line tells the moment (``time.perf_counter``, one clock for all processes here) and how many tokens have
come so far.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

from labtui.client import AsyncLab

STRENGTHS = (4, 8, 12, 16, 20, 24)
"""In percent of the reference norm."""
RESAMPLES = 16
MOST_TOKENS = 400


async def stream(name: str) -> None:
    """Submit, count and tell, until the process is ended."""
    lab = await AsyncLab.connect(name)
    tokens, told = 0, 0.0
    with lab.subscribed() as take:
        for strength in itertools.cycle(STRENGTHS):
            spec = {
                "kind": "generate",
                "prompt": "Explain a mutex.",
                "edits": f"{strength}%*random:1@llm.4",
                "n": RESAMPLES,
                "max_new_tokens": MOST_TOKENS,
                "temperature": 1.5,
                "seed": strength,
            }
            job = (await lab.request("submit", spec=spec, priority="interactive"))["job"]
            ended = False
            while not ended:
                for event in (await take()).events:
                    if event.kind == "row.tokens":
                        tokens += len(event.data["ids"])
                    elif event.kind == "job.finished" and event.data["job"] == job:
                        if event.data["status"] != "done":
                            raise SystemExit(f"the generation failed: {event.data.get('error')}")
                        ended = True
                if time.perf_counter() - told >= 0.1:
                    told = time.perf_counter()
                    print(told, tokens, flush=True)


if __name__ == "__main__":
    asyncio.run(stream(sys.argv[1]))
