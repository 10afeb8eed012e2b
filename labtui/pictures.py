"""Pictures on their way to a kernel: found where the user named them, checked, and sent once.

A spec that a user wrote names files. `submit` sends their bytes to the kernel, wherever that runs, and puts their
digests into the spec; the kernel never opens a path of the user's machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import is_digest
from labtui_kernels.specs.images import expand, named, pictures_in

if TYPE_CHECKING:
    from labtui.projection import Kernel

PIECE = 1024 * 1024
"""Bytes that are sent at a time, so that other messages find their way between."""


@dataclass(frozen=True)
class Opened:
    """A picture's file on this machine: its bytes, their digest, its size in pixels."""

    path: Path
    data: bytes
    digest: str
    size: tuple[int, int]
    note: str = ""


def open_file(path: Path) -> Opened:
    """A picture's file, read and decoded to see that it is one. UsageError or BadFile in one line that names it."""
    from labtui_kernels.models.pictures import open_picture, read_picture

    data = read_picture(path)
    picture = open_picture(data, str(path))
    return Opened(path, data, picture.digest, picture.size, picture.note)


async def submit(kernel: Kernel, spec: Mapping[str, Any], base: Path | None = None, **extra: Any) -> Any:
    """Submit a spec with its pictures; the kernel's answer. ``base`` is as for :func:`sent`."""
    ready, names = await sent(kernel, spec, base)
    if names:
        extra["names"] = names
    return await kernel.request("submit", spec=ready, **extra)


async def sent(
    kernel: Kernel, spec: Mapping[str, Any], base: Path | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The spec with digests in place of its pictures' paths, which the kernel has from now on, and names by digest.

    Words ``@photo.png`` of its prompts count; paths are relative to ``base`` (the working directory). Where no such
    file is, a picture of the session that has its name is taken: a run is done again without its file.
    """
    found = expand(spec, Path.cwd() if base is None else base.absolute())
    paths = [one for one in pictures_in(found) if not is_digest(one)]
    if not paths:
        return found, {}
    digests: dict[str, str] = {}
    names: dict[str, str] = {}
    for text in paths:
        path = Path(text)
        known = None if path.exists() else _of_session(kernel, path.name)
        digest = known or await send(kernel, path)
        digests[text] = digest
        names[digest] = path.name
    return named(found, digests), names


def _of_session(kernel: Kernel, name: str) -> str | None:
    """The digest of the session's last picture of that name."""
    images = kernel.state.images
    return next((digest for digest in reversed(images) if images[digest].name == name), None)


async def send(kernel: Kernel, path: Path) -> str:
    """Give the kernel a picture's file, unless it has those bytes; their digest."""
    opened = await asyncio.to_thread(open_file, path)
    if opened.digest in await kernel.request("image.missing", digests=[opened.digest]):
        await _upload(kernel, opened)
    return opened.digest


async def _upload(kernel: Kernel, opened: Opened) -> None:
    data, offset = opened.data, 0
    while True:
        piece = data[offset : offset + PIECE]
        last = offset + len(piece) >= len(data)
        try:
            await kernel.request("image.put", digest=opened.digest, offset=offset, data=piece, last=last)
        except UsageError as error:
            raise UsageError(f"{opened.path}: {error}") from None
        offset += len(piece)
        if last:
            return
