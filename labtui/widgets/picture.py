"""A picture in the terminal, with a cursor that moves from merged patch to merged patch.

It knows nothing of models: what it shows is a :class:`Scene`. The picture is turned into cells once for each size,
overlay and kind of terminal; a key repaints only the lines that the cursor leaves and comes to. What frames and
digits say they say without colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from labtui.actions import bindings
from labtui.widgets.cursor import Cursored
from labtui.widgets.raster import Colours, Layout, Raster, Rect, lay
from labtui.widgets.scene import (
    DOUBLE,
    HEAVY,
    LIGHT,
    NUMBER,
    Scene,
    digits,
    framed,
    inner,
    raster_of,
)

if TYPE_CHECKING:
    from textual.app import App


def colours_of(app: App[object]) -> Colours:
    """What the terminal of an app has: a theme of its own 16 colours is chosen where there are no more."""
    return "none" if app.no_color else "16" if app.current_theme.ansi else "full"


class Picture(Cursored, can_focus=True):
    """Shows a :class:`Scene`, as large as there is room; the cursor stays where it is when another scene is shown."""

    BINDINGS = bindings("picture")

    class Moved(Cursored.Moved):
        """The cursor came to another patch."""

    class Picked(Cursored.Picked):
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
    def extent(self) -> tuple[int, int]:
        """Rows and columns of merged patches."""
        return (self._scene.rows, self._scene.cols) if self._scene is not None else (0, 0)

    @property
    def patch(self) -> int | None:
        """The merged patch under the cursor, counted raster from 0."""
        rows, cols = self.extent
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
        rows, cols = self.extent
        if rows and cols:
            self.cursor = min(self.cursor[0], rows - 1), min(self.cursor[1], cols - 1)
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

    def keep(self, rect: Rect | None) -> None:
        """Mark what is to be marked, unless a rectangle is being drawn."""
        if rect != self.marked and not self.marking:
            self.mark(rect)

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
        if shown is None or not self.extent[0]:
            return ""
        x0, y0, x1, y1 = self._layout.cells((0, 1, 0, 1))
        return shown.title if inner(x1 - x0, y1 - y0) >= NUMBER else shown.legend

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
            self._cells = raster_of(scene, self._layout, colours)
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
                found.update(digits(scene.overlay, value, layout.cells((row, row + 1, col, col + 1)), line))
        if self.rect is not None:
            found.update(framed(layout.cells(self.rect), line, DOUBLE))
        if self._anchor is None or self.rect is None or _area(self.rect) > 1:
            style = HEAVY if self.has_focus else LIGHT
            found.update(framed(layout.cells(self._frame(self.cursor)), line, style))
        return found

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return container.height

    def notify_style_update(self) -> None:
        self._made = None
        super().notify_style_update()

    # -- keys and mouse -------------------------------------------------------------------------------

    def action_pick(self) -> None:
        if self._anchor is not None:
            self.mark(self.rect)
            self.post_message(self.Marked())
        else:
            super().action_pick()

    def put(self, row: int, column: int) -> bool:
        rows, cols = self.extent
        row, col = max(0, min(row, rows - 1)), max(0, min(column, cols - 1))
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
            self.go(*self._layout.patch(x, y))


def _into_view(first: int, room: int, start: int, stop: int, size: int) -> int:
    first = min(max(first, stop - room), start)
    return max(0, min(first, size - room))


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
