"""The spec of a sweep as a form: what most sweeps change, one value a line."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Input, Label

from labtui.widgets.prompt import Prompt

LINES = (
    ("directions", "directions", "terse", "names or algebra, comma between"),
    ("sites", "sites", "llm.*", "llm.*, llm.2-5, llm.1,3, llm.2+3"),
    ("strengths", "strengths", "1, 2, 4", "1, 8%, |39|"),
    ("where", "where", "all", "all, prompt, last, generated"),
    ("system", "system", "You are a helpful assistant.", ""),
    ("max_new_tokens", "length limit", "128", "longer answers are cut, and marked ≥"),
    ("metrics", "metrics", "words, perplexity", "words, perplexity, kl, distinct-2, coherent"),
    ("random", "random rows", "0", "random directions of the same norm, by point"),
)
"""Field, label, first value, hint."""

PROMPTS = "Explain what a mutex is.\nWhat is photosynthesis?"


class SweepForm(VerticalScroll):
    """Edits a sweep's spec; fields that it has no line for are kept as they were."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._rest: dict[str, Any] = {}
        self._known = {f"sweep-{name}": value for name, _, value, _ in LINES}

    def typed(self, box: Input | Prompt) -> bool:
        """Whether a box holds what a user wrote, not what was put there; asked once for each change."""
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

    def show(self, spec: dict[str, Any]) -> None:
        """Put a spec in, but not into a line that is being written."""
        known = {name for name, *_ in LINES} | {"prompts", "controls", "kind"}
        self._rest = {k: v for k, v in spec.items() if k not in known}
        prompts = spec.get("prompts")
        if isinstance(prompts, list) and all(isinstance(p, str) for p in prompts):
            self.query_one("#sweep-prompts", Prompt).show("\n".join(p.replace("\n", " ") for p in prompts))
        elif prompts is not None:
            self._rest["prompts"] = prompts
        for name, _, value, _ in LINES:
            box = self.query_one(f"#sweep-{name}", Input)
            if name == "random":
                controls = spec.get("controls")
                text = str(controls.get("random", 0)) if isinstance(controls, dict) else "0"
            else:
                text = _text(spec.get(name, value))
            if not box.has_focus and box.value != text:
                self._known[f"sweep-{name}"] = text
                with self.prevent(Input.Changed):
                    box.value = text

    def spec(self) -> dict[str, Any]:
        """The spec as the form stands; what does not parse is left for the spec's own check to refuse."""

        def text(name: str) -> str:
            return self.query_one(f"#sweep-{name}", Input).value.strip()

        lines = self.query_one("#sweep-prompts", Prompt).text.split("\n")
        prompts = self._rest.get("prompts") or [line.strip() for line in lines if line.strip()]
        random = _number(text("random"))
        return {
            **self._rest,
            "kind": "sweep",
            "prompts": prompts,
            "directions": _list(text("directions")),
            "sites": text("sites"),
            "strengths": [_number(s) for s in _list(text("strengths"))],
            "where": text("where"),
            "system": text("system"),
            "max_new_tokens": _number(text("max_new_tokens")),
            "metrics": _list(text("metrics")),
            "controls": {"random": random} if random not in (0, "") else "auto",
        }


def _list(text: str) -> list[str]:
    """What commas part, outside parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


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
