"""Small copies of a session's pictures, asked for once and kept while the app runs."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui.pictures import sent
from labtui_artifacts.errors import BadFile, LabError
from labtui_kernels.specs.images import readable

if TYPE_CHECKING:
    from PIL.Image import Image

    from labtui.app import LabApp
    from labtui.pictures import Found
    from labtui.projection import Kernel
    from labtui_sessions.state import SessionState

KEPT = 256
MAX_SIDE = 1024
"""Pixels of a side of a thumbnail that is drawn; a session's own have at most 256."""


class Views:
    """What the app knows of pictures beside the session's state: how they look, and what the user typed for them."""

    def __init__(self, app: LabApp) -> None:
        self._app = app
        self._views: OrderedDict[str, Image | None] = OrderedDict()
        self._asked: set[str] = set()
        self._typed: dict[str, str] = {}
        self.kept = 0
        """How many views have come: another number asks who shows them to look again."""

    def get(self, digest: str) -> Image | None:
        """The small copy of a picture; None as long as there is none, and it is asked for."""
        if digest in self._views:
            self._views.move_to_end(digest)
            return self._views[digest]
        source = self._app.source
        if source is None or not digest or digest in self._asked:
            return None
        self._asked.add(digest)

        async def work() -> Image | None:
            try:
                return decode(await source.thumbnail(digest))
            except LabError:
                return None  # a picture that cannot be shown is named all the same
            finally:
                self._asked.discard(digest)

        def then(view: Image | None) -> None:
            self._keep(digest, view)
            self._app.pump.changed()

        self._app.do(work, then, group=f"view:{digest}")
        return None

    def missing(self, digest: str) -> bool:
        """Whether it was asked for and there is none, or none that can be drawn."""
        return digest in self._views and self._views[digest] is None

    async def submit(self, kernel: Kernel, spec: Mapping[str, Any], **extra: Any) -> Any:
        """Send a spec and its pictures; the kernel's answer."""
        ready, pictures = await sent(kernel, spec)
        self.note(pictures)
        if pictures:
            extra["names"] = {one.digest: one.name for one in pictures}
        return await kernel.request("submit", spec=ready, **extra)

    def note(self, pictures: Iterable[Found]) -> None:
        """Keep what was read from the files that the user named, and how they were named."""
        for one in pictures:
            if one.view is not None:
                self._keep(one.digest, one.view)
            if one.path is not None:
                path, here = one.path, Path.cwd()
                self._typed[one.digest] = str(path.relative_to(here) if path.is_relative_to(here) else path)

    def names(self, state: SessionState) -> Mapping[str, str]:
        """How the session's pictures are written in a prompt, by digest."""
        known = {digest: image.name for digest, image in state.images.items() if readable(image.name)}
        return known | self._typed

    def _keep(self, digest: str, view: Image | None) -> None:
        self._views[digest] = view
        self.kept += 1
        while len(self._views) > KEPT:
            self._views.popitem(last=False)


def decode(data: bytes) -> Image:
    """A thumbnail from its PNG. BadFile for what is none, or larger than any."""
    from PIL import Image as pil

    try:
        image = pil.open(io.BytesIO(data), formats=("PNG",))
        if max(image.size) > MAX_SIDE:
            raise BadFile("a thumbnail is larger than any that is drawn")
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise BadFile(f"a thumbnail cannot be read: {error}") from error
