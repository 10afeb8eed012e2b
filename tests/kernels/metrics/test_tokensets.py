"""Token sets for a tokenizer, and the margin between a set and the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.inside import margin
from labtui_kernels.metrics.registry import metric, value
from labtui_kernels.metrics.tokensets import TokenSet, token_set

VOCABULARY = {"one": [3], " one": [7], "two": [4, 5], " two": [2], "three": [1, 1], " three": [6, 6]}


def test_with_and_without_a_space_before() -> None:
    found = TokenSet("numbers", "", ("one", "two", "three", "one"))
    assert found.ids(VOCABULARY.__getitem__) == (2, 3, 7)
    with pytest.raises(UsageError, match="none of its 1 texts is one token"):
        TokenSet("numbers", "", ("three",)).ids(VOCABULARY.__getitem__)


def test_a_margin_by_hand() -> None:
    logits = np.array([0.5, 2.0, -1.0, 3.5, 9.0], dtype=np.float32)
    inside = np.array([False, True, True, False, False])
    assert margin(logits, inside) == pytest.approx(2.0 - 9.0)
    assert margin(logits[:4], inside[:4]) == pytest.approx(2.0 - 3.5)
    assert margin(np.array([np.nan, 1.0]), np.array([True, False])) is None


def test_the_maths_set_is_bundled() -> None:
    found = token_set("maths")
    assert {"$$", "\\frac", "=", "equation", "7"} <= set(found.texts) and len(found.texts) >= 80


class Target:
    """A tokenizer of eight tokens, the last two of them in no text."""

    vocabulary = 8

    def encode(self, text: str) -> list[int]:
        return VOCABULARY[text]


def test_padding_of_the_vocabulary_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "numbers.toml"
    path.write_text('tokens = ["one", "two", "three"]\n')
    each = metric(f"margin:{path}")
    each.prepare(Target())  # type: ignore[arg-type]
    logits: np.ndarray = np.array([1, 2, 3, 4, 5, 6, 7, 8, 99, 99], dtype=np.float32)
    assert value(each, Facts("", logits=logits)) == (8.0 - 7.0, "")
    assert value(each, Facts(""))[0] is None
    path.write_text('tokens = ["three"]\n')
    with pytest.raises(UsageError, match=r"margin:.*is one token of this model"):
        metric(f"margin:{path}").prepare(Target())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("tokens = []", "1 to 5000 texts"),
        ("tokens = [1]", "expected|must be texts"),
        ('tokens = [""]', "must be texts of 1 to 100"),
        ('token = ["a"]', "did you mean 'tokens'"),
        ('tokens = "a"', "must be a list"),
    ],
)
def test_a_file_that_is_no_token_set(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(BadFile, match=why):
        metric(f"margin:{path}")
