"""A text that grows: only the lines that changed are painted.

A Static of automatic height is laid out anew with its whole screen whenever its text changes, and all of it is
written to the terminal again. A text that streams changes many times a second, so over a slow line that is what
one waits for.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from labtui.actions import bindings


class GrowingText(ScrollView, can_focus=True):
    """Paragraphs, wrapped to the width. It follows the end only while it is not in focus; one that does not
    ``follow`` begins at its first line whenever it shows another text."""

    BINDINGS = bindings("reader")
    ALLOW_SELECT = True

    def __init__(self, *, id: str, follow: bool = True) -> None:
        super().__init__(id=id)
        self._follow = follow
        self.auto_links = False  # no text here has links, and looking for them took half of the wrapping
        self._parts: list[tuple[Content, list[Strip]]] = []
        self._lines: list[Strip] = []
        self._wrapped_to = 0
        self._growing = False

    @property
    def plain(self) -> str:
        """What is shown, without styles and without the breaks that wrapping made."""
        return "\n".join(part.plain for part, _ in self._parts)

    def show(self, parts: Sequence[Content], *, growing: bool = False) -> None:
        """Show ``parts``, each on lines of its own. A part that is the same object as before is not wrapped
        again. While the text is ``growing``, the end is kept in view by half a page at a time, so that lines
        seldom move."""
        self._growing = growing
        width = self._width()
        kept = {id(part): strips for part, strips in self._parts} if width == self._wrapped_to else {}
        self._parts = [
            (part, kept[id(part)] if id(part) in kept else self._wrap(part, width)) for part in parts
        ]
        self._wrapped_to = width
        before, self._lines = self._lines, [line for _, strips in self._parts for line in strips]
        self._paint_changed(before)
        self._fit(self._blank(growing))
        if not self.has_focus:
            # Forced, since the bar may not be there yet; at once, or the frame is painted before it has moved.
            end = self.max_scroll_y if self._follow else 0
            self.scroll_to(y=end, animate=False, force=True, immediate=True)

    def _width(self) -> int:
        return self.scrollable_content_region.width

    def _wrap(self, part: Content, width: int) -> list[Strip]:
        if not width:
            return []
        return Visual.to_strips(self, part, width, None, self.visual_style, apply_selection=False, pad=True)

    def _paint_changed(self, before: Sequence[Strip]) -> None:
        """Ask for the lines that differ from those ``before`` to be painted, as runs of neighbours."""
        first = None
        for y in range(max(len(before), len(self._lines)) + 1):
            old = before[y] if y < len(before) else None
            new = self._lines[y] if y < len(self._lines) else None
            if old is not new and old != new:
                first = y if first is None else first
            elif first is not None:
                self.refresh_lines(first, y - first)
                first = None

    def _fit(self, blank: int) -> None:
        """Tell the scroll bar how long the text is, with ``blank`` lines below it, without laying the screen
        out: room for the bar is always kept."""
        size = Size(self._width(), len(self._lines) + blank)
        if size != self.virtual_size:
            self.set_reactive(Widget.virtual_size, size)  # type: ignore[arg-type]  # as Textual itself does
            self.vertical_scrollbar.window_virtual_size = size.height

    def _blank(self, growing: bool) -> int:
        """Lines to keep free below a text that grows, so that it comes to its next line without scrolling."""
        room = self.scrollable_content_region.height
        over = len(self._lines) - room
        return -over % max(1, room // 2) if growing and over > 0 else 0

    def on_resize(self) -> None:
        """Another width wraps anew, another height has another end in view."""
        self.show([part for part, _ in self._parts], growing=self._growing)

    def notify_style_update(self) -> None:
        """Wrapped lines carry their colours, so that another theme makes them anew."""
        super().notify_style_update()
        if self._parts:
            self._wrapped_to = -1
            self.on_resize()

    # -- lines ----------------------------------------------------------------------------------------

    def render_lines(self, crop: Region) -> list[Strip]:
        """A paint always knows the final width; a resize may be told of while the layout still changes."""
        width = self._width()
        if self._parts and width != self._wrapped_to:
            self._parts = [(part, self._wrap(part, width)) for part, _ in self._parts]
            self._lines = [line for _, strips in self._parts for line in strips]
            self._wrapped_to = width
            self.call_later(self.on_resize)
        return super().render_lines(crop)

    @property
    def _top(self) -> int:
        """The first line in view. A scroll position may be older than the width, and lie past the end."""
        length = len(self._lines) + self._blank(self._growing)
        return min(self.scroll_offset.y, max(0, length - self.scrollable_content_region.height))

    def render_line(self, y: int) -> Strip:
        at = y + self._top
        if at >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        line = self._lines[at]
        selection = self.text_selection
        span = selection.get_span(at) if selection is not None else None
        if span is not None:
            length = line.cell_length  # a selection may be older than the width
            start, end = min(span[0], length), length if span[1] == -1 else min(span[1], length)
            chosen = self.screen.get_component_rich_style("screen--selection")
            before, inside, after = line.divide([start, end, length])[:3]
            line = Strip.join([before, inside.apply_style(chosen), after])
        return line.apply_offsets(0, at)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selection.extract("\n".join(line.text.rstrip() for line in self._lines)), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()
