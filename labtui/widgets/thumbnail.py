"""The pictures of a prompt: a line for each with its size and tokens, and the first one small where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from labtui.widgets.picture import colours_of
from labtui.widgets.raster import Layout, Raster, lay, pixels, raster

if TYPE_CHECKING:
    from PIL.Image import Image

LINES, ACROSS = 6, 24
"""The room of a thumbnail in cells."""


@dataclass(frozen=True)
class Shown:
    """A picture of a prompt. ``rows`` and ``cols`` are of merged patches, 0 while they are not known; ``frames`` those of a
    video as the tower takes them."""

    digest: str
    name: str
    size: tuple[int, int] = (0, 0)
    rows: int = 0
    cols: int = 0
    frames: int = 1
    note: str = ""
    view: Image | None = field(default=None, repr=False, compare=False)

    def line(self, number: int) -> Content:
        """It in words."""
        width, height = self.size
        parts = [f"{width}×{height}"] if width else []
        if self.rows:
            sides = [str(side) for side in (self.frames, self.rows, self.cols)][self.frames == 1 :]
            parts.append(f"{'×'.join(sides)} = {self.frames * self.rows * self.cols} tokens")
        parts += [self.note] if self.note else []
        return Content.assemble(
            (f"image{number} ", "bold $lab-second"), self.name, (f"  {' · '.join(parts)}", "$lab-dim")
        )


class Thumbnail(Widget):
    """A picture in a few cells."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._image: Image | None = None
        self._key: object = None
        self._cells: Raster | None = None
        self._layout = Layout(1, 1, 1, 1)

    def show(self, key: str, image: Image | None) -> None:
        """Show a picture; ``key`` tells it from others."""
        now = (key, image is not None, colours_of(self.app))
        self.display = image is not None
        if now == self._key:
            return
        self._key, self._image, self._cells = now, image, None
        if image is not None:
            width, height = image.size
            self._layout = lay(height, width, (ACROSS, LINES), whole=True)
            self._cells = raster(pixels(image, self._layout), colours_of(self.app))
        self.refresh(layout=True)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return self._layout.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._layout.height

    def render_line(self, y: int) -> Strip:
        cells = self._cells
        if cells is None or y >= len(cells.chars):
            return Strip.blank(self.size.width)
        return Strip([Segment(char, cells.style(x, y)) for x, char in enumerate(cells.chars[y])])


class PictureLines(Horizontal):
    """The pictures of a prompt, or why there is none; takes no room where nothing is to be said."""

    def compose(self) -> ComposeResult:
        yield Thumbnail()
        yield Static("", markup=False)

    def on_mount(self) -> None:
        self.display = False

    def show(self, pictures: Sequence[Shown], problem: str = "") -> None:
        """Name them; ``problem`` is what is wrong with one of them."""
        self.display = bool(pictures or problem)
        lines = [one.line(number) for number, one in enumerate(pictures)]
        if problem:
            lines.append(Content.styled(f"! {problem}", "$error"))
        text = Content("\n").join(lines)
        body = self.query_one(Static)
        if text != body.content:
            body.update(text)
        first = next((one for one in pictures if one.view is not None), None)
        self.query_one(Thumbnail).show(first.digest if first else "", first.view if first else None)
