"""How a picture word goes on, from the files on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from labtui_kernels.specs.images import SUFFIXES

MOST_LOOKED_AT = 5_000
"""Entries of a folder that are looked at: a huge or a slow one must not hold up who types."""

_BEGUN = re.compile(r"(?<![^\s(\[{])@(?P<quote>\")?(?P<path>(?(quote)[^\"\n]*|[^\s\"]*))\Z")


def begun(text: str) -> str | None:
    """The path of the picture word that a text ends in, as far as it is written; None where it ends in none."""
    match = _BEGUN.search(text)
    return match["path"] if match is not None else None


def complete_picture(text: str, base: Path) -> list[str]:
    """What could be typed behind ``text``, which ends in the beginning of a picture word: the best first.

    Folders come after pictures and end in ``/``. Names with spaces are offered within quotes only; those are closed.
    """
    match = _BEGUN.search(text)
    if match is None:
        return []
    quoted, path = match["quote"] is not None, match["path"]
    folder, _, start = path.rpartition("/")
    place = base / Path(folder + "/" if path.startswith("/") and not folder else folder).expanduser()
    pictures: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_LOOKED_AT:
                    break
                name = entry.name
                if not name.startswith(start) or (name.startswith(".") and not start):
                    continue
                if not name.isprintable() or '"' in name or (not quoted and " " in name):
                    continue
                if name.lower().endswith(SUFFIXES):
                    pictures.append(name[len(start) :] + ('"' if quoted else ""))
                elif _is_folder(entry):
                    folders.append(name[len(start) :] + "/")
    except OSError:
        return []
    return [rest for rest in [*sorted(pictures), *sorted(folders)] if rest]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
