"""The Stroop recipe on the bundled model, as a user runs it: what it says against the rows that it saved."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.e2e import rig
from tests.e2e.lab import labtui, must

COLORS = ("red", "green", "blue", "yellow", "orange", "purple")
SPEC = """
kind = "stroop"
table = "s"
deltas = ["color"]
sites = "vision.1,vision.5"
strengths = ["10%", "50%"]
build = 6
references = 3
choose = 8
judge = 10
null_pictures = 1
max_new_tokens = 4
"""

Row = dict[str, Any]


class Fate(NamedTuple):
    """What became of a right answer under an edit."""

    direction: str
    flip: bool
    stays: bool


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with ``s.jsonl``, ``judged.jsonl``, ``page.md``, ``show.txt``, ``saved/`` and the session's file."""
    root = tmp_path_factory.mktemp("stroop")
    runtime = Path(tempfile.mkdtemp(prefix="lt-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABTUI_HOME", str(root / "home"))
        patch.setenv("LABTUI_RUNTIME", str(runtime))
        try:
            done = labtui("kernel", "start", "k", "--model", "toy-qwen2-vl", "--dtype", "float32", "--wait")
            assert done.returncode == 0, done.stderr
            (root / "stroop.toml").write_text(SPEC)
            must("run", str(root / "stroop.toml"))
            for table in ("s", "s-judged", "s-choice"):
                text = must("session", "export", "current", "--table", table, "--format", "jsonl")
                (root / f"{table}.jsonl").write_text(text)
            must("session", "report", "current", str(root / "page.md"))
            must("session", "export", "current", "--stroop", str(root / "saved"))
            (root / "show.txt").write_text(must("session", "show", "current"))
            must("session", "save", "current", str(root / "s.safetensors"))
            yield root
        finally:
            rig.kill_all()
            shutil.rmtree(runtime, ignore_errors=True)


def rows(place: Path, table: str) -> list[Row]:
    return [json.loads(line) for line in (place / f"{table}.jsonl").read_text().splitlines()]


# -- by hand, from the texts alone ------------------------------------------------------------------------


def named(text: str) -> str:
    found = {color for color in COLORS if re.search(rf"\b{color}\b", text.lower())}
    return min(found) if len(found) == 1 else ""


def fates(found: Sequence[Row]) -> dict[str, dict[str, list[Fate]]]:
    """By control and question, of rows whose plain answer was right."""
    plain = {row["prompt_id"]: named(row["text"]) for row in found if row["control"] == "zero"}
    told: dict[str, dict[str, list[Fate]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        right = row[row["question"]]
        if row["control"] != "zero" and plain[row["prompt_id"]] == right:
            answer = named(row["text"])
            told[row["control"]][row["question"]].append(
                Fate(row["direction"], answer == row["target"], answer == right)
            )
    return told


def share(values: Sequence[bool]) -> tuple[float, float, float]:
    """A share with Wilson's interval (1927), as he wrote it."""
    n, p, z = len(values), sum(values) / len(values), 1.959963984540054
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return p, (middle - half) / scale, (middle + half) / scale


def null_percentile(found: Sequence[Fate]) -> float:
    """Of the flips of K directions that mean nothing, the one of rank 0.95 (K + 1), read between its neighbours."""
    each: dict[str, list[bool]] = defaultdict(list)
    for one in found:
        each[one.direction].append(one.flip)
    shares = sorted(sum(mine) / len(mine) for mine in each.values())
    rank = min(max(0.95 * (len(shares) + 1), 1), len(shares))
    low = math.floor(rank)
    return shares[low - 1] + (rank - low) * (shares[min(low, len(shares) - 1)] - shares[low - 1])


# -- tests -------------------------------------------------------------------------------------------------


def test_the_rows_are_those_that_were_asked_for(place: Path) -> None:
    grid, judged = rows(place, "s"), rows(place, "s-judged")
    counts = [{c: sum(row["control"] == c for row in part) for c in ("", "zero")} for part in (grid, judged)]
    assert counts == [{"": 2 * 2 * 8 * 2, "zero": 8 * 2}, {"": 10 * 2, "zero": (10 + 10) * 2}]
    for part, controls in ((grid, ("random", "shuffled")), (judged, ("random", "shuffled"))):
        for control in controls:
            directions = {
                (row["direction"], row["site"], row["strength_text"])
                for row in part
                if row["control"] == control
            }
            assert len(directions) == (4 * 10 if part is grid else 20)
    assert {row["site"] for row in grid} == {"", "vision.1", "vision.5"}
    pairs = [{(row["word"], row["ink"]) for row in part if row["target"]} for part in (grid, judged)]
    assert not pairs[0] & pairs[1]


def test_ink_flips_words_stay_and_random_directions_do_nothing(place: Path) -> None:
    told = fates(rows(place, "s-judged"))
    ink, word = told[""]["ink"], told[""]["word"]
    assert len(ink) >= 8 and len(word) >= 8, "the model reads these pictures"
    assert share([one.flip for one in ink])[0] >= 0.5
    assert share([one.stays for one in word])[0] >= 0.8
    random = null_percentile(told["random"]["ink"])
    assert random <= 0.1 and share([one.flip for one in ink])[1] > random
    weak = [row for row in rows(place, "s") if row["site"] == "vision.1" and row["strength_text"] == "10%"]
    assert share([row["answer"] == row["target"] for row in weak if not row["control"]])[0] < 0.5


def test_the_choice_is_the_one_that_its_rows_make(place: Path) -> None:
    (chosen,) = rows(place, "s-choice")
    flips: dict[tuple[str, str], float] = {}
    grid = rows(place, "s")
    zeros = [row for row in grid if row["control"] == "zero"]
    for site in ("vision.1", "vision.5"):
        for strength in ("10%", "50%"):
            mine = [row for row in grid if (row["site"], row["strength_text"]) == (site, strength)]
            flips[site, strength] = share([one.flip for one in fates([*zeros, *mine])[""]["ink"]])[0]
    assert flips[chosen["site"], chosen["strength_text"]] == max(flips.values()) >= 0.5
    assert chosen["feasible"] is True
    judged = {(row["site"], row["strength_text"]) for row in rows(place, "s-judged") if not row["control"]}
    assert judged == {(chosen["site"], chosen["strength_text"])}


def test_the_exported_folder_says_the_same_and_its_chunks_load(place: Path) -> None:
    told = fates(rows(place, "s-judged"))
    made = json.loads((place / "saved/results/behavioral_eval.json").read_text())
    (cell,) = made["judged"]
    for question in ("ink", "word"):
        for outcome in ("flip", "stays"):
            rate = cell["outcomes"][question][outcome]
            values = [getattr(one, outcome) for one in told[""][question]]
            assert rate["n"] == len(values)
            assert (rate["share"], rate["low"], rate["high"]) == pytest.approx(share(values), abs=1e-9)
        for name, control in (("random", "random"), ("permuted", "shuffled")):
            assert cell[name][question]["percentile"] == pytest.approx(
                null_percentile(told[control][question])
            )
    assert len(made["answers"]) == len(rows(place, "s")) + len(rows(place, "s-judged"))
    for one in made["interference"]:
        for subset in ("congruent", "incongruent"):
            plain = [
                named(row["text"]) == row[row["question"]]
                for row in rows(place, "s-judged")
                if (row["control"], row["subset"], row["question"]) == ("zero", subset, one["question"])
            ]
            assert (one[subset]["share"], one[subset]["low"], one[subset]["high"]) == pytest.approx(
                share(plain), abs=1e-9
            )
        assert one["low"] <= one["difference"] <= one["high"]
    cosines = json.loads((place / "saved/results/steering_subpop.json").read_text())["cosines"]
    grid = [(s, p, to) for s in (1, 5) for p in ("10%", "50%") for to in ("text_only", "color_only")]
    assert [(int(row["site"][7:]), row["strength_text"], row["to"]) for row in cosines] == grid
    assert all(row["gain"] == pytest.approx(row["after"] - row["before"]) for row in cosines)
    for sort in ("color", "text"):
        for layer in (1, 5):
            held = load_file(place / f"saved/chunks_subpop/{sort}/layer{layer}_all.safetensors")
            assert sorted(held) == sorted(COLORS)
            for vector in held.values():
                assert vector.shape == (96,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_report_and_terminal_give_the_shares_with_their_intervals(place: Path) -> None:
    told = fates(rows(place, "s-judged"))
    shares = {"ink": [one.flip for one in told[""]["ink"]], "word": [one.stays for one in told[""]["word"]]}
    page = (place / "page.md").read_text().replace("\\", "")
    (chosen,) = rows(place, "s-choice")
    for text in (page, (place / "show.txt").read_text()):
        assert f"Δcolor at {chosen['site']}, {chosen['strength_text']}" in text
        for values in shares.values():
            p, low, high = share(values)
            assert f"{p:.0%} [{low:.0%}, {high:.0%}] of {len(values)}" in text
        assert f"20 random directions of that norm: {null_percentile(told['random']['ink']):.0%}" in text
        assert "Stroop interference" in text
    figures = re.findall(r"\]\((page-[^)]+\.png)\)", page)
    assert len(figures) >= 4
    for figure in figures:
        assert (place / figure).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_saved_session_is_whole_and_shows_the_same_anywhere(place: Path, lab_home: Path) -> None:
    must("session", "verify", str(place / "s.safetensors"))
    shown = must("session", "show", str(place / "s.safetensors"))
    wanted = (place / "show.txt").read_text()
    assert [line for line in shown.splitlines() if line.startswith("- ")] == [
        line for line in wanted.splitlines() if line.startswith("- ")
    ]
