"""What a session keeps of a picture's file, and that no video takes the broker with it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from labtui_artifacts.errors import BadFile
from labtui_kernels.broker import viewing
from labtui_kernels.models.pictures import digest_of
from tests.support.films import film, noisy


def test_a_video_is_told_by_its_first_frame(tmp_path: Path) -> None:
    file = tmp_path / "clip"
    file.write_bytes(film(noisy(6, 96, 64)))
    told = viewing.look_at(file, "clip.mp4")
    with Image.open(io.BytesIO(told["thumbnail"])) as thumbnail:
        assert max(thumbnail.size) == max(min(told["width"], 256), min(told["height"], 256))
    assert told["digest"] == digest_of(file.read_bytes()) and told["frames"] >= 2 and told["seconds"] > 0


def test_what_cannot_be_opened_is_refused_in_the_same_words(tmp_path: Path) -> None:
    file = tmp_path / "clip"
    file.write_bytes(film(noisy(6, 96, 64))[:200])
    with pytest.raises(BadFile, match=r"clip\.mp4: is a damaged or truncated video"):
        viewing.look_at(file, "clip.mp4")


@pytest.mark.parametrize("end", ["kill -SEGV $$", "exit 3"])
def test_a_decoder_that_crashes_is_one_line(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, program = tmp_path / "clip", tmp_path / "python"
    file.write_bytes(film(noisy(6, 96, 64)))
    program.write_text(f"#!/bin/sh\n{end}\n", encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(BadFile, match=r"clip\.mp4: the program that opens videos ended over it \((-11|3)\)"):
        viewing.look_at(file, "clip.mp4")


def test_one_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, program = tmp_path / "clip", tmp_path / "python"
    file.write_bytes(film(noisy(6, 96, 64)))
    program.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(viewing, "SECONDS", 0.2)
    with pytest.raises(BadFile, match="could not be opened within"):
        viewing.look_at(file, "clip.mp4")
