"""What waiting rows may share of a prefill.

Rows whose prompts begin with the same tokens, and whose edits do the same to them, leave the same cache behind there. Such a
beginning is processed once (a *trunk*); each row goes on from a copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tracks import Track

LEAST_TOKENS = 64
"""Trunks are a pass of their own, so they must save at least so many tokens,"""
LEAST_SHARE = 0.15
"""and this share of all the tokens of their rows."""


def signature(track: Track, shadow: bool, length: int) -> object:
    """Equal for lanes whose first ``length`` tokens leave the same cache behind."""
    pictures = track.pictures(shadow)
    seen = () if pictures is None else pictures.signature(length)
    if shadow or track.edits is None:
        return (track.ids[:length], seen, ())
    if track.tokens:
        return id(track)  # interrupted in mid-answer: what it generated was edited in its own way
    return (track.ids[:length], seen, track.edits.prompt_signature(length))


def trunk_length(rows: Sequence[Track], multiple: int = 1) -> int:
    """How many first tokens the rows that begin like the first one should process apart, before they part.

    The length that saves most tokens, a multiple of ``multiple`` and less than the first row's own; 0 when none is
    worth a pass.
    """
    common = [rows[0].common(row) for row in rows]
    best, saved = 0, 0
    for length in _lengths(rows[0], common, multiple):
        alike = [row for row, same in zip(rows, common, strict=True) if same >= length < len(row.ids)]
        whole = {signature(row, False, len(row.ids)): len(row.ids) for row in alike}
        trunks = {signature(row, False, length) for row in alike}
        gain = length * (len(whole) - len(trunks))
        if gain > saved and gain >= LEAST_TOKENS and gain >= LEAST_SHARE * sum(whole.values()):
            best, saved = length, gain
    return best


def _lengths(leader: Track, common: Sequence[int], multiple: int) -> list[int]:
    """Lengths worth a look: where prompts part, and where the first row's edits and images begin."""
    found = {min(same, len(leader.ids) - 1) for same in common}
    if leader.edits is not None:
        found |= {place for mask in leader.edits.masks if (place := _first(mask)) is not None}
    found |= {image.start for image in leader.row.images}
    return sorted({length // multiple * multiple for length in found} - {0})


def _first(mask: np.ndarray) -> int | None:
    places = mask.nonzero()[0]
    return int(places[0]) if len(places) else None
