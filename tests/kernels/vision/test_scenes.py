"""Scenes: boxes, colours and answers agree with the pixels."""

import random
from itertools import combinations

import numpy as np
import pytest

from labtui_artifacts.errors import UsageError
from labtui_kernels.vision import scenes
from labtui_kernels.vision.stimuli import COLORS


def test_every_box_holds_its_colour_and_nothing_else_does() -> None:
    for scene in scenes.generate(30, 1, "held-out"):
        pixels = np.asarray(scene.image, dtype=int)
        outside = np.ones(pixels.shape[:2], dtype=bool)
        for _, color, (left, top, right, bottom) in scene.shapes:
            inside = (pixels[top:bottom, left:right] == COLORS[color]).all(axis=-1)
            assert inside.mean() > 0.35
            drawn = (pixels[top:bottom, left:right] != pixels[0, 0]).any(axis=-1)
            assert drawn[:, :2].any() and drawn[:, -2:].any() and drawn[:2].any() and drawn[-2:].any()
            outside[top:bottom, left:right] = False
        assert len(np.unique(pixels[outside], axis=0)) == 1  # the background


def test_shapes_do_not_touch() -> None:
    for scene in scenes.generate(40, 2):
        for (_, _, a), (_, _, b) in combinations(scene.shapes, 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_answers_follow_from_the_shapes() -> None:
    shapes: list[scenes.Shape] = [
        ("circle", "red", (5, 5, 25, 25)),
        ("square", "blue", (60, 8, 80, 28)),
        ("cross", "red", (62, 60, 82, 80)),
        ("cross", "green", (8, 60, 28, 80)),
    ]
    asked = dict(scenes.ask(shapes, (112, 84)))
    assert asked["How many shapes are there?"] == "four"
    assert asked["How many crosses are there?"] == "two" and asked["How many triangles are there?"] == "zero"
    assert asked["What shape is blue?"] == "square" and asked["What shape is green?"] == "cross"
    assert "What shape is red?" not in asked and "What color is the cross?" not in asked
    assert asked["What color is the circle?"] == "red"
    assert asked["Where is the circle?"] == "top left" and asked["Where is the square?"] == "top right"
    assert asked["Where is the circle, seen from the square?"] == "left"
    assert asked["Where is the square, seen from the circle?"] == "right"
    assert "Where is the cross?" not in asked
    assert scenes.describe(shapes) == "a red circle, a green cross, a blue square, a red cross"


def test_places_and_relations_that_could_be_argued_about_are_not_asked() -> None:
    assert scenes.place_of((46, 10, 66, 30), (112, 84)) is None
    assert scenes.relation((0, 0, 20, 20), (50, 52, 70, 72)) is None
    assert scenes.relation((0, 50, 20, 70), (8, 0, 28, 20)) == "below"
    assert scenes.relation((8, 0, 28, 20), (0, 50, 20, 70)) == "above"


def test_every_kind_is_asked_and_scenes_repeat() -> None:
    made = scenes.generate(20, 7)
    kinds = {scenes.kind_of(question) for scene in made for question, _ in scene.questions}
    assert kinds == {"count", "name", "color", "place", "relation"}
    again = scenes.generate(20, 7)
    assert [a.image.tobytes() for a in made] == [b.image.tobytes() for b in again]
    assert [a.questions for a in made] == [b.questions for b in again]
    for scene in made:
        assert len({question for question, _ in scene.questions}) == len(scene.questions)


def test_the_splits_share_no_side_of_a_shape() -> None:
    sides = {
        split: {box[2] - box[0] for scene in scenes.generate(40, 0, split) for _, _, box in scene.shapes}
        for split in ("train", "held-out")
    }
    assert not sides["train"] & sides["held-out"]


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(UsageError, match="split"):
        scenes.generate(1, 0, "test")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="-1 scenes"):
        scenes.generate(-1, 0)
    with pytest.raises(UsageError, match="shape 'blob'"):
        scenes.paint((84, 84), "white", [("blob", "red", (0, 0, 9, 9))])
    assert scenes.random_scene(random.Random(0)).shapes
