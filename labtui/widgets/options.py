"""Sampling and length, one value a line, checked as they are typed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Label

if TYPE_CHECKING:
    from labtui.screens.draft import Options


@dataclass(frozen=True)
class Line:
    """A value: its name in the spec, how it is called here, its range and what it is good for."""

    id: str
    label: str
    low: float
    high: float
    whole: bool
    hint: str


LINES = (
    Line("max_new_tokens", "length limit", 1, 100_000, True, "longer is cut: ≥"),
    Line("temperature", "temperature", 0, 10, False, "0 is greedy"),
    Line("top_p", "top p", 0, 1, False, "1 keeps all"),
    Line("top_k", "top k", 0, 1_000_000, True, "0 keeps all"),
    Line("seed", "seed", 0, 2**31 - 1, True, "fixes sampling"),
    Line("n", "resamples", 1, 16, True, "answers an arm"),
)


def read(line: Line, text: str) -> float | int | None:
    """The value that ``text`` stands for; None where it is none or out of range."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value) or not line.low <= value <= line.high or (line.whole and value != int(value)):
        return None
    return int(value) if line.whole else value


class OptionsForm(VerticalScroll):
    """The lines of the panel."""

    class Changed(Message):
        """All values are in range and one is new."""

        def __init__(self, options: Options) -> None:
            super().__init__()
            self.options = options

    def __init__(self, options: Options, *, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._options = options

    def compose(self) -> ComposeResult:
        for line in LINES:
            with Horizontal(classes="option"):
                yield Label(line.label, markup=False)
                yield Input(f"{getattr(self._options, line.id):g}", id=f"opt-{line.id}", compact=True)
                yield Label(line.hint, classes="hint", markup=False)

    def show(self, options: Options) -> None:
        """Put values here, but not into the line that is being written in."""
        if options == self._options:
            return
        self._options = options
        for line in LINES:
            box = self.query_one(f"#opt-{line.id}", Input)
            text = f"{getattr(options, line.id):g}"
            if not box.has_focus and box.value != text:
                with self.prevent(Input.Changed):
                    box.value = text

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        found: dict[str, float | int] = {}
        for line in LINES:
            box = self.query_one(f"#opt-{line.id}", Input)
            value = read(line, box.value)
            box.set_class(value is None, "-bad")
            box.tooltip = None if value is not None else f"{line.label}: {line.low:g} to {line.high:g}"
            if value is not None:
                found[line.id] = value
        if len(found) == len(LINES):
            options = replace(self._options, **found)  # type: ignore[arg-type]
            if options != self._options:
                self._options = options
                self.post_message(self.Changed(options))


def names() -> tuple[str, ...]:
    """The values that a line here edits."""
    return tuple(line.id for line in LINES)


def described(options: Options) -> str:
    """The options on one line."""
    return " ".join(f"{f.name}={getattr(options, f.name)}" for f in fields(options))
