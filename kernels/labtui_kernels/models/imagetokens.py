"""The tokens of a prompt that stand for pictures: one for each merged patch. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.positions import ImageSpan


class Patches(Protocol):
    """A picture as far as a prompt knows it: a :class:`~.pixels.Pixels`, or an ImageSpan whose ``ink`` is kept.

    A video says so with ``video``, and with ``stamps``, the second of each frame, where the prompt is to name them.
    """

    @property
    def rows(self) -> int:
        """Rows of merged patches."""
        ...

    @property
    def cols(self) -> int:
        """Columns of merged patches."""
        ...

    @property
    def frames(self) -> int:
        """Frames of the grid."""
        ...


def image_token(tokenizer: Any) -> tuple[str, int]:
    """The token that stands for a picture, and its id; UsageError where the tokenizer has none."""
    return _token(tokenizer, "image", "it reads text only; take the picture out of the prompt")


def video_token(tokenizer: Any) -> tuple[str, int]:
    """The same for a frame of a video."""
    return _token(tokenizer, "video", "it reads no videos; take the video out of the prompt")


def _token(tokenizer: Any, kind: str, otherwise: str) -> tuple[str, int]:
    token = str(getattr(tokenizer, f"{kind}_token", None) or f"<|{kind}_pad|>")
    found = tokenizer.get_added_vocab().get(token)
    if found is None:
        raise UsageError(f"this model's tokenizer has no {kind} token ({token}): {otherwise}")
    return token, found


def is_video(picture: Patches) -> bool:
    """Whether a picture of a prompt is a video."""
    return bool(getattr(picture, "video", False))


def framed(tokenizer: Any, picture: Patches) -> str:
    """What stands in the place of a video's token: itself, or for each frame its time and one such token.

    As Qwen's processors write it: what the chat template puts around the token stays where it is.
    """
    token = video_token(tokenizer)[0]
    stamps: Sequence[float] = getattr(picture, "stamps", ())
    return "".join(f"<{stamp:.1f} seconds><|vision_start|>{token}<|vision_end|>" for stamp in stamps) or token


def expand(
    ids: list[int], offsets: list[tuple[int, int]], tokens: Mapping[bool, int], pictures: Sequence[Patches]
) -> tuple[list[int], list[tuple[int, int]], tuple[ImageSpan, ...]]:
    """Every image token repeated for each merged patch of its picture, and where they then lie.

    ``tokens`` are the ids of pictures' (False) and videos' (True); a video whose frames are told apart has one for each.
    """
    kinds = {number: video for video, number in tokens.items()}
    wanted = [(picture, bool(getattr(picture, "stamps", ()))) for picture in pictures]
    needed = [tokens[is_video(p)] for p, apart in wanted for _ in range(p.frames if apart else 1)]
    places = [number for number in ids if number in kinds]
    if places != needed:
        raise UsageError(
            f"this model's chat template has a place for {len(places)} of the {len(pictures)} pictures; "
            "give them with a user's message"
        )
    found_ids: list[int] = []
    found_offsets: list[tuple[int, int]] = []
    starts: list[int] = []
    images: list[ImageSpan] = []
    for number, (start, stop) in zip(ids, offsets, strict=True):
        count = 1
        if number in kinds:
            picture, apart = wanted[len(images)]
            starts.append(len(found_ids))
            count = picture.rows * picture.cols * (1 if apart else picture.frames)
            if len(starts) == (picture.frames if apart else 1):
                ink, each = getattr(picture, "ink", ()), tuple(starts) if apart else ()
                images.append(ImageSpan(starts[0], picture.rows, picture.cols, ink, picture.frames, each))
                starts = []
        found_ids += [number] * count
        found_offsets += [(start, stop), *[(stop, stop)] * (count - 1)]
    return found_ids, found_offsets, tuple(images)
