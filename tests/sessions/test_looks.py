"""Tables of a look: known by their columns, read leniently, and put on a page."""

from __future__ import annotations

import json

import pytest

from labtui_sessions import looks
from labtui_sessions.export import text_parts
from labtui_sessions.tables import Table
from tests.support import look_stories as stories

PARTS = {
    "patches": stories.patches, "depth": stories.depth, "similar": stories.similar, "readings": stories.readings,
    "neighbours": stories.neighbours, "attention": stories.attention, "effect": stories.effect,
    "scores": stories.scores,
}  # fmt: skip


def table(name: str) -> Table:
    made = Table(f"l1-{name}")
    for site in range(len(stories.SITES)):
        made.add("l1", f"{name}:{site}", PARTS[name](site))
    return made


def test_scores_of_a_patch_by_direction_and_site() -> None:
    rows = [row for site in range(len(stories.SITES)) for row in stories.scores(site)]
    rows += [{"site": "llm.0", "patch": 3, "direction": "terse"}, {"patch": 3, "projection": 1.0}]
    found = looks.scores(rows, 3)
    assert list(found) == list(stories.ALONG) and list(found["terse"]) == list(stories.SITES)
    own = found["random:1"]["llm.2"]
    assert own.projection == pytest.approx(stories.projection(3, 3, 1))
    values = [stories.projection(3, patch, 1) for patch in range(stories.ROWS * stories.COLS)]
    assert own.rank == 1 + sum(value > own.projection for value in values)
    (row,) = [
        row
        for row in looks.as_rows(table("scores"))
        if row["site"] == "llm.2" and row["direction"] == "terse"
    ]
    assert row["at patch"] == 6 and row["largest projection"] == pytest.approx(
        stories.projection(3, 6, 0), abs=1e-3
    )


@pytest.mark.parametrize("name", PARTS)
def test_tables_are_known_and_shown(name: str) -> None:
    made = table(name)
    assert looks.kind_of(made.columns) == name
    rows = looks.as_rows(made)
    assert rows and {row["site"] for row in rows} <= set(stories.SITES)
    page = "\n".join(looks.page_of(made))
    head = looks.head_of(made)
    assert head[:1].upper() + head[1:] in page and "|" in page


def test_what_the_short_tables_say() -> None:
    assert looks.as_rows(table("effect"))[4] == {
        "site": "llm.3", "mean change": 0.28, "largest change": 1.4, "at patch": 0,
    }  # fmt: skip
    assert looks.as_rows(table("readings"))[0]["lens"].startswith("white x9")
    assert looks.as_rows(table("attention"))[0]["most"] == "shape"


def test_patches_lie_as_in_the_picture_and_pairs_are_named() -> None:
    made = table("patches")
    assert (
        looks.head_of(made)
        == f"norm of each patch at {stories.SITES[-1]}, {stories.ROWS * stories.COLS} patches"
    )
    last = [row for row in stories.patches(len(stories.SITES) - 1) if (row["row"], row["col"]) == (2, 1)]
    rows = looks.as_rows(made)
    assert len(rows) == stories.ROWS and rows[2]["row"] == 2
    assert rows[2]["col 1"] == pytest.approx(last[0]["norm"], abs=0.05)
    pairs = Table("p")
    cosines = [(1.0, 0.5, -0.2), (0.5, 1.0, 0.9), (-0.2, 0.9, 1.0)]
    for patch, of in enumerate(cosines):
        pairs.add("j", str(patch), [{"site": "llm.1", "patch": patch, "cosines": looks.pack(of)}])
    (row,) = looks.as_rows(pairs)
    assert (row["patches"], row["of patches"]) == ("1 and 2", "0 and 2")
    assert row["mean"] == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("name", PARTS)
def test_other_programs_are_given_numbers(name: str) -> None:
    made = table(name)
    rows = [json.loads(row) for row in "".join(text_parts(made, "jsonl")).splitlines()]
    assert len(rows) == made.rows and list(rows[0]) == list(made.columns)
    packed = {"similar": ("cosines", looks.unpack), "attention": ("weights", looks.unpack_half)}
    for index, row in enumerate(rows):
        own = made.row(index)
        if name in packed:
            column, read = packed[name]
            assert row[column] == pytest.approx(read(own[column]), abs=1e-6) and len(row[column]) > 1
            assert isinstance(own[column], str), "the table itself stays as it is"
        else:
            assert row == own


@pytest.mark.parametrize("values", [[], [1.0], [0.5, -1.0, 0.0], [2.0, -3.0]])
def test_cosines_are_packed_to_a_byte_each(values: list[float]) -> None:
    kept = looks.unpack(looks.pack(values))
    assert kept == pytest.approx([max(-1.0, min(1.0, one)) for one in values], abs=1 / 127)


@pytest.mark.parametrize("text", [None, 3, "not base64!", "AAA", "é"])
def test_what_was_not_packed_is_nothing(text: object) -> None:
    assert looks.unpack(text) == () and looks.unpack_half(text) == ()
    assert looks.similar_to([{"patch": 0, "cosines": text}], 0, 2) == (None, None)
    assert looks.attention_of([{"position": 0, "weights": text}], 0, 2) == (None, None)


def test_rows_that_lack_what_they_need_are_passed_over() -> None:
    rows = [
        {"patch": 9, "norm": 1.0},
        {"patch": 1, "norm": "x"},
        {"patch": True},
        {"norm": 2.0},
        {"patch": 0, "norm": 2.0},
    ]
    assert looks.by_patch(rows, "norm", 2) == (2.0, None)
    assert looks.neighbours(
        [{"site": "llm.0", "how": "raw", "hits": [3, {"cosine": "x"}, {"cosine": 0.5}]}], "raw"
    ) == {"llm.0": [looks.Hit("", "", "", 0.5)]}
    assert looks.readings([{"patch": 0, "reading": "lens", "tokens": "x", "values": [1]}], 0) == {}
    assert looks.depths([{"site": "llm.0", "median": 1.0}, {"median": 2}]) == []
