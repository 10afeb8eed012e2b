"""Small text classifiers of the style axes. They were fitted on texts alone, never on activations.

Features are how often the commonest runs of one to three characters occur (the square root of their share of
the runs of that length), and the logarithm of the number of words; each is centred, scaled and cut off at
three standard deviations, and a logistic regression weighs them. ``python -m
labtui_kernels.toys.fit_classifier`` makes the bundled file from texts that the bundled corpus generator writes
for the two poles; seed and held-out accuracy stand in the file. They know the ways in which that corpus is
written: on other texts their answer is a hint, beside the counts of ``style:AXIS``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.library import ROOT

from ..lang.text import did_you_mean, shown
from .base import Facts, Metric, Result
from .text import words

FILE = ROOT / "classifiers" / "styles.json"
LONGEST_RUN = 3
CUT = 3.0
MAX_CHARACTERS = 200_000


def features(text: str, runs: Sequence[str]) -> np.ndarray:
    """Features of a text, float64 [len(runs) + 1]: the runs of characters, then log(1 + words)."""
    plain = f" {' '.join(text[:MAX_CHARACTERS].lower().split())} "
    counts = Counter(plain[i : i + n] for n in range(1, LONGEST_RUN + 1) for i in range(len(plain) - n + 1))
    shares = [math.sqrt(counts[run] / max(1, len(plain) - len(run) + 1)) for run in runs]
    return np.array([*shares, math.log1p(words(text))])


@dataclass(frozen=True, eq=False)
class Model:
    """The classifier of one axis: probability of the positive pole is sigmoid(weights . z + bias)."""

    axis: str
    runs: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: float
    fit: dict[str, Any]

    def probability(self, text: str) -> float:
        """Probability of the positive pole, in (0, 1)."""
        z = np.clip((features(text, self.runs) - self.mean) / self.scale, -CUT, CUT)
        score = float(self.weights @ z) + self.bias
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, score))))


@cache
def models() -> dict[str, Model]:
    """The bundled classifiers by axis."""
    try:
        said = json.loads(FILE.read_text(encoding="utf-8"))
        runs = tuple(said["runs"])
        found = {
            axis: Model(
                axis,
                runs,
                np.array(one["mean"], dtype=np.float64),
                np.array(one["scale"], dtype=np.float64),
                np.array(one["weights"], dtype=np.float64),
                float(one["bias"]),
                dict(one["fit"]),
            )
            for axis, one in said["axes"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadFile(f"{FILE}: cannot be read ({problem}): reinstall labtui") from problem
    for model in found.values():
        if {len(model.mean), len(model.scale), len(model.weights)} != {len(runs) + 1}:
            raise BadFile(f"{FILE}: {model.axis} has not one number a feature: reinstall labtui")
    return found


class Classifier(Metric):
    head = "classifier"
    about = "probability of a style axis' positive pole by a small text classifier fitted on no activations"
    takes = "AXIS"
    example = "classifier:terse"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        known = models()
        if argument not in known:
            raise UsageError(
                f"metric {shown(name)}: no axis {shown(argument)}{did_you_mean(argument, known)} "
                f"(there are: {', '.join(known)})"
            )
        self.model = known[argument]

    def value(self, row: Facts) -> Result:
        if not row.text.strip():
            return None, "the answer is empty"
        return self.model.probability(row.text), ""
