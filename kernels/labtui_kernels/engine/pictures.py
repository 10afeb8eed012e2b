"""The images of a prompt: where they stand among its tokens, what the tower is to do with them, what it gave.

Two rows whose prompts have the same tokens may show different pictures, or the same one edited differently in the tower:
whoever compares beginnings of prompts compares :meth:`Pictures.signature` too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from labtui_artifacts.errors import UsageError

from ..lang.sites import Site
from .edits import RowEdits
from .rows import NO_TOWER, ImageInput, Op

if TYPE_CHECKING:
    from .forward import Forward


@dataclass(frozen=True, eq=False)
class PatchEdit:
    """One edit of one image: ``vectors`` float32 [k, d], ``mask`` float32 [merged patches], 1 where it is in force."""

    site: Site
    op: Op
    vectors: torch.Tensor
    mask: np.ndarray
    strength: float


@dataclass(frozen=True, eq=False)
class TowerInput:
    """One image and what is done to it in the tower. Equal keys give equal features."""

    image: ImageInput
    edits: tuple[PatchEdit, ...]
    key: Hashable


@dataclass(frozen=True, eq=False)
class Features:
    """What the tower gives of one image: ``merged`` [tokens, d], and the same for each DeepStack level."""

    merged: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()

    def part(self, start: int, stop: int) -> Features:
        """Those of the tokens [start, stop)."""
        if (start, stop) == (0, len(self.merged)):
            return self
        return Features(self.merged[start:stop], tuple(level[start:stop] for level in self.deep))

    @property
    def bytes(self) -> int:
        return sum(each.numel() * each.element_size() for each in (self.merged, *self.deep))


@dataclass(frozen=True, eq=False)
class Layout:
    """The places of a prompt with images: ``positions`` int64 [3, tokens] (time, row, column) on the model's device;
    a later token's position is its index plus ``delta``."""

    images: tuple[ImageInput, ...]
    positions: torch.Tensor
    delta: int

    @classmethod
    def of(cls, ids: Sequence[int], images: Sequence[ImageInput], forward: Forward) -> Layout | None:
        """The layout of a checked prompt; None without images."""
        if not images:
            return None
        grids, seconds = [image.grid for image in images], [image.seconds for image in images]
        positions, delta = forward.family.rope_positions(forward.model, ids, grids, seconds)
        return cls(tuple(images), positions.to(forward.device), delta)

    def rope(self, start: int, stop: int) -> torch.Tensor:
        """Positions [3, stop - start] of the tokens [start, stop), generated ones included."""
        known = self.positions[:, start:stop]
        first = max(start, self.positions.shape[1])
        if first >= stop:
            return known
        later = torch.arange(first, stop, device=known.device) + self.delta
        return torch.cat([known, later.expand(3, -1)], dim=1)


@dataclass(eq=False)
class Pictures:
    """The images of one prompt on their way into the decoder; ``features`` fills with what the tower gives."""

    layout: Layout
    inputs: tuple[TowerInput, ...]
    features: dict[Hashable, Features] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout | None, edits: RowEdits | None) -> Pictures | None:
        """The images of a prompt under the edits of its row; None without images."""
        if layout is None:
            return None
        count = range(len(layout.images))
        return cls(layout, tuple(_input(layout.images[number], number, edits) for number in count))

    def signature(self, length: int) -> tuple[object, ...]:
        """Equal for two prompts of the same tokens only if the same features stand in their first ``length`` tokens."""
        return tuple(
            (each.image.start, each.image.starts, each.image.seconds, each.key)
            for each in self.inputs
            if each.image.start < length
        )

    def forget(self) -> None:
        """Let go of the features; those used last stay in the tower's cache."""
        self.features.clear()

    def placed(self) -> Iterator[tuple[int, Features]]:
        """The features of each image, or of each frame that stands apart, and the position of the first of them."""
        for each in self.inputs:
            features, starts = self.features[each.key], each.image.starts or (each.image.start,)
            one = len(features.merged) // len(starts)
            for number, start in enumerate(starts):
                yield start, features.part(number * one, (number + 1) * one)


def _input(image: ImageInput, number: int, edits: RowEdits | None) -> TowerInput:
    found: list[PatchEdit] = []
    marks: list[object] = []
    for index, masks in edits.patches.items() if edits is not None else ():
        mask = masks[number]
        if edits is None or not mask.any():
            continue
        edit, strength = edits.row.edits[index], edits.strength(index, 0)
        found.append(PatchEdit(edit.site, edit.op, edits.matrices[index], mask, strength))
        # The vectors' content, not their address: what is kept by this key outlives them.
        held = (tuple(edit.vectors.shape), edits.digests[index])
        marks.append((edit.site, edit.op, held, strength, mask.tobytes()))
    return TowerInput(image, tuple(found), (image.digest, image.grid, tuple(marks)))


def mark_of(image: ImageInput) -> tuple[object, ...]:
    """What tells an image or video of a prompt from others at its place."""
    return image.start, image.starts, image.seconds, image.grid, image.digest


def same_pictures(one: Sequence[ImageInput], other: Sequence[ImageInput], length: int) -> int:
    """How many of the first ``length`` tokens two prompts of the same tokens share, whose images may differ."""
    for mine, theirs in zip(one, other, strict=False):
        if mark_of(mine) != mark_of(theirs):
            return min(length, mine.start, theirs.start)
    rest = [*one[len(other) :], *other[len(one) :]]
    return min([length, *(image.start for image in rest)])


def check_images(what: str, ids: Sequence[int], images: Sequence[ImageInput], forward: Forward) -> None:
    """Raise UsageError unless the images fit the model and stand exactly where the prompt has image tokens."""
    if not forward.family.vision:
        if images:
            raise UsageError(f"{what}: {NO_TOWER}")
        return
    merge = forward.shape.merge
    free = ids.count(forward.image_token) + ids.count(forward.video_token)
    before = -1
    for number, image in enumerate(images):
        name = f"{what}: image{number}"
        if image.grid[1] % merge or image.grid[2] % merge:
            raise UsageError(
                f"{name}: a grid of {image.grid}; rows and columns are multiples of {merge} here"
            )
        if forward.patch_values and image.pixels.shape[1] != forward.patch_values:
            raise UsageError(
                f"{name}: {image.pixels.shape[1]} values a patch; this model takes {forward.patch_values}"
            )
        span = image.span(merge)
        if span.ink and len(span.ink) != span.tokens:
            raise UsageError(
                f"{name}: {len(span.ink)} ink marks for {span.tokens} merged patches; expected one for each"
            )
        kind, token = (
            ("image", forward.image_token) if image.seconds is None else ("video", forward.video_token)
        )
        for start, stop in span.pieces:
            if start <= before:
                raise UsageError(
                    f"{name}: it starts at {start}; expected the prompt's images in order, with a token between them"
                )
            if stop > len(ids) or any(each != token for each in ids[start:stop]):
                raise UsageError(
                    f"{name}: its grid of {image.grid} needs {stop - start} {kind} tokens from position {start}; "
                    "the prompt has others there"
                )
            before = stop
        if bool(image.starts) != (image.seconds is not None and forward.family.timestamps):
            expected = "each behind its time" if forward.family.timestamps else "one behind the other"
            raise UsageError(f"{name}: the tokens of a video's frames stand {expected} for this model")
        free -= span.tokens
    if free:
        raise UsageError(
            f"{what}: {free} image tokens of the prompt belong to no image; give its pixels, or take them out"
        )
