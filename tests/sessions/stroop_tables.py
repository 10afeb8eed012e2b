"""Tables as a Stroop recipe leaves them, with outcomes drawn from known shares."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtui_sessions.tables import Table

SITES = ("vision.0", "vision.1", "vision.2", "vision.merged")
NORMS = {"50%": 5.0, "100%": 10.0}
COLORS = ("red", "green", "blue", "yellow")
SHARES = {"vision.0": 0.1, "vision.1": 0.5, "vision.2": 0.9, "vision.merged": 0.3}
"""How often an edit at 100% flips what it aims at; at 50% a third as often."""
QUESTIONS = {"ink": "What is the ink color of the text?", "word": "What word is written?"}


def answers(
    seed: int = 0, pictures: int = 30, *, judged: bool = False, nulls: int = 20, wrong: float = 0.1
) -> list[dict[str, Any]]:
    """Rows of the grid (or of what was judged): every delta at every site and strength, zero and null rows."""
    draw = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    shown = []
    for number in range(pictures):
        word, ink, target = draw.permutation(COLORS)[:3]
        shown.append((f"{'j' if judged else 'c'}{number}", str(word), str(ink), str(target), "incongruent"))
    if judged:
        for number in range(pictures):
            color = COLORS[number % len(COLORS)]
            shown.append((f"k{number}", color, color, "", "congruent"))
    known = {
        (p[0], q): bool(draw.random() > (wrong / 4 if p[4] == "congruent" else wrong))
        for p in shown
        for q in QUESTIONS
    }

    def row(p: Any, q: str, share: float, **what: Any) -> None:
        picture, word, ink, target, subset = p
        right = ink if q == "ink" else word
        fine = known[picture, q]
        flips = draw.random() < share
        answer = (target if flips else right) if fine else "purple"
        steered = fine and bool(target)
        rows.append(
            {
                "row": len(rows),
                "prompt": f"{word} in {ink}: {QUESTIONS[q]}",
                "prompt_id": f"{picture}-{q}",
                "prompt_index": len(rows),
                "prompt_class": q,
                "prompt_set": "judge" if judged else "choose",
                "question": q,
                "word": word,
                "ink": ink,
                "target": target,
                "subset": subset,
                "split": "judge" if judged else "choose",
                "where": "image",
                "seed": 0,
                "answer": answer,
                "text": answer,
                "finish": "stop",
                "right": answer == right,
                "flip": bool(flips) if steered else None,
                "stays": not flips if steered else None,
                "other": False if steered else None,
                "breaks": False if steered else None,
                **what,
            }
        )

    def place(site: str, text: str, sign: int = 1) -> dict[str, Any]:
        norm = sign * NORMS[text]
        return {
            "site": site,
            "strength": norm,
            "strength_abs": norm,
            "strength_pct": 10 * norm,
            "strength_text": text,
        }

    none = {"site": "", "strength": 0.0, "strength_abs": 0.0, "strength_pct": 0.0, "strength_text": "0.0"}
    for p in shown:
        for q in QUESTIONS:
            row(p, q, 0.0, control="zero", delta="", direction="", **none)
    spots = [(s, t) for s in SITES for t in NORMS] if not judged else [("vision.2", "100%")]
    for site, text in spots:
        share = SHARES[site] * (1 if text == "100%" else 1 / 3)
        for delta in ("color", "text", "combined"):
            for p in shown:
                for q in QUESTIONS if p[3] else ():
                    aimed = delta == "combined" or (delta == "color") == (q == "ink")
                    row(
                        p,
                        q,
                        share if aimed else 0.05,
                        control="",
                        delta=delta,
                        direction=delta,
                        **place(site, text),
                    )
                    if judged:
                        row(
                            p,
                            q,
                            0.0,
                            control="negated",
                            delta=delta,
                            direction=delta,
                            **place(site, text, -1),
                        )
        for number in range(nulls):
            for step in range(4):
                p = shown[(4 * number + step) % pictures]
                for q in QUESTIONS:
                    row(
                        p,
                        q,
                        0.02,
                        control="random",
                        delta="",
                        direction=f"random:{number}",
                        **place(site, text),
                    )
    return rows


def cosines() -> list[dict[str, Any]]:
    """Net gains that rank sites as their shares of flips do."""
    return [
        {
            "delta": delta,
            "site": site,
            "to": to,
            "strength_text": text,
            "strength_abs": norm,
            "strength_pct": 10 * norm,
            "before": 0.2,
            "after": 0.2 + SHARES[site] * norm / 20,
            "gain": SHARES[site] * norm / 20,
            "others": 0.0,
            "net": SHARES[site] * norm / 20 * (1 if to == "color_only" else -1),
            "null_mean": 0.0,
            "null_95": 0.05,
            "beyond": SHARES[site] * norm / 20 > 0.05,
            "pairs": 60,
            "pictures": 30,
        }
        for delta in ("color", "text", "combined")
        for site in SITES
        for text, norm in NORMS.items()
        for to in ("text_only", "color_only")
    ]


def choice() -> list[dict[str, Any]]:
    """The chosen cell of each delta."""
    return [
        {
            **{
                "delta": delta,
                "site": "vision.2",
                "where": "image",
                "strength_text": "100%",
                "split": "choose",
            },
            **{"strength_abs": 10.0, "strength_pct": 100.0, "feasible": True, "flips": 0.9, "spared": 0.95},
            "keep": 0.8,
        }
        for delta in ("color", "text", "combined")
    ]


def table(name: str, rows: list[dict[str, Any]]) -> Table:
    """Rows as a table."""
    made = Table(name)
    made.add("j1", name, rows)
    return made


def study(seed: int = 0) -> dict[str, Table]:
    """All tables of one recipe."""
    parts = {
        "s": answers(seed),
        "s-cosines": cosines(),
        "s-choice": choice(),
        "s-judged": answers(seed + 1, judged=True),
    }
    return {name: table(name, rows) for name, rows in parts.items()}
