"""The widgets' drawing, without an app."""

from __future__ import annotations

import threading

import pytest

from labtui.screens.draft import Draft
from labtui.widgets.arms import differing, mark_surprise, mark_words, words_of
from labtui.widgets.chart import Plot, Series, render
from labtui.widgets.knob import Scale
from labtui.widgets.numbers import by_site
from labtui.widgets.options import LINES, read
from labtui.widgets.sweepform import _list, _number
from labtui.widgets.tokens import Templated, draw
from labtui_kernels.lang.strength import Strength
from tests.support.fake_kernel import SPEC

WORDS = Plot((Series("words", ((0.0, 40.0), (1.0, 20.0), (2.0, 5.0))),), x_label="α", mark_x=1.0)


@pytest.mark.parametrize(("width", "height"), [(20, 6), (40, 10), (120, 30)])
def test_a_chart_has_exactly_its_size(width: int, height: int) -> None:
    lines = render(WORDS, width, height).split("\n")
    assert len(lines) == height
    assert all(line.cell_length <= width for line in lines)


def test_a_chart_marks_series_by_symbol_too() -> None:
    both = Plot((WORDS.series[0], Series("perplexity", ((0.0, 1.0), (2.0, 9.0)))))
    text = render(both, 60, 12).plain
    assert "● words" in text and "▲ perplexity" in text
    assert text.count("▲") == 3 and text.count("●") == 4


def test_what_is_not_finite_is_left_out_and_nothing_is_no_chart() -> None:
    nan = Plot((Series("a", ((0.0, float("nan")), (float("inf"), 1.0))),))
    assert render(nan, 40, 10).plain == ""


def test_charts_are_refused_off_the_main_thread() -> None:
    caught: list[BaseException] = []

    def build() -> None:
        try:
            render(WORDS, 40, 10)
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_differing_words() -> None:
    assert differing(["a", "b", "c", "d"], ["a", "c", "d"]) == [False, True, False, False]
    assert "".join(s + w for s, w in words_of("  a\n b")) == "  a\n b"
    marked = mark_words("one two  three\n", "one three")
    assert marked.plain == "one two  three\n"
    assert [marked.plain[s.start : s.end] for s in marked.spans] == ["two"]


def test_surprise_is_seen_without_colour() -> None:
    text = mark_surprise([" a", " b", " c", "\n"], [-0.1, -3.0, -7.0, -9.0])
    assert text.plain == " a b ‹c›\n"


def test_tokens_show_templates_reading_and_edits() -> None:
    tokens = Templated(
        ("<|im_start|>", "user", "\n", "Hi"), (False, False, False, True), frozenset({3}), frozenset({2})
    )
    text = draw(tokens)
    assert text.plain == "<|im_start|>user⏎\n⟦Hi⟧"
    assert any("underline" in str(span.style) for span in text.spans)


def test_scale_converts_both_ways() -> None:
    scale = Scale(vector=10.0, reference=50.0)
    assert scale.all_units(Strength(2.0)) == (2.0, 20.0, 40.0)
    assert scale.convert(Strength(40.0, "pct"), "alpha") == Strength(2.0)
    assert Scale().convert(Strength(2.0), "pct") is None
    assert Scale(reference=50.0).all_units(Strength(8.0, "pct")) == (None, 4.0, 8.0)


def test_a_draft_comes_back_from_its_spec() -> None:
    draft = Draft.from_spec(SPEC)
    assert draft.spec() == SPEC
    chat = {**SPEC, "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                               {"role": "user", "content": "c"}]}  # fmt: skip
    assert Draft.from_spec(chat).spec() == chat


@pytest.mark.parametrize(("steps", "wanted"), [((1,), "2.1"), ((1, 1, -1), "2.1"), ((-1,) * 20, "0.0")])
def test_nudges_are_round(steps: tuple[int, ...], wanted: str) -> None:
    draft = Draft.from_spec(SPEC)
    for way in steps:
        draft = draft.nudged(way, coarse=False)
    assert str(draft.strength) == wanted


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "x", "", "1e99"])
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.id)
def test_an_option_out_of_range_is_refused(line, text: str) -> None:
    assert read(line, text) is None


def test_small_parsers_of_the_sweep_form() -> None:
    assert _list("0.5*terse - (a, b), c,,") == ["0.5*terse - (a, b)", "c"]
    assert [_number(t) for t in ("1", "2.5", "8%", "|39|")] == [1, 2.5, "8%", "|39|"]
    assert by_site(["llm.10.out", "llm.2.out", "llm.2.in", "odd"]) == [
        "llm.2.in",
        "llm.2.out",
        "llm.10.out",
        "odd",
    ]


def test_points_without_a_line_and_named_steps() -> None:
    """A cloud has its symbols and nothing between them, with round numbers below; steps can have names."""
    spots = ((-3.3, 1.0), (2.9, 4.0))
    cloud = render(Plot((Series("cloud", spots, joined=False),)), 60, 12).plain
    assert cloud.count("●") == 3 and not any("\u2801" <= c <= "\u28ff" for c in cloud)
    assert "-2" in cloud and "-3.3" not in cloud
    lines = Plot(
        (Series("a", ((0.0, 1.0), (1.0, 2.0))),), "site", names=("embed", "llm.0"), span_y=(0.0, 8.0)
    )
    drawn = render(lines, 60, 12).plain
    assert "embed" in drawn and "llm.0" in drawn and "10┤" in drawn
