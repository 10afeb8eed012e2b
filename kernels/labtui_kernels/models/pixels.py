"""Pixels: what a model's image processor makes of a picture, and where each of its patches lies in that picture.

The work is done by the Pillow processor of transformers, which all Qwen families with a tower use; it needs no
torchvision. Where ``qwen_vl_utils`` imports, a picture takes its size through it, as in Qwen's own examples; the result is
the same. Videos go through :mod:`.videopixels`.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.positions import ImageSpan
from labtui_kernels.models.pictures import Picture
from labtui_kernels.models.processor import BICUBIC, ProcessorSettings, default_settings
from labtui_kernels.models.videos import Video

if TYPE_CHECKING:
    import torch

    from labtui_kernels.models.load import LoadedModel

MAX_RATIO = 200
"""Qwen's processors refuse pictures whose longer side is over so many times the shorter."""


@dataclass(frozen=True)
class Pixels:
    """A picture as a tower takes it.

    ``values`` is float32 ``[patches, c]`` in merge-group order, ``grid`` (frames, rows, columns) in patches, ``digest`` that
    of the picture's file. ``size`` is the picture's (width, height) and ``resized`` that of what was cut into patches.

    Of a video, ``seconds`` is how long each frame of the grid lasts (None for a picture), ``when`` the second at which each
    is, and ``stamps`` the same where the prompt is to say so.
    """

    values: torch.Tensor = field(repr=False)
    grid: tuple[int, int, int]
    digest: str
    resized: tuple[int, int]
    size: tuple[int, int]
    merge: int = 2
    seconds: float | None = None
    stamps: tuple[float, ...] = ()
    when: tuple[float, ...] = ()

    @property
    def frames(self) -> int:
        """Frames of the grid: 1 for a picture; of a video each stands for as many of its frames as a patch spans."""
        return self.grid[0]

    @property
    def video(self) -> bool:
        """Whether it is a video."""
        return self.seconds is not None

    @property
    def rows(self) -> int:
        """Rows of merged patches."""
        return self.grid[1] // self.merge

    @property
    def cols(self) -> int:
        """Columns of merged patches."""
        return self.grid[2] // self.merge

    @property
    def tokens(self) -> int:
        """How many tokens of the decoder it becomes: one for each merged patch."""
        return self.grid[0] * self.rows * self.cols

    def span(self, start: int, ink: tuple[bool, ...] = ()) -> ImageSpan:
        """Where it lies in a prompt whose position ``start`` is its first token, if no text stands between its frames."""
        return ImageSpan(start, self.rows, self.cols, ink, self.frames)

    def rect(self, row: int, col: int) -> tuple[float, float, float, float]:
        """The rectangle (x0, y0, x1, y1) of a merged patch in pixels of the original picture, x1 and y1 exclusive.

        Resizing seldom keeps proportions to the pixel, so corners lie between pixels. UsageError outside the grid.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise UsageError(
                f"patch ({row}, {col}) is outside the picture, which has {self.rows} rows and {self.cols} columns of "
                "merged patches, counted from 0"
            )
        across, down = self.size[0] / self.cols, self.size[1] / self.rows
        return col * across, row * down, (col + 1) * across, (row + 1) * down

    def patch_at(self, x: float, y: float) -> tuple[int, int]:
        """The merged patch (row, column) that holds a point of the original picture; UsageError outside of it."""
        width, height = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"({x:g}, {y:g}) is outside the picture, which is {width} x {height} pixels")
        return min(self.rows - 1, int(y * self.rows / height)), min(self.cols - 1, int(x * self.cols / width))

    def marks(self, mask: Any) -> tuple[bool, ...]:
        """One mark for each merged patch, row by row: whether a marked pixel of ``mask`` lies in it, if only in part.

        ``mask`` is a bool array ``[height, width]`` over the original picture, as a stimulus knows what it covers.
        """
        marked = np.asarray(mask, dtype=bool)
        if marked.shape != (self.size[1], self.size[0]):
            raise ValueError(
                f"a mask of shape {list(marked.shape)} for a picture of {self.size[1]} rows"
                f" and {self.size[0]} columns of pixels"
            )
        found: list[bool] = []
        for row in range(self.rows):
            for col in range(self.cols):
                x0, y0, x1, y1 = self.rect(row, col)
                # A corner that misses a pixel's edge by rounding alone does not reach into that pixel.
                top, left = math.floor(y0 + 1e-6), math.floor(x0 + 1e-6)
                found.append(bool(marked[top : math.ceil(y1 - 1e-6), left : math.ceil(x1 - 1e-6)].any()))
        return tuple(found)


def require_tower(loaded: LoadedModel) -> None:
    """UsageError for a model without a vision tower."""
    if not loaded.family.vision:
        raise UsageError(
            f"{loaded.info.name} reads text only: it has no vision tower; load a model that has one, such as "
            "Qwen/Qwen2.5-VL-3B-Instruct, or take the picture out of the prompt"
        )


def settings_of(loaded: LoadedModel) -> ProcessorSettings:
    """How a model's pictures are prepared; UsageError for a model without a vision tower."""
    require_tower(loaded)
    return loaded.processor or default_settings(loaded.model.config)


def prepare_pixels(
    loaded: LoadedModel,
    picture: Picture,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
) -> Pixels:
    """What the model's tower gets for ``picture`` or a video, on the CPU in float32.

    ``min_pixels`` and ``max_pixels`` bound the area that it (or each of its frames) is resized to, in pixels (default: the
    checkpoint's); of a video ``fps`` frames a second are taken, ``max_frames`` at most (default: 32, or as many as fill half
    of the model's context). UsageError for a text model, for bounds that make no sense, and for a picture that is too small
    or too long for the processor.
    """
    if isinstance(picture, Video):
        from labtui_kernels.models.videopixels import prepare_video, video_settings_of

        bounded = video_settings_of(loaded).bounded(min_pixels, max_pixels, fps, max_frames)
        if max_frames is None:
            room = loaded.info.context_length // 2
            bounded = bounded.fitted(room, picture.total, picture.rate, picture.size)
        return prepare_video(bounded, picture, stamped=loaded.family.timestamps)
    return prepare(settings_of(loaded).bounded(min_pixels, max_pixels), picture)


def prepare(settings: ProcessorSettings, picture: Picture) -> Pixels:
    """The same for a processor's settings alone."""
    check_shape(settings, picture)
    processor: Any = _processor(settings)
    made = processor(images=[_through_utils(settings, picture.image)], return_tensors="pt")
    grid = tuple(int(count) for count in made["image_grid_thw"][0])
    return Pixels(
        values=made["pixel_values"].float(),
        grid=(grid[0], grid[1], grid[2]),
        digest=picture.digest,
        resized=(grid[2] * settings.patch, grid[1] * settings.patch),
        size=picture.size,
        merge=settings.merge,
    )


def check_shape(settings: ProcessorSettings, picture: Picture, smallest: int | None = None) -> None:
    """UsageError for a picture whose sides are under ``smallest`` pixels, or one is too long for the other."""
    width, height = picture.size
    # Up to half a merged patch a side is rounded to none, where the tools that make pixels part ways.
    least = smallest or settings.factor // 2 + 1
    if min(width, height) < least:
        raise UsageError(
            f"{picture.name or 'the picture'}: is {width} x {height} pixels, smaller than a patch of this model; expected "
            f"at least {least} a side"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise UsageError(
            f"{picture.name or 'the picture'}: is {width} x {height} pixels; expected a longer side of at most {MAX_RATIO} "
            "times the shorter: cut it"
        )


@lru_cache(maxsize=16)
def _processor(settings: ProcessorSettings) -> Any:
    import transformers

    return transformers.Qwen2VLImageProcessorPil(
        patch_size=settings.patch,
        merge_size=settings.merge,
        temporal_patch_size=settings.temporal,
        size={"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels},
        image_mean=list(settings.mean),
        image_std=list(settings.std),
        resample=settings.resample,
    )


def _through_utils(settings: ProcessorSettings, image: Image.Image) -> Image.Image:
    """The picture resized by ``qwen_vl_utils`` where that is here; the processor then leaves its size alone."""
    utils = _utils()
    if utils is None or settings.resample != BICUBIC or settings.merge != 2:
        return image
    (width, height), bounds = image.size, (settings.min_pixels, settings.max_pixels)
    rows, cols = utils.smart_resize(height, width, settings.factor, *bounds)
    if (cols, rows) != _resized(settings, image.size):
        # It keeps no side from vanishing in very long pictures under a small bound; the processor does.
        return image
    asked = {"image": image, "min_pixels": bounds[0], "max_pixels": bounds[1]}
    return utils.fetch_image(asked, image_patch_size=settings.patch)


def _resized(settings: ProcessorSettings, size: tuple[int, int]) -> tuple[int, int]:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    rows, cols = smart_resize(size[1], size[0], settings.factor, settings.min_pixels, settings.max_pixels)
    return cols, rows


@cache
def _utils() -> Any:
    """The module of ``qwen_vl_utils`` with ``fetch_image``, or None: it imports torchvision, which only GPU hosts have."""
    if importlib.util.find_spec("qwen_vl_utils") is None or importlib.util.find_spec("torchvision") is None:
        return None
    try:
        return importlib.import_module("qwen_vl_utils.vision_process")
    except (ImportError, RuntimeError, OSError):
        return None
