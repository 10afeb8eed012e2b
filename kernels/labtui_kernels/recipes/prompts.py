"""Prompts as the loaded model gets them."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.chat import Rendered, render, require_room
from ..models.load import LoadedModel
from ..specs import Message, as_messages
from .context import JobContext


def thinking_switch(loaded: LoadedModel, thinking: bool | None) -> bool | None:
    """A spec's ``thinking`` for this model: left out, it is off where the template has a switch."""
    if thinking is None and loaded.info.default_thinking is not None:
        return False
    return thinking


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as plain maps."""
    return [{"role": turn.role, "content": turn.content} for turn in messages]


def rendered(
    ctx: JobContext, messages: Sequence[Message], thinking: bool | None, prefill: str = "", answer: int = 1
) -> Rendered:
    """The prompt's tokens; a last turn of the assistant's becomes the beginning of the answer.

    Raises UsageError for what the template refuses, and when ``answer`` more tokens do not fit the context.
    """
    turns = list(messages)
    if turns and turns[-1].role == "assistant":
        prefill = turns.pop().content + prefill
    found = render(
        ctx.loaded.tokenizer, plain(turns), thinking=thinking_switch(ctx.loaded, thinking), prefill=prefill
    )
    require_room(found, ctx.loaded.info, answer)
    return found


def rendered_text(ctx: JobContext, text: str, system: str, thinking: bool | None = None) -> Rendered:
    """A single user turn, rendered."""
    return rendered(ctx, as_messages(text, system), thinking)
