"""Choice accuracy: the option named first, the right answer of each prompt, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtui_artifacts.errors import BadFile, UsageError
from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.registry import metric, value


def of(name: str, text: str, *, cut: bool = False, prompt: str = "") -> object:
    found, reason = value(metric(name), Facts(text, prompt=prompt, cut=cut))
    assert (found is None) == bool(reason)
    return found


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("choice:yes|no", "Yes, it is.", True),
        ("choice:yes|no", "I would say no. Yes was another time.", False),
        ("choice:yes|no", "Nobody knows, yesterday or now.", False),
        ("choice:dark red|red", "It is dark   RED.", True),
        ("choice:red|dark red", "It is dark red.", False),
        ("choice:c++|c", "C++ is the one.", True),
        ("choice:a.b|x", "aXb", False),
    ],
)
def test_a_choice_is_the_option_named_first(name: str, text: str, wanted: bool) -> None:
    assert of(name, text) is wanted


def test_a_choice_that_the_limit_cut_is_not_known() -> None:
    assert of("choice:yes|no", "Well, let me think", cut=True) is None
    assert of("choice:yes|no", "Well, no, but", cut=True) is False


PRIMES = """
options = ["Yes", "no"]

[answers]
"Is 7 a prime number?" = "yes"
"Is 9 a prime number?" = "No"
"""


def test_the_right_answer_of_each_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path))
    (tmp_path / "choices").mkdir()
    path = tmp_path / "choices" / "primes.toml"
    path.write_text(PRIMES)
    for name in ("choice:primes", f"choice:{path}"):
        assert of(name, "Yes.", prompt="Is 7 a prime number?") is True
        assert of(name, "Yes.", prompt="Is 9 a prime number? ") is False
        assert of(name, "No, 3 times 3.", prompt="Is 9 a prime number?") is True
        assert of(name, "Perhaps.", prompt="Is 9 a prime number?") is False
        assert of(name, "Perhaps", prompt="Is 9 a prime number?", cut=True) is None
        assert value(metric(name), Facts("Yes.", prompt="Is 8?")) == (
            None,
            "the set has no right answer to this prompt",
        )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("choice:yes|", "expected 2 to 32 options"),
        ("choice:|", "expected 2 to 32 options"),
        ("choice:yes|Yes", "an option is there twice"),
        ("choice:absent", "no choice set 'absent'"),
        ("choice", "expected choice:RIGHT"),
    ],
)
def test_names_that_mean_nothing(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        metric(name)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('options = ["a"]\n[answers]\nx = "a"', "expected 2 to 32 options"),
        ("options = [1, 2]\n[answers]\nx = 1", "options must be a list of texts"),
        ('options = ["a", "b"]', "answers must be a table"),
        ('options = ["a", "b"]\n[answers]\nx = "c"', "the answer to 'x' is none of the options"),
        ('option = ["a", "b"]', "did you mean 'options'"),
    ],
)
def test_a_file_that_is_no_choice_set(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(BadFile, match=why):
        metric(f"choice:{path}")
