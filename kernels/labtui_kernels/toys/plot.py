"""The dose-response curve of an evaluation as an SVG: ``python -m labtui_kernels.toys.plot EVALUATION.json OUT.svg``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 44, 56
SERIES = (
    ("terse", "#2563eb", "terse"),
    ("random", "#9ca3af", "random, same norm"),
    ("negated", "#d97706", "negated"),
)
MOST_WORDS = 80.0


def _x(percent: float, low: float, high: float) -> float:
    """Strengths are spread over a decade and more, so the axis is logarithmic."""
    share = math.log(percent / low) / math.log(high / low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(words: float) -> float:
    return HEIGHT - BOTTOM - min(words, MOST_WORDS) / MOST_WORDS * (HEIGHT - TOP - BOTTOM)


def _line(points: Sequence[dict[str, Any]], name: str, colour: str, low: float, high: float) -> list[str]:
    at = [(_x(p["percent"], low, high), _y(p[name]["words"]), p[name]["coherent"]) for p in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)
    out = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, y, coherent in at:
        fill = colour if coherent >= 0.5 else "white"
        out.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
        )
    return out


def draw(figures: dict[str, Any]) -> str:
    """Mean words over strength in % of the reference norm; an open mark is a strength at which text has collapsed."""
    points = figures["curve"]
    judged = figures["judged_on_held_out_topics"]
    low, high = points[0]["percent"], points[-1]["percent"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">Words an answer, held-out topics, toy-qwen3 at {judged["site"]}</text>',
    ]
    for words in range(0, int(MOST_WORDS) + 1, 20):
        y = _y(words)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        label = f"{words}+" if words == MOST_WORDS else str(words)
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for p in points:
        x = _x(p["percent"], low, high)
        out.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" font-size="10">{p["percent"]:.0f}</text>'
        )
    plain = _y(judged["plain"]["words"])
    out.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{plain:.1f}" y2="{plain:.1f}" stroke="#111827" stroke-dasharray="4 4"/>'
    )
    for name, colour, _ in reversed(SERIES):
        out += _line(points, name, colour, low, high)
    x = LEFT
    for _, colour, label in SERIES:
        out.append(
            f'<circle cx="{x + 5}" cy="32" r="4.5" fill="{colour}"/><text x="{x + 15}" y="36">{label}</text>'
        )
        x += 30 + 7 * len(label)
    out.append(f'<text x="{x}" y="36">dashed: unsteered; open: text has collapsed</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">strength, % of the reference norm</text>'
    )
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.plot", description=__doc__)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.write_text(draw(json.loads(given.evaluation.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
