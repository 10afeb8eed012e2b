"""Lens rates of a sweep's cells: the same numbers as the lens gives on the texts, and nothing under 500 words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtui_kernels.metrics.base import Facts, Metric
from labtui_kernels.metrics.lenses import lens, pooled
from labtui_kernels.metrics.registry import metric
from labtui_sessions.lenses import (
    TOO_FEW,
    as_document,
    as_rows,
    at_point,
    in_short,
    lens_cells,
    page_of,
    pool,
)
from labtui_sessions.stats import Sheet
from labtui_sessions.tables import Table

WORDS = ("stadium", "the", "league", "of", "medals", "water", "tennis", "a", "is", "and")


def row(prompt: int, text: str, strength: float, control: str, lenses: dict[str, Metric]) -> dict[str, Any]:
    return {
        "prompt": f"p{prompt}", "direction": "" if control == "zero" else "terse", "site": "llm.4", "where": "all",
        "strength": strength, "strength_abs": strength, "strength_pct": strength, "seed": 0, "control": control,
        "text": text, "finish": "stop", **{name: one.value(Facts(text=text))[0] for name, one in lenses.items()},
    }  # fmt: skip


def texts(seed: int, count: int, words: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]


def sweep(steered: list[str], plain: list[str], names: tuple[str, ...] = ("sports",)) -> Table:
    table, lenses = Table("s"), {f"lens:{name}": metric(f"lens:{name}") for name in names}
    for prompt, text in enumerate(plain):
        table.add("j", f"z{prompt}", [row(prompt, text, 0.0, "zero", lenses)])
    for prompt, text in enumerate(steered):
        table.add("j", f"r{prompt}", [row(prompt, text, 8.0, "", lenses)])
    return table


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(0, 60))
def test_hits_come_back_from_the_rates_exactly(seed: int, answers: int, words: int) -> None:
    steered, plain = texts(seed, answers, words), texts(seed + 1, answers, 25)
    base, cell = lens_cells(sweep(steered, plain))
    wanted = pooled(
        lens("sports"), [t for t in steered if t], [t for t, s in zip(plain, steered, strict=True) if s]
    )
    assert cell.pooled == wanted
    alone = pooled(lens("sports"), plain)
    assert (base.pooled.hits, base.pooled.words, base.pooled.rate) == (alone.hits, alone.words, alone.rate)


def test_a_cell_is_held_against_the_unsteered_answers_to_its_own_prompts() -> None:
    plain = [*["stadium " * 25] * 25, *["water " * 25] * 25]  # topics differ
    (_, cell) = lens_cells(sweep(["water " * 25] * 25, plain))
    assert (cell.unsteered, cell.pooled.rate, cell.pooled.excess) == (100.0, 0.0, -100.0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(0, 60))
def test_a_cell_by_itself_is_the_same_as_among_all(seed: int, answers: int, words: int) -> None:
    table = sweep(texts(seed, answers, words), texts(seed + 1, answers + 3, 25), ("sports", "religion"))
    sheet = Sheet.of(table)
    cells = [one for one in lens_cells(table) if one.point is not None]
    assert at_point(sheet, sheet.points[0], ["lens:sports", "lens:religion"]) == cells


def test_on_one_line_the_lens_that_differs_most_comes_first() -> None:
    table = sweep(["stadium and water " * 10] * 25, ["water and tea " * 10] * 25, ("religion", "sports"))
    said = in_short([one for one in lens_cells(table) if one.point is not None])
    assert said.startswith("lenses per 100 words: sports 33.3 (+33.3)") and " · religion " in said
    few = [one for one in lens_cells(sweep(["stadium"], ["water"])) if one.point is not None]
    assert in_short(few) == "lenses: under 500 words here, so no rate is stated" and in_short([]) == ""


def test_too_few_words_are_said_and_not_stated() -> None:
    table = sweep(texts(1, 19, 25), texts(2, 30, 25))
    rows = as_rows(lens_cells(table), 4)
    assert [r["words"] for r in rows] == [750, 475]
    assert rows[1]["per 100"] == TOO_FEW and rows[1]["unsteered"] == TOO_FEW and rows[1]["difference"] == ""
    assert isinstance(rows[0]["per 100"], float)
    document = as_document("s", lens_cells(table)[1])
    assert (
        document["rate"] is None
        and "475 words" in document["reason"]
        and document["point"]["site"] == "llm.4"
    )


def test_bands_are_named_for_calibrated_lenses_only(lab_home: Path) -> None:
    (lab_home / "lenses").mkdir()
    body = 'words = ["stadium"]\ncalibrated = true\ncalibration = "two hundred texts, read by two people"\n'
    (lab_home / "lenses" / "known.toml").write_text(body)
    away = lab_home / "away.toml"
    away.write_text(body)
    table = sweep(texts(1, 30, 25), texts(2, 30, 25), ("known", "sports", str(away)))
    bands = {one.lens: one.pooled.band for one in lens_cells(table) if one.point is not None}
    assert bands == {
        "known": "contaminated",
        "sports": "",
        str(away): "",
    }  # a table names no file to be opened
    (lab_home / "lenses" / "known.toml").unlink()
    assert {one.pooled.band for one in lens_cells(table)} == {""}


@pytest.mark.parametrize("hits", [0, 7])
def test_nothing_is_divided_by_nothing(hits: int) -> None:
    assert pool(hits, 0, 0, 0, calibrated=True).rate is None
    assert pool(hits, 700, 0, 0, calibrated=True).excess is None


def test_rows_without_a_value_count_nowhere() -> None:
    table = sweep(texts(1, 40, 25), texts(2, 40, 25))
    for number in range(20):
        table.columns["lens:sports"].values[40 + number] = None
    base, cell = lens_cells(table)
    assert (base.answers, cell.answers, cell.pooled.words) == (40, 20, 500)


def test_the_page_says_how_it_was_counted() -> None:
    page = "\n".join(page_of(sweep(texts(1, 40, 25), texts(2, 40, 25))))
    assert page.startswith("### Lens rates") and "stated from 500 words on" in page
    assert "| sports | unsteered |" in page and "| sports | terse | llm.4 | all | 8 | 8 | 40 | 1000 |" in page
    assert list(page_of(Table("empty"))) == []
