"""Videos for tests: real files, made of frames that each test paints."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

CODEC = {"mp4": "libx264", "mov": "mpeg4", "webm": "libvpx-vp9", "matroska": "libx264"}


def film(
    frames: Sequence[np.ndarray],
    form: str = "mp4",
    codec: str = "",
    rate: int = 10,
    turned: int = 0,
    **options: str,
) -> bytes:
    """A video file of frames uint8 ``[height, width, 3]`` with even sides; ``turned`` is how a player is to turn it."""
    import av

    with TemporaryDirectory() as folder:
        place = Path(folder) / "film"
        with av.open(str(place), "w", format=form, options=options) as container:
            stream: Any = container.add_stream(codec or CODEC[form], rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.bit_rate = 4_000_000
            if turned:
                stream.set_display_rotation(turned)
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return place.read_bytes()


def moving(frames: Sequence[np.ndarray], form: str, duration: int = 100) -> bytes:
    """A moving image of Pillow's; WebP and PNG keep every pixel."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    out = io.BytesIO()
    more: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    first.save(out, form, save_all=True, append_images=rest, duration=duration, **more)
    return out.getvalue()


def plain(colour: Sequence[int], width: int = 96, height: int = 64) -> np.ndarray:
    """A frame of one colour."""
    return np.broadcast_to(np.asarray(colour, dtype=np.uint8), (height, width, 3)).copy()


def noisy(count: int, width: int, height: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of random pixels."""
    chooser = np.random.default_rng(seed)
    return [chooser.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]
