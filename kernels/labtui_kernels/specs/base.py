"""What the kinds of spec share: messages, prompts, sampling, and checks that name the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, field

from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import is_digest

MAX_TEXT = 200_000
MAX_MESSAGES = 200
MAX_PROMPTS = 20_000
MAX_IMAGES = 16
"""Pictures of one message."""
MAX_PATH = 4096
MAX_SEED = 2**63 - 1
DEFAULT_SYSTEM = "You are a helpful assistant."


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table inside a spec."""


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What to do, checked. ``load`` makes one from plain data; ``check`` says what types cannot."""

    def check(self) -> None:
        """Raise UsageError that names the field."""

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)

    def refuse(self, field: str, why: str) -> UsageError:
        """The error for a field of this spec."""
        return UsageError(f"spec {self.kind}: {field}: {why}")


class Message(Part, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a chat.

    ``images`` are the pictures before its text: paths where a user writes the spec, ``sha256:…`` of their bytes once
    they have been sent to a kernel.
    """

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Meta(max_length=MAX_TEXT)]
    images: Sequence[Annotated[str, Meta(max_length=MAX_PATH)]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.images, tuple):  # so that chats can be keys
            msgspec.structs.force_setattr(self, "images", tuple(self.images))


class PromptSource(Part, frozen=True, kw_only=True):
    """Prompts that are kept elsewhere: a file with one prompt a line, or a bundled set."""

    file: str | None = None
    set: str | None = None


Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
Chat: TypeAlias = Annotated[list[Message], Meta(max_length=MAX_MESSAGES)]
Prompt: TypeAlias = Text | Chat
Prompts: TypeAlias = Annotated[list[Prompt], Meta(max_length=MAX_PROMPTS)] | PromptSource
Seed: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_SEED)]


Area: TypeAlias = Annotated[int, Meta(ge=1, le=100_000_000)]
"""Pixels of a picture as the tower takes it."""
Rate: TypeAlias = Annotated[float, Meta(gt=0, le=1000)]
"""Frames that are taken of a second of a video."""
Frames: TypeAlias = Annotated[int, Meta(ge=2, le=768)]
"""Frames that are taken of a video at most."""


class Decoding(Spec, frozen=True, kw_only=True):
    """How answers are rendered and decoded."""

    system: Text = DEFAULT_SYSTEM
    thinking: bool | None = None
    prefill: Text = ""
    max_new_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 256
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    stop: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=200)]],
        Meta(max_length=16),
    ] = field(default_factory=list)
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None


def as_messages(prompt: str | Sequence[Message], system: str) -> list[Message]:
    """The chat that a prompt stands for: a text is one user turn; ``system`` comes first if it has none."""
    chat = [Message(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
    if system and not (chat and chat[0].role == "system"):
        chat.insert(0, Message(role="system", content=system))
    return chat


def check_prompt(prompt: str | Sequence[Message], field: str, spec: Spec, *, ends: str = "user") -> None:
    """Raise UsageError for an empty prompt, or a chat whose turns are in no order a template accepts.

    ``ends`` is the role of the last turn; ``"either"`` allows an assistant's, which the answer continues.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise spec.refuse(field, "the prompt is empty; expected some text")
        return
    turns = list(prompt)
    for index, turn in enumerate(turns):
        _check_images(turn, f"{field}[{index}].images", spec)
    if turns and turns[0].role == "system":
        turns = turns[1:]
    if not turns:
        raise spec.refuse(field, "the chat has no user turn; expected at least one")
    for index, turn in enumerate(turns):
        wanted = "user" if index % 2 == 0 else "assistant"
        if turn.role != wanted:
            raise spec.refuse(
                field,
                f"turn {index + 1} is the {turn.role}'s; expected user and assistant by turns, user first",
            )
        if not turn.content.strip() and not turn.images:
            raise spec.refuse(field, f"turn {index + 1} is empty; expected some text")
    if turns[-1].role != "user" and ends == "user":
        raise spec.refuse(
            field,
            "the last turn is the assistant's; end with the user's, and use prefill to begin the answer",
        )


def _check_images(turn: Message, field: str, spec: Spec) -> None:
    """Raise UsageError for pictures in a turn that takes none, too many of them, or one that names nothing."""
    if turn.images and turn.role != "user":
        raise spec.refuse(field, f"pictures in the {turn.role}'s turn; expected them in the user's")
    if len(turn.images) > MAX_IMAGES:
        raise spec.refuse(field, f"{len(turn.images)} pictures; at most {MAX_IMAGES} in a message")
    for image in turn.images:
        if not image.strip() or "\0" in image:
            raise spec.refuse(field, "an empty name; expected a picture's path")
        if image.startswith("sha256:") and not is_digest(image):
            raise spec.refuse(field, f"{image[:80]!r}; expected sha256: and 64 hexadecimal digits, or a path")


def shown_prompt(prompt: str | Sequence[Message]) -> str:
    """The text that stands for a prompt in a table: its last user turn."""
    if isinstance(prompt, str):
        return prompt
    return next((turn.content for turn in reversed(list(prompt)) if turn.role == "user"), "")
