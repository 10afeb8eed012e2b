"""Videos: files with frames as users give them, opened with care; chosen frames come out as plain RGB. Torch-free.

MP4, MOV, WebM and Matroska are read by PyAV, which is imported when one is opened; moving GIF, WebP, PNG and AVIF by Pillow.
A file may be hostile, so the container is told by its first bytes and only that one is tried (formats that point to
other files are not among them), only well-known codecs are decoded, also where FFmpeg looks into a file's other streams,
and sizes are checked before frames are.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.models import pictures
from labtui_kernels.models.pictures import Picture

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")
"""What is decoded; the codecs of phones, cameras and the web."""
MOVING = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats of Pillow whose frames follow each other in time; the pages of a TIFF do not."""
MOST_FRAMES = 100_000
"""Frames of a file at most; at 30 a second nearly an hour."""
MOST_AREA = 40_000_000
"""Pixels of one frame at most: 8K."""
MOST_DECODED = {"container": 20_000_000_000, "image": 4_000_000_000}
"""Pixels of all frames of a file: of 1080p some five minutes, and one for moving images, which are slower to decode."""
USUAL_RATE = 24.0
"""Frames a second of a file that does not say."""

_DECODER = {"max_pixels": str(MOST_AREA)}
_PROBING = {"codec_whitelist": ",".join((*CODECS, "libdav1d", "libaom-av1", "libvpx", "libvpx-vp9"))}
"""FFmpeg tries decoders on all streams as it opens a file: by their own names, and sound is nothing to us."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_STILL_BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc")


@dataclass(frozen=True)
class Video(Picture):
    """A video file, opened: a picture of its first frame, which can tell the others.

    ``total`` is how many frames it has, at least 2, and ``rate`` how many of them a second. The frames are decoded when
    they are asked for.
    """

    data: bytes = field(default=b"", repr=False, compare=False)
    total: int = 0
    rate: float = USUAL_RATE
    container: str = field(default="", repr=False)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.total / self.rate

    def frames(
        self, indices: Sequence[int], change: Callable[[Image.Image], Image.Image] | None = None
    ) -> Iterator[Image.Image]:
        """These frames (ascending, counted from 0; one may be named twice), RGB and upright, all of its size.

        ``change`` is done to each as it comes, so that only what it makes of them is held. BadFile where one cannot be
        decoded.
        """
        source = _container_frames if self.container else _image_frames
        found = source(self, sorted(set(indices)), change or (lambda frame: frame))
        at, image = -1, self.image
        for index in indices:
            if index != at:
                following = next(found, None)
                if following is None:
                    raise BadFile(
                        f"{self.name}: is damaged or truncated: frame {index} of {self.total} cannot be decoded; "
                        "save it again"
                    )
                at, image = index, following
            yield image


def container_of(data: bytes) -> str:
    """The container whose first bytes these are, by the name of its reader; empty for what is no video."""
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[4:8] in _BOXES and not (data[4:8] == b"ftyp" and data[8:12] in _STILL_BRANDS):
        return "mov"
    return ""


def readable() -> bool:
    """Whether videos in containers can be read here: PyAV comes with ``labtui[kernel]``."""
    return importlib.util.find_spec("av") is not None


def open_container(data: bytes, name: str) -> Video:
    """A video by PyAV: its frames counted, the first one decoded.

    UsageError without PyAV, BadFile in one line for what is damaged, truncated, holds no video, one frame, an unknown
    codec, or more than the bounds of this module.
    """
    kind = container_of(data)
    with _reader(data, kind, name) as (container, stream):
        codec = stream.codec_context
        if codec.name not in CODECS and codec.codec.canonical_name not in CODECS:
            raise BadFile(
                f"{name}: its video is coded as {codec.name[:40]}; expected one of {', '.join(CODECS)}"
            )
        _check_area(name, codec.width, codec.height)
        total = _count(container, stream, name)
        _check_total(name, total, codec.width * codec.height, "container")
        rate = _rate(stream, total)
    blank = Image.new("RGB", (1, 1))
    video = Video(blank, pictures.digest_of(data), (1, 1), name, "", data, total, rate, kind)
    image = next(_container_frames(video, [0], lambda frame: frame), None)
    if image is None:
        raise BadFile(f"{name}: is damaged or truncated: no frame can be decoded; save it again")
    return _described(video, image)


def moves(opened: Image.Image) -> bool:
    """Whether an image that Pillow has opened is a video: several frames, one after the other in time."""
    return bool(getattr(opened, "is_animated", False)) and opened.format in MOVING


def of_image(opened: Image.Image, first: Image.Image, data: bytes, name: str) -> Video:
    """A moving image; ``first`` is its first frame, RGB and upright. BadFile for one over the bounds of this module."""
    total = int(getattr(opened, "n_frames", 1))
    _check_area(name, *opened.size)
    _check_total(name, total, opened.size[0] * opened.size[1], "image")
    first_lasts = float(opened.info.get("duration") or 0.0)
    seconds = 0.0
    for number in range(total):
        opened.seek(number)
        # WebP and AVIF tell a frame's duration only once it is decoded: there all are as long as the first.
        seconds += max(0.0, float(opened.info.get("duration") or first_lasts)) / 1000
    rate = _bounded_rate(total / seconds if seconds > 0 else 10.0)  # what viewers take for no duration
    return _described(Video(first, pictures.digest_of(data), first.size, name, "", data, total, rate), first)


def _described(video: Video, image: Image.Image) -> Video:
    note = f"video of {video.total} frames, {video.seconds:.1f} s"
    return Video(
        image,
        video.digest,
        image.size,
        video.name,
        note,
        video.data,
        video.total,
        video.rate,
        video.container,
    )


# -- by PyAV ---------------------------------------------------------------------------------------------


@contextmanager
def _reader(data: bytes, kind: str, name: str) -> Iterator[tuple[Any, Any]]:
    """The opened container and its first video; whatever PyAV raises over it, as one line."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise UsageError(
            f"{name}: reading videos needs PyAV, which is not installed here; pip install av, or 'labtui[kernel]'"
        ) from None
    try:
        with av.open(
            io.BytesIO(data), "r", format=kind, options=_PROBING, metadata_errors="ignore"
        ) as container:
            if not container.streams.video:
                raise BadFile(f"{name}: holds no video; expected a file with frames")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadFile(f"{name}: its video is in an unknown code; expected one of {', '.join(CODECS)}")
            stream.thread_type = "AUTO"
            stream.codec_context.options = _DECODER
            yield container, stream
    except (BadFile, UsageError):
        raise
    except (FFmpegError, OSError, ValueError, MemoryError, OverflowError) as error:
        reason = " ".join(str(getattr(error, "strerror", "") or error).split())[:120] or type(error).__name__
        raise BadFile(f"{name}: is a damaged or truncated video ({reason}); save it again") from error


def _count(container: Any, stream: Any, name: str) -> int:
    """How many frames a stream shows: what its packets say, which need no decoding."""
    hides = stream.codec_context.name in ("vp8", "libvpx")
    total = 0
    for packet in container.demux(stream):
        shown = packet.size and not packet.is_discard
        # VP8 keeps frames that are only referred to in packets of their own; bit 4 of a frame says whether it is shown.
        total += bool(shown and (not hides or memoryview(packet)[0] & 0x10))
        if total > MOST_FRAMES:
            break
    said = int(stream.frames or 0)
    if total < 0.9 * min(said, MOST_FRAMES):  # some are left out by a cut of the file's own
        raise BadFile(f"{name}: is truncated: it has {total} of its {said} frames; save it again")
    return total


def _rate(stream: Any, total: int) -> float:
    for said in (stream.average_rate, stream.guessed_rate):
        if said:
            return _bounded_rate(float(said))
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    return _bounded_rate(total / seconds if seconds > 0 else USUAL_RATE)


def _bounded_rate(rate: float) -> float:
    return min(1000.0, max(1 / 3600, rate)) if math.isfinite(rate) else USUAL_RATE


def _container_frames(
    video: Video, wanted: Sequence[int], change: Callable[[Image.Image], Image.Image]
) -> Iterator[Image.Image]:
    """The frames of these numbers (ascending), as far as they can be decoded."""
    left = iter(wanted)
    following = next(left, None)
    with _reader(video.data, video.container, video.name) as (container, stream):
        area = stream.codec_context.width * stream.codec_context.height
        for number, frame in enumerate(container.decode(stream)):
            if following is None:
                return
            if frame.width * frame.height > max(area, 1):
                raise BadFile(
                    f"{video.name}: its frames grow to {frame.width} x {frame.height}; save it again"
                )
            if number == following:
                shown = _turned(Image.fromarray(frame.to_ndarray(format="rgb24")), frame)
                yield change(_alike(shown, video))
                following = next(left, None)


def _turned(image: Image.Image, frame: Any) -> Image.Image:
    """A frame as a player shows it: phones write down how they were held."""
    turns = {
        1: Image.Transpose.ROTATE_90,
        2: Image.Transpose.ROTATE_180,
        3: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(round(float(frame.rotation or 0) / 90) % 4)
    return image if turn is None else image.transpose(turn)


def _alike(image: Image.Image, video: Video) -> Image.Image:
    """A frame in the size of the first, should the file change it on the way."""
    if video.size == (1, 1) or image.size == video.size:
        return image
    return image.resize(video.size, Image.Resampling.BICUBIC)


# -- by Pillow -------------------------------------------------------------------------------------------


def _image_frames(
    video: Video, wanted: Sequence[int], change: Callable[[Image.Image], Image.Image]
) -> Iterator[Image.Image]:
    """The same for a moving image. Each frame is drawn over those before it, so all are gone through."""
    for_now = set(wanted)
    with pictures.one_line(video.name):
        opened = Image.open(io.BytesIO(video.data), formats=pictures.FORMATS)
        found: list[Image.Image] = []
        for number in range(max(wanted, default=-1) + 1):
            try:
                opened.seek(number)
            except EOFError:
                break
            opened.load()
            if number in for_now:
                found.append(change(_alike(pictures.plain(video.name, opened), video)))
    yield from found


# -- bounds ----------------------------------------------------------------------------------------------


def _check_area(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BadFile(f"{name}: its frames are {width} x {height} pixels; expected at least one")
    if width * height > MOST_AREA:
        raise BadFile(
            f"{name}: its frames are {width} x {height} pixels; at most {MOST_AREA // 10**6} million are decoded: "
            "make it smaller"
        )


def _check_total(name: str, total: int, area: int, kind: str) -> None:
    if total < 2:
        has = "no frames" if total < 1 else "one frame"
        raise BadFile(f"{name}: has {has}; a video has at least two: give a picture as .png or .jpg")
    most = min(MOST_FRAMES, MOST_DECODED[kind] // area)
    if total > most:
        has = f"over {MOST_FRAMES:,}" if total > MOST_FRAMES else f"{total:,}"
        raise BadFile(
            f"{name}: has {has} frames; at most {most:,} of this size are read: cut it, or make it smaller"
        )
