"""How likely, how far from the unsteered model, and how sound an answer is. The passes are run elsewhere."""

from __future__ import annotations

from .base import Facts, Metric, Needs, Result
from .text import Judged, coherent


class Perplexity(Metric):
    head = "perplexity"
    about = "of the generated tokens, the one that ends the turn included, under the unsteered model"

    def needs(self) -> Needs:
        return Needs(perplexity=True)

    def value(self, row: Facts) -> Result:
        return row.perplexity, "the answer is empty, or its perplexity is not finite"


class Kl(Metric):
    head = "kl"
    about = "KL(steered || unsteered) in nats at the first step that the edit can affect"
    sign = 1

    def needs(self) -> Needs:
        return Needs(kl=True)

    def value(self, row: Facts) -> Result:
        return row.kl, "the answer ended before the first step that the edit can affect"


class KlMean(Metric):
    head = "kl-mean"
    about = "the same KL, mean over the unsteered answer's steps, teacher-forced"
    judged = True
    sign = 1

    def needs(self) -> Needs:
        return Needs(kl_mean=True)

    def value(self, row: Facts) -> Result:
        return row.kl_mean, "there is no unsteered answer to go along"


class Coherent(Metric):
    head = "coherent"
    about = (
        "guard against ruined text: perplexity < 3x and distinct-2 >= 0.8x the zero row's, not empty, and "
        "ended by itself if that one did"
    )
    judged = True
    sign = 1

    def needs(self) -> Needs:
        return Needs(perplexity=True)

    def value(self, row: Facts) -> Result:
        if row.zero is None:
            return None, "there is no unsteered row to judge it by"
        zero = row.zero
        return coherent(
            Judged(row.text, row.perplexity, row.ended), Judged(zero.text, zero.perplexity, zero.ended)
        )
