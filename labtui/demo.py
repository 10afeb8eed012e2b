"""The demo: a small steering sweep on the bundled model, in the app or as text."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui import output

if TYPE_CHECKING:
    from labtui.lab import Lab
    from labtui.widgets.chart import Plot

KERNEL, MODEL = "demo", "toy-qwen3"
FILE = "labtui-demo.safetensors"
STYLE = "terse"
SWEEP: dict[str, Any] = {
    "kind": "sweep",
    "prompts": ["Explain what a mutex is.", "What is photosynthesis?", "Why does a vaccine matter?"],
    "directions": [STYLE],
    "sites": "llm.1,3,5",
    "strengths": [0.2, 0.4, 0.6, 0.8, 1.2],
    "max_new_tokens": 96,
    "metrics": ["words", "perplexity"],
}


@contextlib.contextmanager
def kernel(*, leave: bool) -> Iterator[Lab]:
    """The demo's kernel, in a session of its own; one that was started here is stopped, unless ``leave``."""
    from labtui.lab import Lab
    from labtui.starting import configure, start_kernel, wait_ready

    fresh = start_kernel(configure(KERNEL, model=MODEL, dtype="float32", device="cpu"))
    with output.Progress(f"loading {MODEL}", unit="") as progress:
        wait_ready(KERNEL, progress.update, stop_on_failure=fresh)
    lab = Lab(KERNEL)
    try:
        lab.wait(
            lab.core.switch(lab.request("session.new", title="demo: terse, by site and strength")["session"])
        )
        yield lab
    finally:
        if fresh and not leave:
            lab.request("stop")
        lab.close()


def prepare(lab: Lab) -> None:
    """Read the direction from the bundled contrasts, unless the store has it from this very model."""
    known = next((a for a in lab.artifacts("direction") if a["name"] == STYLE), None)
    made_on = (known or {}).get("meta", {}).get("model", {}).get("weight_hash")
    if known is None or made_on != lab.model.get("weight_hash"):
        if known is not None:
            lab.request("artifact.delete", name=STYLE)
        lab.run({"kind": "direction", "name": STYLE, "style": STYLE, "sites": "llm.*"})


def headless(out: Path) -> Path:
    """Run it all, print a table and a chart on stdout, save the session; the file's path."""
    from labtui.running import run

    with kernel(leave=False) as lab:
        output.note(f"reading the direction {STYLE!r} at every site")
        prepare(lab)
        with output.Progress("sweep") as progress:
            outcome = lab.wait(run(lab.core, SWEEP, on_progress=progress.update))
        rows = lab.session.table(next(iter(outcome.tables))).rows
        show(rows)
        return lab.session.save(out, replace=True)


def show(rows: list[dict[str, Any]]) -> None:
    """The mean over prompts of each point as a table, then words over strength as a chart."""
    from labtui.widgets.chart import render

    points = means(rows)
    print(
        f"{STYLE} on {MODEL}: words an answer by site and strength, mean over {len(SWEEP['prompts'])} prompts\n"
    )
    output.table(points, ["site", "strength", "of_reference", "words", "perplexity", "rows", "control"])
    drawn = plot(rows, "words")
    if drawn is not None:
        width = min(100, shutil.get_terminal_size((80, 24)).columns)
        print("\nwords over strength (multiples of the stored direction), mean over prompts")
        print(render(drawn, width, 16).plain)


def plot(rows: list[dict[str, Any]], outcome: str) -> Plot | None:
    """Mean outcome over strength, one line a site; controls left out.

    The zero row, which stands for every site, is the point at strength 0 of each line.
    """
    from labtui.cells import natural
    from labtui.widgets.chart import Plot, Series

    zero = _mean([row for row in rows if row.get("control") == "zero"], outcome)
    groups: dict[str, dict[float, list[dict[str, Any]]]] = {}
    for row in rows:
        if not row.get("control") and isinstance(row.get("strength"), (int, float)):
            line = groups.setdefault(str(row.get("site")), {})
            line.setdefault(float(row["strength"]), []).append(row)
    series = []
    for site, line in sorted(groups.items(), key=lambda item: natural(item[0])):
        found = {x: _mean(group, outcome) for x, group in line.items()}
        points = {0.0: zero, **found}
        known = tuple((x, y) for x, y in sorted(points.items()) if y is not None)
        series.append(Series(site, known))
    return Plot(tuple(series[:6]), "strength") if series else None


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a (control, site, strength): means over its rows; ``≥`` marks counts that the limit cut."""
    from labtui.cells import natural

    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = (str(row.get("control") or ""), str(row.get("site") or ""), str(row.get("strength")))
        groups.setdefault(key, []).append(row)
    found = []
    for (control, site, strength), group in groups.items():
        words = _mean(group, "words")
        cut = any(row.get("finish") == "length" for row in group)
        percent = _mean(group, "strength_pct")
        found.append(
            {
                "site": site,
                "strength": strength if control != "prompt" else "",
                "of_reference": "" if percent is None or control == "prompt" else f"{percent:.0f}%",
                "words": "" if words is None else f"{'≥' if cut else ''}{words:.1f}",
                "perplexity": _mean(group, "perplexity"),
                "rows": len(group),
                "control": control,
            }
        )
    order = {"zero": 0, "": 1}  # what everything is held against, what was steered, then the other controls
    return sorted(
        found,
        key=lambda p: (
            order.get(p["control"], 2),
            p["control"],
            natural(p["site"]),
            float(p["strength"] or 0),
        ),
    )


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if isinstance(row.get(name), (int, float))]
    return sum(values) / len(values) if values else None


def in_app() -> None:
    """Start the kernel, set the sweep going, and open the app on it; the kernel stays afterwards."""
    from labtui.lobby import open_app
    from labtui.options import Target

    with kernel(leave=True) as lab:
        prepare(lab)
        lab.request("submit", spec=SWEEP, priority="batch")
    open_app(Target(KERNEL), first="sweep")
    print(f"the kernel goes on: `labtui --kernel {KERNEL}` comes back, `labtui kernel stop {KERNEL}` ends it")


def is_terminal() -> bool:
    """Whether the app can open here."""
    return sys.stdin.isatty() and sys.stdout.isatty()
