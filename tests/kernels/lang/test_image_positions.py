"""Places in pictures: which prompt tokens, and which merged patches, a selection means."""

from __future__ import annotations

import pytest

from labtui_artifacts.errors import UsageError
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
