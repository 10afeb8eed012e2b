"""Make the bundled fonts: ``python -m labtui_kernels.toys.fonts FOLDER``, needs fontTools.

``FOLDER`` holds the DejaVu fonts (matplotlib ships them under ``mpl-data/fonts/ttf``). Each face is cut down to
printable ASCII and renamed: the licence of the fonts allows both, under a name that is not theirs.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ..vision.stimuli import FONT_FOLDER, FONTS

SOURCES = {
    "sans": "DejaVuSans",
    "sans-bold": "DejaVuSans-Bold",
    "sans-oblique": "DejaVuSans-Oblique",
    "serif": "DejaVuSerif",
    "serif-bold": "DejaVuSerif-Bold",
    "serif-italic": "DejaVuSerif-Italic",
    "mono": "DejaVuSansMono",
    "mono-bold": "DejaVuSansMono-Bold",
}


def cut(source: Path, target: Path, family: str) -> None:
    """Write the printable ASCII glyphs of ``source``, without hinting programs, to ``target`` as ``family``."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    options = subset.Options(hinting=False, layout_features=[], notdef_outline=True, name_IDs=[0, 1, 2, 4, 6])
    font = TTFont(source, recalcTimestamp=False)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=range(0x20, 0x7F))
    cutter.subset(font)
    records: Any = font["name"]
    for record in records.names:
        if record.nameID in (1, 4, 6):
            record.string = family.replace(" ", "") if record.nameID == 6 else family
    font.save(target)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.fonts", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the DejaVu fonts and LICENSE_DEJAVU")
    given = parser.parse_args(arguments)
    for name in FONTS:
        cut(given.folder / f"{SOURCES[name]}.ttf", FONT_FOLDER / f"{name}.ttf", f"Labtui {name.title()}")
    shutil.copyfile(given.folder / "LICENSE_DEJAVU", FONT_FOLDER / "LICENSE")


if __name__ == "__main__":
    main()
