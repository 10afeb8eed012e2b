"""Positions: where along a sequence an edit applies, or a reading is pooled.

A sequence is the rendered prompt followed by the generated tokens. ``all`` is every position of both and
the default; ``prompt`` and ``generated`` are its two parts; ``last`` is the last token of the prompt as
rendered; ``content`` leaves out template tokens and the first position; ``text`` leaves out image
positions. What is generated counts as content and as text.

``image`` is the tokens of all images of the prompt, ``image1`` those of the second (they count from 0),
``image[0:2,0:3]`` a rectangle of merged patches in each, ``ink`` the patches that a stimulus covers. A video counts as an
image: a rectangle means all its frames, ``image0[1:3,0:2,0:3]`` those of the frames 1 and 2 (frames that the tower takes
together count as one). In the vision tower the same words select patches: a merged patch stands for the square of
patches that became it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from labtui_artifacts.errors import UsageError

from .text import bounded, did_you_mean, shown

Kind: TypeAlias = Literal["all", "prompt", "last", "generated", "content", "text", "image", "ink", "indices"]
KINDS: tuple[str, ...] = ("all", "prompt", "last", "generated", "content", "text", "image", "ink")
MAX_INDICES = 512
MAX_POSITION = 10_000_000

_WINDOW = re.compile(r"generated\[\s*([0-9]{0,8})\s*:\s*([0-9]{0,8})\s*\]\Z")
_RANGE = r"\s*([0-9]{1,6})\s*:\s*([0-9]{1,6})\s*"
_RECT = re.compile(rf"image([0-9]{{0,3}})\[(?:{_RANGE},)?{_RANGE},{_RANGE}\]\Z")
_NUMBERED = re.compile(r"(image|ink)([0-9]{1,3})\Z")
_INDEX = re.compile(r"-?[0-9]{1,8}\Z")
_HOW = (
    "expected one of all, prompt, last, generated, generated[0:20], content, text, image, image0, "
    "image[0:2,0:3], image0[0:1,0:2,0:3] (frames first), ink, or positions such as [0,5,-1]"
)


@dataclass(frozen=True)
class ImageSpan:
    """Where one image of a prompt lies: its tokens are [start, start + rows * cols), raster over merged patches.

    A video has ``frames`` such rasters, one behind the other; where text stands between them, ``starts`` has the position
    of each one's first token. ``ink`` has one mark for each merged patch where a stimulus knows what it covers; it is
    empty otherwise.
    """

    start: int
    rows: int
    cols: int
    ink: tuple[bool, ...] = ()
    frames: int = 1
    starts: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """How many tokens it has: one for each merged patch of each frame."""
        return self.frames * self.rows * self.cols

    @property
    def stop(self) -> int:
        """The position after its last token."""
        return self.starts[-1] + self.rows * self.cols if self.starts else self.start + self.tokens

    @property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """The stretches [first, stop) of the prompt that its tokens fill, in order."""
        each = self.rows * self.cols
        return tuple((first, first + each) for first in self.starts) or ((self.start, self.stop),)

    @property
    def positions(self) -> list[int]:
        """The positions of its tokens, ascending."""
        return [place for first, stop in self.pieces for place in range(first, stop)]


@dataclass(frozen=True)
class Where:
    """A selection of positions.

    ``start`` and ``stop`` are the window of ``generated`` (half-open, counted in generated tokens; stop
    None is without end). ``number`` is the image meant by ``image`` and ``ink``, from 0 (None: every one), ``rect``
    (row start, row stop, column start, column stop) in merged patches, and ``frames`` the frames (start, stop) of a video
    in which that rectangle is meant (None: all).
    ``indices`` count from the start of the prompt, negative ones from its end; those past the prompt are
    generated tokens.
    """

    kind: Kind = "all"
    start: int = 0
    stop: int | None = None
    rect: tuple[int, int, int, int] | None = None
    indices: tuple[int, ...] = ()
    number: int | None = None
    frames: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.kind == "indices":
            return f"[{','.join(map(str, self.indices))}]"
        if self.kind == "generated" and (self.start or self.stop is not None):
            return f"generated[{self.start or ''}:{'' if self.stop is None else self.stop}]"
        name = self.kind if self.number is None else f"{self.kind}{self.number}"
        if self.rect is not None:
            r0, r1, c0, c1 = self.rect
            when = "" if self.frames is None else "{}:{},".format(*self.frames)
            return f"{name}[{when}{r0}:{r1},{c0}:{c1}]"
        return name

    def prompt_mask(
        self, prompt_len: int, content: Sequence[bool] = (), images: Sequence[ImageSpan] = ()
    ) -> list[bool]:
        """Which of the prompt's ``prompt_len`` positions are selected.

        ``content`` marks the positions that are no template tokens and no sinks; only ``content`` needs it.
        ``images`` says where the prompt's images lie. Raises UsageError for an index before the prompt's start,
        for image positions in a prompt without that image, and for a rectangle that leaves it.
        """
        if self.kind in ("all", "prompt"):
            return [True] * prompt_len
        if self.kind in ("image", "ink", "text"):
            return self._image_mask(prompt_len, images)
        if self.kind == "generated":
            return [False] * prompt_len
        if self.kind == "last":
            return [i == prompt_len - 1 for i in range(prompt_len)]
        if self.kind == "content":
            if len(content) != prompt_len:
                raise UsageError(
                    f"where 'content': {len(content)} content marks for {prompt_len} positions; "
                    "this prompt was not rendered from chat messages, use 'prompt'"
                )
            return [bool(mark) for mark in content]
        if self.kind == "indices":
            mask = [False] * prompt_len
            for index in self.indices:
                if index < -prompt_len:
                    raise UsageError(
                        f"where {self}: position {index} is before the start of the prompt, "
                        f"which has {prompt_len} tokens"
                    )
                if index < prompt_len:
                    mask[index] = True
            return mask
        raise AssertionError(self.kind)

    def _image_mask(self, prompt_len: int, images: Sequence[ImageSpan]) -> list[bool]:
        text = self.kind == "text"
        selected = [[True] * span.tokens for span in images] if text else self.patch_mask(images)
        mask = [text] * prompt_len
        for span, marks in zip(images, selected, strict=True):
            for place, mark in zip(span.positions, marks, strict=True):
                if mark:
                    mask[place] = not text
        return mask

    def patch_mask(self, images: Sequence[ImageSpan]) -> list[list[bool]]:
        """Which merged patches of each image are selected, for a site of the vision tower: one list an image.

        ``all`` and ``prompt`` are all of them. Raises UsageError for a selection that means nothing in a picture, for
        a prompt without that image, and for a rectangle that leaves it.
        """
        if self.kind not in ("all", "prompt", "image", "ink"):
            raise UsageError(
                f"where {str(self)!r}: a site of the vision tower has patches, not tokens; "
                "expected all, image, image0, image[0:2,0:3] or ink"
            )
        if not images or (self.number is not None and self.number >= len(images)):
            has = f"{len(images)} image{'s' * (len(images) > 1)}, counted from 0" if images else "no image"
            place = "an image in the prompt" if not images else f"image0 to image{len(images) - 1}"
            raise UsageError(f"where {str(self)!r}: this prompt has {has}; expected {place}")
        meant = range(len(images)) if self.number is None else (self.number,)
        return [
            self._marks(span, number) if number in meant else [False] * span.tokens
            for number, span in enumerate(images)
        ]

    def _marks(self, span: ImageSpan, number: int) -> list[bool]:
        if self.kind == "ink":
            if not span.ink:
                raise UsageError(
                    f"where {str(self)!r}: what image{number} covers is not known, it is no stimulus; "
                    "expected a rectangle, such as image[0:2,0:3]"
                )
            return list(span.ink)
        if self.rect is None:
            return [True] * span.tokens
        r0, r1, c0, c1 = self.rect
        if r1 > span.rows or c1 > span.cols:
            raise UsageError(
                f"where {str(self)!r}: image{number} has {span.rows} rows and {span.cols} columns of merged patches; "
                f"expected a rectangle within [0:{span.rows},0:{span.cols}]"
            )
        t0, t1 = self.frames or (0, span.frames)
        if t1 > span.frames:
            held = f"is a video of {span.frames} frames" if span.frames > 1 else "is a picture of one frame"
            raise UsageError(
                f"where {str(self)!r}: image{number} {held} as the tower takes them; expected frames within "
                f"0:{span.frames}"
            )
        return [
            t0 <= frame < t1 and r0 <= row < r1 and c0 <= col < c1
            for frame in range(span.frames)
            for row in range(span.rows)
            for col in range(span.cols)
        ]

    def generated_at(self, step: int, prompt_len: int | None = None) -> bool:
        """Whether the forward pass that processes generated token ``step`` (from 0) is selected.

        Explicit indices are counted from the start of the prompt, so they need ``prompt_len``.
        """
        if self.kind in ("all", "content", "text"):
            return True
        if self.kind == "generated":
            return self.start <= step and (self.stop is None or step < self.stop)
        if self.kind == "indices" and any(index >= 0 for index in self.indices):
            if prompt_len is None:
                raise ValueError("explicit positions need the prompt's length to tell which are generated")
            return prompt_len + step in self.indices
        return False


ALL = Where()


def parse_where(text: str | Where) -> Where:
    """A selection from its name; raises UsageError that names the nearest one."""
    if isinstance(text, Where):
        return text
    text = bounded(text, "where").strip()
    if text in KINDS:
        return Where(cast(Kind, text))
    if match := _WINDOW.match(text):
        start = int(match[1] or 0)
        stop = int(match[2]) if match[2] else None
        if stop is not None and stop <= start:
            raise UsageError(
                f"where {shown(text)}: the window is empty; expected generated[0:20] with start < stop"
            )
        return Where("generated", start=start, stop=stop)
    if match := _NUMBERED.match(text):
        return Where(cast(Kind, match[1]), number=int(match[2]))
    if match := _RECT.match(text):
        frames = (int(match[2]), int(match[3])) if match[2] else None
        r0, r1, c0, c1 = (int(match[i]) for i in range(4, 8))
        if r1 <= r0 or c1 <= c0:
            raise UsageError(
                f"where {shown(text)}: empty rectangle; expected image[r0:r1,c0:c1] with r0 < r1, c0 < c1"
            )
        if frames and frames[1] <= frames[0]:
            raise UsageError(
                f"where {shown(text)}: no frame; expected image0[t0:t1,r0:r1,c0:c1] with t0 < t1, counted from 0"
            )
        number = int(match[1]) if match[1] else None
        return Where("image", rect=(r0, r1, c0, c1), number=number, frames=frames)
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    words = [word.strip() for word in inner.split(",")]
    if inner.strip() and all(_INDEX.match(word) for word in words):
        if len(words) > MAX_INDICES:
            raise UsageError(f"where: {len(words)} positions; at most {MAX_INDICES} can be named")
        indices = tuple(int(word) for word in words)
        if len(set(indices)) != len(indices):
            raise UsageError(f"where {shown(text)}: a position is named twice")
        if max(map(abs, indices)) > MAX_POSITION:
            raise UsageError(f"where {shown(text)}: positions beyond {MAX_POSITION} are not read")
        return Where("indices", indices=indices)
    raise UsageError(
        f"where {shown(text)}: unknown position; {_HOW}{did_you_mean(text.split('[')[0], KINDS)}"
    )


def complete_where(prefix: str) -> list[str]:
    """The positions whose name starts with ``prefix``."""
    names = [*KINDS, "generated[0:20]", "image0", "image[0:1,0:1]", "[0]", "[-1]"]
    return [name for name in names if name.startswith(prefix.strip())]
