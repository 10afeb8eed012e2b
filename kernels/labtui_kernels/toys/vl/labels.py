"""What lies under each patch: letters, inks and shapes, for the tower to learn from before anybody asks it."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from labtui_kernels.vision import scenes, stimuli
from labtui_kernels.vision.stimuli import COLORS, NEUTRAL, NO_WORD

PATCH = 14
NAMES = (*string.ascii_lowercase, *COLORS, NEUTRAL, *scenes.SHAPES)
NUMBER = {name: i for i, name in enumerate(NAMES)}
SHARE = 0.2
"""A letter or shape lies under a patch that has at least this share of its pixels; an ink under one with 4% of it."""

Labels = np.ndarray[Any, np.dtype[np.float32]]
"""[rows, cols, names] of 0 and 1, by patches of 14 pixels."""


def _counts(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many pixels of ``mask`` [h, w] lie in each patch [rows, cols]."""
    rows, cols = mask.shape[0] // PATCH, mask.shape[1] // PATCH
    return mask.reshape(rows, PATCH, cols, PATCH).sum(axis=(1, 3))


def of_word(made: stimuli.Stimulus) -> Labels:
    """Labels of a Stroop picture: its letters, each where its share of the word's width is, and its ink."""
    mask = made.ink_mask
    ink = _counts(mask)
    labels = np.zeros((*ink.shape, len(NAMES)), dtype=np.float32)
    seen = ink >= 0.04 * PATCH * PATCH
    labels[seen, NUMBER[made.ink]] = 1
    if made.word == NO_WORD:
        labels[seen, NUMBER["x"]] = 1
        return labels
    face = stimuli.font_at(made.font, 24)
    across = mask.nonzero()[1]
    left, width = int(across.min()), int(across.max() - across.min() + 1)
    ends = [face.getlength(made.word[:i]) / face.getlength(made.word) for i in range(len(made.word) + 1)]
    for letter, start, end in zip(made.word, ends, ends[1:], strict=False):
        only = np.zeros_like(mask)
        columns = slice(left + round(start * width), left + round(end * width))
        only[:, columns] = mask[:, columns]
        found = _counts(only)
        labels[found >= max(1.0, SHARE * found.sum()), NUMBER[letter]] = 1
    return labels


def of_scene(scene: scenes.Scene) -> Labels:
    """Labels of a scene: names and colours of the shapes whose boxes a patch has a share of."""
    width, height = scene.image.size
    labels = np.zeros((height // PATCH, width // PATCH, len(NAMES)), dtype=np.float32)
    for name, color, (left, top, right, bottom) in scene.shapes:
        box = np.zeros((height, width), dtype=bool)
        box[top:bottom, left:right] = True
        found = _counts(box)
        labels[found >= SHARE * PATCH * PATCH, NUMBER[name]] = 1
        labels[found >= SHARE * PATCH * PATCH, NUMBER[color]] = 1
    return labels


def spots_of(scene: scenes.Scene) -> dict[str, tuple[float, float]]:
    """Where the shapes are that have a name of their own: centres (across, down) in merged patches."""
    names = [name for name, _, _ in scene.shapes]
    found = {}
    for name, _, box in scene.shapes:
        if names.count(name) == 1:
            x, y = scenes.centre(box)
            found[name] = (x / (2 * PATCH), y / (2 * PATCH))
    return found


def grouped(labels: Labels, merge: int = 2) -> Labels:
    """[patches, names] in the tower's order: the patches of one merged patch follow each other."""
    rows, cols, names = labels.shape
    parts = labels.reshape(rows // merge, merge, cols // merge, merge, names).transpose(0, 2, 1, 3, 4)
    return parts.reshape(rows * cols, names)
