"""Contrast pairs: what is put to the model at the two poles of a direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_kernels.models.chat import Rendered, render

Messages: TypeAlias = Sequence[Mapping[str, Any]]
MAX_PAIRS = 10_000


@dataclass(frozen=True)
class Contrast:
    """One pair of chats that differ in the property a direction is to carry."""

    positive: tuple[dict[str, str], ...]
    negative: tuple[dict[str, str], ...]


def from_style(name: str) -> list[Contrast]:
    """The contrasts of a bundled style axis; UsageError names the axes there are."""
    return [Contrast(tuple(p), tuple(n)) for p, n in library.style(name).contrasts()]


def from_lists(positive: Sequence[str | Messages], negative: Sequence[str | Messages]) -> list[Contrast]:
    """Pairs of the given items, in order. An item is a text (a user message) or a list of chat messages.

    UsageError for lists that are empty, of unequal length, or hold something else.
    """
    if not positive or len(positive) != len(negative):
        raise UsageError(
            f"positive and negative must be lists of equal length, paired in order; got {len(positive)} "
            f"and {len(negative)}"
        )
    if len(positive) > MAX_PAIRS:
        raise UsageError(f"{len(positive)} pairs; at most {MAX_PAIRS} are taken")
    return [
        Contrast(_messages(p, f"positive[{i}]"), _messages(n, f"negative[{i}]"))
        for i, (p, n) in enumerate(zip(positive, negative, strict=True))
    ]


def render_poles(
    tokenizer: Any, contrasts: Sequence[Contrast], *, thinking: bool | None = None
) -> tuple[list[Rendered], list[Rendered]]:
    """Both poles as prompts with the generation prompt: (positive, negative), paired by index."""
    return (
        [render(tokenizer, contrast.positive, thinking=thinking) for contrast in contrasts],
        [render(tokenizer, contrast.negative, thinking=thinking) for contrast in contrasts],
    )


def _messages(item: str | Messages, where: str) -> tuple[dict[str, str], ...]:
    if isinstance(item, str):
        return ({"role": "user", "content": item},)
    if (
        not isinstance(item, Sequence)
        or not item
        or not all(isinstance(message, Mapping) for message in item)
    ):
        raise UsageError(f"{where}: expected a text or a list of chat messages")
    found: list[dict[str, str]] = []
    for message in item:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise UsageError(f"{where}: each message needs a role and a content, both texts")
        found.append({"role": role, "content": content})
    return tuple(found)
