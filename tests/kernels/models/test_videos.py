"""Videos as users give them: real files of every kind, their frames in order and upright, and files that are none."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models import videos
from labtui_kernels.models.pictures import open_picture, thumbnail
from labtui_kernels.models.videos import Video
from tests.support.films import film, moving, plain

SHADES = np.random.default_rng(0).integers(20, 235, (12, 3))
FRAMES = [plain(shade) for shade in SHADES]


def opened(data: bytes, name: str = "clip.mp4") -> Video:
    found = open_picture(data, name)
    assert isinstance(found, Video)
    return found


def shade(image: Image.Image) -> np.ndarray:
    return np.asarray(image).reshape(-1, 3).mean(0)


@pytest.mark.parametrize(
    ("form", "codec"),
    [("mp4", "libx264"), ("mov", "mpeg4"), ("webm", "libvpx"), ("webm", "libvpx-vp9"), ("matroska", "libx264"),
     ("mov", "mjpeg")],
)  # fmt: skip
def test_frames_of_a_file_come_in_order(form: str, codec: str) -> None:
    video = opened(film(FRAMES, form, codec, rate=5))
    assert (video.total, video.rate, video.size) == (12, 5.0, (96, 64))
    assert video.note == "video of 12 frames, 2.4 s" and video.seconds == pytest.approx(2.4)
    assert np.abs(shade(video.image) - SHADES[0]).max() < 8
    for wanted in ([0, 4, 11], [11], [3, 3, 5], list(range(12))):
        frames = list(video.frames(wanted))
        assert len(frames) == len(wanted)
        for number, frame in zip(wanted, frames, strict=True):
            assert frame.mode == "RGB" and frame.size == (96, 64)
            assert np.abs(shade(frame) - SHADES[number]).max() < 8, number


def test_frames_that_are_only_referred_to_are_not_counted() -> None:
    """VP8's encoders put them into packets of their own where they look ahead."""
    import av

    data = bytearray(film(FRAMES, "webm", "libvpx", rate=5))
    container: Any = av.open(_stream(bytes(data)))
    packets = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]
    container.close()
    assert len(packets) == 12 and data.count(packets[5]) == 1
    data[data.index(packets[5])] &= ~0x10
    video = opened(bytes(data))
    assert video.total == 11
    frames = list(video.frames([4, 5, 10]))
    for shown, frame in zip([4, 6, 11], frames, strict=True):
        assert np.abs(shade(frame) - SHADES[shown]).max() < 8


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_moving_images_are_videos(form: str) -> None:
    video = opened(moving(FRAMES, form, 250), "clip.gif")
    assert (video.total, video.rate, video.size) == (12, 4.0, (96, 64))
    for number, frame in zip([0, 7, 11], video.frames([0, 7, 11]), strict=True):
        assert np.abs(shade(frame) - SHADES[number]).max() < 2
    assert max(Image.open(_stream(thumbnail(video))).size) <= 256


def _stream(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


def test_a_still_image_is_none(tmp_path: Path) -> None:
    for form in ("GIF", "PNG", "WEBP"):
        assert not isinstance(open_picture(moving(FRAMES[:1], form)), Video)


@pytest.mark.parametrize(("turned", "corner"), [(0, "left"), (-90, "top"), (90, "bottom"), (180, "right")])
def test_frames_are_upright(turned: int, corner: str) -> None:
    """Red on the left; a phone held upright writes a turn of -90, and the red is at the top then."""
    frame = plain((0, 0, 255))
    frame[:, :32] = (255, 0, 0)
    video = opened(film([frame] * 4, turned=turned))
    assert video.size == ((64, 96) if turned in (90, -90) else (96, 64))
    for image in (video.image, next(video.frames([2]))):
        pixels = np.asarray(image).astype(int)
        height, width, _ = pixels.shape
        at = {"left": (height // 2, 4), "right": (height // 2, width - 4), "top": (4, width // 2),
              "bottom": (height - 4, width // 2)}  # fmt: skip
        red = [name for name, place in at.items() if pixels[place][0] > 150 > pixels[place][2]]
        assert red == [corner]


def line_of(call: Callable[[], Any], kind: type[LabError] = BadFile) -> str:
    with pytest.raises(LabError) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {line}"
    assert "\n" not in line and line.startswith("clip.mp4: ") and 20 < len(line) < 300
    return line


GOOD = film(FRAMES)
QUICK = film(FRAMES, movflags="faststart")
BAD: list[tuple[str, bytes, str]] = [
    ("one frame", film(FRAMES[:1]), "has one frame; a video has at least two"),
    ("half", GOOD[: len(GOOD) // 2], "damaged or truncated"),
    ("cut at its end", QUICK[:-300], "is truncated: it has"),
    ("few frames left", QUICK[: QUICK.index(b"mdat") + 8], "is truncated: it has"),
    ("begins as one", b"\0\0\0\x18ftypmp42" + bytes(random.Random(0).randbytes(900)), "damaged or truncated"),
    ("begins as another", b"\x1aE\xdf\xa3" + bytes(200), "damaged or truncated"),
    ("another codec", film(FRAMES, "matroska", "ffv1"), "coded as ffv1; expected one of h264"),
    ("text", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no image that can be read"),
    ("a list of files", b"ffconcat version 1.0\nfile '/etc/passwd'\n", "no image that can be read"),
    ("nothing", b"", "is empty"),
]


@pytest.mark.parametrize(("data", "line"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_no_video_is_one_line(data: bytes, line: str) -> None:
    assert line in line_of(lambda: open_picture(data, "clip.mp4"))


def test_no_other_decoder_is_tried_while_a_file_is_opened() -> None:
    import av.logging

    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            line_of(lambda: open_picture(film(FRAMES, "matroska", "ffv1"), "clip.mp4"))
            refused = [line for _, _, line in said if "not on whitelist" in line]
            assert refused and all("(ffv1)" in line for line in refused)
            opened(GOOD)
            assert len([line for _, _, line in said if "not on whitelist" in line]) == len(refused)
    finally:
        av.logging.set_level(before)


def test_a_frame_that_cannot_be_decoded_is_one_line() -> None:
    """Damage inside a file shows when that frame is wanted."""
    noisy = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), dtype=np.uint8) for n in range(12)]
    data = bytearray(film(noisy, "mov", "mjpeg"))
    place = data.index(b"mdat")
    data[place + 30_000 : place + 60_000] = bytes(30_000)
    line = line_of(lambda: list(opened(bytes(data)).frames(range(12))))
    assert "damaged or truncated" in line


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_is_one_line_or_nothing(seed: int) -> None:
    chooser = random.Random(seed)
    data = bytearray(film(FRAMES, ["mp4", "webm", "matroska"][seed % 3]))
    for _ in range(chooser.choice([1, 10, 200])):
        data[chooser.randrange(len(data))] = chooser.randrange(256)
    if chooser.random() < 0.5:
        data = data[: chooser.randrange(12, len(data))]
    try:
        found = open_picture(bytes(data), "clip.mp4")
        assert all(
            frame.size == found.size for frame in opened(bytes(data)).frames(range(opened(bytes(data)).total))
        )
    except LabError as error:
        assert "\n" not in str(error) and str(error).startswith("clip.mp4: ")


def test_bombs_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MOST_AREA", 96 * 64 - 1)
    assert "96 x 64 pixels; at most" in line_of(lambda: open_picture(GOOD, "clip.mp4"))
    assert "96 x 64 pixels; at most" in line_of(lambda: open_picture(moving(FRAMES, "GIF"), "clip.mp4"))
    monkeypatch.undo()
    monkeypatch.setattr(videos, "MOST_FRAMES", 11)
    assert "has over 11 frames; at most 11 of this size are read" in line_of(
        lambda: open_picture(GOOD, "clip.mp4")
    )
    assert "has over 11 frames" in line_of(lambda: open_picture(moving(FRAMES, "GIF"), "clip.mp4"))
    monkeypatch.undo()
    monkeypatch.setattr(videos, "MOST_DECODED", {"container": 7 * 96 * 64, "image": 7 * 96 * 64})
    assert "has 12 frames; at most 7 of this size" in line_of(lambda: open_picture(GOOD, "clip.mp4"))
    assert "has 12 frames; at most 7" in line_of(lambda: open_picture(moving(FRAMES, "GIF"), "clip.mp4"))


def test_a_moving_png_that_claims_more_frames_than_it_has() -> None:
    data = bytearray(moving(FRAMES, "PNG"))
    place = data.index(b"acTL")
    data[place + 4 : place + 8] = struct.pack(">I", 2_000_000_000)
    data[place + 12 : place + 16] = struct.pack(">I", zlib.crc32(bytes(data[place : place + 12])))
    line = line_of(lambda: opened(bytes(data)))
    assert "frames" in line or "damaged" in line


def test_without_pyav_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install av" in line_of(lambda: open_picture(GOOD, "clip.mp4"), UsageError)
    assert isinstance(open_picture(moving(FRAMES, "GIF")), Video)  # Pillow's own need nothing


def test_nothing_is_printed_over_a_damaged_video() -> None:
    """What FFmpeg has to say of a file must not land on the app's screen."""
    program = (
        "import sys; from labtui_kernels.models.pictures import open_picture\n"
        "from labtui_artifacts.errors import LabError\n"
        "data = bytearray(open(sys.argv[1], 'rb').read()); data[-400:] = bytes(400)\n"
        "try:\n    v = open_picture(bytes(data), 'x'); list(v.frames(range(v.total)))\n"
        "except LabError: pass\n"
        "try:\n    open_picture(bytes(data[:600]), 'x')\n"
        "except LabError: pass\n"
    )
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".webm") as file:
        file.write(film(FRAMES, "webm"))
        file.flush()
        done = subprocess.run(
            [sys.executable, "-c", program, file.name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            check=False,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_opening_a_picture_does_not_import_pyav() -> None:
    program = (
        "import sys, io; from PIL import Image; from labtui_kernels.models.pictures import open_picture\n"
        "out = io.BytesIO(); Image.new('RGB', (8, 8)).save(out, 'PNG'); open_picture(out.getvalue())\n"
        "assert not {'av', 'torch', 'transformers'} & set(sys.modules), 'imported'"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=False, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
