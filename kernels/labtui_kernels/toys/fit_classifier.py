"""Fit the text classifiers of the style axes: ``python -m labtui_kernels.toys.fit_classifier [--seed N]``.

Texts of the two poles of each axis come from the corpus generator: answers about training topics to fit on,
and about the topics that are held out of that corpus to judge by. No model runs, no activation is read. Writes
``classifiers/styles.json`` among the bundled files: the same seed gives the same file.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch

from ..directions.logistic import newton
from ..metrics.classifier import CUT, FILE, LONGEST_RUN, features
from .corpus import compose_answer
from .prompts import AXES
from .topics import Topic, plain_topics, split

TEXTS = 400
"""Texts of each pole to fit on; a quarter as many to judge by."""
RUNS = 400
C = 0.02
WITH_LENGTH = ("terse",)
"""Axes whose classifier may weigh the number of words: of the others it is no part."""


def texts(register: str, topics: Sequence[Topic], count: int, rng: Random) -> list[str]:
    """Answers in a register about topics drawn from these."""
    return [compose_answer(rng.choice(topics), register, rng) for _ in range(count)]


def common_runs(many: Sequence[str]) -> list[str]:
    """The runs of one to three characters that most texts have, letters of any topic included."""
    found: Counter[str] = Counter()
    for text in many:
        plain = f" {' '.join(text.lower().split())} "
        found.update({plain[i : i + n] for n in range(1, LONGEST_RUN + 1) for i in range(len(plain) - n + 1)})
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return sorted(run for run, _ in ordered[:RUNS])


def rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def fit(seed: int) -> dict[str, Any]:
    """The content of the file."""
    training, held_out = (*split()[0], *plain_topics()), split()[1]
    drawn: dict[str, tuple[list[str], list[str]]] = {}
    for axis, poles in AXES.items():
        for register in poles:
            rng = Random(f"labtui-classifier:{seed}:{axis}:{register}")
            drawn[register] = (
                texts(register, training, TEXTS, rng),
                texts(register, held_out, TEXTS // 4, rng),
            )
    runs = common_runs([text for fitted, _ in drawn.values() for text in fitted])
    axes: dict[str, Any] = {}
    for axis, (positive, negative) in AXES.items():
        fitted = [*drawn[positive][0], *drawn[negative][0]]
        table = np.stack([features(text, runs) for text in fitted])
        mean, scale = table.mean(0), np.maximum(table.std(0), 1e-3)
        z = np.clip((table - mean) / scale, -CUT, CUT)
        if axis not in WITH_LENGTH:
            z[:, -1] = 0
        labels = np.where(np.arange(len(fitted)) < TEXTS, 1.0, -1.0)
        weights, bias = newton(torch.from_numpy(z)[None], torch.from_numpy(labels)[None], C)
        w, b = rounded(weights[0].numpy() * (np.abs(z).max(0) > 0)), float(f"{float(bias[0]):.4g}")
        right = [
            (float(np.clip((features(text, runs) - mean) / scale, -CUT, CUT) @ w) + b > 0)
            == (register == positive)
            for register in (positive, negative)
            for text in drawn[register][1]
        ]
        axes[axis] = {
            "positive": positive,
            "negative": negative,
            "fit": {
                "seed": seed,
                "texts_a_pole": TEXTS,
                "c": C,
                "held_out_texts": len(right),
                "held_out_accuracy": sum(right) / len(right),
                "held_out": "answers of the same generator about topics that no text of the fit is about",
            },
            "bias": b,
            "mean": rounded(mean),
            "scale": rounded(scale),
            "weights": w,
        }
    return {"about": "python -m labtui_kernels.toys.fit_classifier", "runs": runs, "axes": axes}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.fit_classifier", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    found = fit(given.seed)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    for axis, one in found["axes"].items():
        print(f"{axis}: held-out accuracy {one['fit']['held_out_accuracy']:.3f}")


if __name__ == "__main__":
    main()
