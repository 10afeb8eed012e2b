"""The text a user writes to the model."""

from __future__ import annotations

from pathlib import Path

from textual.message import Message
from textual.widgets import TextArea

from labtui.actions import bindings
from labtui.completing import complete_picture


class Prompt(TextArea):
    """A text area in which enter runs and ctrl+j breaks the line, as in a chat.

    Behind ``@`` it offers the pictures of the working directory: tab or → takes the one that is shown.
    """

    BINDINGS = bindings("prompt")

    class Submitted(Message):
        """Enter was pressed."""

    def __init__(self, *, id: str, placeholder: str) -> None:
        super().__init__(
            id=id,
            placeholder=placeholder,
            compact=True,
            tab_behavior="focus",
            soft_wrap=True,
            highlight_cursor_line=False,
        )
        self.offered: list[str] = []
        """How the picture word under the cursor may go on, the one that is shown first."""
        self.known = ""
        """The text that the draft and this widget agreed on last; another one here was typed since."""

    def show(self, text: str) -> None:
        """Put a text here, unless it is being written in, or holds what the draft has not heard of yet."""
        if text == self.text:
            self.known = text
        elif not self.has_focus and self.text == self.known:
            self.known = text
            self.text = text
            self.move_cursor(self.document.end)

    def update_suggestion(self) -> None:
        """Offer the files that a picture word at the end of the text may mean."""
        before = self.get_text_range((0, 0), self.cursor_location)
        at_end = self.cursor_location == self.document.end
        self.offered = complete_picture(before, Path.cwd()) if at_end and "@" in before else []
        self.suggestion = self.offered[0] if self.offered else ""

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Tab is the prompt's own while a picture is offered; else it goes to the next part of the screen."""
        return (key == "tab" and bool(self.suggestion)) or super().check_consume_key(key, character)

    async def _on_key(self, event) -> None:
        if event.key == "tab" and self.suggestion:
            event.stop()
            event.prevent_default()
            self.insert(self.suggestion)
            return
        if event.key in ("enter", "ctrl+j"):
            event.stop()
            event.prevent_default()
            if event.key == "enter":
                self.action_submit()
            else:
                self.action_newline()
            return
        await super()._on_key(event)

    def action_submit(self) -> None:
        self.post_message(self.Submitted())

    def action_newline(self) -> None:
        self.insert("\n")
