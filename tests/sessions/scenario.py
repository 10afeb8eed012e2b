"""A session as a kernel would write it: two arms, a knob, a sweep's cells, notes, a lost worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labtui_sessions.journal import Journal

MODEL: dict[str, Any] = {
    "name": "toy-qwen3", "family": "qwen3", "architecture": "Qwen3ForCausalLM", "blocks": 8, "width": 192,
    "dtype": "float32", "quantisation": None, "device": "cpu", "weight_hash": "w" * 64,
    "tokenizer_hash": "t" * 64, "context_length": 512,
}  # fmt: skip
WORDS = ["A", " mutex", " is", " a", " lock", ",", " held", " by", " one", " thread", "."]


def strength(alpha: float) -> dict[str, Any]:
    return {"text": str(alpha), "alpha": alpha, "abs": 19.6 * alpha, "pct": 4.0 * alpha, "direction": "terse",
            "sites": "llm.4", "where": "all"}  # fmt: skip


def answer(journal: Journal, job: str, row: str, alpha: float, count: int, t: float) -> None:
    """One row from start to end, in chunks of three tokens."""
    key = {"job": job, "row": row}
    edits = f"{alpha}*terse@llm.4" if alpha else ""
    journal.append("row.started", {
        **key, "arm": "steered" if alpha else "plain", "prompt_tokens": 3,
        "pieces": ["<|im_start|>", "Why", "?"],
        "ids": [1, 2, 3], "content": [False, True, True], "read": [2], "edited": [0, 1, 2] if alpha else [],
        "messages": [{"role": "user", "content": "Explain what a mutex is."}], "edits": edits,
        "strengths": [strength(alpha)] if alpha else [], "directions": ["terse"] if alpha else [], "seed": 0,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "top_k": 0}, "max_new_tokens": 64, "stop_ids": [9],
    }, t)  # fmt: skip
    words = (WORDS * 30)[:count]
    for start in range(0, count, 3):
        chunk = words[start : start + 3]
        journal.append("row.tokens", {
            **key, "start": start, "ids": [10 + i for i in range(start, start + len(chunk))], "pieces": chunk,
            "logprobs": [-0.1 - 0.01 * i for i in range(len(chunk))],
            "plain_logprobs": [-0.2] * len(chunk) if alpha else None, "gaps": [0.5] * len(chunk),
        }, t + 0.1 * (start + 1))  # fmt: skip
    journal.append("row.finished", {
        **key, "finish": "stop", "text": "".join(words), "tokens": count,
        "words": len("".join(words).split()),
        "metrics": {"perplexity": 1.5 + alpha, "kl": None}, "reasons": {"kl": "no plain logits were kept"},
    }, t + 0.1 * count)  # fmt: skip


def write_session(folder: Path, rows: int = 4, t: float = 1_750_000_000.0) -> Path:
    """Write the whole scenario into a journal; returns the folder."""
    with Journal.open(folder) as journal:
        put = journal.append
        opened = {"id": folder.name, "title": "mutex", "kernel": "toy", "created": t}
        put("session.opened", {**opened, "versions": {"torch": "2.8"}}, t)
        put("kernel.state", {"state": "loading", "progress": 0.5}, t)
        put("model.ready", {"info": MODEL}, t + 1)
        spec: dict[str, Any] = {"prompt": "Explain what a mutex is.", "edits": "2.0*terse@llm.4"}
        put("job.queued", {"job": "j1", "kind": "generate", "spec": spec, "client": "app"}, t + 2)
        put("job.started", {"job": "j1", "plan": {"rows": 2}}, t + 2)
        answer(journal, "j1", "plain", 0.0, 40, t + 3)
        answer(journal, "j1", "steered", 2.0, 11, t + 3)
        knob = {"job": "j1", "row": "steered", "edit": 0, "strength": 1.0, "strength_text": "1.0", "step": 6}
        put("knob", knob, t + 4)
        put("job.finished", {"job": "j1", "status": "done", "seconds": 4.0, "audit": {"ok": True}}, t + 9)
        put("note.added", {"id": "n1", "text": "shorter, still names the lock"}, t + 3600)
        put("tag.added", {"tag": "terse"}, t + 3601)
        sweep: dict[str, Any] = {"seeds": [0, 7], "directions": ["terse"], "strengths": [0, 1, 2]}
        put("job.queued", {"job": "j2", "kind": "sweep", "spec": sweep}, t + 3700)
        put("job.started", {"job": "j2", "plan": {"rows": rows, "cells": rows}}, t + 3701)
        for n in range(rows):
            row = {"row": n, "prompt": "Explain what a mutex is.", "direction": "terse", "site": "llm.4",
                   "where": "all", "strength": float(n), "strength_abs": 19.6 * n, "strength_pct": 4.0 * n,
                   "seed": 0, "control": "zero" if n == 0 else "", "text": "A lock. " * (9 - n % 9),
                   "tokens": 20, "finish": "stop", "words": 2 * (9 - n % 9),
                   "perplexity": None if n == 2 else 1.5 + n}  # fmt: skip
            if n == 2:
                row["reasons"] = {"perplexity": "the answer is empty"}
            cell = {"job": "j2", "cell": f"c{n}", "table": "sweep", "rows": [row]}
            put("cell.committed", cell, t + 3702 + n)
        put("worker.lost", {"reason": "killed", "exit": -9}, t + 3800)
        put("job.finished", {"job": "j2", "status": "done", "seconds": 100.0}, t + 3900)
    return folder
