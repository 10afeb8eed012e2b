"""Prompts as the loaded model gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..engine import ImageInput
from ..engine.capture import Prompt
from ..models.chat import Rendered, render, require_room
from ..models.load import LoadedModel
from ..models.pictures import Picture
from ..models.pixels import Pixels
from ..specs import Message, as_messages
from .context import JobContext
from .pictures import USUAL, Area, pixels_of, stored_pixels


@dataclass(frozen=True)
class Prompted(Rendered):
    """A rendered prompt with the pixels of its pictures, one for each of ``images``."""

    pixels: tuple[Pixels, ...] = ()

    @property
    def inputs(self) -> tuple[ImageInput, ...]:
        """Its pictures as the engine takes them."""
        pairs = zip(self.images, self.pixels, strict=True)
        return tuple(
            ImageInput(p.values, p.grid, span.start, p.digest, span.ink, p.seconds, span.starts)
            for span, p in pairs
        )

    def to_read(self, answer: Sequence[int] = ()) -> Prompt:
        """It as a prompt to read activations of, with the tokens of an answer behind it."""
        return Prompt(tuple(self.ids), tuple(self.content), tuple(answer), images=self.inputs)

    def seen(self, area: Area = USUAL) -> list[dict[str, Any]]:
        """Its pictures as ``row.started`` records them."""
        given = {name: bound for name, bound in area._asdict().items() if bound is not None}
        pairs = zip(self.images, self.pixels, strict=True)
        return [
            {
                "digest": p.digest,
                "start": s.start,
                "rows": s.rows,
                "cols": s.cols,
                "grid": list(p.grid),
                **({"seconds": p.seconds} if p.video else {}),
                **({"starts": list(s.starts)} if s.starts else {}),
                **given,
            }
            for s, p in pairs
        ]


def thinking_switch(loaded: LoadedModel, thinking: bool | None) -> bool | None:
    """A spec's ``thinking`` for this model: left out, it is off where the template has a switch."""
    if thinking is None and loaded.info.default_thinking is not None:
        return False
    return thinking


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as plain maps."""
    return [
        {"role": turn.role, "content": turn.content, **({"images": list(turn.images)} if turn.images else {})}
        for turn in messages
    ]


def rendered(
    ctx: JobContext,
    messages: Sequence[Message],
    thinking: bool | None,
    prefill: str = "",
    answer: int = 1,
    *,
    area: Area = USUAL,
    given: Mapping[str, Picture] | None = None,
) -> Prompted:
    """The prompt's tokens and pixels; a last turn of the assistant's becomes the beginning of the answer.

    Pictures come from the kernel's store by their digests, or from ``given``; ``area`` bounds their pixels and
    frames. Raises UsageError for what the template or the tower refuses, for a picture that is not there, and when
    ``answer`` more tokens do not fit the context.
    """
    turns = list(messages)
    if turns and turns[-1].role == "assistant":
        prefill = turns.pop().content + prefill
    known = given or {}
    pixels = tuple(
        pixels_of(ctx.loaded, known[image], area)
        if image in known
        else stored_pixels(ctx.loaded, ctx.images, image, area, ctx.picture_names.get(image, ""))
        for turn in turns
        for image in turn.images
    )
    found = render(
        ctx.loaded.tokenizer,
        plain(turns),
        thinking=thinking_switch(ctx.loaded, thinking),
        prefill=prefill,
        pictures=pixels,
    )
    require_room(found, ctx.loaded.info, answer)
    return Prompted(**{field.name: getattr(found, field.name) for field in fields(found)}, pixels=pixels)


def rendered_text(ctx: JobContext, text: str, system: str, thinking: bool | None = None) -> Prompted:
    """A single user turn, rendered."""
    return rendered(ctx, as_messages(text, system), thinking)
