"""Dialogues: one form for everything that asks for a few values, one question for what cannot be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.suggester import Suggester, SuggestFromList
from textual.widgets import Button, Input, Label, Select, Static

from labtui.actions import bindings
from labtui.widgets.lists import Choice, Choices

Values = dict[str, str]

_MANY = 10
"""Fields from which on a form keeps its buttons in view and scrolls the fields."""


@dataclass(frozen=True)
class Field:
    """One line of a form.

    ``options`` makes it a choice; with ``free`` they are only offered, and ``suggester`` offers others. ``check`` says
    what is wrong with all values as they stand, or "".
    """

    id: str
    label: str
    value: str = ""
    hint: str = ""
    options: tuple[str, ...] = ()
    free: bool = True
    suggester: Suggester | None = field(default=None, compare=False)
    check: Callable[[Values], str] | None = field(default=None, compare=False)


class Form(ModalScreen[Values | None]):
    """Asks for the fields; dismisses with their values, or None when closed."""

    BINDINGS = bindings("dialog")
    AUTO_FOCUS = "Input, Select"

    def __init__(
        self,
        title: str,
        fields: list[Field],
        *,
        accept: str = "Accept",
        intro: str = "",
        preview: Callable[[Values], str] | None = None,
    ) -> None:
        super().__init__()
        self._title, self._fields, self._accept, self._intro = title, fields, accept, intro
        self._preview = preview

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.set_class(len(self._fields) > _MANY, "-long")
            box.border_title = self._title
            if self._intro:
                yield Static(self._intro, classes="hint intro", markup=False)
            with VerticalScroll(classes="fields", can_focus=False):
                for item in self._fields:
                    with Horizontal(classes="field"):
                        yield Label(item.label, classes="name", markup=False)
                        yield self._editor(item)
                    yield Static(item.hint, id=f"hint-{item.id}", classes="hint under", markup=False)
            yield Static("", id="preview", classes="hint", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._accept}", id="accept", variant="primary", compact=True)
                yield Button("Close", id="close", compact=True)

    @staticmethod
    def _editor(item: Field) -> Input | Select[str]:
        if item.options and not item.free:
            value = item.value if item.value in item.options else item.options[0]
            return Select(
                [(o, o) for o in item.options],
                value=value,
                allow_blank=False,
                id=f"in-{item.id}",
                compact=True,
            )
        suggester = item.suggester
        if item.options:
            suggester = SuggestFromList(item.options, case_sensitive=False)
        return Input(item.value, id=f"in-{item.id}", suggester=suggester, compact=True)

    def on_mount(self) -> None:
        self._validate()

    def values(self) -> Values:
        """The fields as they stand."""
        found: Values = {}
        for item in self._fields:
            editor = self.query_one(f"#in-{item.id}")
            found[item.id] = str(editor.value) if isinstance(editor, (Input, Select)) else ""
        return found

    @on(Input.Changed)
    @on(Select.Changed)
    def _validate(self) -> bool:
        values, fine = self.values(), True
        for item in self._fields:
            problem = item.check(values) if item.check else ""
            hint = self.query_one(f"#hint-{item.id}", Static)
            hint.update(f"! {problem}" if problem else item.hint)
            hint.set_class(bool(problem), "-bad")
            hint.display = bool(problem or item.hint)
            fine = fine and not problem
        self.query_one("#accept", Button).disabled = not fine
        preview = self.query_one("#preview", Static)
        text = self._preview(values) if self._preview and fine else ""
        preview.update(text)
        preview.display = bool(text)
        return fine

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self._fields and event.input.id == f"in-{self._fields[-1].id}":
            self.action_accept()
        else:
            self.focus_next()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "accept":
            self.action_accept()
        else:
            self.dismiss(None)

    def action_accept(self) -> None:
        if self._validate():
            self.dismiss(self.values())

    def action_close(self) -> None:
        self.dismiss(None)


class Confirm(ModalScreen[bool]):
    """One question; dismisses with True only for a plain yes. The safe answer has the focus."""

    BINDINGS = [*bindings("dialog"), *bindings("question")]  # noqa: RUF012
    AUTO_FOCUS = "#no"

    def __init__(self, question: str, detail: str = "", *, yes: str = "Yes") -> None:
        super().__init__()
        self._question, self._detail, self._yes = question, detail, yes

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog question") as box:
            box.border_title = "Sure?"
            yield Static(self._question, markup=False)
            if self._detail:
                yield Static(self._detail, classes="hint", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(f"y  {self._yes}", id="yes", variant="error", compact=True)
                yield Button("n  No", id="no", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_accept(self) -> None:
        self.dismiss(True)

    def action_close(self) -> None:
        self.dismiss(False)


class Menu(ModalScreen[str | None]):
    """A short list to pick one from; dismisses with its id, or None."""

    BINDINGS = bindings("dialog")

    def __init__(self, title: str, choices: list[Choice]) -> None:
        super().__init__()
        self._title, self._choices = title, choices

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = self._title
            yield Choices(self._choices, id="choices")

    def on_choices_picked(self, message: object) -> None:
        self.dismiss(getattr(message, "id", None))

    def action_accept(self) -> None:
        self.query_one(Choices).action_select()

    def action_close(self) -> None:
        self.dismiss(None)


def fields_of(items: Mapping[str, str]) -> list[Field]:
    """Plain text fields from label by id."""
    return [Field(key, label) for key, label in items.items()]
