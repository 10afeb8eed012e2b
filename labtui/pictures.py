"""Pictures and videos on their way to a kernel: found where the user named them, checked, and sent once.

A spec that a user wrote names files. `submit` sends their bytes to the kernel, wherever that runs, and puts their
digests into the spec; the kernel never opens a path of the user's machine.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import is_digest
from labtui_kernels.specs.images import expand, named, pictures_in

if TYPE_CHECKING:
    from PIL.Image import Image

    from labtui.projection import Kernel

PIECE = 1024 * 1024
"""Bytes that are sent at a time, so that other messages find their way between."""
VIEW = 256
"""Longest side of the small picture that is kept for showing, in pixels."""
KEPT = 64
"""Files whose digest and view are remembered while they do not change."""


@dataclass(frozen=True)
class Found:
    """A picture that a spec names: ``path`` is its file on this machine, None where it is only in the session.

    ``size`` is (width, height) in pixels, ``note`` what was left out of it or that it is a video, ``view`` a small copy for
    showing (of a video its first frame). A video that this machine cannot read has neither size nor view.
    """

    digest: str
    name: str
    size: tuple[int, int]
    path: Path | None = None
    note: str = ""
    view: Image | None = field(default=None, repr=False, compare=False)


_files: OrderedDict[tuple[str, int, int], Found] = OrderedDict()
_lock = threading.Lock()


def look(path: Path) -> Found:
    """What a picture's file holds; remembered while it does not change.

    UsageError or BadFile, in one line that names it, for what is no picture.
    """
    return _look(path)[0]


def _look(path: Path) -> tuple[Found, bytes | None]:
    """The same, with the file's bytes where they had to be read."""
    from labtui_kernels.models import videos
    from labtui_kernels.models.pictures import digest_of, open_picture, read_picture

    try:
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        key = (str(path), -1, -1)
    with _lock:
        if key in _files:
            _files.move_to_end(key)
            return _files[key], None
    data = read_picture(path)
    if videos.container_of(data) and not videos.readable():
        found = Found(digest_of(data), path.name, (0, 0), path, "video, opened by the kernel")
    else:
        picture = open_picture(data, str(path))
        view = picture.image.copy()
        view.thumbnail((VIEW, VIEW))
        found = Found(picture.digest, path.name, picture.size, path, picture.note, view)
    with _lock:
        _files[key] = found
        while len(_files) > KEPT:
            _files.popitem(last=False)
    return found, data


async def submit(kernel: Kernel, spec: Mapping[str, Any], base: Path | None = None, **extra: Any) -> Any:
    """Submit a spec with its pictures; the kernel's answer. ``base`` is as for :func:`sent`."""
    ready, pictures = await sent(kernel, spec, base)
    if pictures:
        extra["names"] = {one.digest: one.name for one in pictures}
    return await kernel.request("submit", spec=ready, **extra)


async def sent(
    kernel: Kernel, spec: Mapping[str, Any], base: Path | None = None
) -> tuple[dict[str, Any], list[Found]]:
    """The spec with digests in place of its pictures' paths, which the kernel has from now on; and these pictures.

    Words ``@photo.png`` of its prompts count; paths are relative to ``base`` (the working directory). Where no such
    file is, a picture of the session that has its name is taken, so that a run can be done again without its file.
    """
    ready = expand(spec, Path.cwd() if base is None else base.absolute())
    digests: dict[str, str] = {}
    pictures: list[Found] = []
    for text in [one for one in pictures_in(ready) if not is_digest(one)]:
        path = Path(text)
        known = None if path.exists() else _of_session(kernel, path.name)
        found = known or await send(kernel, path)
        digests[text] = found.digest
        pictures.append(found)
    return named(ready, digests) if digests else ready, pictures


def _of_session(kernel: Kernel, name: str) -> Found | None:
    """The session's last picture of that name."""
    for digest, image in reversed(kernel.state.images.items()):
        if image.name == name:
            return Found(digest, name, (image.width, image.height))
    return None


async def send(kernel: Kernel, path: Path) -> Found:
    """Give the kernel a picture's file, unless it has those bytes."""
    found, data = await asyncio.to_thread(_look, path)
    if found.digest in await kernel.request("image.missing", digests=[found.digest]):
        if data is None:
            data = await asyncio.to_thread(path.read_bytes)
        await _upload(kernel, found, data)
    return found


async def _upload(kernel: Kernel, found: Found, data: bytes) -> None:
    offset, last = 0, False
    while not last:
        piece = data[offset : offset + PIECE]
        last = offset + len(piece) >= len(data)
        try:
            await kernel.request("image.put", digest=found.digest, offset=offset, data=piece, last=last)
        except UsageError as error:
            raise UsageError(f"{found.path}: {error}") from None
        offset += len(piece)
