"""The tables of ``vision-tokens`` and of an index as text, from sound rows and from rows that others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from labtui_sessions import pages, token_page
from labtui_sessions.tables import Table

LAYER: dict[str, Any] = {
    "site": "llm.1", "reading": "raw", "tokens": 8, "score": 0.5, "null": 0.4, "null_95": 0.6, "above": 0.25,
    "distinct": 3, "changed": None, "labelled": 4, "match": 0.5, "match_low": 0.25, "match_high": 0.75,
    "match_chance": 0.1, "match_chance_95": 0.2, "match_any": 0.75, "match_any_chance": 0.3,
    "match_any_chance_95": 0.4, "hit_depth": 0.5, "hit_sites": {"llm.3": 0.75, "llm.0": 0.25},
    "reasons": {"changed": "the first site that is read"},
}  # fmt: skip
TOKENS: list[dict[str, Any]] = [
    {
        "image": 0, "site": site, "row": place // 2, "col": place % 2, "reading": reading, "norm": 3.0,
        "token": f"t{place}", "word": f"{reading}{place}", "score": 0.5, "hits": [{"token": "a"}],
        "label": "red", "match": place == 1,
    }
    for site in ("llm.1", "llm.embed") for reading in ("raw", "centred") for place in range(4)
]  # fmt: skip


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = Table("t")
    table.add("j1", "c", rows)
    return table


def test_layers_say_matches_with_their_interval_and_chance() -> None:
    table = table_of([LAYER])
    assert pages.of(table) is token_page and token_page.kind_of(table) == "layers"
    (row,) = token_page.as_rows(table)
    assert row["match"] == "50% [25%, 75%]" and row["by chance"] == "20%" and row["above 95%"] == "25%"
    assert row["hits at"] == "llm.3 75%, llm.0 25%" and "changed" not in row
    text = "\n".join(token_page.page_of(table))
    assert "changed: the first site that is read" in text and "resampling pictures" in text


def test_tokens_lie_as_in_the_picture() -> None:
    table = table_of(TOKENS)
    assert token_page.head_of(table).startswith("nearest word of each token, centred at llm.1, 1 picture")
    assert token_page.as_rows(table) == [
        {"image": 0, "row": 0, "col 0": "centred0", "col 1": "centred1*"},
        {"image": 0, "row": 1, "col 0": "centred2", "col 1": "centred3"},
    ]


def test_norms_are_a_line_a_picture() -> None:
    rows = [
        {"image": n, "site": f"llm.{b}", "norm": 10.0 * b + n, "norm_least": 0.0, "norm_most": 1.0, "similarity": 0.1}
        for n in (0, 1) for b in range(20)
    ]  # fmt: skip
    shown = token_page.as_rows(table_of(rows))
    assert [row["image"] for row in shown] == [0, 1] and len(shown[0]) == 1 + token_page.MAX_SITES
    assert shown[1]["llm.0"] == 1 and shown[1]["llm.19"] == 191


@pytest.mark.parametrize(
    "rows",
    [
        [{**LAYER, "match": "many", "score": float("nan"), "hit_sites": [1], "above": True}],
        [
            {**TOKENS[0], "row": "0", "col": None},
            {**TOKENS[1], "row": -1, "col": 1 << 40},
            {**TOKENS[2], "site": None},
        ],
        [{"image": 0, "digest": None, "grid": 3, "rows": "x", "cols": None, "tokens": "many"}],
        [{"image": [1], "site": 5, "norm": "x", "norm_least": 1, "norm_most": 1, "similarity": 1}],
        [{"index": None, "site": "llm.0", "vectors": "x", "mean_norm": 1, "similarity": None}],
    ],
)
def test_rows_that_others_wrote_do_no_harm(rows: list[dict[str, Any]]) -> None:
    table = table_of(rows)
    assert pages.of(table) is token_page
    assert token_page.head_of(table) and isinstance(token_page.as_rows(table), list)
    assert "\n".join(token_page.page_of(table))


def test_text_from_outside_stays_in_its_cell() -> None:
    table = table_of([{**TOKENS[0], "word": "a|b\n# c", "col": 0, "row": 0}])
    lines = list(token_page.page_of(table))
    assert any("a\\|b \\# c" in one for one in lines)
    assert not any(one.startswith("# ") for one in lines)
