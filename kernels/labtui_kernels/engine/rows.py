"""What goes into a batch and what comes out: rows, edits, sampling settings, emitted tokens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch

from labtui_artifacts.errors import UsageError

from ..lang.positions import ImageSpan, Where
from ..lang.sites import Site

Op: TypeAlias = Literal["add", "project", "replace"]
Finish: TypeAlias = Literal["", "stop", "length", "cancelled"]
NO_TOWER = "the prompt has an image, and this model has no vision tower; leave the image out, or load a Qwen-VL model"
OPS: tuple[Op, ...] = ("add", "project", "replace")


@dataclass(frozen=True, eq=False)
class Edit:
    """One operation on the hidden states ``h`` at a site, at chosen positions.

    ``vectors`` is float32 ``[k, d]`` (a vector ``[d]`` is taken as ``[1, d]``), ``s`` the strength:

    - ``add``: ``h + s·v``, v the sum of the rows;
    - ``project``: ``h - s·(h·Uᵀ)U``, U the orthonormalised rows (s=1 removes their span);
    - ``replace``: ``(1-s)·h + s·v``, v the sum of the rows (s=1 puts v there).

    Edits of a row at one site apply in the row's order. Raises UsageError for a strength or a vector that is
    not finite, an unknown operation, or a shape that is not ``[k, d]``.
    """

    site: Site
    op: Op
    vectors: torch.Tensor
    strength: float = 1.0
    where: Where = field(default_factory=Where)

    def __post_init__(self) -> None:
        if self.op not in OPS:
            raise UsageError(
                f"edit at {self.site}: unknown operation {self.op!r}; expected one of {', '.join(OPS)}"
            )
        if not math.isfinite(self.strength):
            raise UsageError(f"edit at {self.site}: strength {self.strength} is not a finite number")
        vectors = self.vectors.detach().to(dtype=torch.float32)
        if vectors.ndim == 1:
            vectors = vectors[None]
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise UsageError(
                f"edit at {self.site}: vectors have shape {tuple(self.vectors.shape)}; expected [k, d]"
            )
        if not bool(torch.isfinite(vectors).all()):
            raise UsageError(f"edit at {self.site}: the vectors hold NaN or infinity")
        object.__setattr__(self, "vectors", vectors)


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: temperature 0 is greedy; ``top_k`` 0 and ``top_p`` 1 keep the whole
    vocabulary.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature {self.temperature} is out of range; expected 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p} is out of range; expected more than 0 and at most 1")
        if self.top_k < 0:
            raise UsageError(f"top_k {self.top_k} is out of range; expected 0 (off) or more")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


GREEDY = Sampling()


@dataclass(frozen=True, eq=False)
class ImageInput:
    """One image or video of a prompt, as the vision tower takes it.

    ``pixels`` is float ``[patches, values]`` in merge-group order, ``grid`` its (frames, rows, columns) in patches,
    ``start`` the position of its first token in the prompt. ``digest`` tells pictures apart: two images with one
    digest and one grid are taken for the same; an empty one is made of the pixels. ``ink`` marks the merged patches
    that a stimulus covers. A video has ``seconds``, how long a frame of its grid lasts, and ``starts`` where text stands
    between the tokens of its frames.
    """

    pixels: torch.Tensor
    grid: tuple[int, int, int]
    start: int
    digest: str = ""
    ink: tuple[bool, ...] = ()
    seconds: float | None = None
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        patches = math.prod(self.grid)
        if len(self.grid) != 3 or min(self.grid) < 1:
            raise UsageError(f"image: grid {self.grid}; expected (frames, rows, columns), each at least 1")
        if self.pixels.ndim != 2 or self.pixels.shape[0] != patches:
            raise UsageError(
                f"image: pixels have shape {tuple(self.pixels.shape)} and the grid {self.grid} has {patches} patches; "
                "expected one line of pixel values for each"
            )
        if self.start < 0:
            raise UsageError(f"image: start {self.start}; expected a position of the prompt, from 0")
        if self.starts and (len(self.starts) != self.grid[0] or self.starts[0] != self.start):
            raise UsageError(
                f"image: {len(self.starts)} starts for {self.grid[0]} frames; expected one for each, "
                f"the first at {self.start}"
            )
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"image: frames of {self.seconds} seconds; expected more than 0")
        if not bool(torch.isfinite(self.pixels).all()):
            raise UsageError("image: the pixel values hold NaN or infinity")
        if not self.digest:
            values = self.pixels.detach().to("cpu", torch.float32).contiguous().numpy()
            object.__setattr__(self, "digest", f"pixels:{hashlib.blake2b(values.tobytes()).hexdigest()}")

    def span(self, merge: int) -> ImageSpan:
        """Where its tokens lie."""
        frames, rows, cols = self.grid
        return ImageSpan(self.start, rows // merge, cols // merge, self.ink, frames, self.starts)


def image_spans(images: Sequence[ImageInput | ImageSpan], merge: int) -> tuple[ImageSpan, ...]:
    """Where the tokens of a prompt's images lie; UsageError for images before a model without a tower (merge 0)."""
    if images and not merge:
        raise UsageError(NO_TOWER)
    return tuple(image if isinstance(image, ImageSpan) else image.span(merge) for image in images)


@dataclass(frozen=True, eq=False)
class Row:
    """One prompt with its edits, its seed and its limits.

    ``images`` are the prompt's images in the order of their tokens. ``content`` marks the prompt tokens that are
    neither template nor sink (needed only by edits at ``content``). ``forced`` are tokens to emit instead of
    choosing; the row then ends with them. ``surprise`` asks for the log-probability of each token under the
    unsteered model as well, at the price of a second cache slot. ``knobs`` are strength changes to replay:
    (generated step, edit index, strength); a knob of step ``s`` holds for the forward pass that produces token
    ``s`` and for all after it, so ``s = 0`` covers the whole prompt. A picture is read before the first token, so
    an edit in the vision tower knows step 0 alone.
    """

    key: str
    ids: tuple[int, ...]
    content: tuple[bool, ...] = ()
    edits: tuple[Edit, ...] = ()
    max_new_tokens: int = 256
    sampling: Sampling = GREEDY
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    forced: tuple[int, ...] | None = None
    surprise: bool = False
    knobs: tuple[tuple[int, int, float], ...] = ()
    images: tuple[ImageInput, ...] = ()

    def __post_init__(self) -> None:
        if not self.ids:
            raise UsageError(f"row {self.key}: the prompt is empty; give at least one token")
        if self.content and len(self.content) != len(self.ids):
            raise UsageError(
                f"row {self.key}: {len(self.content)} content marks for a prompt of {len(self.ids)} tokens; "
                "expected one for each"
            )
        if self.max_new_tokens < 1:
            raise UsageError(f"row {self.key}: max_new_tokens is {self.max_new_tokens}; expected at least 1")
        if self.forced is not None and not self.forced:
            raise UsageError(f"row {self.key}: forced tokens are empty; give at least one, or None")
        for step, edit, strength in self.knobs:
            self.check_knob(edit, strength)
            if step < 0:
                raise UsageError(f"row {self.key}: a knob at step {step}; steps count from 0")
            if step:
                self.check_seen(edit)

    def check_knob(self, edit: int, strength: float) -> None:
        """Raise UsageError unless ``edit`` is an index of this row's edits and ``strength`` is finite."""
        if not 0 <= edit < len(self.edits):
            raise UsageError(
                f"row {self.key}: no edit {edit}; it has {len(self.edits)} edits, counted from 0"
            )
        if not math.isfinite(strength):
            raise UsageError(f"row {self.key}: strength {strength} is not a finite number")

    def check_seen(self, edit: int) -> None:
        """Raise UsageError when ``edit`` lies in the vision tower, where nothing can change once the picture was read."""
        site = self.edits[edit].site
        if site.tower == "vision":
            raise UsageError(
                f"row {self.key}: the edit at {site} cannot change once the picture has been read; "
                "give the new strength to the next row"
            )


@dataclass(frozen=True)
class Emitted:
    """One token of one row.

    ``index`` counts the row's generated tokens from 0. ``logprob`` is the natural log-probability of
    ``token`` under the steered model at temperature 1, over the whole vocabulary, whatever the sampling
    settings; ``plain_logprob`` the same under the unsteered model (None unless the row asked for surprise).
    ``gap`` is the difference of the two largest log-probabilities, and ``best`` the token that has the
    largest. ``finish`` is ``""`` while the row goes on; ``stop`` when ``token`` is a stop token, ``length``
    at ``max_new_tokens`` or at the end of the model's context. A cancelled row is announced once with
    ``finish="cancelled"``, ``token=-1`` and no numbers (NaN).
    """

    key: str
    index: int
    token: int
    logprob: float
    plain_logprob: float | None
    gap: float
    finish: Finish = ""
    best: int = -1
