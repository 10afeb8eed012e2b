"""Folders of Stroop stimuli: names say word and ink, pixels say which of the two is the ink."""

from __future__ import annotations

import colorsys
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from labtui_artifacts.errors import BadFile, UsageError

from .stimuli import COLORS, NEUTRAL, NO_WORD, Stimulus, subset_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILES, PIXELS = 20_000, 50_000_000
NAME = re.compile(r"(?P<first>[a-z]+)(?:_as_(?P<second>[a-z]+))?(?:[-_ ].*)?", re.IGNORECASE)
PALE = 0.25
"""Under this saturation an ink is neutral."""


def read_ink(image: Image.Image) -> tuple[str | None, NDArray[np.bool_]]:
    """(the ink's name, its mask [h, w] bool): what differs from the commonest colour of the border.

    The name is the colour of `COLORS` of the nearest hue, or `NEUTRAL` under a saturation of `PALE`; None where
    nothing differs from the background.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    shades, counts = np.unique(border, axis=0, return_counts=True)
    far = np.abs(pixels - shades[counts.argmax()]).max(axis=-1)
    if far.max() < 40:
        return None, np.zeros(far.shape, dtype=bool)
    core = pixels[far >= 0.9 * far.max()]
    red, green, blue = (float(c) / 255 for c in np.median(core, axis=0))
    hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
    mask = far >= 0.5 * far.max()
    if saturation < PALE:
        return NEUTRAL, mask
    hues = {name: colorsys.rgb_to_hsv(*(c / 255 for c in rgb))[0] for name, rgb in COLORS.items()}
    return min(hues, key=lambda name: abs((hues[name] - hue + 0.5) % 1 - 0.5)), mask


def read_folder(path: Path) -> list[Stimulus]:
    """Every picture under ``path``, its subfolders included, sorted by path.

    A name is ``{word}_as_{ink}`` or, in ``color_only`` and ``text_only`` folders, one colour; anything after a
    hyphen, underscore or blank is a number of one's own. Subsets follow from the names, not from the folder:
    ``congruent/`` may hold incongruent pairs. Pixels say which of the two names is the ink; a folder whose names
    are all the other way round, ``{ink}_as_{word}``, is read so. BadFile for a picture whose ink is neither
    name, or one that disagrees with its neighbours; UsageError for a folder without pictures.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: expected a folder of pictures")
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise UsageError(f"{path}: no pictures ({', '.join(SUFFIXES)})")
    if len(files) > FILES:
        raise UsageError(f"{path}: {len(files)} pictures; at most {FILES} are read")
    made, orders = [], {}
    for file in files:
        stimulus, order = _read(file, path)
        made.append(stimulus)
        if order:
            orders.setdefault(order, file)
    if len(orders) > 1:
        raise BadFile(
            f"{path}: by its pixels {orders['word_as_ink'].name} is named word_as_ink, but {orders['ink_as_word'].name} "
            "ink_as_word; name all of them {word}_as_{ink}"
        )
    return made


def _read(file: Path, root: Path) -> tuple[Stimulus, str]:
    """One file, and the order of its two names by its pixels (``""`` where they tell nothing)."""
    match = NAME.fullmatch(file.stem)
    names = [name.lower() for name in match.groups() if name] if match else []
    if not names or any(name not in COLORS for name in names):
        raise BadFile(f"{file}: expected a name such as red_as_blue or red; colors: {', '.join(COLORS)}")
    try:
        with Image.open(file) as opened:
            if opened.width * opened.height > PIXELS:
                raise BadFile(f"{file}: {opened.width}x{opened.height} pixels; at most {PIXELS} are read")
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BadFile(f"{file}: not a picture that can be read ({error})") from None
    seen, mask = read_ink(image)
    if len(names) == 2:
        if seen not in names:
            raise BadFile(f"{file}: the name says {' and '.join(names)}, the pixels are {seen or 'blank'}")
        first, second = names
        word, ink = (first, second) if seen == second else (second, first)
        order = "" if first == second else ("word_as_ink" if seen == second else "ink_as_word")
    else:
        order, word, ink = "", *_single(file, names[0], seen)
    name = str(file.relative_to(root).with_suffix(""))
    return Stimulus(image, word, ink, subset_of(word, ink), name, "", mask), order


def _single(file: Path, name: str, seen: str | None) -> tuple[str, str]:
    """(word, ink) of a file with one name: in neutral ink it is the word, in its own colour the ink."""
    if seen == NEUTRAL:
        return name, NEUTRAL
    if seen != name:
        raise BadFile(f"{file}: the name says {name}, the pixels are {seen or 'blank'}")
    return (name, name) if file.parent.name == "congruent" else (NO_WORD, name)
