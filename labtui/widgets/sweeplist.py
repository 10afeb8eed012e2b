"""The list of sweeps: which one is in view, which lie over it, which is subtracted."""

from __future__ import annotations

from textual.message import Message

from labtui.actions import bindings
from labtui.widgets.lists import Grid


class SweepList(Grid):
    """Enter shows the sweep under the cursor."""

    BINDINGS = bindings("sweeps")

    class Laid(Message):
        """The sweep under the cursor is to lie over the chart, or no longer."""

    class Subtracted(Message):
        """The sweep under the cursor is to be the baseline, or no longer."""

    def action_lay(self) -> None:
        if self.current is not None:
            self.post_message(self.Laid())

    def action_subtract(self) -> None:
        if self.current is not None:
            self.post_message(self.Subtracted())
