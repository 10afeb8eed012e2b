"""Folders in the study's layout: names are checked against the pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.vision import folder, stimuli


def write(root: Path, made: stimuli.Stimulus, sub: str, name: str | None = None) -> Path:
    (root / sub).mkdir(parents=True, exist_ok=True)
    path = root / sub / f"{name or made.name}.png"
    made.image.save(path)
    return path


def test_a_folder_comes_back_as_it_was_drawn(tmp_path: Path) -> None:
    drawn = [made for subset in stimuli.SUBSETS for made in stimuli.generate(subset, 30, 4, "held-out")]
    for made in drawn:
        # The study keeps its incongruent pairs inside `congruent/`.
        write(tmp_path, made, "congruent" if made.subset == "incongruent" else made.subset)
    read = {Path(made.name).name + made.subset: made for made in stimuli.load_folder(tmp_path)}
    assert len(read) == len(drawn)
    for made in drawn:
        back = read[made.name + made.subset]
        assert (back.word, back.ink, back.subset) == (made.word, made.ink, made.subset)
        assert back.image.tobytes() == made.image.tobytes()
        both = (back.ink_mask & made.ink_mask).sum() / (back.ink_mask | made.ink_mask).sum()
        assert both > 0.8


def test_names_the_other_way_round_are_found_out_by_the_pixels(tmp_path: Path) -> None:
    for made in stimuli.generate("incongruent", 12, 0):
        write(tmp_path, made, "congruent", f"{made.ink}_as_{made.word}")
    drawn = {(made.word, made.ink) for made in stimuli.generate("incongruent", 12, 0)}
    assert {(made.word, made.ink) for made in stimuli.load_folder(tmp_path)} == drawn


def test_a_folder_that_mixes_both_orders_is_refused(tmp_path: Path) -> None:
    one, other = stimuli.generate("incongruent", 2, 0)
    write(tmp_path, one, "congruent")
    write(tmp_path, other, "congruent", f"{other.ink}_as_{other.word}")
    with pytest.raises(BadFile, match=r"word_as_ink.*ink_as_word"):
        stimuli.load_folder(tmp_path)


def test_a_name_that_the_pixels_contradict_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, stimuli.draw("red", "green"), "congruent", "blue_as_yellow")
    with pytest.raises(BadFile, match="the pixels are green") as caught:
        stimuli.load_folder(tmp_path)
    assert str(path) in str(caught.value)
    path.unlink()
    Image.new("RGB", (140, 56), (255, 255, 255)).save(tmp_path / "congruent" / "red_as_green.png")
    with pytest.raises(BadFile, match="the pixels are blank"):
        stimuli.load_folder(tmp_path)


def test_pure_inks_of_another_palette_are_named_by_hue(tmp_path: Path) -> None:
    pure = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
    pure |= {"orange": (255, 165, 0), "purple": (128, 0, 128)}
    for ink, rgb in pure.items():
        made = stimuli.draw("red", ink)
        pixels = np.asarray(made.image).copy()
        pixels[made.ink_mask] = rgb
        assert folder.read_ink(Image.fromarray(pixels))[0] == ink
    black = np.asarray(stimuli.draw("red", "blue").image).copy()
    black[stimuli.draw("red", "blue").ink_mask] = 0
    assert folder.read_ink(Image.fromarray(black))[0] == stimuli.NEUTRAL


def test_what_is_no_folder_of_stimuli_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures"):
        stimuli.load_folder(tmp_path)
    with pytest.raises(UsageError, match="expected a folder"):
        stimuli.load_folder(tmp_path / "nowhere")
    write(tmp_path, stimuli.draw("red", "green"), "congruent", "holiday")
    with pytest.raises(BadFile, match="expected a name such as red_as_blue"):
        stimuli.load_folder(tmp_path)
    (tmp_path / "congruent" / "holiday.png").unlink()
    (tmp_path / "congruent" / "red_as_blue.png").write_bytes(b"no picture")
    with pytest.raises(BadFile, match="not a picture") as caught:
        stimuli.load_folder(tmp_path)
    assert "\n" not in str(caught.value)
