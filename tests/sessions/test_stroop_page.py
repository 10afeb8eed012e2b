"""The report, the figures and the folder of a Stroop recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from labtui_artifacts import files
from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.chunks import Chunk, ChunksFile, build
from labtui_sessions import figures, stroop_export, stroop_figures, stroop_page
from labtui_sessions.stroop_page import Study, studies
from labtui_sessions.tables import Table
from tests.sessions.stroop_tables import SITES, study, table


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    return study()


@pytest.fixture(scope="module")
def read(tables: dict[str, Table]) -> Study:
    (found,) = studies(tables)
    return found


def test_tables_of_one_recipe_belong_together(tables: dict[str, Table], read: Study) -> None:
    assert read.name == "s" and set(read.tables) == set(tables)
    assert read.sites == list(SITES) and read.deltas == ["color", "text", "combined"]
    other = {
        f"t{name[1:]}": table(f"t{name[1:]}", [one.row(i) for i in range(one.rows)])
        for name, one in tables.items()
    }
    assert [one.name for one in studies({**tables, **other, "x": Table("x")})] == ["s", "t"]
    half = {name: one for name, one in tables.items() if name in ("s", "s-cosines")}
    (early,) = studies(half)
    assert early.cells and not early.judged and early.predictions, "while it runs, what is there is shown"
    assert list(stroop_page.page_of(early))


def test_the_page_answers_the_questions(read: Study) -> None:
    page = "\n".join(stroop_page.page_of(read))
    first = read.judged[0]
    rate = first.cell.rate("ink", "flip")
    assert f"{rate.share:.0%}" in page and f"of {rate.n} right ink answers become the target" in page
    assert "Ink against word" in page and "Stroop interference" in page
    assert "It predicts which sites can be changed" in page
    assert "ranks sites the other way round" in page, "the words of the target, whose gains are turned round"
    rows = list(stroop_page.site_rows(read))
    assert [row["site"] for row in rows[::3]] == list(SITES)
    best = next(row for row in rows if row["site"] == "vision.2" and row["delta"] == "Δcolor")
    assert best["strength"] == "100%" and best["net cosine, ink"].endswith("*")
    judged = list(stroop_page.judged_rows(read))
    assert len(judged) == 6 and judged[0]["question"] == "ink (aim)" and judged[0]["negated flips"] == "0%"
    for question in ("ink", "word"):
        assert read.judged[0].beyond("ink") and read.judged[0].random[question].directions == 20


def test_differences_say_which_is_steered_more(read: Study) -> None:
    high, low = stroop_page.Rate.of([True] * 45 + [False] * 5), stroop_page.Rate.of([True] * 5 + [False] * 45)
    gap = stroop_page.difference(high, low)
    assert gap is not None and gap[0] == pytest.approx(0.8) and gap[1] > 0.6 and gap[2] < 0.95
    assert stroop_page.difference(high, stroop_page.Rate.of([])) is None


def test_figures_are_drawn_and_written(read: Study, tmp_path: Path) -> None:
    kinds = [kind for _, kind, _ in stroop_figures.draw(read)]
    assert kinds == ["flips", "judged", "cosines", "prediction"]
    album = figures.Album(tmp_path / "page.md")
    made = album(read)
    assert [name for _, name in made] == [f"page-s-{kind}.png" for kind in kinds]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for _, name in made)


def chunks(place: Path) -> ChunksFile:
    draw = np.random.default_rng(0)
    found: dict[tuple[str, str], Chunk] = {}
    for sort in ("ink", "word"):
        for site in ("vision.0.out", "vision.merged"):
            centres = draw.standard_normal((2, 2, 5))
            norms = np.linalg.norm(centres, axis=-1)
            found[sort, site] = Chunk(
                ("red", "blue"), centres / norms[..., None], norms, np.ones((2, 2)), centres[:, 0]
            )
    files.write(place, "chunks", *build(found))
    return ChunksFile.open(place)


def test_the_folder_has_the_names_of_the_study(tables: dict[str, Table], read: Study, tmp_path: Path) -> None:
    opened = chunks(tmp_path / "chunks.safetensors")
    out = tmp_path / "saved"
    written = stroop_export.export(tables, out, opened)
    names = sorted(str(place.relative_to(out)) for place in written)
    assert names == [
        *(
            f"chunks_subpop/{sort}/{part}_all.safetensors"
            for sort in ("color", "text")
            for part in ("layer0", "merged")
        ),
        "results/behavioral_eval.json",
        "results/steering_subpop.json",
    ]
    steering = json.loads((out / "results/steering_subpop.json").read_text())
    assert len(steering["cosines"]) == tables["s-cosines"].rows and "counted from 0" in steering["layers"]
    assert steering["prediction"][0]["rho"] == pytest.approx(read.predictions[0].rho)
    behavior: dict[str, Any] = json.loads((out / "results/behavioral_eval.json").read_text())
    assert len(behavior["answers"]) == tables["s"].rows + tables["s-judged"].rows
    share = behavior["judged"][0]["outcomes"]["ink"]["flip"]["share"]
    assert share == pytest.approx(read.judged[0].cell.rate("ink", "flip").share)
    held = load_file(out / "chunks_subpop/text/layer0_all.safetensors")
    assert np.array_equal(held["blue"], opened.at("word", "vision.0.out").representatives[1])
    with pytest.raises(UsageError, match="exists already"):
        stroop_export.export(tables, out, opened)
    stroop_export.export(tables, out, opened, replace=True)
    with pytest.raises(UsageError, match="no Stroop recipe 'x'"):
        stroop_export.export(tables, out, name="x")
    with pytest.raises(UsageError, match="none"):
        stroop_export.export({}, tmp_path / "other")
