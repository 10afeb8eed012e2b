"""Metrics of what happens inside the model while it answers: logits, hidden states, the edits' size.

They read the row as it ran: its own tokens, teacher-forced, its edits and turns of knobs in place.
"""

from __future__ import annotations

import numpy as np

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.probe import softmax

from ..lang.algebra import parse_algebra
from ..lang.sites import ALIASES, Site, parse_site, site_width
from ..lang.text import shown
from .base import Facts, Metric, Needs, Result, Target
from .tokensets import token_set

EMPTY = "the answer is empty"


def check_place(name: str, text: str) -> None:
    """Raise UsageError unless ``text`` can be one site of some model."""
    if text not in ALIASES:
        try:
            parse_site(text)
        except UsageError as problem:
            raise UsageError(f"metric {shown(name)}: {problem}") from None


def place(name: str, text: str, target: Target) -> Site:
    """The site of this model; only the language model has answer tokens to read at."""
    try:
        site = parse_site(text, target.shape)
    except UsageError as problem:
        raise UsageError(f"metric {shown(name)}: {problem}") from None
    if site.tower != "llm":
        raise UsageError(
            f"metric {shown(name)}: an answer is read at sites of the language model, such as llm.12"
        )
    return site


class Margin(Metric):
    head = "margin"
    about = "largest logit among a set's tokens minus the largest among all others, at the last prompt token, as steered"
    takes = "SET"
    example = "margin:maths"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        try:
            self.set = token_set(argument)
        except UsageError as problem:
            raise UsageError(f"metric {shown(name)}: {problem}") from None
        self.inside = np.zeros(0, dtype=bool)

    def prepare(self, target: Target) -> None:
        try:
            ids = [token for token in self.set.ids(target.encode) if token < target.vocabulary]
        except UsageError as problem:
            raise UsageError(f"metric {shown(self.name)}: {problem}") from None
        self.inside = np.zeros(target.vocabulary, dtype=bool)
        self.inside[ids] = True
        if self.inside.all():
            raise UsageError(f"metric {shown(self.name)}: the set has every token, so there are no others")

    def needs(self) -> Needs:
        return Needs(logits=True)

    def value(self, row: Facts) -> Result:
        if row.logits is None:
            return None, "the logits at the last prompt token are not known"
        return margin(row.logits[: len(self.inside)], self.inside), "the logits are not finite"


def margin(logits: np.ndarray, inside: np.ndarray) -> float | None:
    """max of ``logits`` [vocabulary] where ``inside`` minus max of the rest; None where not finite."""
    value = float(logits[inside].max() - logits[~inside].max())
    return value if np.isfinite(value) else None


class _AtSite(Metric):
    """A metric named ``head:WHAT@SITE`` that reads the mean hidden state over the answer's tokens there."""

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        self.what, mark, self.at = argument.rpartition("@")
        if not mark or not self.what or not self.at:
            raise UsageError(f"metric {shown(name)}: expected {self.form()}, such as {self.example}")
        check_place(name, self.at)
        self.site: Site | None = None

    def prepare(self, target: Target) -> None:
        self.site = place(self.name, self.at, target)

    def needs(self) -> Needs:
        return Needs(means=frozenset([self.site] if self.site else ()))

    def mean(self, row: Facts) -> np.ndarray | None:
        """The mean hidden state over the answer's tokens, float64 [d]; None for an empty answer."""
        assert self.site is not None
        found = row.means.get(self.site)
        return None if found is None else found.astype(np.float64)


class Cosine(_AtSite):
    head = "cosine"
    about = "cosine of the answer's mean hidden state at a site, read after the edits there, to a direction"
    takes = "DIRECTION@SITE"
    example = "cosine:terse@llm.12"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument)
        try:
            parse_algebra(self.what)
        except UsageError as problem:
            raise UsageError(f"metric {shown(name)}: {problem}") from None
        self.direction = np.zeros(0)

    def prepare(self, target: Target) -> None:
        super().prepare(target)
        assert self.site is not None
        try:
            value = target.direction(self.what, self.site).astype(np.float64)
        except UsageError as problem:
            raise UsageError(f"metric {shown(self.name)}: {problem}") from None
        size = float(np.linalg.norm(value))
        if not size > 0:
            raise UsageError(f"metric {shown(self.name)}: the direction is zero at {self.site.short}")
        self.direction = value / size

    def value(self, row: Facts) -> Result:
        mean = self.mean(row)
        if mean is None:
            return None, EMPTY
        size = float(np.linalg.norm(mean))
        if not (np.isfinite(size) and size > 0):
            return None, "the mean hidden state is zero or not finite"
        return float(self.direction @ mean) / size, ""


class Probe(_AtSite):
    """``probe:NAME@SITE`` is the probability of the probe's first label, ``...=LABEL`` that of another."""

    head = "probe"
    about = (
        "probability that a stored probe gives its first label, or LABEL, on the answer's mean hidden state"
    )
    takes = "NAME@SITE[=LABEL]"
    example = "probe:sentiment@llm.12"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        place, mark, self.label = argument.partition("=")
        super().__init__(name, place)
        if mark and not self.label:
            raise UsageError(f"metric {shown(name)}: expected a label after '='")
        self.weights, self.bias = np.zeros((0, 0)), np.zeros(0)
        self.index = 0

    def prepare(self, target: Target) -> None:
        super().prepare(target)
        assert self.site is not None
        try:
            probe = target.probe(self.what)
            probe.check(str(self.site), site_width(self.site, target.shape))
            self.index = probe.label(self.label) if self.label else 0
            self.weights, self.bias = probe.at(str(self.site))
        except UsageError as problem:
            raise UsageError(f"metric {shown(self.name)}: {problem}") from None

    def value(self, row: Facts) -> Result:
        mean = self.mean(row)
        if mean is None:
            return None, EMPTY
        return float(softmax(self.weights, self.bias, mean)[self.index]), ""


class Perturbation(Metric):
    """How far the edits move the hidden state, in percent of its own norm just before them.

    At each position where an edit is in force: the norm of the difference over the norm before, all edits at
    a site together; the median over these positions of prompt and answer. Of several sites the largest.
    """

    head = "perturbation"
    about = "norm of the edit in % of the row's own hidden state at that site (median over edited positions)"
    takes = "SITE"
    example = "perturbation:llm.12"
    sign = 1

    def __init__(self, name: str, argument: str) -> None:
        super().__init__(name, argument or "*")
        self.argument = argument
        if argument:
            check_place(name, argument)
        self.site: Site | None = None

    @classmethod
    def form(cls) -> str:
        return "perturbation or perturbation:SITE"

    def prepare(self, target: Target) -> None:
        self.site = place(self.name, self.argument, target) if self.argument else None

    def needs(self) -> Needs:
        return Needs(moved=True)

    def value(self, row: Facts) -> Result:
        if not row.steered or (self.site is not None and self.site not in row.moved):
            return 0.0, ""
        sites = row.moved if self.site is None else (self.site,)
        known = [share for share in (row.moved[site] for site in sites) if share is not None]
        return (max(known), "") if known else (None, "no edit was in force at any position")
