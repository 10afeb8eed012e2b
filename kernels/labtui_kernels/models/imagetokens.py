"""The tokens of a prompt that stand for pictures: one for each merged patch. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.positions import ImageSpan


class Patches(Protocol):
    """A picture as far as a prompt knows it: a :class:`~.pixels.Pixels`, or an ImageSpan whose ``ink`` is kept."""

    @property
    def rows(self) -> int:
        """Rows of merged patches."""
        ...

    @property
    def cols(self) -> int:
        """Columns of merged patches."""
        ...


def image_token(tokenizer: Any) -> tuple[str, int]:
    """The token that stands for a picture, and its id; UsageError where the tokenizer has none."""
    token = str(getattr(tokenizer, "image_token", None) or "<|image_pad|>")
    found = tokenizer.get_added_vocab().get(token)
    if found is None:
        raise UsageError(
            f"this model's tokenizer has no image token ({token}): it reads text only; take the picture out of the prompt"
        )
    return token, found


def expand(
    ids: list[int], offsets: list[tuple[int, int]], token: int, pictures: Sequence[Patches]
) -> tuple[list[int], list[tuple[int, int]], tuple[ImageSpan, ...]]:
    """Every image token repeated for each merged patch of its picture, and where they then lie."""
    places = ids.count(token)
    if places != len(pictures):
        raise UsageError(
            f"this model's chat template has a place for {places} of the {len(pictures)} pictures; "
            "give them with a user's message"
        )
    found_ids: list[int] = []
    found_offsets: list[tuple[int, int]] = []
    images: list[ImageSpan] = []
    for number, (start, stop) in zip(ids, offsets, strict=True):
        count = 1
        if number == token:
            picture = pictures[len(images)]
            span = ImageSpan(len(found_ids), picture.rows, picture.cols, getattr(picture, "ink", ()))
            images.append(span)
            count = span.stop - span.start
        found_ids += [number] * count
        found_offsets += [(start, stop), *[(stop, stop)] * (count - 1)]
    return found_ids, found_offsets, tuple(images)
