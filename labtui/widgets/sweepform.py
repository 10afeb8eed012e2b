"""The spec of a sweep as a form: what most sweeps change, one value a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Label, Static

from labtui.widgets.prompt import Prompt
from labtui_artifacts.errors import UsageError
from labtui_kernels.specs.images import joined, word

LINES = (
    ("directions", "directions", "terse", "names or algebra, comma between"),
    ("sites", "sites", "llm.*", "llm.*, llm.2-5, llm.1,3, llm.2+3"),
    ("strengths", "strengths", "1, 2, 4", "1, 8%, |39|"),
    ("where", "where", "all", "all, prompt, last, generated, image, image[0:2,0:3]"),
    ("system", "system", "You are a helpful assistant.", ""),
    ("max_new_tokens", "length limit", "128", "longer answers are cut, and marked ≥"),
    ("seeds", "seeds", "0", "0, 1, 2 with a temperature above 0"),
    ("temperature", "temperature", "0", "0 always takes the likeliest token"),
    ("metrics", "metrics", "words, perplexity", "words, perplexity, kl, distinct-2, coherent"),
    ("controls", "controls", "auto", "auto, none, or: random 10, shuffled 10, negated"),
)
"""Field, label, first value, hint."""

PROMPTS = "Explain what a mutex is.\nWhat is photosynthesis?"


class SweepForm(VerticalScroll):
    """Edits a sweep's spec; fields that it has no line for are kept as they were.

    ``extends`` is the table that its rows are to join, empty for one of their own.
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self.extends = ""
        self._rest: dict[str, Any] = {}
        self._known = {f"sweep-{name}": value for name, _, value, _ in LINES}

    def typed(self, box: Input | Prompt) -> bool:
        """Whether a box holds what a user wrote, not what was put there; asked once for each change."""
        if not isinstance(box, Prompt) and box.id not in self._known:
            return False  # the screen's search line, which is no part of the form
        text, known = (
            (box.text, box.known) if isinstance(box, Prompt) else (box.value, self._known[box.id or ""])
        )
        if isinstance(box, Prompt):
            box.known = text
        else:
            self._known[box.id or ""] = text
        return text != known

    def compose(self) -> ComposeResult:
        yield Label("prompts, one a line", classes="label")
        prompts = Prompt(id="sweep-prompts", placeholder="one prompt a line")
        prompts.text = prompts.known = PROMPTS
        yield prompts
        for name, label, value, hint in LINES:
            with Horizontal(classes="option"):
                yield Label(label, markup=False)
                yield Input(value, id=f"sweep-{name}", compact=True, placeholder=hint)
        yield Static("", id="form-cost", markup=False)

    def tell(self, cost: Content) -> None:
        """Show below the lines what the spec costs."""
        self.query_one("#form-cost", Static).update(cost)

    def show(self, spec: dict[str, Any], names: Mapping[str, str] | None = None) -> None:
        """Put a spec in, but not into a line that is being written. ``names`` says how pictures are written, by digest."""
        known = {name for name, *_ in LINES} | {"prompts", "kind", "table"}
        self._rest = {k: v for k, v in spec.items() if k not in known}
        prompts = spec.get("prompts")
        lines = [_line(prompt, names or {}) for prompt in prompts] if isinstance(prompts, list) else [None]
        if prompts is not None and None not in lines:
            self.query_one("#sweep-prompts", Prompt).show("\n".join(filter(None, lines)))
        elif prompts is not None:
            self._rest["prompts"] = prompts
        for name, _, value, _ in LINES:
            box = self.query_one(f"#sweep-{name}", Input)
            given = spec.get(name, value)
            text = _controls_text(given) if name == "controls" else _text(given)
            if not box.has_focus and box.value != text:
                self._known[f"sweep-{name}"] = text
                with self.prevent(Input.Changed):
                    box.value = text

    def spec(self) -> dict[str, Any]:
        """The spec as the form stands; what does not parse is left for the spec's own check to refuse, but for
        controls, which raise UsageError."""

        def text(name: str) -> str:
            return self.query_one(f"#sweep-{name}", Input).value.strip()

        lines = self.query_one("#sweep-prompts", Prompt).text.split("\n")
        prompts = self._rest.get("prompts") or [line.strip() for line in lines if line.strip()]
        return {
            **self._rest,
            "kind": "sweep",
            "prompts": prompts,
            "directions": _list(text("directions")),
            "sites": text("sites"),
            "strengths": [_number(s) for s in _list(text("strengths"))],
            "where": _where(text("where")),
            "system": text("system"),
            "max_new_tokens": _number(text("max_new_tokens")),
            "seeds": [_number(s) for s in _list(text("seeds"))],
            "temperature": _number(text("temperature")),
            "metrics": _list(text("metrics")),
            "controls": _controls(text("controls")),
            **({"table": self.extends} if self.extends else {}),
        }


def _line(prompt: Any, names: Mapping[str, str]) -> str | None:
    """A prompt as a line of the form, its pictures as words; None for a chat of several turns."""
    if isinstance(prompt, str):
        return prompt.replace("\n", " ")
    if not isinstance(prompt, list) or len(prompt) != 1 or not isinstance(prompt[0], Mapping):
        return None
    turn = prompt[0]
    if turn.get("role") != "user" or not isinstance(turn.get("content"), str):
        return None
    words = [word(names.get(str(image), str(image))) for image in turn.get("images") or ()]
    return joined(turn["content"], words).replace("\n", " ")


def _controls(text: str) -> Any:
    """``auto``, ``none``, or what a list like ``random 10, shuffled 10, negated, no prompt`` says."""
    if text in ("auto", "none", ""):
        return text or "none"
    found: dict[str, Any] = {}
    for part in _list(text):
        words = part.split()
        if len(words) == 2 and words[0] in ("random", "shuffled") and words[1].isdecimal():
            found[words[0]] = int(words[1])
        elif words[-1] in ("zero", "negated", "prompt") and words[:-1] in ([], ["no"]):
            found[words[-1]] = len(words) == 1
        else:
            raise UsageError(
                f"controls: {part!r}; expected auto, none, or a list of: random 10, shuffled 10, negated, no prompt"
            )
    return found


def _controls_text(controls: Any) -> str:
    if not isinstance(controls, dict):
        return str(controls)
    parts = [f"{name} {controls[name]}" for name in ("random", "shuffled") if controls.get(name)]
    parts += ["negated"] if controls.get("negated") else []
    parts += [f"no {name}" for name in ("zero", "prompt") if controls.get(name) is False]
    return ", ".join(parts) or "zero"


def _list(text: str) -> list[str]:
    """What commas part, outside parentheses and brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def _where(text: str) -> str | list[str]:
    """The positions that are swept: a list only where there are several."""
    places = _list(text)
    return places if len(places) > 1 else text


def _number(text: str) -> Any:
    """A number where it is one, else the text, which the spec's check takes or refuses."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text else value


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
