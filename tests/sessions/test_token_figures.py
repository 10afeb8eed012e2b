"""The figures of ``vision-tokens`` and of a look: drawn from sound rows, harmless on rows that others wrote."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui_sessions import look_figures, looks, token_figures
from labtui_sessions.figures import Album
from labtui_sessions.tables import Table
from tests.conftest import need_module
from tests.sessions.test_looks import PARTS
from tests.support import look_stories as stories

need_module("matplotlib", whole_file=True)

SITES = ("llm.embed", "llm.0", "llm.1", "llm.norm")
NORMS = [
    {"image": image, "site": site, "norm": 9.0, "norm_least": 4.0, "norm_most": 12.0, "similarity": 0.5}
    for image in (0, 1)
    for site in SITES
]
DEPTH = [
    {"site": site, "tokens": 8, "norm": 9.0, "norm_mean": 9.5, "similarity": 0.5, "similarity_across": 0.3}
    for site in SITES
]
LAYERS: list[dict[str, Any]] = [
    {
        "site": site, "reading": reading, "tokens": 8, "score": 0.5, "null": 0.4, "null_95": 0.6, "distinct": 3,
        "match": 0.5, "match_low": 0.25, "match_high": 0.75, "match_chance_95": 0.2, "match_any": 0.75,
        "match_any_chance_95": 0.4, "match_shuffled": 0.1,
        **({"hit_sites": {"llm.1": 0.75, "llm.0": 0.25}} if reading == "raw" else {}),
    }
    for reading in ("raw", "lens") for site in SITES
]  # fmt: skip
TOKENS: list[dict[str, Any]] = [
    {
        "image": image, "site": site, "row": place // 2, "col": place % 2, "reading": reading, "token": "t",
        "word": f"$w{place}", "score": 0.5, "hits": [], "match": place == 1,
    }
    for image, site, reading in itertools.product((0, 1), ("llm.0", "llm.1"), ("lens", "raw")) for place in range(4)
]  # fmt: skip


def table_of(rows: Iterable[dict[str, Any]], name: str = "t") -> Table:
    table = Table(name)
    table.add("j1", "c", rows)
    return table


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        (NORMS, ["pictures"]),
        (DEPTH, ["depth"]),
        (LAYERS, ["scores", "match", "layers-raw"]),
        (TOKENS, ["words-raw", "words-lens"]),
        ([{"image": 0, "digest": "", "grid": "", "rows": 1, "cols": 1, "tokens": 1}], []),
        ([{"index": "i", "site": "llm.0", "vectors": 1, "mean_norm": 1.0, "similarity": 0.1}], []),
    ],
    ids=["norms", "depth", "layers", "tokens", "pictures", "index"],
)
def test_each_table_has_its_figures(rows: list[dict[str, Any]], kinds: list[str], tmp_path: Path) -> None:
    album = Album(tmp_path / "page.md")
    made = album(table_of(rows))
    assert [name for _, name in made] == [f"page-t-{kind}.png" for kind in kinds]
    for _, name in made:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 150 and len(picture.convert("L").getcolors(1 << 20) or []) > 10


def test_what_the_panels_show() -> None:
    (_, _, scores), (_, _, match), (_, _, hits) = token_figures.draw(table_of(LAYERS))
    assert [axes.get_title() for axes in scores.axes] == ["raw", "lens"]
    labels = [line.get_label() for line in match.axes[0].get_lines()]
    assert "nearest word, 95% by chance" in labels and "nearest word, shuffled picture" in labels
    assert {text.get_text() for text in hits.axes[0].texts} == {"75%", "25%"}
    ((_, _, norms),) = token_figures.draw(table_of(NORMS))
    drawn = np.asarray(norms.axes[0].get_lines()[0].get_ydata(), float).tolist()
    assert drawn[:3] == [9.0] * 3 and str(drawn[3]) == "nan", "after the final norm they are of another scale"
    words = next(figure for _, kind, figure in token_figures.draw(table_of(TOKENS)) if kind == "words-raw")
    assert [axes.get_title() for axes in words.axes] == ["image 0, raw at llm.1", "image 1, raw at llm.1"]
    assert [text.get_text() for text in words.axes[0].texts] == [rf"\$w{place}" for place in range(4)]


@pytest.mark.parametrize("name", PARTS)
def test_each_part_of_a_look_has_its_figures(name: str, tmp_path: Path) -> None:
    table = table_of((row for site in range(len(stories.SITES)) for row in PARTS[name](site)), f"l-{name}")
    made = Album(tmp_path / "page.md")(table)
    expected = {"readings": 0, "neighbours": 0, "scores": len(stories.ALONG)}
    assert len(made) == expected.get(name, 1)
    for _, file in made:
        with Image.open(tmp_path / file) as picture:
            assert min(picture.size) > 150


@pytest.mark.parametrize(
    "rows",
    [
        [
            {**LAYERS[0], "match": "many", "score": float("nan"), "hit_sites": [1]},
            {**LAYERS[1], "hit_sites": {"x": {}}},
        ],
        [{**TOKENS[0], "row": "0", "col": None}, {**TOKENS[1], "row": -1, "col": 1 << 40}],
        [{**TOKENS[0], "site": None, "word": "a\n$b$" * 99}],
        [{"image": [1], "site": 5, "norm": "x", "norm_least": 1, "norm_most": 1, "similarity": 1}],
        [{**NORMS[0], "site": None}, NORMS[1]],
        [DEPTH[0], {**DEPTH[1], "norm": "x", "similarity": True}],
    ],
)
def test_rows_that_others_wrote_do_no_harm(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    Album(tmp_path / "page.md")(table_of(rows))


def test_a_looks_rows_that_others_wrote_do_no_harm(tmp_path: Path) -> None:
    for rows in (
        [{"site": "llm.0", "patch": "x", "row": 0, "col": 1 << 40, "norm": 1.0}],
        [{"site": None, "patch": 0, "row": 0, "col": 0, "norm": 1.0}],
        [{"site": "llm.0", "patch": 1 << 40, "cosines": looks.pack([1.0])}],
        [{"site": "llm.0", "patch": 0, "cosines": 3}, {"site": "llm.0", "patch": 1, "cosines": None}],
        [{"site": "llm.0", "position": None, "word": None, "weights": "??"}],
        [{"site": "llm.0", "median": "x", "lowest": 1, "highest": 2}],
    ):
        assert look_figures.draw(table_of(rows)) is not None
        Album(tmp_path / f"{len(list(tmp_path.iterdir()))}.md")(table_of(rows))
