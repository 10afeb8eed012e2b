"""A picture in the terminal, with a cursor that moves from merged patch to merged patch.

It knows nothing of models: what it shows is a :class:`Scene`. The picture is turned into cells once for each size,
overlay and kind of terminal; a key repaints only the lines that the cursor leaves and comes to. What frames and
digits say they say without colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from labtui.actions import bindings
from labtui.widgets.raster import TINT, Colours, Layout, Raster, Rect, lay, pixels, raster, shares, tinted

if TYPE_CHECKING:
    from PIL.Image import Image
    from textual.app import App

HEAVY, LIGHT, DOUBLE = "┏━┓┃┗┛[]", "┌─┐│└┘[]", "╔═╗║╚╝{}"
"""Frames of the cursor with and without the focus, and of a marked rectangle: corners and edges of one of several
lines, and the ends of one of a single line."""


_ROOMY = 5
"""Cells across beyond which the cursor's frame has edges, not corners alone."""
_NUMBER = 3
"""Cells from which on a patch shows its number; smaller ones show how far it is from the lowest to the highest."""


@dataclass(frozen=True)
class Overlay:
    """A number for each merged patch, raster; None where there is none. The colours run from ``low`` to ``high``."""

    title: str
    values: tuple[float | None, ...]
    low: float = 0.0
    high: float = 1.0
    places: int | None = None
    """Digits after the point; None: as many as there is room for."""

    @property
    def legend(self) -> str:
        """What the digits of small patches stand for."""
        return f"{self.title}, 0 = {self.text(self.low, 6)} 9 = {self.text(self.high, 6)}"

    def text(self, value: float, width: int) -> str:
        """A value in at most ``width`` cells."""
        if self.places is None:
            return short(value, width)
        text = f"{value:.{self.places}f}"
        return text if len(text) <= width else short(value, width)


def overlay(
    title: str,
    values: tuple[float | None, ...],
    *,
    low: float | None = None,
    high: float | None = None,
    places: int | None = None,
) -> Overlay:
    """An overlay over the span of its values, but for the ends that are given."""
    there = [value for value in values if value is not None]
    return Overlay(
        title,
        values,
        min(there, default=0.0) if low is None else low,
        max(there, default=1.0) if high is None else high,
        places,
    )


@dataclass(frozen=True)
class Scene:
    """What is shown. ``key`` names the picture's content; without ``rows`` and ``cols`` there is nothing to point at."""

    key: str
    image: Image
    rows: int = 0
    cols: int = 0
    overlay: Overlay | None = None

    def same(self, other: Scene | None) -> bool:
        """Whether it paints the same."""
        return other is not None and (self.key, self.rows, self.cols, self.overlay) == (
            other.key,
            other.rows,
            other.cols,
            other.overlay,
        )


def short(value: float, width: int) -> str:
    """A number in at most ``width`` cells: as many digits as go in, and no zero before the point where there is little
    room. A single cell cannot say more than the whole part of 0 to 9."""
    for digits in (3, 2, 1):
        text = f"{value:.{digits}g}"
        text = f"{value:.0f}" if "e" in text and abs(value) < 10**width else text
        bare = text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
        for shown in (text, bare):
            if len(shown) <= width:
                return shown
    whole = f"{value:.0f}"
    return whole if len(whole) <= width else "+" * min(1, width)


def colours_of(app: App[object]) -> Colours:
    """What the terminal of an app has: a theme of its own 16 colours is chosen where there are no more."""
    return "none" if app.no_color else "16" if app.current_theme.ansi else "full"


class Picture(Widget, can_focus=True):
    """Shows a :class:`Scene`, as large as there is room; the cursor stays where it is when another scene is shown."""

    BINDINGS = bindings("picture")

    class Moved(Message):
        """The cursor came to another patch."""

    class Picked(Message):
        """Enter on a patch."""

    class Marked(Message):
        """A rectangle was marked, or the mark let go."""

    def __init__(self, *, empty: str, id: str | None = None, pixels: type[Widget] | None = None) -> None:
        """``pixels`` is a widget of textual-image that draws over the half blocks."""
        super().__init__(id=id)
        self._empty = empty
        self._pixels = pixels
        self._over: Any = None
        self._lit: object = None
        self._scene: Scene | None = None
        self.cursor = (0, 0)
        self.marked: Rect | None = None
        """The rectangle that is marked; edits are steered there."""
        self._anchor: tuple[int, int] | None = None
        self.whole = False
        """Whether all patches are in view, however small."""
        self._layout = Layout(1, 1, 1, 1)
        self._origin = (0, 0)
        self._cells: Raster | None = None
        self._made: object = None

    # -- what is shown --------------------------------------------------------------------------------

    @property
    def scene(self) -> Scene | None:
        return self._scene

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of merged patches; (0, 0) where there is nothing to point at."""
        return (self._scene.rows, self._scene.cols) if self._scene is not None else (0, 0)

    @property
    def patch(self) -> int | None:
        """The merged patch under the cursor, counted raster from 0."""
        rows, cols = self.grid
        return self.cursor[0] * cols + self.cursor[1] if rows and cols else None

    @property
    def marking(self) -> bool:
        """Whether arrows now draw a rectangle."""
        return self._anchor is not None

    @property
    def rect(self) -> Rect | None:
        """The rectangle being drawn, else the one that is marked."""
        if self._anchor is None:
            return self.marked
        (r0, c0), (r1, c1) = self._anchor, self.cursor
        return min(r0, r1), max(r0, r1) + 1, min(c0, c1), max(c0, c1) + 1

    def show(self, scene: Scene | None) -> bool:
        """Show ``scene``; False, and nothing is painted, when it is the same."""
        if (scene is None and self._scene is None) or (scene is not None and scene.same(self._scene)):
            return False
        before, self._scene = self._scene, scene
        rows, cols = self.grid
        self.cursor = max(0, min(self.cursor[0], rows - 1)), max(0, min(self.cursor[1], cols - 1))
        if (
            before is None
            or scene is None
            or (before.key, before.rows, before.cols) != (scene.key, rows, cols)
        ):
            self.marked = self._anchor = None
        self.refresh()
        return True

    def say(self, empty: str) -> None:
        """What stands here while there is no picture."""
        if empty != self._empty:
            self._empty = empty
            self.refresh()

    def mark(self, rect: Rect | None) -> None:
        """Mark a rectangle, or none."""
        self.marked, self._anchor = rect, None
        self.refresh()

    def begin(self) -> bool:
        """From here on the arrows draw a rectangle; False where there is nothing to mark."""
        if self.patch is None:
            return False
        self._anchor = self.cursor
        self.refresh()
        return True

    def cancel(self) -> bool:
        """Stop drawing a rectangle; False where none was drawn."""
        if self._anchor is None:
            return False
        self._anchor = None
        self.refresh()
        return True

    def zoom(self) -> None:
        """All patches in view, or each of them large enough for a frame."""
        self.whole = not self.whole
        self.refresh()

    @property
    def legend(self) -> str:
        """What is laid over the picture, and what its digits stand for where they are no numbers."""
        shown = self._scene.overlay if self._scene is not None else None
        if shown is None or not self.grid[0]:
            return ""
        x0, y0, x1, y1 = self._layout.cells((0, 1, 0, 1))
        return shown.title if _inner(x1 - x0, y1 - y0) >= _NUMBER else shown.legend

    @property
    def cut(self) -> bool:
        """Whether part of the picture is out of view."""
        return self._layout.height > self.size.height or self._layout.width > self.size.width

    # -- painting -------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        if self._pixels is not None:
            self._over = self._pixels()
            self._over.display = False
            yield self._over

    def refresh(self, *regions: Region, **options: Any) -> Self:
        if self._over is not None and self.is_attached:
            self.call_after_refresh(self._light)
        return super().refresh(*regions, **options)

    def _light(self) -> None:
        """Bring the picture in pixels up to date, where there is one."""
        from labtui.widgets.graphics import drawn

        self._fit()
        scene, over = self._scene, self._over
        over.display = scene is not None and self._cells is not None
        if scene is None or self._cells is None:
            return
        cursor = self._frame(self.cursor) if scene.rows else None
        now = (scene.key, scene.overlay, self._layout, cursor, self.rect)
        if now != self._lit:
            self._lit = now
            over.styles.width, over.styles.height = self._layout.width, self._layout.height
            over.image = drawn(scene, self._layout, cursor, self.rect)

    def _fit(self) -> None:
        """Bring layout, cells and the origin of the view up to date with the scene, the size and the cursor."""
        scene, (width, height) = self._scene, self.size
        if scene is None or not width or not height:
            self._cells = self._made = None
            return
        colours = colours_of(self.app)
        rows, cols = scene.rows or scene.image.height, scene.cols or scene.image.width
        whole = self.whole or not scene.rows or self._over is not None
        made = (scene.key, scene.rows, scene.cols, scene.overlay, width, height, whole, colours)
        if made != self._made:
            self._made, self._layout = made, lay(rows, cols, (width, height), whole=whole)
            self._cells = _raster(scene, self._layout, colours)
            self._origin = (0, 0)
        x0, y0, x1, y1 = self._layout.cells(self._frame(self.cursor))
        x, y = self._origin
        x = _into_view(x, width, x0, x1, self._layout.width)
        y = _into_view(y, height, y0, y1, self._layout.height)
        self._origin = (x, y)

    @staticmethod
    def _frame(at: tuple[int, int]) -> Rect:
        return at[0], at[0] + 1, at[1], at[1] + 1

    def render_line(self, y: int) -> Strip:
        self._fit()
        base, width = self.rich_style, self.size.width
        if self._cells is None:
            text = self._empty_line(y, width)
            return Strip([Segment(text.ljust(width), base + Style(dim=True))], width)
        layout, (ox, oy) = self._layout, self._origin
        line = y + oy
        if line >= layout.height:
            return Strip.blank(width, base)
        stop = min(layout.width, ox + width)
        segments = [*_segments(self._cells, line, ox, stop, self._glyphs(line))]
        if stop - ox < width:
            segments.append(Segment(" " * (width - (stop - ox)), base))
        return Strip(segments, width)

    def _empty_line(self, y: int, width: int) -> str:
        from textwrap import wrap

        lines = [part for line in self._empty.split("\n") for part in (wrap(line, max(8, width)) or [""])]
        return lines[y] if y < len(lines) else ""

    def _glyphs(self, line: int) -> dict[int, str]:
        """What stands in place of cells on a line of the picture: digits, the mark's frame, the cursor's."""
        scene, layout = self._scene, self._layout
        found: dict[int, str] = {}
        if scene is None or not scene.rows:
            return found
        if scene.overlay is not None:
            row = layout.patch(0, line)[0]
            for col in range(scene.cols):
                index = row * scene.cols + col
                value = scene.overlay.values[index] if index < len(scene.overlay.values) else None
                found.update(_digits(scene.overlay, value, layout.cells((row, row + 1, col, col + 1)), line))
        if self.rect is not None:
            found.update(_framed(layout.cells(self.rect), line, DOUBLE))
        if self._anchor is None or self.rect is None or _area(self.rect) > 1:
            style = HEAVY if self.has_focus else LIGHT
            found.update(_framed(layout.cells(self._frame(self.cursor)), line, style))
        return found

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return container.height

    def notify_style_update(self) -> None:
        self._made = None
        super().notify_style_update()

    # -- keys and mouse -------------------------------------------------------------------------------

    def action_move(self, down: int, right: int) -> None:
        self._go(self.cursor[0] + down, self.cursor[1] + right)

    def action_edge(self, way: int) -> None:
        self._go(self.grid[0] - 1 if way > 0 else 0, self.cursor[1])

    def action_side(self, way: int) -> None:
        self._go(self.cursor[0], self.grid[1] - 1 if way > 0 else 0)

    def action_page(self, way: int) -> None:
        self._go(self.cursor[0] + way * max(1, self.grid[0] // 2), self.cursor[1])

    def action_pick(self) -> None:
        if self._anchor is not None:
            self.mark(self.rect)
            self.post_message(self.Marked())
        elif self.patch is not None:
            self.post_message(self.Picked())

    def select(self, row: int, col: int) -> None:
        """Put the cursor on a patch, silently."""
        self._put(row, col)

    def _go(self, row: int, col: int) -> None:
        if self._put(row, col):
            self.post_message(self.Moved())

    def _put(self, row: int, col: int) -> bool:
        rows, cols = self.grid
        row, col = max(0, min(row, rows - 1)), max(0, min(col, cols - 1))
        if (row, col) == self.cursor or not rows:
            return False
        old, self.cursor = self.cursor, (row, col)
        before = self._origin
        self._fit()
        if before != self._origin or self._anchor is not None or self._cells is None:
            self.refresh()
        else:
            self.refresh(*(self._region(at) for at in (old, self.cursor)))
        return True

    def _region(self, at: tuple[int, int]) -> Region:
        _, y0, _, y1 = self._layout.cells(self._frame(at))
        return Region(0, y0 - self._origin[1], self.size.width, y1 - y0)

    def on_click(self, event: events.Click) -> None:
        x, y = event.x + self._origin[0], event.y + self._origin[1]
        if self.patch is not None and x < self._layout.width and y < self._layout.height:
            self._go(*self._layout.patch(x, y))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(1, 0)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-1, 0)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()


def _raster(scene: Scene, layout: Layout, colours: Colours) -> Raster:
    drawn = pixels(scene.image, layout)
    if scene.overlay is not None and scene.rows and colours != "none":
        values = [np.nan if value is None else value for value in scene.overlay.values]
        wanted = scene.rows * scene.cols
        padded = np.array([*values, *[np.nan] * (wanted - len(values))][:wanted], dtype=float)
        share = shares(padded.reshape(scene.rows, scene.cols), scene.overlay.low, scene.overlay.high)
        drawn = tinted(drawn, layout, share, 1.0 if colours == "16" else TINT)
    return raster(drawn, colours)


def _into_view(first: int, room: int, start: int, stop: int, size: int) -> int:
    first = min(max(first, stop - room), start)
    return max(0, min(first, size - room))


def _inner(width: int, height: int) -> int:
    """Cells for a number in a patch, beside the cursor's frame."""
    return width - 2 if height < 3 or width > _ROOMY else width


def _area(rect: Rect) -> int:
    return (rect[1] - rect[0]) * (rect[3] - rect[2])


def _segments(cells: Raster, line: int, start: int, stop: int, glyphs: dict[int, str]) -> list[Segment]:
    """A line of the picture, cells that are painted alike together."""
    found: list[Segment] = []
    text, style = "", Style.null()
    for x in range(start, stop):
        glyph = glyphs.get(x)
        char = glyph or cells.chars[line][x]
        now = cells.behind(x, line) if glyph else cells.style(x, line)
        if now is not style and text:
            found.append(Segment(text, style))
            text = ""
        text, style = text + char, now
    return [*found, Segment(text, style)]


def _framed(box: tuple[int, int, int, int], line: int, glyphs: str) -> dict[int, str]:
    """The part of a frame around cells that stands on a line; corners alone where there is little room inside."""
    x0, y0, x1, y1 = box
    if not y0 <= line < y1:
        return {}
    if y1 - y0 == 1:
        return {x1 - 1: glyphs[7], x0: glyphs[6]}
    wide = x1 - x0 > _ROOMY and y1 - y0 > 2
    if line in (y0, y1 - 1):
        left, right = (glyphs[0], glyphs[2]) if line == y0 else (glyphs[4], glyphs[5])
        edge = dict.fromkeys(range(x0, x1), glyphs[1]) if wide else {}
        return {**edge, x1 - 1: right, x0: left}
    return {x1 - 1: glyphs[3], x0: glyphs[3]} if wide else {}


def _digits(shown: Overlay, value: float | None, box: tuple[int, int, int, int], line: int) -> dict[int, str]:
    """A patch's number on its middle line: itself where it has room, else how far it is from low to high, 0 to 9."""
    x0, y0, x1, y1 = box
    if value is None or line != y0 + (y1 - y0 - 1) // 2 + (y1 - y0 > 2 and (y1 - y0) % 2 == 0):
        return {}
    inner = _inner(x1 - x0, y1 - y0)
    if inner >= _NUMBER:
        text = shown.text(value, min(inner, 5))
    else:
        span = shown.high - shown.low
        text = f"{min(9, max(0, int(10 * (value - shown.low) / span))) if span > 0 else 5}"
    start = x0 + (x1 - x0 - len(text)) // 2
    return {start + place: char for place, char in enumerate(text)}
