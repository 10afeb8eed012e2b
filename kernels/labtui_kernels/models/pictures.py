"""Pictures: image files as users give them, opened with care and brought to plain RGB. Torch-free.

A file may be hostile. It is read up to a bound, only formats that Pillow decodes by itself are tried, and its size in
pixels is checked in the header before anything is decoded. What comes out is always RGB, upright, on white: cameras'
turned pictures are turned back as their EXIF orientation says, transparency is laid on white as Qwen's own tools do.
"""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.header import open_regular

MAX_BYTES = 64 << 20
"""Largest picture file that is read."""
MAX_PIXELS = 80_000_000
"""Most pixels that are decoded: 240 MB as RGB."""
MAX_SIDE = 65_535
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is tried, in this order. Formats that Pillow hands to other programs (EPS) are not among them."""

# Pillow logs some faults beside raising them; without a handler they would be printed over the app's screen.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
# Filters of the warnings module belong to the process: two threads that set them would undo each other's.
_QUIET = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """An image file, opened.

    ``image`` is RGB and upright, ``size`` its (width, height) in pixels. ``digest`` is ``sha256:…`` of the file's bytes,
    ``name`` what the user called it, and ``note`` says in a few words what was left out (``"first of several frames"``).
    """

    image: Image.Image = field(repr=False)
    digest: str
    size: tuple[int, int]
    name: str = ""
    note: str = ""


def digest_of(data: bytes) -> str:
    """What a picture is known by: ``sha256:`` and the hash of its file's bytes in hex."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def read_picture(path: Path) -> bytes:
    """The bytes of a picture file. UsageError where there is none, BadFile for what is no plain file or over 64 MiB."""
    if "\0" in str(path):
        raise UsageError(f"{str(path)[:80]!r}: a file's name has no zero byte in it")
    with open_regular(path) as handle:
        data = handle.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadFile(f"{path}: over {MAX_BYTES >> 20} MiB; pictures up to that size are read")
    return data


def open_picture(source: bytes | Path, name: str = "") -> Picture:
    """The picture in a file or in a file's bytes; ``name`` is what errors call it (default: the path).

    A file with frames that follow each other in time gives a :class:`~.videos.Video`, a picture of its first frame; of
    several pages the first counts, and ``note`` says so. UsageError where there is no such file; BadFile, in one line, for
    what is no image of :data:`FORMATS` and no video, is truncated or damaged, has no pixels or more than :data:`MAX_PIXELS`.
    """
    from labtui_kernels.models import videos

    data = source if isinstance(source, bytes) else read_picture(source)
    name = name or ("the picture" if isinstance(source, bytes) else str(source))
    if len(data) > MAX_BYTES:
        raise BadFile(f"{name}: over {MAX_BYTES >> 20} MiB; pictures up to that size are read")
    if not data:
        raise BadFile(f"{name}: is empty; expected an image file ({', '.join(FORMATS)}) or a video")
    if videos.container_of(data):
        return videos.open_container(data, name)
    with one_line(name):
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(name, *opened.size)
        several = bool(getattr(opened, "is_animated", False))
        opened.load()
        image = plain(name, opened)
        if videos.moves(opened):
            return videos.of_image(opened, image, data, name)
    return Picture(image, digest_of(data), image.size, name, "first of several frames" if several else "")


def thumbnail(picture: Picture, side: int = 256, most: int = 24 * 1024) -> bytes:
    """A PNG of at most ``most`` bytes whose longer side has at most ``side`` pixels; it shrinks until it fits.

    Pictures with too many colours for that are reduced to 256 of them before they lose more of their size.
    """
    image = picture.image.copy()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        for form in (image, image.quantize(256, Image.Quantize.MEDIANCUT)):
            out = io.BytesIO()
            form.save(out, "PNG", optimize=True)
            if out.tell() <= most:
                return out.getvalue()
        if image.size == (1, 1):
            raise ValueError(f"no PNG has only {most} bytes")
        width, height = image.size
        image = image.resize(
            (max(1, width * 4 // 5), max(1, height * 4 // 5)), Image.Resampling.LANCZOS, reducing_gap=None
        )


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """Whatever Pillow raises over a hostile or damaged file, as one line; what it would print is not printed."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (BadFile, UsageError):
            raise
        except Image.UnidentifiedImageError as error:
            raise BadFile(
                f"{name}: is no image that can be read, or one without pixels; expected {', '.join(FORMATS)}"
            ) from error
        except Image.DecompressionBombError as error:
            raise BadFile(
                f"{name}: has more pixels than the {MAX_PIXELS // 10**6} million that are decoded; make it smaller"
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise BadFile(f"{name}: is a damaged or truncated image ({reason}); save it again") from error


def _check_size(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BadFile(f"{name}: is {width} x {height} pixels; expected at least one")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadFile(
            f"{name}: is {width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are decoded, with sides up to "
            f"{MAX_SIDE}: make it smaller"
        )


def plain(name: str, opened: Image.Image) -> Image.Image:
    """What an opened image shows now, RGB and upright."""
    return _upright(_rgb(name, opened), opened)


def _rgb(name: str, image: Image.Image) -> Image.Image:
    """Any mode as RGB: 16 bits scaled to 8, transparency laid on white, inks and palettes turned into colours."""
    if image.mode in _SIXTEEN_BITS:
        return _from_sixteen(name, image)
    if image.mode == "F":
        raise BadFile(
            f"{name}: has floating-point pixels, whose black and white are not known; save it with 8 bits"
        )
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(layer, mask=layer.getchannel("A"))
        return white
    return image.convert("RGB")


def _from_sixteen(name: str, image: Image.Image) -> Image.Image:
    """Grey of 16 bits; Pillow's own conversion would cut off everything over 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise BadFile(f"{name}: has grey values outside 0 to 65535; save it with 8 or 16 bits")
    grey = Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))
    return grey.convert("RGB")


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """``image`` turned as the EXIF orientation of the file says it is to be seen."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(opened))
    return image if turn is None else image.transpose(turn)


def _orientation(opened: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; a block that cannot be read counts as upright, the pixels are good without it."""
    try:
        value = opened.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return value if isinstance(value, int) else 1
