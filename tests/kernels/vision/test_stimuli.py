"""Words in inks: what is drawn is what the names say, and the splits share nothing."""

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts.errors import UsageError
from labtui_kernels.vision import stimuli
from labtui_kernels.vision.stimuli import BACKGROUNDS, COLORS, Stimulus


def ink_shades(made: Stimulus) -> np.ndarray:
    """The colours of the pixels that the ink covers wholly: those farthest from the background."""
    pixels = np.asarray(made.image, dtype=int)
    inside = pixels[made.ink_mask]
    far = np.abs(inside - pixels[0, 0]).sum(axis=1)
    return np.unique(inside[far == far.max()], axis=0)


@pytest.mark.parametrize("subset", stimuli.SUBSETS)
@pytest.mark.parametrize("split", ["train", "held-out"])
def test_the_pixels_have_the_ink_that_the_stimulus_names(subset: str, split: stimuli.Split) -> None:
    for made in stimuli.generate(subset, 40, 3, split):
        assert ink_shades(made).tolist() == [list(stimuli.ink_rgb(made.ink))]
        shades = {tuple(rgb) for rgb in np.asarray(made.image)[~made.ink_mask].tolist()}
        assert shades & set(BACKGROUNDS.values())
        assert 20 < made.ink_mask.sum() < 0.4 * made.ink_mask.size


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    one, again, other = (stimuli.generate("incongruent", 30, seed, "train") for seed in (5, 5, 6))
    assert [a.image.tobytes() for a in one] == [a.image.tobytes() for a in again]
    assert [a.name for a in one] == [a.name for a in again]
    assert [a.image.tobytes() for a in one] != [a.image.tobytes() for a in other]


def test_names_say_the_word_first_and_the_ink_second() -> None:
    for made in stimuli.generate("incongruent", 30, 0):
        assert made.word != made.ink
        assert made.name.startswith(f"{made.word}_as_{made.ink}-")
        assert COLORS[made.ink] in {tuple(rgb) for rgb in np.asarray(made.image)[made.ink_mask].tolist()}
    for made in stimuli.generate("congruent", 12, 0):
        assert made.word == made.ink and made.name.startswith(f"{made.word}_as_{made.word}-")
    assert {made.ink for made in stimuli.generate("text_only", 12, 0)} == {stimuli.NEUTRAL}
    assert {made.word for made in stimuli.generate("color_only", 12, 0)} == {stimuli.NO_WORD}


def test_a_subset_holds_its_pairs_in_turn() -> None:
    made = stimuli.generate("incongruent", 60, 1)
    pairs = [(s.word, s.ink) for s in made]
    assert len(set(pairs[:30])) == 30 and pairs[:30] == pairs[30:]
    assert [s.answers for s in made[:1]] == [
        {stimuli.INK_QUESTION: pairs[0][1], stimuli.WORD_QUESTION: pairs[0][0]}
    ]


def test_the_splits_share_no_font_size_or_place() -> None:
    assert not set(stimuli.SPLIT_FONTS["train"]) & set(stimuli.SPLIT_FONTS["held-out"])
    assert set().union(*stimuli.SPLIT_FONTS.values()) == set(stimuli.FONTS) and len(stimuli.FONTS) >= 5
    assert not set(stimuli.SPLIT_SIZES["train"]) & set(stimuli.SPLIT_SIZES["held-out"])
    fonts = {
        split: {s.font for s in stimuli.generate("congruent", 60, 2, split)}
        for split in ("train", "held-out")
    }
    assert fonts == {split: set(faces) for split, faces in stimuli.SPLIT_FONTS.items()}
    import random

    rng = random.Random(0)
    bins = {
        split: {stimuli.place_bin(stimuli.random_place(rng, split)) for _ in range(600)}
        for split in ("train", "held-out")
    }
    assert not bins["train"] & bins["held-out"]
    assert len(bins["train"] | bins["held-out"]) == 15 and (2, 1) in bins["train"]


def test_marks_tell_which_merged_patches_hold_ink() -> None:
    made = stimuli.draw("red", "blue", size=16, place=(0.0, 0.0), canvas=(140, 56))
    marks = made.marks(2, 5)
    assert marks[0] and not any(marks[3:])
    assert made.ink_mask.nonzero()[1].max() < 60
    assert made.marks(1, 1) == (True,)


def test_a_word_stands_where_its_place_says() -> None:
    corners = {(0.0, 0.0): (2, 2), (1.0, 1.0): (137, 53)}
    for place, (x, y) in corners.items():
        rows, cols = stimuli.draw("green", "red", place=place).ink_mask.nonzero()
        assert abs((cols.min() if x < 70 else cols.max()) - x) <= 3
        assert abs((rows.min() if y < 28 else rows.max()) - y) <= 3


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stimuli.draw("red", "mauve"), "ink 'mauve'"),
        (lambda: stimuli.draw("red", "red", font="comic"), "font 'comic'"),
        (lambda: stimuli.draw("red", "red", background="plaid"), "background 'plaid'"),
        (lambda: stimuli.draw("orange", "red", size=60), "does not fit"),
        (lambda: stimuli.draw("red", "red", place=(2.0, 0.5)), "place"),
        (lambda: stimuli.generate("upside_down", 1, 0), "subset 'upside_down'"),
        (lambda: stimuli.generate("congruent", -1, 0), "-1 stimuli"),
        (lambda: stimuli.generate("congruent", 1, 0, "test"), "split 'test'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_fonts_have_no_name_of_the_fonts_they_come_from() -> None:
    for font in stimuli.FONTS:
        family, _ = stimuli.font_at(font, 20).getname()
        assert family and family.startswith("Labtui")
    assert "Bitstream Vera" in (stimuli.FONT_FOLDER / "LICENSE").read_text()
    assert sum(file.stat().st_size for file in stimuli.FONT_FOLDER.iterdir()) < 150_000


def test_pictures_are_rgb_of_whole_merged_patches() -> None:
    for made in stimuli.generate("incongruent", 30, 0, "held-out"):
        assert isinstance(made.image, Image.Image) and made.image.mode == "RGB"
        assert made.image.width % 28 == 0 and made.image.height % 28 == 0
        assert made.ink_mask.shape == (made.image.height, made.image.width)
