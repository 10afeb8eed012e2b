"""Pictures on the model side: read from the kernel's store, made into pixels once, and kept while they are used."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from labtui_artifacts.images import ImageStore, is_digest, short

from ..models.load import LoadedModel
from ..models.pictures import Picture, open_picture, thumbnail
from ..models.pixels import Pixels, prepare_pixels, settings_of
from .context import JobContext

MOST_BYTES = 256 * 1024 * 1024
"""Pixel values that are kept for a model: some hundreds of photographs, thousands of small pictures."""


class Area(NamedTuple):
    """The least and the most pixels that a picture, or a frame of a video, is resized to, how many frames of a second are
    taken of a video, and how many at most; None leaves it to the model's own processor."""

    min_pixels: int | None = None
    max_pixels: int | None = None
    fps: float | None = None
    max_frames: int | None = None

    @classmethod
    def of(cls, asked: Any) -> Area:
        """What a spec says of it."""
        return cls(*(getattr(asked, name, None) for name in cls._fields))


USUAL = Area()

_Key = tuple[str, Area]


class _Kept:
    """The pixels used last, within `MOST_BYTES`."""

    def __init__(self) -> None:
        self._found: OrderedDict[_Key, Pixels] = OrderedDict()
        self._bytes = 0

    def get(self, key: _Key) -> Pixels | None:
        if key in self._found:
            self._found.move_to_end(key)
        return self._found.get(key)

    def put(self, key: _Key, pixels: Pixels) -> None:
        self._found[key] = pixels
        self._bytes += pixels.values.nbytes
        while self._bytes > MOST_BYTES and len(self._found) > 1:
            self._bytes -= self._found.popitem(last=False)[1].values.nbytes


_kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()


def pixels_of(loaded: LoadedModel, picture: Picture, area: Area = USUAL) -> Pixels:
    """What the model's tower gets for an opened picture; the last ones are kept. Errors as of ``prepare_pixels``."""
    kept = _kept.setdefault(loaded.model, _Kept())
    key = (picture.digest, area)
    found = kept.get(key)
    if found is None:
        found = prepare_pixels(loaded, picture, *area)
        kept.put(key, found)
    return found


def stored_pixels(
    loaded: LoadedModel, images: ImageStore, digest: str, area: Area = USUAL, name: str = ""
) -> Pixels:
    """The same for a picture of the kernel's store; ``name`` is what the user calls it.

    UsageError for a model without a vision tower and for a picture that is not in the store, BadFile for a damaged one.
    """
    settings_of(loaded)
    kept = _kept.setdefault(loaded.model, _Kept())
    found = kept.get((digest, area))
    if found is not None:
        return found
    called = name or (short(digest) if is_digest(digest) else digest)
    picture = open_picture(images.read(digest, name), f"picture {called}")
    return pixels_of(loaded, picture, area)


def keep(ctx: JobContext, data: bytes, name: str) -> Picture:
    """Store a picture that a recipe made, as if a client had sent it, and tell the session of it; opened."""
    picture = open_picture(data, name)
    ctx.images.put(data)
    width, height = picture.size
    view = {"name": name, "width": width, "height": height, "thumbnail": thumbnail(picture)}
    ctx.emit("image.added", {"digest": picture.digest, **view})
    return picture
