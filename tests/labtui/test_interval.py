"""An interval against a threshold on one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui.widgets.interval import Axis, draw

NUMBERS = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("threshold", "interval", "drawn"),
    [
        (0.0, (-8.0, -6.0, -4.0), "├──●──┤        ┃ "),
        (0.0, (-8.0, -2.0, 4.0), "├────────●────╂──────┤"),
        (0.0, (None, None, None), "┃"),
        (0.0, (0.0, 0.0, 0.0), "╂"),
    ],
)
def test_it_reads_from_left_to_right(threshold, interval, drawn) -> None:
    line = draw(Axis.over([threshold, *interval]), 24, threshold, *interval)
    assert len(line) == 24
    assert [c for c in line if c in "├●┤┃╂"] == [c for c in drawn if c in "├●┤┃╂"]


def test_an_interval_beside_the_threshold_never_touches_it() -> None:
    axis = Axis.over([0.0, -100.0])
    assert draw(axis, 12, 0.0, -100.0, -50.0, -1e-9).count("┃") == 1
    assert "╂" in draw(axis, 12, 0.0, -100.0, -50.0, 0.0)
    wide = Axis(0.0, 1000.0)  # all of it in the first cell, or in the last
    assert draw(wide, 4, 2.0, 0.5, 1.0, 1.5) == "●┃  "
    assert draw(wide, 4, 998.0, 998.5, 999.0, 999.5) == "  ┃●"


@given(st.lists(NUMBERS, min_size=3, max_size=3), NUMBERS, st.integers(4, 80))
def test_the_drawing_says_on_which_side_it_lies(values, threshold, width) -> None:
    low, estimate, high = sorted(values)
    line = draw(Axis.over([low, high, threshold]), width, threshold, low, estimate, high)
    assert len(line) == width
    at = next(i for i, c in enumerate(line) if c in "┃╂")
    rest = [i for i, c in enumerate(line) if c in "├─┤●"]
    assert (line[at] == "╂") == (low <= threshold <= high)
    if high < threshold:
        assert rest and max(rest) < at
    if low > threshold:
        assert rest and min(rest) > at


def test_what_is_not_finite_is_left_out() -> None:
    axis = Axis.over([float("inf"), None, 1.0])
    assert (axis.low, axis.high) == (0.94, 1.06)
    assert draw(axis, 8, 1.0, float("-inf"), 0.0, 1.0).strip() == "┃"
