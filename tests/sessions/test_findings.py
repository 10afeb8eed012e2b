"""What the report, the listing and the figures say of a sweep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labtui_artifacts.errors import UsageError
from labtui_sessions import figures
from labtui_sessions.findings import page_of, summaries_of
from labtui_sessions.journal import Journal
from labtui_sessions.tables import Table
from tests.sessions.stats.sweeps import World, draw

ROOT = Path(__file__).parents[2]
PLANTED = {(1, 2): 0.3, (2, 2): 0.2}


def rows_of(world: World | None = None) -> list[dict[str, Any]]:
    columns = draw(world or World(sites=3, strengths=4), 7, PLANTED)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.fixture
def table() -> Table:
    found = Table("sweep")
    for number, row in enumerate(rows_of()):
        found.add("j1", f"c{number}", [{**row, "coherent": row["words"] > 9}], number + 1)
    return found


def write_sweep(folder: Path, t: float = 1_750_000_000.0) -> Path:
    """A session with nothing but a sweep."""
    with Journal.open(folder) as journal:
        journal.append("session.opened", {"id": folder.name, "title": "terse over sites", "created": t}, t)
        journal.append("model.ready", {"info": {"name": "toy-qwen3"}}, t)
        journal.append("job.queued", {"job": "j1", "kind": "sweep"}, t + 1)
        for number, row in enumerate(rows_of()):
            cell = {"job": "j1", "cell": f"c{number}", "table": "sweep", "rows": [row]}
            journal.append("cell.committed", cell, t + 2)
        journal.append("job.finished", {"job": "j1", "status": "done"}, t + 3)
    return folder


def labtui(home: Path, *words: str, code: int = 0, hide: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command; ``hide`` names a package that cannot be found in that process."""
    wings = os.pathsep.join(str(ROOT / wing) for wing in ("", "kernels", "artifacts", "sessions"))
    env = {**os.environ, "LABTUI_HOME": str(home), "LABTUI_RUNTIME": str(home / "run"), "PYTHONPATH": wings}
    program = f"import sys; sys.modules[{hide!r}] = None; " if hide else "import sys; "
    program += "from labtui.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=env,
        cwd=home,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "sessions").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    write_sweep(tmp_path / "sessions" / "s-sweep")
    return tmp_path


def test_the_page_names_cells_nulls_p_and_verdicts(table: Table) -> None:
    lines = list(page_of(table, {"words": 3.0}))
    assert [text for text in lines if text.startswith("###")] == [
        "### Effects on tokens", "### Effects on words", "### Effects on coherent",
    ]  # fmt: skip
    start = lines.index("### Effects on words")
    assert "family-wise over 12 cells (9,999 random sign patterns)" in lines[start + 2]
    assert "Effects inside ±3 count as none." in lines[start + 2]
    first = [text.strip() for text in lines[start + 6].split("|")]
    assert first[1:4] == ["terse", "llm.2", "3"] and first[-2].startswith("called")
    assert any(text.startswith("- terse at llm.2, strength 3 (12%): words -") for text in lines[start:])
    assert any("dead zone up to" in text for text in lines)


def test_a_name_from_outside_cannot_break_the_page(table: Table) -> None:
    for index in range(table.rows):
        if table.columns["direction"].values[index] == "terse":
            table.columns["direction"].values[index] = "a | b\n# <x>"
    assert "\n" not in "".join(page_of(table)) and any("a \\| b \\# \\<x\\>" in t for t in page_of(table))


def test_figures_are_pictures_beside_the_page(table: Table, tmp_path: Path) -> None:
    for index in range(table.rows):  # a formula that matplotlib could not read
        if table.columns["direction"].values[index] == "terse":
            table.columns["direction"].values[index] = "$\\frac{$ 方向"
    album = figures.Album(tmp_path / "page.md")
    made = album(table)
    assert [name for _, name in made][2:4] == ["page-sweep-words-grid.png", "page-sweep-words-curves.png"]
    for _, name in made:
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[0] > 200 and pixels.std() > 10  # something is drawn on it
    with pytest.raises(UsageError, match="exists already"):
        figures.Album(tmp_path / "page.md")(table)
    assert len(figures.Album(tmp_path / "page.md", replace=True)(table)) == len(made)


def test_nothing_is_drawn_of_a_single_cell(table: Table) -> None:
    one = Table("sweep")
    point = ("llm.0", 1.0)
    for number in range(table.rows):
        row = table.row(number)
        if row["control"] == "zero" or (row["site"], row["strength"]) == point:
            one.add("j1", f"c{number}", [row])
    (summary,) = (s for s in summaries_of(one) if s.metric == "words")
    assert figures.heatmap(summary) is None and figures.curves(summary) is None


def test_the_report_on_stdout_and_in_a_file_with_its_figures(home: Path) -> None:
    page = labtui(home, "session", "report", "s-sweep").stdout
    assert "### Effects on words" in page and ".png" not in page and "called: p = 0.0" in page
    done = labtui(home, "session", "report", "s-sweep", "page.md", "--delta", "words=3")
    assert "4 figures beside it" in done.stderr
    text = (home / "page.md").read_text()
    assert "![Effect on words over sites and strengths](page-sweep-words-grid.png)" in text
    assert (home / "page-sweep-words-grid.png").read_bytes()[:4] == b"\x89PNG"
    assert "exists already" in labtui(home, "session", "report", "s-sweep", "page.md", code=2).stderr
    labtui(home, "session", "report", "s-sweep", "page.md", "--force")


def test_without_matplotlib_the_report_says_so_in_one_line(home: Path) -> None:
    done = labtui(home, "session", "report", "s-sweep", "page.md", hide="matplotlib")
    assert done.stderr.splitlines()[-1] == figures.MISSING
    assert "### Effects on words" in (home / "page.md").read_text() and not list(home.glob("*.png"))


def test_show_has_the_effects(home: Path) -> None:
    text = labtui(home, "session", "show", "s-sweep").stdout
    assert "effects in table sweep" in text and "called" in text
    shown = json.loads(labtui(home, "session", "show", "s-sweep", "--json", "--delta", "words=3").stdout)
    words = next(one for one in shown["effects"] if one["metric"] == "words")
    assert (words["table"], words["prompts"], words["delta"], words["rate"]) == ("sweep", 20, 3.0, False)
    called = [(c["site"], c["strength"]) for c in words["cells"] if c["verdict"] == "called"]
    assert ("llm.2", 3.0) in called and set(called) <= {("llm.1", 3.0), ("llm.2", 3.0)}
    assert {"effect", "low", "high", "p", "p_family", "null_bound", "null_rows", "cut", "absent"} <= set(
        words["cells"][0]
    )


@pytest.mark.parametrize("text", ["words", "words=", "=2", "words=x", "words=-1", "words=inf", "words=nan"])
def test_a_bad_delta_is_one_line(home: Path, text: str) -> None:
    error = labtui(home, "session", "report", "s-sweep", "--delta", text, code=2).stderr
    assert "expected a metric and a size above 0" in error and error.count("\n") == 1
