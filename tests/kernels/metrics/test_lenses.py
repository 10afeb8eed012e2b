"""Lenses: hits by hand, bands, the user's files, and patterns that are broken or could run away."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.metrics.base import Facts
from labtui_kernels.metrics.lenses import lens, names, pooled
from labtui_kernels.metrics.patterns import MAX_REPEAT, safe, word
from labtui_kernels.metrics.registry import metric, value
from labtui_sessions.lenses import band

TWELVE = (
    "build", "conspiracy", "hype", "lisp", "monetisation", "org-mode", "politics", "religion", "scarcity",
    "specification", "sports", "therapy",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path))
    (tmp_path / "lenses").mkdir()
    return tmp_path / "lenses"


def rate(name: str, text: str) -> object:
    return value(metric(name), Facts(text))[0]


def test_the_twelve_are_bundled_and_not_calibrated() -> None:
    assert set(TWELVE) <= set(names())
    for name in TWELVE:
        found = lens(name)
        assert found.name == name and found.description and not found.calibration
        assert found.hits("The quick brown fox jumps over the lazy dog.") == 0


@pytest.mark.parametrize(
    ("name", "text", "hits"),
    [
        ("build", "The linker reads the Makefile, then CMake compiles it again.", 4),
        ("lisp", "A macro expands an S-expression; a lambda in the REPL.", 4),
        ("org-mode", "Refile the TODO in your agenda view under a headline.", 4),
        ("monetisation", "A subscription beats ad revenue for a business model.", 3),
        ("sports", "The referee stopped the football tournament.", 3),
        ("religion", "They pray in a mosque or a church.", 3),
        ("politics", "Voters elect a parliament.", 2),
        ("hype", "A revolutionary, game-changing breakthrough.", 3),
        ("conspiracy", "A cover-up by the deep state, wake up!", 3),
        ("scarcity", "Act now, only 3 left, while stocks last!", 3),
        ("therapy", "Set boundaries, practise self-care and heal.", 3),
        ("specification", "The spec shall state each invariant.", 3),
    ],
)
def test_hits_by_hand(name: str, text: str, hits: int) -> None:
    assert lens(name).hits(text) == hits
    assert rate(f"lens:{name}", text) == pytest.approx(100 * hits / len(text.split()))


def test_words_are_whole_words_and_the_longest_counts_once(home: Path) -> None:
    (home / "boats.toml").write_text(
        'words = ["sail", "sail boat", "tack*"]\npatterns = ["knots?", "(?:fore|aft)deck"]\n'
    )
    found = lens("boats")
    assert found.name == "boats"
    for text, hits in {
        "sail sails SAIL": 2,
        "a sail boat, a sail-boat": 2,
        "tacking tack attack": 2,
        "one knot, two knots, knotty": 2,
        "foredeck afterdeck aftdeck": 2,
        "sail_x xsail": 0,
    }.items():
        assert found.hits(text) == hits, text
    assert rate("lens:boats", "") is None
    assert rate(f"lens:{home / 'boats.toml'}", "sail on") == pytest.approx(50.0)


def test_rates_need_500_words_and_bands_need_calibration(home: Path) -> None:
    (home / "plain.toml").write_text('words = ["x"]\n')
    (home / "known.toml").write_text(
        'words = ["x"]\ncalibrated = true\ncalibration = "two hundred texts, read by two people"\n'
    )
    steered, clean = ["x " + "a " * 24] * 20, ["a " * 25] * 20
    for name, named in (("plain", ""), ("known", "captured")):
        short = pooled(lens(name), steered[:19], clean)
        assert (short.hits, short.words, short.rate, short.excess, short.band) == (19, 475, None, None, "")
        assert "475 words" in short.reason
        full = pooled(lens(name), steered, clean)
        assert (full.hits, full.words, full.rate, full.excess) == (20, 500, 4.0, 4.0)
        assert full.band == named
        assert pooled(lens(name), steered, clean[:3]).excess is None
    ends = {
        0.0: "clean",
        0.99: "clean",
        1.0: "ambient",
        3.0: "captured",
        5.0: "captured",
        5.01: "contaminated",
    }
    assert {rate: band(rate) for rate in ends} == ends


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('patterns = ["(a+)+"]', "could run away"),
        ('patterns = ["a?a?a?a?a?a?a?a?a?a?a?a?"]', "could run away"),
        ('patterns = ["\\\\w*\\\\w*\\\\w*x"]', "could run away"),
        ('patterns = ["(?:a|b|ab){9}"]', "could run away"),
        ('patterns = ["a{2,999}"]', "expected a repeat"),
        ('patterns = ["a**"]', "a repeat of a repeat"),
        ('patterns = ["(a)\\\\1"]', "is not read"),
        ('patterns = ["(?=a)a"]', "look-around"),
        ('patterns = ["^a$"]', "looked for as whole words"),
        ('patterns = ["(ab"]', r"column 4: expected '\)'"),
        ('patterns = ["ab)"]', "closes nothing"),
        ('patterns = ["[ab"]', r"expected '\]'"),
        ('patterns = ["[z-a]"]', "bad character range"),
        ('patterns = ["*a"]', "nothing to repeat"),
        ('patterns = ["a*"]', "matches the empty text"),
        (f'patterns = ["{"a" * 201}"]', "at most 200"),
        ('words = ["***"]', "not only"),
        ('words = ["a*b*c*d"]', "more than two"),
        ("words = []", "no words and no patterns"),
        ("words = [1]", "must be a list of texts"),
        (f"words = {['*' + 'a' * n + '*' for n in range(1, 9)]}", "together"),
        ('wrds = ["a"]', "did you mean 'words'"),
        ('words = ["a"]\ncalibrated = true', "says how"),
        ("words = [", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_no_lens_is_one_line(home: Path, content: str, why: str) -> None:
    (home / "bad.toml").write_text(content)
    with pytest.raises(BadFile, match=why) as refused:
        metric("lens:bad")
    assert "bad.toml" in str(refused.value) and "\n" not in str(refused.value)


def test_unknown_lenses(home: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'hype'"):
        metric("lens:hyp")
    with pytest.raises(UsageError, match=f"your own go to {home}/NAME.toml"):
        metric("lens:sailing")
    with pytest.raises(UsageError, match="expected lens:NAME"):
        metric("lens")
    with pytest.raises(UsageError, match="from / or ~/ on"):
        metric("lens:mine.toml")
    with pytest.raises(UsageError, match="no such file"):
        metric("lens:/nowhere/mine.toml")
    with pytest.raises(UsageError):
        metric("lens:../lenses/hype")


_pieces = st.sampled_from(
    ["a", "b", ".", r"\w", "[ab]", "(a|b)", "(?:ab|a)", "a?", "b*", "a+", "a{1,3}", r"\s"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_pieces, min_size=1, max_size=6).map("".join), st.text("ab ", max_size=20))
def test_a_pattern_that_is_read_means_what_re_means(pattern: str, text: str) -> None:
    try:
        found = safe(pattern)
    except LabError:
        return
    mine, other = re.compile(found.source, re.I), re.compile(pattern, re.I)
    assert [m.group() for m in mine.finditer(text)] == [m.group() for m in other.finditer(text)]


@settings(max_examples=40, deadline=None)
@given(st.lists(_pieces, min_size=1, max_size=8).map("".join))
def test_no_pattern_that_is_read_runs_away(pattern: str) -> None:
    try:
        found = safe(pattern)
    except LabError:
        return
    text = "a" * 4_000 + "!"
    began = time.perf_counter()
    re.search(rf"(?:{found.source})Z", text, re.I)
    assert time.perf_counter() - began < 20


def test_words() -> None:
    assert re.fullmatch(word("close hauled").source, "close-hauled")
    assert re.fullmatch(word("a*").source, "a" + "b" * MAX_REPEAT)
    assert not re.fullmatch(word("a.c").source, "abc")
