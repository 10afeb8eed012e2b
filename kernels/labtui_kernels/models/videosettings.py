"""The settings of a video processor: which frames are taken and how large they become. Torch-free.

Frames are taken evenly, as Qwen's own utilities do: two a second, at least four, an even number. The size follows from
bounds of the area, which earlier families (patches of 14) hold for each frame and later ones (patches of 16) for all frames
together. What a user gives is always for one frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.models.jsonfile import read_json
from labtui_kernels.models.processor import MAX_PIXELS, ProcessorSettings, checked, default_settings

FPS = 2.0
"""Frames that are taken of a second, unless a spec says otherwise."""
LEAST_FRAMES = 4
"""Frames that are taken of a short video, where it has them."""
USUAL_FRAMES = 32
"""Frames that are taken at most, unless a spec says otherwise: all of 16 seconds; of longer videos fewer a second."""
MOST_FRAMES = 768
"""Frames that a spec may ask for, as in Qwen's utilities."""
FRAME_TOKENS = 768
"""Merged patches of a frame at most, unless a spec says otherwise, where the bounds are for each frame."""
LEAST_TOKENS = 128
MOST_TOTAL = 1 << 26
"""Pixels of all resized frames together at most: 800 MB as floats."""


@dataclass(frozen=True)
class VideoSettings:
    """``base`` cuts and normalises; its bounds of the area are for all frames together where ``whole``, else for each.

    ``fps`` and ``max_frames`` choose the frames. ``low`` and ``high`` are bounds of one frame's area that a user gave.
    """

    base: ProcessorSettings
    whole: bool
    fps: float = FPS
    max_frames: int = USUAL_FRAMES
    low: int | None = None
    high: int | None = None

    def bounded(
        self,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        fps: float | None = None,
        max_frames: int | None = None,
    ) -> VideoSettings:
        """The same with what is given; UsageError for what makes no sense."""
        self.base.bounded(min_pixels, max_pixels)  # refuses what is no area
        if fps is not None and not (math.isfinite(fps) and 0 < fps <= 1000):
            raise UsageError(f"fps is {fps}; expected frames a second, more than 0 and at most 1000")
        if max_frames is not None and not self.base.temporal <= max_frames <= MOST_FRAMES:
            raise UsageError(
                f"max_frames is {max_frames}; expected a number of frames from {self.base.temporal} to {MOST_FRAMES}"
            )
        return replace(
            self,
            low=min_pixels,
            high=max_pixels,
            fps=self.fps if fps is None else fps,
            max_frames=self.max_frames if max_frames is None else max_frames,
        )

    def indices(self, total: int, rate: float) -> list[int]:
        """Which of ``total`` frames, ``rate`` a second, are taken: evenly from the first to the last, an even number."""
        step = self.base.temporal
        wanted = min(max(total / rate * self.fps, LEAST_FRAMES), self.max_frames, total)
        count = max(1, math.floor(wanted / step)) * step
        places = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
        return places + places[-1:] * (-len(places) % step)

    def fitted(self, tokens: int, total: int, rate: float, size: tuple[int, int]) -> VideoSettings:
        """The same with so few frames that a video has at most ``tokens`` tokens, but not under four."""
        found = self
        while found.max_frames > LEAST_FRAMES:
            frames = len(found.indices(total, rate))
            width, height = found.resized(frames, size)
            if frames // self.base.temporal * (width * height // self.base.factor**2) <= tokens:
                return found
            found = replace(found, max_frames=max(LEAST_FRAMES, frames - self.base.temporal))
        return found

    def resized(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        """The (width, height) that so many frames of ``size`` become, sides multiples of a merged patch's."""
        width, height = size
        factor, low, high = self.base.factor, self.base.min_pixels, self.base.max_pixels
        together = frames if self.whole else 1
        if not self.whole:
            high = max(min(high, FRAME_TOKENS * factor**2), low)
        if self.high is not None:
            high = self.high * together
            low = min(low, high)
        if self.low is not None:
            low = self.low * together
            high = max(high, low)
        high = min(high, MOST_TOTAL * together // frames)
        if self.whole and min(height, width) < factor:
            scale = max(factor / height, factor / width)
            height, width = int(height * scale), int(width * scale)
        return _fitted(together, width, height, factor, low, high)


def _fitted(frames: int, width: int, height: int, factor: int, low: int, high: int) -> tuple[int, int]:
    """Sides rounded to multiples of ``factor``, the area of all frames within the bounds, proportions kept roughly.

    As ``smart_resize`` of Qwen2-VL (with one frame) and of Qwen3-VL do.
    """
    rows, cols = round(height / factor) * factor, round(width / factor) * factor
    if frames * rows * cols > high:
        beta = math.sqrt((frames * height * width) / high)
        rows = max(factor, math.floor(height / beta / factor) * factor)
        cols = max(factor, math.floor(width / beta / factor) * factor)
    elif frames * rows * cols < low:
        beta = math.sqrt(low / (frames * height * width))
        rows = math.ceil(height * beta / factor) * factor
        cols = math.ceil(width * beta / factor) * factor
    return cols, rows


def default_video_settings(config: Any, place: str = "config.json") -> VideoSettings:
    """What the family's video processors do, where a checkpoint says nothing of videos."""
    base = default_settings(config, place)
    unit = base.factor**2
    return VideoSettings(
        replace(base, min_pixels=LEAST_TOKENS * unit, max_pixels=min(FRAME_TOKENS * unit, MAX_PIXELS)),
        whole=base.patch >= 16,
    )


def read_video_settings(folder: Path, config: Any) -> VideoSettings:
    """The same for a checkpoint's folder, whose files may say otherwise.

    They are looked at in the order of transformers: ``processor_config.json`` and ``video_preprocessor_config.json``, then
    what it says of pictures. BadFile for a file that is damaged, or that cuts videos otherwise than the tower expects.
    """
    settings = default_video_settings(config, str(folder / "config.json"))
    for name in ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json"):
        path = folder / name
        said: Any = read_json(path) if path.exists() else {}
        if name == "processor_config.json":
            said = said.get("video_processor") or {}
            if not isinstance(said, Mapping):
                raise BadFile(f"{path}: video_processor is a {type(said).__name__}; expected an object")
        if said:
            return replace(settings, base=checked(settings.base, said, str(path)))
    return settings
