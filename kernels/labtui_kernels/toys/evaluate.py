"""Judge the bundled language model: ``python -m labtui_kernels.toys.evaluate DIR [--json]``.

Three questions, on topics it never saw in training: does the system prompt decide the register; does the
*terse* direction cut answers by half while they stay sound, beyond what random and shuffled-label
directions of the same norm do; and does a larger strength ruin the text. Site and strength are chosen on
training topics and judged once. Writes ``evaluation.json`` into the folder. Uses `reference`, never the
lab's engine.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from . import prompts
from .reference import Generated, Messages, Reference
from .registers import has_collapsed, in_register, is_coherent, names_topic, words
from .topics import Topic, split

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0)
CHUNK = 4  # strengths run together
NULL_DIRECTIONS = 20  # of each kind
WANTED_CUT = 0.6  # on training topics, so that half is met with room on the held-out ones
WANTED_SOUND = 0.95
CUT_BAR, SOUND_BAR, REGISTER_BAR = 0.5, 0.9, 0.9


@dataclass(frozen=True, slots=True)
class Question:
    topic: Topic
    messages: Messages


def bundled(name: str) -> dict[str, Any]:
    """A bundled TOML file by its path below ``bundled/``, e.g. "styles/terse.toml"."""
    import labtui_artifacts

    root = Path(labtui_artifacts.__file__).parent / "bundled"
    return tomllib.loads((root / name).read_text(encoding="utf-8"))


def chat(system: str, user: str) -> Messages:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def questions(
    topics: Sequence[Topic], forms_each: int, system: str = prompts.DEFAULT_SYSTEM
) -> list[Question]:
    """``forms_each`` questions per topic, the forms taken in turn."""
    forms = prompts.QUESTIONS
    return [
        Question(t, chat(system, forms[(i * forms_each + k) % len(forms)].format(np=t.phrase, name=t.name)))
        for i, t in enumerate(topics)
        for k in range(forms_each)
    ]


def summarise(
    rows: Sequence[Generated], zeros: Sequence[Generated], asked: Sequence[Question]
) -> dict[str, float]:
    """Mean words, cut against the zero rows, and the shares of rows that are coherent and name the topic."""
    n = len(rows)
    mean_words = sum(words(r.text) for r in rows) / n
    before = sum(words(z.text) for z in zeros) / n
    return {
        "rows": n,
        "words": round(mean_words, 2),
        "cut": round(1 - mean_words / before, 4),
        "coherent": round(sum(is_coherent(r.row, z.row) for r, z in zip(rows, zeros, strict=True)) / n, 4),
        "named": round(
            sum(names_topic(r.text, q.topic.name) for r, q in zip(rows, asked, strict=True)) / n, 4
        ),
        "ended": round(sum(r.ended for r in rows) / n, 4),
        "perplexity": round(_pooled_perplexity(rows), 3),
        "collapsed": has_collapsed([r.row for r in rows], [z.row for z in zeros]),
    }


def _pooled_perplexity(rows: Sequence[Generated]) -> float:
    """Token-weighted perplexity of the rows together."""
    values = [lp for r in rows for lp in r.logprobs]
    return float(torch.tensor(values).mean().neg().exp()) if values else float("inf")


def register_table(ref: Reference, forms_each: int = 2) -> dict[str, Any]:
    """Share of held-out questions answered in the register that the system prompt asks for, by register."""
    table: dict[str, Any] = {}
    asked: list[Question] = []
    wanted: list[str] = []
    for register, wordings in prompts.SYSTEM.items():
        plain = questions(split()[1], forms_each)
        for i, q in enumerate(plain):
            asked.append(Question(q.topic, chat(wordings[i % len(wordings)], q.messages[1]["content"])))
            wanted.append(register)
    rows = ref.generate([q.messages for q in asked])
    for register in prompts.SYSTEM:
        mine = [i for i, w in enumerate(wanted) if w == register]
        hits = [in_register(rows[i].text, register) and rows[i].ended for i in mine]
        table[register] = {
            "rows": len(mine),
            "in_register": round(sum(hits) / len(mine), 4),
            "named": round(sum(names_topic(rows[i].text, asked[i].topic.name) for i in mine) / len(mine), 4),
            "words": round(sum(words(rows[i].text) for i in mine) / len(mine), 1),
            "example": rows[mine[0]].text,
        }
    overall = sum(t["in_register"] * t["rows"] for t in table.values()) / sum(
        t["rows"] for t in table.values()
    )
    return {"overall": round(overall, 4), "by_register": table}


def pair_differences(ref: Reference, style: dict[str, Any]) -> Tensor:
    """Positive minus negative at the last prompt token: [blocks, pairs, d], in (prompt, wording) order."""
    pairs = [(p, j) for p in style["prompts"] for j in range(len(style["positive_system"]))]
    positive = ref.last_states([chat(style["positive_system"][j], p) for p, j in pairs])
    negative = ref.last_states([chat(style["negative_system"][j], p) for p, j in pairs])
    return positive - negative


def random_directions(count: int, norm: float, width: int, seed: int) -> Tensor:
    """[count, width] Gaussian directions scaled to ``norm``."""
    draws = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return draws / draws.norm(dim=1, keepdim=True) * norm


def shuffled_directions(count: int, differences: Tensor, norm: float, seed: int) -> Tensor:
    """[count, d]: the mean difference with the poles swapped in half of the pairs, scaled to ``norm``.

    Exactly half: with independent swaps the leftover imbalance is the direction itself, scaled back up to
    full norm, and the control would contain what it is to control for."""
    rng = Random(seed)
    pairs = differences.shape[0]
    out = []
    for _ in range(count):
        signs = [1.0] * (pairs // 2) + [-1.0] * (pairs - pairs // 2)
        rng.shuffle(signs)
        mean = (torch.tensor(signs)[:, None] * differences).mean(0)
        out.append(mean / mean.norm() * norm)
    return torch.stack(out)


def choose(
    ref: Reference, differences: Tensor, references: Sequence[float]
) -> tuple[int, float, dict[str, Any]]:
    """(block, strength, every figure) from training topics: of the cells that cut by `WANTED_CUT` with
    `WANTED_SOUND` of the rows coherent and naming the topic, the one with the smallest share of the
    reference norm; where there is none, the sound cell with the largest cut. A site is left at the first
    chunk of strengths that ends in collapse."""
    asked = questions(split()[0][::3], 1)
    n = len(asked)
    zeros = ref.generate([q.messages for q in asked])
    table, cells = [], []
    for block in range(len(ref.blocks)):
        direction = differences[block].mean(0)
        for start in range(0, len(STRENGTHS), CHUNK):
            strengths = STRENGTHS[start : start + CHUNK]
            vectors = torch.cat([s * direction.expand(n, -1) for s in strengths])
            rows = ref.generate([q.messages for q in asked] * len(strengths), block, vectors)
            found = [summarise(rows[k * n : (k + 1) * n], zeros, asked) for k in range(len(strengths))]
            for s, cell in zip(strengths, found, strict=True):
                percent = round(100 * s * float(direction.norm()) / references[block], 2)
                table.append({"site": f"llm.{block}.out", "strength": s, "percent": percent, **cell})
                if min(cell["coherent"], cell["named"]) >= WANTED_SOUND:
                    cells.append((block, s, percent, cell["cut"]))
            if found[-1]["collapsed"]:
                break
    strong = [c for c in cells if c[3] >= WANTED_CUT]
    block, strength, *_ = min(strong, key=lambda c: c[2]) if strong else max(cells, key=lambda c: c[3])
    return (
        block,
        strength,
        {"rows_each": n, "zero_words": summarise(zeros, zeros, asked)["words"], "cells": table},
    )


def null_cuts(
    ref: Reference, block: int, vectors: Tensor, asked: Sequence[Question], zeros: Sequence[Generated]
) -> dict[str, Any]:
    """Cuts of [n, d] control directions, each on all questions, and the 95th percentiles of the cuts and of
    their sizes (an answer that grows is a negative cut)."""
    n = len(asked)
    rows = ref.generate([q.messages for q in asked] * len(vectors), block, vectors.repeat_interleave(n, 0))
    cuts = [summarise(rows[i * n : (i + 1) * n], zeros, asked)["cut"] for i in range(len(vectors))]
    values = torch.tensor(cuts, dtype=torch.float64)
    return {
        "directions": len(cuts),
        "cuts": cuts,
        "p95": round(float(values.quantile(0.95)), 4),
        "p95_abs": round(float(values.abs().quantile(0.95)), 4),
    }


def curve(
    ref: Reference,
    block: int,
    direction: Tensor,
    asked: Sequence[Question],
    zeros: Sequence[Generated],
    reference: float,
) -> list[dict[str, Any]]:
    """Words against strength on the held-out questions: the direction, its negative, random directions of
    the same norm (each random direction on an eighth of the questions)."""
    out = []
    n = len(asked)
    for s in STRENGTHS:
        norm = float(direction.norm()) * s
        point: dict[str, Any] = {
            "strength": s,
            "norm": round(norm, 3),
            "percent": round(100 * norm / reference, 2),
        }
        for name, sign in (("terse", 1.0), ("negated", -1.0)):
            rows = ref.generate([q.messages for q in asked], block, (sign * s * direction).expand(n, -1))
            point[name] = summarise(rows, zeros, asked)
        draws = random_directions(NULL_DIRECTIONS, norm, ref.width, seed=1)
        spread = [(r, i) for r in range(NULL_DIRECTIONS) for i in range(r % 8, n, 8)]
        vectors = torch.stack([draws[r] for r, _ in spread])
        rows = ref.generate([asked[i].messages for _, i in spread], block, vectors)
        point["random"] = summarise(rows, [zeros[i] for _, i in spread], [asked[i] for _, i in spread])
        out.append(point)
    return out


def evaluate(folder: Path) -> dict[str, Any]:
    """Every figure about the model in ``folder``; takes some minutes on two cores."""
    started = time.monotonic()
    ref = Reference(folder)
    neutral = bundled("sets/neutral.toml")
    norms = ref.content_norms([chat(prompts.DEFAULT_SYSTEM, p) for p in neutral["prompts"]])
    medians = [m for m, _ in norms]
    registers = register_table(ref)
    differences = pair_differences(ref, bundled("styles/terse.toml"))
    block, strength, chosen_on = choose(ref, differences, medians)
    direction = differences[block].mean(0)

    asked = questions(split()[1], 2)
    zeros = ref.generate([q.messages for q in asked])
    steered = ref.generate([q.messages for q in asked], block, (strength * direction).expand(len(asked), -1))
    judged = summarise(steered, zeros, asked)
    norm = strength * float(direction.norm())
    random = null_cuts(ref, block, random_directions(NULL_DIRECTIONS, norm, ref.width, seed=0), asked, zeros)
    shuffled = null_cuts(
        ref, block, shuffled_directions(NULL_DIRECTIONS, differences[block], norm, 0), asked, zeros
    )
    points = curve(ref, block, direction, asked, zeros, medians[block])
    collapse = next(
        (p["strength"] for p in points if p["strength"] > strength and p["terse"]["collapsed"]), None
    )
    passed = {
        "registers": registers["overall"] >= REGISTER_BAR
        and all(t["in_register"] >= REGISTER_BAR for t in registers["by_register"].values()),
        "cut": judged["cut"] >= CUT_BAR,
        "sound": min(judged["coherent"], judged["named"]) >= SOUND_BAR,
        "beyond_random": judged["cut"] > random["p95"],
        "beyond_shuffled": judged["cut"] > shuffled["p95"],
        "collapses": collapse is not None,
    }
    return {
        "passed": passed,
        "good_enough": all(passed.values()),
        "registers": registers,
        "reference_norms": [
            {"site": f"llm.{i}.out", "median_content": round(m, 4), "mean_all": round(a, 4),
             "terse_norm": round(float(differences[i].mean(0).norm()), 4)}
            for i, (m, a) in enumerate(norms)
        ],
        "chosen_on_training_topics": chosen_on,
        "judged_on_held_out_topics": {
            "site": f"llm.{block}.out", "strength": strength, "norm": round(norm, 4),
            "percent": round(100 * norm / medians[block], 2),
            "plain": summarise(zeros, zeros, asked), "terse": judged, "random": random, "shuffled": shuffled,
            "examples": [
                {"question": q.messages[1]["content"], "plain": z.text, "terse": r.text}
                for q, z, r in list(zip(asked, zeros, steered, strict=True))[::6]
            ],
        },
        "curve": points,
        "collapse_strength": collapse,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def report(figures: dict[str, Any]) -> str:
    """The figures as a short plain text."""
    lines = ["register       rows  in register  named  words"]
    for name, t in figures["registers"]["by_register"].items():
        lines.append(f"{name:14} {t['rows']:4}  {t['in_register']:11.0%}  {t['named']:5.0%}  {t['words']:5}")
    j = figures["judged_on_held_out_topics"]
    lines.append(
        f"\nterse at {j['site']}, strength {j['strength']} ({j['percent']}% of the reference), held out:\n"
        f"{j['plain']['words']} words -> {j['terse']['words']} (cut {j['terse']['cut']:.0%}), "
        f"coherent {j['terse']['coherent']:.0%}, named {j['terse']['named']:.0%}; "
        f"p95 of the controls' cuts: random {j['random']['p95']:.0%}, shuffled {j['shuffled']['p95']:.0%}"
    )
    lines.append("\nstrength  percent  terse words  coherent  negated words  random words  random coherent")
    for p in figures["curve"]:
        lines.append(
            f"{p['strength']:8}  {p['percent']:6}%  {p['terse']['words']:11}  {p['terse']['coherent']:8.0%}  "
            f"{p['negated']['words']:13}  {p['random']['words']:12}  {p['random']['coherent']:15.0%}"
        )
    lines.append(f"\ncollapse from strength {figures['collapse_strength']}; passed: {figures['passed']}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of as a table")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    figures = evaluate(given.folder)
    text = json.dumps(figures, indent=1) + "\n"
    (given.folder / "evaluation.json").write_text(text, encoding="utf-8")
    print(text if given.json else report(figures))


if __name__ == "__main__":
    main()
