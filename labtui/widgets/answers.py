"""A cell's answers to one prompt beside the unsteered ones, differing words marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.texts import Answer
from labtui.widgets.arms import mark_words
from labtui.widgets.growing import GrowingText
from labtui.widgets.thumbnail import Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

ENDS = {"stop": "ended", "length": "cut by the limit", "cancelled": "broken off"}


@dataclass(frozen=True)
class About:
    """The pictures of a prompt by name, and of the first one its digest and how it looks."""

    names: str = ""
    digest: str = ""
    view: Image | None = field(default=None, repr=False, compare=False)


NOTHING = About()


class CellAnswers(Vertical):
    """The prompt, and below it the steered and the unsteered answers side by side."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="asked-about"):
            yield Thumbnail()
            yield Static("", id="sweep-asked", markup=False)
        with Horizontal(id="answers"):
            for side in ("steered", "zero"):
                with Vertical(classes="answer"):
                    yield Static("", id=f"{side}-head", markup=False)
                    yield GrowingText(id=f"{side}-answer", follow=False)

    def show(self, asked: str, answers: list[Answer], metric: str, about: About = NOTHING) -> None:
        """Show the answers of one prompt, with what ``metric`` is of each, and the picture that it is about."""
        names = (f"{about.names}  ", "bold $lab-second") if about.names else ""
        line = Content.assemble(names, (asked.replace("\n", " "), "bold"))
        self.query_one("#sweep-asked", Static).update(line)
        self.query_one(Thumbnail).show(about.digest, about.view)
        heads, sides = _sides(answers, metric)
        for side in ("steered", "zero"):
            self.query_one(f"#{side}-head", Static).update(Content.styled(heads[side], "$lab-dim"))
            self.query_one(f"#{side}-answer", GrowingText).show(sides[side])


def _sides(answers: list[Answer], metric: str) -> tuple[dict[str, str], dict[str, list[Content]]]:
    """The heads and the texts of the steered answers and of the unsteered ones, differing words marked."""
    steered: list[Content] = []
    zero: list[Content] = []
    for answer in answers:
        seed = [Content.styled(f"── seed {answer.seed} ──", "$lab-dim")] if len(answers) > 1 else []
        other = answer.zero_text
        steered += [*seed, mark_words(answer.text, other) if other else Content(answer.text)]
        if other is None:
            zero += [*seed, Content.styled("the zero row of this prompt is not there yet", "$lab-dim")]
        else:
            zero += [*seed, mark_words(other, answer.text)]
    heads = {"steered": "steered", "zero": "α = 0"}
    if len(answers) == 1:
        one = answers[0]
        heads["steered"] += _numbers(metric, one.value, one.finish)
        heads["zero"] += _numbers(metric, one.zero_value, one.zero_finish)
    return heads, {"steered": steered, "zero": zero}


def _numbers(metric: str, value: Any, finish: str) -> str:
    shown = f"{value:.4g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    parts = [f"{metric} {shown}"] if value is not None else []
    parts += [ENDS.get(finish, finish)] if finish else []
    return "".join(f" · {part}" for part in parts)
