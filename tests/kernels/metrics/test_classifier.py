"""The text classifiers: what is in the file, how a probability comes about, and texts of other hands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.classifier import CUT, features, models
from labtui_kernels.metrics.registry import metric, value
from labtui_kernels.toys.fit_classifier import fit
from labtui_kernels.toys.prompts import AXES

# Written for this test; no text of the corpus generator.
LONG = (
    "There are many reasons why a person might choose to walk rather than drive, and it is worth looking at "
    "each of them in turn. To begin with, walking costs nothing. In addition, it keeps the body healthy, and "
    "it gives the mind time to rest. Finally, one notices more of the world on foot than through a window."
)
OTHERS = {
    "terse": (["Yes, on Monday.", "A metal box that heats food."], [LONG, LONG.replace("walk", "cycle")]),
    "formal": (
        [
            "It should be emphasised that the procedure requires considerable care. One must therefore verify "
            "each measurement before proceeding.",
            "The committee has determined that further investigation is necessary.",
        ],
        [
            "Yeah so that's basically it, you just grab the thing and you're done. Don't sweat it!",
            "Honestly? It's pretty easy, I'd just wing it, and if it doesn't work we'll figure it out.",
        ],
    ),
    "socratic": (
        [
            "What happens to the water when you heat it? Where do you suppose it goes?",
            "Which of the two is larger? What would you compare them with?",
        ],
        [
            "Water turns into steam when it boils. The steam rises and cools in the air.",
            "The second number is larger because it has more digits.",
        ],
    ),
    "dry": (
        [
            "The device has four buttons. Each one opens a menu.",
            "Rain fell on Tuesday. The streets were wet.",
        ],
        [
            "Wow, what a day! The parade was amazing and everyone loved the music!",
            "Oh this is brilliant! You are going to love how fast it goes! Fantastic!",
        ],
    ),
}


def test_the_file_says_how_it_was_fitted() -> None:
    assert set(models()) == set(AXES)
    for axis, model in models().items():
        assert model.fit["seed"] == 0 and model.fit["held_out_texts"] >= 200
        assert 0.95 <= model.fit["held_out_accuracy"] <= 1, axis
        assert len(model.weights) == len(model.runs) + 1
        assert axis == "terse" or model.weights[-1] == 0  # length counts on the axis of length alone


def test_a_probability_by_hand() -> None:
    text = "A lock."
    model = models()["dry"]
    plain = " a lock. "
    places = {n: len(plain) - n + 1 for n in (1, 2, 3)}
    row = [
        math.sqrt(sum(plain.startswith(run, i) for i in range(len(plain))) / places[len(run)])
        for run in model.runs
    ]
    assert features(text, model.runs) == pytest.approx([*row, math.log(3)])
    z = np.clip((np.array([*row, math.log(3)]) - model.mean) / model.scale, -CUT, CUT)
    score = float(z @ model.weights) + model.bias
    assert value(metric("classifier:dry"), Facts(text)) == (pytest.approx(1 / (1 + math.exp(-score))), "")


@pytest.mark.parametrize("axis", list(OTHERS))
def test_texts_of_another_hand(axis: str) -> None:
    each = metric(f"classifier:{axis}")
    positive, negative = ([value(each, Facts(text))[0] for text in texts] for texts in OTHERS[axis])
    assert min(float(p or 0) for p in positive) > 0.5 > max(float(p or 0) for p in negative)


def test_an_empty_answer_has_no_style() -> None:
    assert value(metric("classifier:terse"), Facts(" \n")) == (None, "the answer is empty")


def test_the_bundled_file_is_what_the_script_makes() -> None:
    made = fit(0)
    for axis, model in models().items():
        one = made["axes"][axis]
        assert tuple(made["runs"]) == model.runs
        assert one["fit"]["held_out_accuracy"] == model.fit["held_out_accuracy"]
        np.testing.assert_allclose(one["weights"], model.weights, rtol=0.02, atol=1e-4)
