"""A scrolled text with vim keys beside the arrows."""

from __future__ import annotations

from textual.containers import VerticalScroll

from labtui.actions import bindings


class Reader(VerticalScroll):
    """What it holds is read, not written; it follows the end only while it is not in focus."""

    BINDINGS = bindings("reader")

    def follow(self) -> None:
        """Keep the end in view."""
        if not self.has_focus:
            self.scroll_end(animate=False, immediate=False)
