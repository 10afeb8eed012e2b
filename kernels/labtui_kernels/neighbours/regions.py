"""Whether what a token is near to describes the region that it sees: labels, matches, and what chance gives.

A picture's labels are boxes with words. A token is labelled by the box that covers most of its rectangle, if that is
at least a quarter of it. It matches when one of its nearest words is one of that box's.

Chance: each box gets the words of a box of another picture, drawn at random, and the share of matches is counted
again. Whole boxes change their words, since the tokens of a box are near to the same things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 0.25
"""The share of a token's rectangle that a box must cover."""
DRAWS = 200

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Region:
    """A labelled box (x0, y0, x1, y1) in pixels of the picture, right and bottom outside, and the words for it."""

    box: Rect
    words: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The words as they are compared."""
        return frozenset(plain(word) for word in self.words)


def plain(word: str) -> str:
    """A word as it is compared: no white space or marks about it, no case, no plural s."""
    found = word.strip().strip(".,;:!?\"'()[]“”‘’").casefold()
    if found.endswith("sses"):
        return found[:-2]
    return found[:-1] if len(found) > 3 and found.endswith("s") and not found.endswith("ss") else found


def label(rect: Rect, regions: Sequence[Region]) -> int | None:
    """The region that covers most of a token's rectangle; None where none covers a quarter of it."""
    x0, y0, x1, y1 = rect
    area = (x1 - x0) * (y1 - y0)
    best: int | None = None
    most = LEAST * area
    for number, region in enumerate(regions):
        left, top, right, bottom = region.box
        shared = max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, bottom) - max(y0, top))
        if shared >= most and shared > 0 and (best is None or shared > most):
            best, most = number, shared
    return best


@dataclass(frozen=True)
class Share:
    """The share of labelled tokens that match, over the pictures, with its interval, and what chance gives.

    ``rate`` counts every labelled token once; ``low`` and ``high`` bound it by resampling pictures (95%), as tokens of
    one picture are no trials of their own; None under two pictures. ``chance`` and ``chance_95`` are the mean and the
    95th percentile under words of other pictures; None where there is no other picture.
    """

    tokens: int
    rate: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    chance_95: float | None = None


def share(
    found: Sequence[Sequence[frozenset[str]]],
    labels: Sequence[Sequence[int | None]],
    regions: Sequence[Sequence[Region]],
    seed: int = 0,
) -> Share:
    """The share of matches: for each picture and token the words ``found`` and its label (an index of the picture's
    ``regions``)."""
    lines = [
        (picture, region, words)
        for picture, (near, marks) in enumerate(zip(found, labels, strict=True))
        for words, region in zip(near, marks, strict=True)
        if region is not None
    ]
    if not lines:
        return Share(0, None)
    every = [(picture, number) for picture, own in enumerate(regions) for number in range(len(own))]
    at = {place: line for line, place in enumerate(every)}
    names = [regions[picture][number].names for picture, number in every]
    # Matches of each token with the words of every region, not its own alone.
    table = np.array([[not words.isdisjoint(name) for name in names] for _, _, words in lines])
    own = np.array([at[picture, region] for picture, region, _ in lines])
    pictures = np.array([picture for picture, _, _ in lines])
    match = table[np.arange(len(lines)), own]
    low, high = _interval(match, pictures, seed)
    chance, top = _chance(table, own, np.array([picture for picture, _ in every]), seed)
    return Share(len(lines), float(match.mean()), low, high, chance, top)


def _interval(match: np.ndarray, pictures: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    there = np.unique(pictures)
    if len(there) < 2:
        return None, None
    hits = np.array([match[pictures == picture].sum() for picture in there], dtype=float)
    counts = np.array([(pictures == picture).sum() for picture in there], dtype=float)
    picks = np.random.default_rng(seed).integers(0, len(there), (2000, len(there)))
    rates = hits[picks].sum(1) / counts[picks].sum(1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def _chance(
    table: np.ndarray, own: np.ndarray, pictures: np.ndarray, seed: int
) -> tuple[float | None, float | None]:
    """``own`` is each token's region, ``pictures`` each region's picture."""
    others: Mapping[int, np.ndarray] = {
        int(one): np.flatnonzero(pictures != one) for one in np.unique(pictures)
    }
    if any(not len(choice) for choice in others.values()):
        return None, None
    draw = np.random.default_rng(seed)
    rates = []
    for _ in range(DRAWS):
        given = np.array([draw.choice(others[int(picture)]) for picture in pictures])
        rates.append(table[np.arange(len(own)), given[own]].mean())
    return float(np.mean(rates)), float(np.quantile(rates, 0.95))
