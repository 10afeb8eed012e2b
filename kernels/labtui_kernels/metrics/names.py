"""The metrics that a spec may ask for, without torch, so that a spec can be checked anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from labtui_artifacts.errors import UsageError

from ..lang.text import did_you_mean

METRICS: dict[str, str] = {
    "words": "whitespace-separated words of the answer (a lower bound where it was cut at the limit)",
    "tokens": "generated tokens, the one that ends the turn not counted",
    "distinct-2": "different word pairs over all word pairs",
    "repetition": "share of 4-word sequences that repeat an earlier one",
    "contractions": "contractions per 100 words (the axis formal)",
    "questions": "share of sentences that are questions (the axis Socratic)",
    "enthusiasm": "exclamation marks and enthusiasm words per 100 words (the axis dry)",
    "perplexity": "of the generated tokens, the one that ends the turn included, under the unsteered model",
    "kl": "KL(steered || unsteered) in nats at the first step that the edit can affect",
    "kl-mean": "the same KL, mean over the unsteered answer's steps, teacher-forced",
    "coherent": "guard against ruined text: perplexity < 3x and distinct-2 >= 0.8x the zero row's, not "
    "empty, and ended by itself if that one did",
}
"""Name -> what it measures."""

AGAINST_ZERO: frozenset[str] = frozenset({"kl-mean", "coherent"})
"""Metrics that compare a row with the unsteered row of the same prompt and seed."""


def check_metrics(names: Iterable[str], what: str) -> None:
    """Raise UsageError for an unknown metric or one asked for twice."""
    seen: set[str] = set()
    for name in names:
        if name not in METRICS:
            raise UsageError(
                f"{what}: unknown metric {name!r}{did_you_mean(name, METRICS)} (known: {', '.join(METRICS)})"
            )
        if name in seen:
            raise UsageError(f"{what}: {name!r} is named twice")
        seen.add(name)
