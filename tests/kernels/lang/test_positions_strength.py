"""Positions and strengths: what they select, their units, their round trips and refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.positions import Where, complete_where, parse_where
from labtui_kernels.lang.strength import Strength, parse_strength

CONTENT = [False, False, True, True, False]


def chosen(text: str, prompt: int = 5, steps: int = 6) -> tuple[list[int], list[int]]:
    where = parse_where(text)
    mask = where.prompt_mask(prompt, CONTENT)
    return [i for i, on in enumerate(mask) if on], [s for s in range(steps) if where.generated_at(s, prompt)]


@pytest.mark.parametrize(
    ("text", "prompt", "generated"),
    [
        ("all", [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]),
        ("prompt", [0, 1, 2, 3, 4], []),
        ("last", [4], []),
        ("generated", [], [0, 1, 2, 3, 4, 5]),
        ("generated[0:2]", [], [0, 1]),
        ("generated[4:]", [], [4, 5]),
        ("content", [2, 3], [0, 1, 2, 3, 4, 5]),
        ("[0,-1,6]", [0, 4], [1]),
        ("-2", [3], []),
    ],
)
def test_what_is_selected(text: str, prompt: list[int], generated: list[int]) -> None:
    assert chosen(text) == (prompt, generated)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lst", "did you mean 'last'"),
        ("generated[5:5]", "empty"),
        ("image[3:1,0:2]", "empty"),
        ("[1,1]", "twice"),
        ("[]", "unknown position"),
        ("[1,x]", "unknown position"),
        ("[99999999]", "beyond"),
        ("[" + ",".join(map(str, range(600))) + "]", "at most"),
    ],
)
def test_refused_positions(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_where(text)


def test_positions_that_a_prompt_does_not_have() -> None:
    with pytest.raises(UsageError, match="before the start"):
        parse_where("[-6]").prompt_mask(5)
    with pytest.raises(UsageError, match="no image"):
        parse_where("image[0:1,0:2]").prompt_mask(5)
    with pytest.raises(UsageError, match="use 'prompt'"):
        parse_where("content").prompt_mask(5)


wheres = st.one_of(
    st.sampled_from(["all", "prompt", "last", "generated", "content", "text", "image", "ink"]).map(
        Where  # pyright: ignore[reportArgumentType]
    ),
    st.tuples(st.integers(0, 99), st.none() | st.integers(1, 99)).map(
        lambda w: Where("generated", start=w[0], stop=None if w[1] is None else w[0] + w[1])
    ),
    st.lists(st.integers(-999, 9999), min_size=1, max_size=8, unique=True).map(
        lambda i: Where("indices", indices=tuple(i))
    ),
    st.tuples(*[st.integers(0, 30), st.integers(1, 30)] * 2).map(
        lambda r: Where("image", rect=(r[0], r[0] + r[1], r[2], r[2] + r[3]))
    ),
)


@given(wheres)
def test_positions_round_trip(where: Where) -> None:
    assert parse_where(str(where)) == where


def test_completed_positions_are_valid() -> None:
    assert complete_where("gen") == ["generated", "generated[0:20]"]
    assert all(parse_where(text) for text in complete_where(""))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2.0", 2.0, "alpha"),
        ("-2", -2.0, "alpha"),
        (1, 1.0, "alpha"),
        ("|39|", 39.0, "abs"),
        ("-|39|", -39.0, "abs"),
        ("|-39|", -39.0, "abs"),
        ("8%", 8.0, "pct"),
        ("-8%", -8.0, "pct"),
        (" 1e-3 ", 0.001, "alpha"),
    ],
)
def test_units(text: str | float, value: float, unit: str) -> None:
    strength = parse_strength(text)
    assert (strength.value, strength.unit) == (value, unit)


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        math.nan,
        math.inf,
        -math.inf,
        "inf",
        "1e999",
        "8 %%",
        "",
        "|",
        "||",
        "--2",
        True,
        None,
        "٣",
        10**400,
    ],
)
def test_no_strength(text: object) -> None:
    with pytest.raises(UsageError) as failure:
        parse_strength(text)  # pyright: ignore[reportArgumentType]
    assert "expected" in str(failure.value)


def test_three_units_of_one_strength() -> None:
    # A stored vector of norm 20 at a site whose reference norm is 250: α=2 adds 40, which is 16%.
    assert parse_strength("2").all_units(20.0, 250.0) == (2.0, 40.0, 16.0)
    assert parse_strength("|40|").all_units(20.0, 250.0) == (2.0, 40.0, 16.0)
    assert parse_strength("16%").all_units(20.0, 250.0) == (2.0, 40.0, 16.0)
    assert parse_strength("-16%").to_alpha(20.0, 250.0) == -2.0
    assert parse_strength("2").all_units(20.0, None) == (2.0, 40.0, None)
    assert parse_strength("0").all_units(0.0, 250.0) == (0.0, 0.0, 0.0)
    with pytest.raises(UsageError, match="reference norm"):
        parse_strength("8%").to_alpha(20.0, None)
    with pytest.raises(UsageError, match="norm is zero"):
        parse_strength("|3|").to_alpha(0.0, 10.0)
    with pytest.raises(UsageError, match="finite"):
        parse_strength("|1e300|").to_alpha(1e-300, 10.0)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["alpha", "abs", "pct"]))
def test_strengths_round_trip(value: float, unit: str) -> None:
    strength = Strength(value, unit)  # pyright: ignore[reportArgumentType]
    assert parse_strength(str(strength)) == strength
