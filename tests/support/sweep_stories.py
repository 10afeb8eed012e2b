"""A sweep large enough to be judged: three sites, four strengths, twenty prompts, and the rows of its null.

At llm.2 answers grow shorter with the strength, at llm.6 nothing happens but at the end, where they are cut, and
at llm.1 text collapses at the largest strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.fake_kernel import PLAIN, FakeKernel

TOPICS = (
    "mutex", "tide", "comet", "desert", "fossil", "treaty", "budget", "glacier", "cell", "enzyme",
    "lever", "prism", "senate", "sonnet", "canal", "vaccine", "volcano", "sextant", "quorum", "ledger",
)  # fmt: skip
PROMPTS = [f"What is a {topic}?" for topic in TOPICS]
PERCENTS = (2.0, 4.0, 8.0, 16.0)
SHARES = {
    "llm.1": (1.0, 0.95, 0.7, 0.1),
    "llm.2": (1.0, 0.9, 0.5, 0.2),
    "llm.6": (1.0, 1.0, 1.02, 0.96),
}
SPEC: dict[str, Any] = {
    "kind": "sweep",
    "prompts": PROMPTS,
    "directions": ["terse"],
    "sites": "llm.1,2,6",
    "strengths": ["2%", "4%", "8%", "16%"],
    "max_new_tokens": 64,
    "metrics": ["words", "perplexity", "coherent"],
}
WORDS = (PLAIN + " ").split() * 3
ZERO, NULLS = 40, 20


def row(
    prompt: int, words: int, percent: float, site: str = "", control: str = "", direction: str = "terse"
) -> dict[str, Any]:
    """One row; its text has that many words."""
    collapsed = site == "llm.1" and percent == 16.0 and not control
    return {
        "prompt": PROMPTS[prompt], "direction": "" if control == "zero" else direction, "site": site,
        "where": "all", "strength": percent / 4, "strength_abs": percent * 2.5, "strength_pct": percent,
        "strength_text": f"{percent:g}%", "seed": 0, "control": control, "text": " ".join(WORDS[:words]),
        "tokens": words, "finish": "length" if site == "llm.6" and percent == 16.0 and not control else "stop",
        "words": words, "perplexity": 1.2 + abs(percent) / 10 + prompt / 100, "coherent": not collapsed,
    }  # fmt: skip


def zero_words(prompt: int) -> int:
    return ZERO + prompt % 7


def cells() -> Iterator[list[dict[str, Any]]]:
    """The rows of the sweep, those of a cell together, controls first."""
    everyone = range(len(PROMPTS))
    yield [row(p, zero_words(p), 0.0, control="zero") for p in everyone]
    for number, (site, shares) in enumerate(SHARES.items()):
        for step, (percent, share) in enumerate(zip(PERCENTS, shares, strict=True)):
            noise = [(p * 7 + number * 5 + step * 3) % 5 - 2 for p in everyone]
            yield [row(p, round(zero_words(p) * share) + noise[p], percent, site) for p in everyone]
            yield [
                row(p, zero_words(p) + (k * 3 + p) % 7 - 3, percent, site, "random", f"random:{k}~terse")
                for k in range(NULLS // 2)
                for p in (2 * k, 2 * k + 1)
            ]
    yield [row(p, zero_words(p) + 2, -8.0, "llm.2", "negated") for p in everyone]


def kernel(moment: str) -> FakeKernel:
    """A kernel with that sweep ``filling`` (its first 14 cells), ``done``, or ``failed`` after them."""
    made = FakeKernel().ready("terse", "formal")
    listed = list(cells())
    made.emit("job.queued", job="s1", kind="sweep", spec=SPEC, priority="batch", client="app")
    made.emit(
        "job.started", job="s1", plan={"rows": sum(map(len, listed)), "cells": len(listed), "table": "s1"}
    )
    made.emit("kernel.state", state="busy")
    for number, rows in enumerate(listed if moment == "done" else listed[:14]):
        made.emit("cell.committed", job="s1", cell=f"c{number}", table="s1", rows=rows)
    if moment != "filling":
        error = "the device has no memory left for a single row" if moment == "failed" else None
        made.emit("job.finished", job="s1", status=moment, seconds=41.0, error=error, audit={"ok": True})
        made.emit("kernel.state", state="ready")
    return made


def confirm(made: FakeKernel, spec: dict[str, Any], *, done: bool = True) -> None:
    """The kernel runs a confirmation of llm.2 at 8%: answers half as long, on the prompts of ``spec``."""
    made.emit("job.queued", job="s2", kind="sweep", spec=spec, priority="batch", client="app")
    made.emit("job.started", job="s2", plan={"rows": 40, "cells": 40, "table": spec["table"]})
    for number, prompt in enumerate(spec["prompts"]):
        base, p = zero_words(number), number % len(PROMPTS)
        rows = [row(p, base, 0.0, control="zero"), row(p, base // 2 + number % 3, 8.0, "llm.2")]
        rows.append(row(p, base + number % 5 - 2, 8.0, "llm.2", "random", f"random:{number // 2}~terse"))
        rows = [{**one, "prompt": prompt} for one in rows]
        made.emit("cell.committed", job="s2", cell=f"f{number}", table=spec["table"], rows=rows)
    if done:
        made.emit("job.finished", job="s2", status="done", seconds=9.0, audit={"ok": True})


def second(
    made: FakeKernel, name: str = "s2", *, direction: str = "terse", shrink: float = 0.5
) -> FakeKernel:
    """The kernel runs another sweep: llm.2 and llm.3 on the first twelve prompts, of which llm.3 is new."""
    spec = {**SPEC, "directions": [direction], "sites": "llm.2,3"}
    made.emit("job.queued", job=name, kind="sweep", spec=spec, priority="batch", client="app")
    made.emit("job.started", job=name, plan={"rows": 108, "cells": 108, "table": name})
    rows = []
    for p in range(12):
        group = {"prompt_class": "code" if p < 8 else "maths"}
        base = zero_words(p)
        rows.append(row(p, base, 0.0, control="zero") | group)
        for site in ("llm.2", "llm.3"):
            for step, percent in enumerate(PERCENTS):
                words = base - round(step * 10 * shrink) + p % 3
                rows.append(row(p, words, percent, site, direction=direction) | group)
    for number, one in enumerate(rows):
        made.emit("cell.committed", job=name, cell=f"{name}-{number}", table=name, rows=[one])
    made.emit("job.finished", job=name, status="done", seconds=12.0, audit={"ok": True})
    return made
