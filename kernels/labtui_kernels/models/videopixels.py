"""Pixels of a video: what a video processor makes of its frames.

transformers' own video processors need torchvision. Here frames are resized by Pillow, then normalised and cut by the same
steps on the same numbers, so frames that have the right size already give the very same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from labtui_artifacts.errors import UsageError
from labtui_kernels.models.pixels import Pixels, check_shape, require_tower
from labtui_kernels.models.videos import Video
from labtui_kernels.models.videosettings import VideoSettings, default_video_settings

if TYPE_CHECKING:
    import torch

    from labtui_kernels.models.load import LoadedModel


def video_settings_of(loaded: LoadedModel) -> VideoSettings:
    """How a model's videos are prepared; UsageError for a model without a vision tower."""
    require_tower(loaded)
    return loaded.videos or default_video_settings(loaded.model.config)


def prepare_video(settings: VideoSettings, video: Video, *, stamped: bool = False) -> Pixels:
    """What a tower gets for ``video``, on the CPU in float32; frames that it takes together count as one of the grid.

    ``stamped`` is for families whose prompts say when each of these frames is. UsageError for frames that are too small or
    too long for the processor, BadFile where one cannot be decoded.
    """
    base = settings.base
    check_shape(base, video, smallest=1 if settings.whole else None)
    indices = settings.indices(video.total, video.rate)
    size = settings.resized(len(indices), video.size)
    if max(size) > 200 * min(size):
        raise UsageError(f"{video.name}: becomes {size[0]} x {size[1]} pixels; give a larger max_pixels")

    def resize(frame: Image.Image) -> Image.Image:
        return frame if frame.size == size else frame.resize(size, Image.Resampling(base.resample))

    frames = np.stack([np.asarray(frame) for frame in video.frames(indices, resize)])
    values, grid = patches(settings, frames)
    when = [index / video.rate for index in indices]
    step = base.temporal
    stamps = tuple((when[at] + when[at + step - 1]) / 2 for at in range(0, len(when), step))
    return Pixels(
        values=values,
        grid=grid,
        digest=video.digest,
        resized=size,
        size=video.size,
        merge=base.merge,
        seconds=step / (len(indices) / video.total * video.rate),
        stamps=stamps if stamped else (),
        when=stamps,
    )


def patches(settings: VideoSettings, frames: np.ndarray) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Frames uint8 ``[n, height, width, 3]`` of whole merged patches as float32 ``[patches, c]``, and their grid.

    A patch has its channels one after the other, in each the frames that it spans, row by row.
    """
    import torch

    base = settings.base
    patch, merge, step = base.patch, base.merge, base.temporal
    count, height, width, _ = frames.shape
    t, rows, cols = count // step, height // patch, width // patch
    # The mean and deviation of colours in 0..255, in single precision as transformers has them.
    mean, std = (torch.tensor(each) * (1.0 / (1 / 255)) for each in (base.mean, base.std))
    values = torch.from_numpy(frames).permute(0, 3, 1, 2).to(torch.float32)
    values = values.sub_(mean[:, None, None]).div_(std[:, None, None])
    split = values.reshape(t, step, 3, rows // merge, merge, patch, cols // merge, merge, patch)
    cut = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(t * rows * cols, 3 * step * patch * patch)
    return cut.contiguous(), (t, rows, cols)
