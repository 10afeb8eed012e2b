"""The settings of an image processor: how large a picture becomes, how it is cut, how its colours are scaled. Torch-free.

A checkpoint states them in ``preprocessor_config.json`` (or, as newer ones do, in ``processor_config.json``). The files
come from outside: every number in them is checked, and what they may say of patches has to be what the tower is built for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models.families.base import config_field
from labtui_kernels.models.jsonfile import read_json

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
MAX_PIXELS = 1 << 25
"""Largest resized picture that any setting may ask for, in pixels: twice what Qwen3-VL allows."""
BICUBIC = 3
RESAMPLINGS = range(6)
"""Pillow's numbers for its filters; 3 is bicubic."""


@dataclass(frozen=True)
class ProcessorSettings:
    """Sides of patches in pixels, patches to a merged patch's side, frames to a patch, bounds of a resized picture's area
    in pixels, and the mean and deviation by channel that colours in 0..1 are normalised with.
    """

    patch: int
    merge: int
    temporal: int
    min_pixels: int
    max_pixels: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resample: int = BICUBIC

    @property
    def factor(self) -> int:
        """The side of a merged patch in pixels of the resized picture; its sides are multiples of this."""
        return self.patch * self.merge

    def bounded(self, min_pixels: int | None, max_pixels: int | None) -> ProcessorSettings:
        """The same with other bounds of the area, where given; UsageError for bounds that make no sense.

        One bound alone moves the other along, so that a small ``max_pixels`` needs no ``min_pixels``.
        """
        low = _area("min_pixels", min_pixels, 1, UsageError) if min_pixels is not None else None
        high = _area("max_pixels", max_pixels, self.factor**2, UsageError) if max_pixels is not None else None
        if low is None:
            low = self.min_pixels if high is None else min(self.min_pixels, high)
        return _with_bounds(self, low, max(self.max_pixels, low) if high is None else high, UsageError, "")


def default_settings(config: Any, place: str = "config.json") -> ProcessorSettings:
    """What the family's processors do, for a ``config.json`` (or a configuration) whose folder says nothing of pictures.

    Towers with patches of 16 (Qwen3-VL and later) normalise with one half, earlier ones as CLIP does. At most 1,280 tokens
    a picture. ``place`` is what errors call the file.
    """
    tower = config_field(config, "vision_config")
    patch = _count(tower, "patch_size", place, most=64)
    merge = _count(tower, "spatial_merge_size", place, most=8)
    temporal = _count(tower, "temporal_patch_size", place, most=8)
    factor, later = patch * merge, patch >= 16
    mean, std = (HALF, HALF) if later else (CLIP_MEAN, CLIP_STD)
    least = (64 if later else 4) * factor**2
    return ProcessorSettings(patch, merge, temporal, least, 1280 * factor**2, mean, std)


def read_settings(folder: Path, config: Any) -> ProcessorSettings:
    """The settings of a checkpoint with a vision tower; ``config`` is its ``config.json``.

    Fields that its files leave out, and folders without such a file, take the family's defaults. BadFile for a file that
    is damaged, holds numbers that cannot be, or cuts pictures otherwise than the tower expects.
    """
    settings = default_settings(config, str(folder / "config.json"))
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = folder / name
        said: Any = read_json(path) if path.exists() else {}
        if name == "processor_config.json":
            said = said.get("image_processor") or {}
            if not isinstance(said, Mapping):
                raise BadFile(f"{path}: image_processor is a {type(said).__name__}; expected an object")
        if said:
            return checked(settings, said, str(path))
    return settings


def checked(settings: ProcessorSettings, said: Mapping[str, Any], place: str) -> ProcessorSettings:
    """``settings`` with what a processor's file says instead; BadFile where that cannot be."""
    for key, wanted in (
        ("patch_size", settings.patch),
        ("merge_size", settings.merge),
        ("temporal_patch_size", settings.temporal),
    ):
        if said.get(key) is not None and _count(said, key, place, most=64) != wanted:
            raise BadFile(
                f"{place}: {key} is {said[key]}, but config.json builds the tower for {wanted}; "
                "the two do not belong together"
            )
    for key in ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"):
        if said.get(key) not in (None, True):
            raise BadFile(f"{place}: {key} is {str(said[key])[:40]!r}; only processors with {key} are known")
    factor = said.get("rescale_factor")
    if factor is not None and not (_number(factor) and math.isclose(factor, 1 / 255, rel_tol=1e-6)):
        raise BadFile(f"{place}: rescale_factor is {str(factor)[:40]}; expected 1/255")
    resample = said.get("resample")
    if resample is not None and (type(resample) is not int or resample not in RESAMPLINGS):
        raise BadFile(
            f"{place}: resample is {str(resample)[:40]!r}; expected one of Pillow's filters, 0 to 5"
        )
    settings = replace(
        settings,
        mean=_triple(said, "image_mean", settings.mean, place),
        std=_triple(said, "image_std", settings.std, place),
        resample=settings.resample if resample is None else resample,
    )
    size = said.get("size")
    if size is not None and not isinstance(size, Mapping):
        raise BadFile(f"{place}: size is {str(size)[:40]!r}; expected shortest_edge and longest_edge")
    bounds = [
        _first(settings_default, said.get(plain), (size or {}).get(edge), (size or {}).get(plain))
        for plain, edge, settings_default in (
            ("min_pixels", "shortest_edge", settings.min_pixels),
            ("max_pixels", "longest_edge", settings.max_pixels),
        )
    ]
    return _with_bounds(settings, bounds[0], bounds[1], BadFile, f"{place}: ")


def _first(default: Any, *values: Any) -> Any:
    return next((value for value in values if value is not None), default)


def _with_bounds(
    settings: ProcessorSettings, low: Any, high: Any, kind: type[LabError], place: str
) -> ProcessorSettings:
    _area("min_pixels", low, 1, kind, place)
    _area("max_pixels", high, settings.factor**2, kind, place)
    if low > high:
        raise kind(f"{place}min_pixels is {low}, more than max_pixels, which is {high}")
    return replace(settings, min_pixels=low, max_pixels=high)


def _area(name: str, value: Any, least: int, kind: type[LabError], place: str = "") -> int:
    if type(value) is not int or not least <= value <= MAX_PIXELS:
        raise kind(
            f"{place}{name} is {str(value)[:40]!r}; expected a whole number of pixels from {least} to {MAX_PIXELS}"
        )
    return value


def _count(config: Any, name: str, place: str, *, most: int) -> int:
    value = config_field(config, name)
    if type(value) is not int or not 1 <= value <= most:
        raise BadFile(f"{place}: {name} is {str(value)[:40]!r}; expected a whole number from 1 to {most}")
    return value


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _triple(
    said: Mapping[str, Any], key: str, default: tuple[float, float, float], place: str
) -> tuple[float, float, float]:
    value = said.get(key)
    if value is None:
        return default
    good = isinstance(value, list) and len(value) == 3 and all(_number(part) for part in value)
    low = 1e-3 if key == "image_std" else -10.0
    if not good or not all(low <= part <= 10.0 for part in value):
        raise BadFile(f"{place}: {key} is {str(value)[:60]}; expected three numbers from {low:g} to 10")
    return (float(value[0]), float(value[1]), float(value[2]))
