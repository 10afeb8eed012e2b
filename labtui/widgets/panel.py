"""A titled part of a screen that a key jumps to."""

from __future__ import annotations

from typing import Any, Self

from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget


class Panel(Vertical):
    """A bordered part of a screen. Its title shows the key that goes to it; its subtitle a short fact."""

    def __init__(self, *children: Widget, title: str, key: str = "", id: str, classes: str = "") -> None:
        super().__init__(*children, id=id, classes=f"panel {classes}".strip())
        self.title, self.key = title, key
        self._note: Content | str = ""
        self._extra: Content | str = ""
        self._headed: object = None
        self._heading = False
        self._head()

    def note(self, text: Content | str, extra: Content | str = "") -> None:
        """Set the fact beside the title, in the lower border where there is one; ``extra`` always
        follows the title."""
        self._note, self._extra = text, extra
        self._head()

    def _head(self) -> None:
        short = self.is_attached and self.screen.has_class("-short")
        now = (self._note, self._extra, short)
        if now == self._headed:
            return
        self._headed = now
        parts: list[Content | str | tuple[str, str]] = [(f"{self.key} ", "bold $accent")] if self.key else []
        parts.append(self.title)
        parts += ["  ", self._extra] if self._extra else []
        parts += ["  ", self._note] if short and self._note else []
        self._heading = True
        self.border_title = Content.assemble(*parts)  # type: ignore[assignment]
        self.border_subtitle = "" if short else Content.assemble(self._note)  # type: ignore[assignment]
        self._heading = False

    def refresh(self, *regions: Region, **options: Any) -> Self:
        """A new title repaints the border's two lines, not all that stands in the panel (as Textual would):
        titles tell of streaming answers, and change with every frame."""
        if self._heading and not regions:
            (x, y), (width, height) = self.content_offset, self.outer_size
            regions = (Region(-x, -y, width, 1), Region(-x, height - 1 - y, width, 1))
        return super().refresh(*regions, **options)

    def on_resize(self) -> None:
        self._head()

    def target(self) -> Widget | None:
        """The widget that takes the focus when a user jumps here."""
        return next((w for w in self.query("*") if w.focusable and w.display), None)
