"""Places in pictures: which prompt tokens, and which merged patches, a selection means."""

from __future__ import annotations

import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.edits import parse_edits, touched
from labtui_kernels.lang.positions import ImageSpan, parse_where

# Two images in a prompt of 14 tokens: 2 x 3 at 2..7, 1 x 2 at 10..11.
IMAGES = (ImageSpan(2, 2, 3, (True, False, False, False, True, False)), ImageSpan(10, 1, 2))


def chosen(text: str) -> list[int]:
    mask = parse_where(text).prompt_mask(14, images=IMAGES)
    assert len(mask) == 14
    return [place for place, mark in enumerate(mask) if mark]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("image", [2, 3, 4, 5, 6, 7, 10, 11]),
        ("image0", [2, 3, 4, 5, 6, 7]),
        ("image1", [10, 11]),
        ("image0[0:2,1:2]", [3, 6]),
        ("image[0:1,0:2]", [2, 3, 10, 11]),
        ("ink0", [2, 6]),
        ("text", [0, 1, 8, 9, 12, 13]),
        ("all", list(range(14))),
    ],
)
def test_prompt_tokens(text: str, places: list[int]) -> None:
    assert chosen(text) == places
    assert str(parse_where(text)) == text


def test_merged_patches() -> None:
    assert parse_where("image0[1:2,0:3]").patch_mask(IMAGES) == [[False] * 3 + [True] * 3, [False] * 2]
    assert parse_where("all").patch_mask(IMAGES) == [[True] * 6, [True] * 2]
    assert parse_where("ink0").patch_mask(IMAGES) == [list(IMAGES[0].ink), [False] * 2]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image2", "2 images, counted from 0"),
        ("image[0:2,0:2]", r"image1 has 1 rows and 2 columns.*within \[0:1,0:2\]"),
        ("image0[0:3,0:1]", r"image0 has 2 rows and 3 columns"),
        ("ink", "image1 covers is not known"),
    ],
)
def test_places_outside_the_pictures_are_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        parse_where(text).prompt_mask(14, images=IMAGES)


@pytest.mark.parametrize("text", ["text", "last", "generated", "content", "[1]"])
def test_tokens_are_no_places_in_the_tower(text: str) -> None:
    with pytest.raises(UsageError, match="patches, not tokens"):
        parse_where(text).patch_mask(IMAGES)


@pytest.mark.parametrize("text", ["image", "ink", "image0"])
def test_a_prompt_without_images(text: str) -> None:
    with pytest.raises(UsageError, match="no image"):
        parse_where(text).prompt_mask(5)
    assert parse_where("text").prompt_mask(3) == [True] * 3


# A picture of 1 x 2, a video of 3 frames of 2 x 2 one behind the other, and one of 2 frames of 1 x 3 that stand apart.
VIDEOS = (
    ImageSpan(1, 1, 2),
    ImageSpan(5, 2, 2, frames=3),
    ImageSpan(20, 1, 3, frames=2, starts=(20, 28)),
)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("image1", list(range(5, 17))),
        ("image2", [20, 21, 22, 28, 29, 30]),
        ("image1[0:1,1:2]", [6, 10, 14]),
        ("image1[1:3,1:2,0:2]", [11, 12, 15, 16]),
        ("image2[0:1,1:3]", [21, 22, 29, 30]),
        ("image2[1:2,0:1,0:1]", [28]),
        ("image[0:1,0:1,1:2]", [2, 6, 21]),
        ("text", [0, 3, 4, 17, 18, 19, *range(23, 28), 31]),
    ],
)
def test_places_in_frames(text: str, places: list[int]) -> None:
    where = parse_where(text)
    mask = where.prompt_mask(32, images=VIDEOS)
    assert [place for place, mark in enumerate(mask) if mark] == places
    assert str(where) == text and parse_where(str(where)) == where
    if text != "text":
        assert [len(marks) for marks in where.patch_mask(VIDEOS)] == [2, 12, 6]
        assert sum(map(sum, where.patch_mask(VIDEOS))) == len(places)


def test_spans_of_videos() -> None:
    picture, whole, apart = VIDEOS
    assert (picture.tokens, picture.stop, picture.pieces) == (2, 3, ((1, 3),))
    assert (whole.tokens, whole.stop, whole.pieces) == (12, 17, ((5, 17),))
    assert (apart.tokens, apart.stop, apart.pieces) == (6, 31, ((20, 23), (28, 31)))
    assert apart.positions == [20, 21, 22, 28, 29, 30]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "image1[0:4,0:1,0:1]",
            "image1 is a video of 3 frames as the tower takes them; expected frames within 0:3",
        ),
        (
            "image[0:2,0:1,0:1]",
            "image0 is a picture of one frame as the tower takes them; expected frames within 0:1",
        ),
        ("image1[2:2,0:1,0:1]", "no frame; expected image0"),
        ("image1[1:2,1:1,0:1]", "empty rectangle"),
        ("image1[0:1,0:1,0:1,0:1]", "unknown position"),
        ("image1[0:1]", "unknown position"),
        ("ink1[0:1,0:1,0:1]", "unknown position"),
    ],
)
def test_frames_that_are_not_there_are_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        parse_where(text).patch_mask(VIDEOS)


def test_an_expression_may_name_frames() -> None:
    (term,) = parse_edits("8%*terse@llm.3@image0[1:2,0:2,1:3]")
    assert term.where == parse_where("image0[1:2,0:2,1:3]") and str(term).endswith("@image0[1:2,0:2,1:3]")
    mask = touched(parse_edits("8%*terse@vision.3@image2[1:2,0:1,0:2]")[0], 32, images=VIDEOS)
    assert [place for place, mark in enumerate(mask) if mark] == [28, 29]
