"""What a session holds at the moments that screens are tested at: empty, loading, running, done, error."""

from __future__ import annotations

from typing import Any

from labtui.projection import KernelCard, SessionCard
from tests.support.fake_kernel import PLAIN, STEERED, T0, FakeKernel

STYLES = {"terse": "against verbose", "formal": "against casual", "socratic": "against direct", "dry": ""}
SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": ["Explain what a mutex is.", "What is photosynthesis?"],
    "directions": ["terse"],
    "sites": "llm.2,4",
    "strengths": [1, 2, 4],
    "max_new_tokens": 64,
    "metrics": ["words", "perplexity"],
}
CARDS = [
    KernelCard("toy", "ready", "toy-qwen3", device="cpu", memory_used=180_000_000, clients=2, uptime=7400),
    KernelCard("big", "loading", "Qwen3-8B", progress=0.45, device="cuda:0", clients=0, uptime=12),
]
SAVED = [
    SessionCard("20260101-toy", "mutex, terse", T0, "toy-qwen3", 812, 5, ("keep",)),
    SessionCard("20251230-toy", "what dry does", T0 - 90_000, "toy-qwen3", 12_031, 44),
]
MOMENTS = ("empty", "loading", "running", "done", "error")


def kernel(moment: str) -> FakeKernel | None:
    """A kernel with a session at that moment; None for ``empty``."""
    if moment == "empty":
        return None
    if moment == "loading":
        return FakeKernel().opened()
    made = FakeKernel().ready("terse", "formal")
    made.answers["cosine"] = {
        "names": ["terse", "formal"],
        "matrix": [[1.0, 0.31], [0.31, 1.0]],
        "site": "mean",
    }
    for number, (edits, words) in enumerate((("0.5*terse@llm.4", 22), ("4.0*terse@llm.4", 3))):
        made.generate(f"a{number}", {"edits": edits})
        for arm, text in (("plain", PLAIN), ("steered", " ".join(PLAIN.split()[:words]))):
            made.tokens(f"a{number}", arm, text)
            made.finish(f"a{number}", arm, text, perplexity=1.0 + number)
        made.done(f"a{number}")
    made.emit("note.added", id="n1", text="terse bites at llm.4 only")
    made.emit("tag.added", tag="keep")
    sweep(made, cells=6 if moment == "running" else 14, done=moment == "done")
    if moment == "running":
        made.generate("j9")
        made.tokens("j9", "plain", "A mutex is a lock that only one")
        made.tokens("j9", "steered", "A mutex is a lock:")
    else:
        made.answered("j9")
    if moment == "error":
        made.emit("job.queued", job="j10", kind="generate", spec={"kind": "generate", "prompt": "x"})
        made.emit("job.finished", job="j10", status="failed", error="the prompt is too long")
        made.emit("worker.lost", reason="killed by signal 9 (out of memory?)", exit=-9)
        made.emit("kernel.state", state="worker-lost", detail="killed by signal 9")
    return made


def sweep(made: FakeKernel, *, cells: int, done: bool) -> None:
    """A sweep with that many cells committed."""
    made.emit("job.queued", job="s1", kind="sweep", spec=SWEEP, priority="batch", client="app")
    made.emit("job.started", job="s1", plan={"rows": 14, "cells": 14})
    rows = [("", "", 0.0, "zero", PLAIN, 1.2)] * 2
    for site, share in (("llm.2", 0.9), ("llm.4", 0.6)):
        for strength in (1.0, 2.0, 4.0):
            text = " ".join(PLAIN.split()[: int(43 * share**strength)]) or STEERED
            rows += [("terse", site, strength, "", text, 1.2 + 0.1 * strength**2)] * 2
    for index, (direction, site, strength, control, text, perplexity) in enumerate(rows[:cells]):
        row = {
            "row": index, "prompt": SWEEP["prompts"][index % 2], "direction": direction,
            "site": site, "where": "all",
            "strength": strength, "strength_abs": strength * 10.9, "strength_pct": strength * 15.8, "seed": 0,
            "control": control, "text": text, "tokens": len(text.split()), "finish": "stop",
            "words": len(text.split()), "perplexity": perplexity,
        }  # fmt: skip
        made.emit("cell.committed", job="s1", cell=f"c{index}", table="s1", rows=[row])
    if done:
        made.emit("job.finished", job="s1", status="done", seconds=4.2, audit={"ok": True})
