"""Pictures: every kind of file becomes upright RGB, and what is hostile or damaged is one clear line."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models import pictures
from labtui_kernels.models.pictures import open_picture, thumbnail

# Six blocks of colours that no turn or flip maps onto itself: three across, two down.
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
BLOCKS = np.array(COLOURS, dtype=np.uint8).reshape(2, 3, 3).repeat(16, 0).repeat(16, 1)


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    picture = open_picture(data)
    assert picture.image.mode == "RGB" and picture.size == picture.image.size
    return np.asarray(picture.image).astype(int)


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """A PNG written by hand, whose header may lie."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera stores ``upright``, by EXIF's definition: on which visual side row 0 and column 0 lie."""
    row, col = {
        **{1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left")},
        **{5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")},
    }[orientation]
    height, width = upright.shape[:2]

    def place(side: str, index: int) -> tuple[str, int]:
        axis, last = ("y", height - 1) if side in ("top", "bottom") else ("x", width - 1)
        return axis, index if side in ("top", "left") else last - index

    rows, cols = (height, width) if orientation < 5 else (width, height)
    made = np.empty((rows, cols, 3), dtype=np.uint8)
    for i in range(rows):
        for j in range(cols):
            at = dict([place(row, i), place(col, j)])
            made[i, j] = upright[at["y"], at["x"]]
    return made


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_pictures_are_turned_back(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(
        form, {}
    )
    turned = Image.fromarray(stored(BLOCKS, orientation))
    found = pixels_of(encode(turned, form, exif=exif, **lossless))
    assert found.shape == BLOCKS.shape
    assert np.abs(found - BLOCKS).max() <= (12 if form == "JPEG" else 0)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_means_nothing_leaves_the_picture_alone(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(pixels_of(encode(Image.fromarray(BLOCKS), exif=exif)), BLOCKS)


def test_a_scribbled_exif_block_does_not_cost_the_picture() -> None:
    data = encode(Image.fromarray(BLOCKS), "JPEG", quality=95, subsampling=0, exif=b"Exif\0\0" + b"\xff" * 60)
    assert np.abs(pixels_of(data) - BLOCKS).max() <= 12


def test_transparency_is_laid_on_white() -> None:
    layer = np.zeros((8, 8, 4), dtype=np.uint8)
    layer[:, :4] = (255, 0, 0, 255)
    layer[:, 4:] = (0, 0, 255, 51)  # a fifth
    found = pixels_of(encode(Image.fromarray(layer)))
    assert found[0, 0].tolist() == [255, 0, 0] and np.abs(found[0, 7] - [204, 204, 255]).max() <= 1
    grey = Image.fromarray(np.full((8, 8, 2), (0, 0), dtype=np.uint8), "LA")
    assert pixels_of(encode(grey)).min() == 255
    palette = Image.fromarray(BLOCKS).quantize(8)
    seen = np.asarray(palette)[0, 0]
    found = pixels_of(encode(palette, transparency=int(seen)))
    assert found[0, 0].tolist() == [255, 255, 255] and found[0, -1].tolist() == [0, 0, 255]
    plain = pixels_of(encode(Image.fromarray(BLOCKS), transparency=(0, 255, 0)))
    assert plain[0, 20].tolist() == [255, 255, 255] and plain[0, 0].tolist() == [255, 0, 0]


def test_sixteen_bits_keep_their_greys() -> None:
    values = np.array([[0, 128, 257, 32_896, 65_535]], dtype=np.uint16).repeat(4, 0)
    wanted = [0, 0, 1, 128, 255]
    for form in ("PNG", "TIFF", "PPM"):
        found = pixels_of(encode(Image.fromarray(values), form))
        assert found[0, :, 0].tolist() == wanted, form
        assert (found == found[..., :1]).all()
    big = Image.frombytes("I;16B", (5, 4), values.astype(">u2").tobytes())
    assert pixels_of(encode(big, "TIFF"))[0, :, 0].tolist() == wanted
    colour = png(2, 1, 16, 2, b"\0" + np.array([65_535, 0, 257, 0, 32_896, 65_535], dtype=">u2").tobytes())
    assert pixels_of(colour).tolist() == [[[255, 0, 1], [0, 128, 255]]]


def test_inks_palettes_grey_and_one_bit() -> None:
    image = Image.fromarray(BLOCKS)
    inks = pixels_of(encode(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(inks[8, 8] - BLOCKS[8, 8]).max() < 20 and np.abs(inks[24, 40] - BLOCKS[24, 40]).max() < 20
    assert np.array_equal(pixels_of(encode(image.convert("CMYK"), "TIFF")), BLOCKS)
    assert np.array_equal(pixels_of(encode(image.quantize(8), "GIF")), BLOCKS)
    assert np.array_equal(pixels_of(encode(image, "BMP")), BLOCKS)
    grey = pixels_of(encode(image.convert("L")))
    assert (grey == grey[..., :1]).all() and grey[0, 0, 0] == 76
    assert sorted(np.unique(pixels_of(encode(image.convert("1"), "PNG")))) == [0, 255]


def test_the_first_page_counts_and_it_is_said() -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)) for shade in (10, 200, 90)]
    for form in ("TIFF",):
        data = encode(frames[0], form, save_all=True, append_images=frames[1:])
        picture = open_picture(data)
        assert picture.note == "first of several frames", form
        assert np.asarray(picture.image).max() == 10, form
    assert open_picture(encode(frames[0])).note == ""


def test_digest_name_and_path(tmp_path: Path) -> None:
    data = encode(Image.fromarray(BLOCKS))
    (tmp_path / "photo.png").write_bytes(data)
    (tmp_path / "link.png").symlink_to("photo.png")
    by_path, by_link = open_picture(tmp_path / "photo.png"), open_picture(tmp_path / "link.png")
    assert by_path.digest == by_link.digest == open_picture(data).digest
    assert by_path.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert by_path.name == str(tmp_path / "photo.png") and open_picture(data, "x.png").name == "x.png"


def line_of(call: Callable[[], Any], kind: type[LabError]) -> str:
    with pytest.raises(LabError) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {line}"
    assert "\n" not in line and 20 < len(line) < 400
    return line


EMPTY = b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "is empty"),
        (b"hello, I am no picture", "no image that can be read, or one without pixels; expected PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n", "no image that can be read"),
        (EPS, "no image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "no image that can be read"),
        (png(0, 5, 8, 2, b""), "or one without pixels"),
        (EMPTY, "or one without pixels"),
        (png(100_000, 100_000, 8, 2, b""), "million"),
        (png(9_000, 9_000, 8, 2, b""), "9000 x 9000 pixels; at most 80 million"),
        (png(70_000, 2, 8, 2, b""), "sides up to 65535"),
        (encode(Image.fromarray(BLOCKS))[:-40], "damaged or truncated"),
        (encode(Image.fromarray(BLOCKS), "JPEG")[:-300], "damaged or truncated"),
        (encode(Image.new("F", (9, 9), 0.5), "TIFF"), "floating-point"),
        (encode(Image.fromarray(np.full((4, 4), 1 << 20, dtype=np.int32)), "TIFF"), "outside 0 to 65535"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_is_no_good_picture_is_one_line(data: bytes, line: str) -> None:
    found = line_of(lambda: open_picture(data, "photo.png"), BadFile)
    assert found.startswith("photo.png: ") and line in found


def test_nothing_is_decoded_before_its_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(Image.Image, "load", decoded.append)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded.append)
    with pytest.raises(BadFile, match="9000 x 9000"):
        open_picture(png(9_000, 9_000, 8, 2, b""))
    assert not decoded


def test_files_that_are_no_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert "not a regular file" in line_of(lambda: open_picture(tmp_path / "pipe.png"), BadFile)
    assert "not a regular file" in line_of(lambda: open_picture(Path("/dev/zero")), BadFile)
    assert "symbolic links" in line_of(lambda: open_picture(tmp_path / "a.png"), BadFile)
    assert "is a folder" in line_of(lambda: open_picture(tmp_path), BadFile)
    assert "no such file" in line_of(lambda: open_picture(tmp_path / "none.png"), UsageError)
    assert "zero byte" in line_of(lambda: open_picture(tmp_path / "a\0b.png"), UsageError)
    with (tmp_path / "huge.png").open("wb") as handle:
        handle.truncate(pictures.MAX_BYTES + 1)
    assert "over 64 MiB" in line_of(lambda: open_picture(tmp_path / "huge.png"), BadFile)
    assert "over 64 MiB" in line_of(lambda: open_picture(bytes(pictures.MAX_BYTES + 1), "sent"), BadFile)


def test_a_file_scribbled_or_cut_anywhere_never_escapes_as_a_traceback(
    recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(BLOCKS)
    files = [encode(image, form) for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")]
    good = 0
    for data in files:
        for trial in range(60):
            broken = bytearray(data)
            for place in random.integers(0, min(len(data), 400), 3):
                broken[place] = int(random.integers(256))
            if trial % 3 == 0:
                broken = broken[: int(random.integers(1, len(data)))]
            try:
                open_picture(bytes(broken))
                good += 1
            except BadFile as error:
                assert "\n" not in str(error)
    assert good and not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_thumbnails_fit_keep_their_shape_and_never_grow() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8))
    for image, side, most in ((noise, 256, 24 * 1024), (noise, 256, 2000), (noise, 64, 24 * 1024)):
        data = thumbnail(open_picture(encode(image)), side, most)
        width, height = open_picture(data).size
        assert len(data) <= most and max(width, height) <= side and abs(width / height - 1.5) < 0.2
    small = open_picture(encode(Image.fromarray(BLOCKS)))
    assert np.array_equal(pixels_of(thumbnail(small)), BLOCKS)
    line = open_picture(encode(Image.new("RGB", (3000, 2), (9, 8, 7))))
    assert open_picture(thumbnail(line)).size == (256, 1)
    with pytest.raises(ValueError, match="only 20 bytes"):
        thumbnail(small, most=20)
