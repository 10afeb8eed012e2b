"""What the report, the listing and the figures say of a diagnosis; hostile tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from labtui_sessions import diagnosis, diagnosis_page, figures
from labtui_sessions.bundle import open_bundle, save
from labtui_sessions.diagnosis import anatomies, cosine_maps, kind_of, ordered, planes, spaced, steps
from labtui_sessions.journal import Journal
from labtui_sessions.report import report
from labtui_sessions.tables import Table
from tests.sessions.test_findings import labtui
from tests.support import diagnosis_stories as stories

T = 1_750_000_000.0


def table_of(name: str, rows: list[dict]) -> Table:
    table = Table(name)
    table.add("d1", "c", rows)
    return table


def all_of(rows_of) -> list[dict]:
    return [row for site in stories.SITES for row in rows_of(site)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a session that holds nothing but a diagnosis."""
    (tmp_path / "sessions").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    with Journal.open(tmp_path / "sessions" / "s-one") as journal:
        journal.append("session.opened", {"id": "s-one", "title": "poles of terse", "created": T}, T)
        journal.append("job.queued", {"job": "d1", "kind": "diagnose", "spec": stories.SPEC}, T)
        for what, rows in (
            ("anatomy", stories.anatomy()),
            ("landscape", all_of(stories.landscape)),
            ("cosines", all_of(stories.cosines)),
        ):
            journal.append(
                "cell.committed", {"job": "d1", "cell": what, "table": f"d1-{what}", "rows": rows}, T
            )
        journal.append("job.finished", {"job": "d1", "status": "done", "result": stories.RESULT}, T + 1)
    return tmp_path


def test_tables_are_known_by_their_columns() -> None:
    for what, rows in (("anatomy", stories.anatomy()), ("landscape", all_of(stories.landscape)),
                       ("cosines", all_of(stories.cosines))):  # fmt: skip
        assert kind_of(table_of("x", rows).columns) == what
    assert kind_of(("direction", "site", "norm", "snr", "split_half")) is None


def test_layers_are_in_the_order_of_a_forward_pass_with_reasons() -> None:
    (layers,) = anatomies(reversed(stories.anatomy())).values()
    assert [layer.site for layer in layers] == ["llm.0.in", *stories.SITES]
    assert layers[0].get("snr") is None and layers[0].reasons["snr"] == "the poles have no spread"
    assert layers[2].get("snr") == pytest.approx(12 / 2.25)
    assert ordered(["llm.norm", "llm.10", "llm.2", "llm.2.mlp", "llm.embed", "vision.3", "vision.embed"]) == [
        "vision.embed", "vision.3", "llm.embed", "llm.2.mlp", "llm.2", "llm.10", "llm.norm",
    ]  # fmt: skip


def test_steps_count_blocks_where_all_sites_are_the_same_point() -> None:
    assert steps(["llm.2", "llm.5"]) == ([2.0, 5.0], "llm block")
    assert steps(["llm.2.mlp", "llm.5.mlp"]) == ([2.0, 5.0], "llm block .mlp")
    assert steps(["llm.embed", "llm.0"]) == ([0.0, 1.0], "")
    assert spaced(3, 8) == [0, 1, 2] and spaced(36, 4) == [0, 12, 23, 35]


def test_rows_that_lack_what_they_need_are_passed_over() -> None:
    hostile = [
        {"poles": "p", "site": "llm.1", "group": "positive", "point": "prompt", "x": float("nan"), "y": 1.0},
        {"poles": "p", "site": "llm.1", "group": "<b>", "point": "prompt", "x": 1.0, "y": 1.0},
        {"poles": None, "site": None, "group": "neutral", "point": "mean", "x": True, "y": 1.0},
        {"poles": "p", "site": "llm.1", "group": "neutral", "point": "mean", "x": 1, "y": 2.0},
    ]
    ((plane,),) = planes(hostile).values()
    assert plane.points == {} and set(plane.means) == {"neutral"} and plane.explained is None
    assert cosine_maps([{"site": "llm.1", "a": "x", "b": None, "cosine": 1.0}, {}]) == []
    assert anatomies([{"snr": 1.0}, {"site": "llm.1", "snr": "high"}])[""][0].numbers == {}


def test_cosines_are_symmetric_and_absent_where_one_is() -> None:
    found = cosine_maps(all_of(stories.cosines))[2]
    assert found.site == "llm.2" and found.names == stories.NAMES
    assert found.get("formal", "terse") == found.get("terse", "formal") == pytest.approx(0.2)
    assert found.get("dry", "dry") == 1.0 and found.get("dry", "formal") is None


def test_a_row_that_is_there_twice_counts_as_it_was_last() -> None:
    again = [{**row, "snr": 1.5} for row in stories.anatomy() if row["site"] == "llm.3"]
    (layers,) = anatomies([*stories.anatomy(), *again]).values()
    assert len(layers) == 9 and next(layer for layer in layers if layer.site == "llm.3").get("snr") == 1.5


def test_show_and_report_say_it_with_figures(home: Path) -> None:
    shown = labtui(home, "session", "show", "s-one").stdout
    assert "layer anatomy of terse (table d1-anatomy)" in shown
    assert "residual landscape of terse at 8 sites" in shown
    line = next(line for line in shown.splitlines() if line.startswith("llm.2 "))
    assert line.split()[:4] == ["llm.2", "32", "44.8", "14"]
    pair = next(line for line in shown.splitlines() if line.startswith("terse   formal"))
    assert pair.split()[2:5] == ["0.1", "0.15", "0.2"]
    labtui(home, "session", "report", "s-one", "page.md")
    page = (home / "page.md").read_text()
    assert "### Layer anatomy of terse" in page and "Spread: the root-mean-square distance" in page
    assert "snr: the poles have no spread" in page
    for what in ("anatomy-terse", "landscape-terse", "cosines-map"):
        name = f"page-d1-{what}.png"
        assert f"]({name})" in page
        with Image.open(home / name) as picture:
            picture.load()
            assert min(picture.size) > 200 and len(picture.convert("L").getcolors(1 << 20) or []) > 20


def test_a_saved_file_has_the_tables_and_says_the_same(home: Path) -> None:
    from labtui_sessions.home import open_session

    labtui(home, "session", "save", "s-one", "s.safetensors")
    labtui(home, "session", "verify", "s.safetensors")
    bundle = open_bundle(home / "s.safetensors")
    saved = bundle.tables().by_name
    assert {name: kind_of(table.columns) for name, table in saved.items()} == {
        "d1-anatomy": "anatomy", "d1-landscape": "landscape", "d1-cosines": "cosines",
    }  # fmt: skip
    rows = diagnosis.rows_of(saved["d1-landscape"])
    assert planes(rows) == planes(all_of(stories.landscape))
    page = report(bundle)
    assert "### Residual landscape of terse at 8 sites" in page
    assert diagnosis_page.as_rows(saved["d1-cosines"])[2]["a"] == "formal"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABTUI_HOME", str(home))
        with open_session("s-one") as log:
            assert report(log) == page


def test_names_from_outside_are_harmless_on_a_page_and_in_a_picture(tmp_path: Path) -> None:
    rows = [{**row, "poles": "$x|<b>\n" + "y" * 90} for row in stories.anatomy()]
    table = table_of("t", rows)
    page = "\n".join(diagnosis_page.page_of(table))
    assert "\\<b\\>" in page and "\n" + "y" * 90 not in page
    album = figures.Album(tmp_path / "p.md")
    assert len(album(table)) == 1 and album.written[0].exists()


def test_saving_keeps_absent_numbers_absent(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "s") as journal:
        journal.append("session.opened", {"id": "s"}, T)
        cell = {"job": "d1", "cell": "a", "table": "d1-anatomy", "rows": stories.anatomy()}
        journal.append("cell.committed", cell, T)
    from labtui_sessions.journal import JournalReader

    with JournalReader.open(tmp_path / "s") as log:
        save(log, tmp_path / "s.safetensors")
    table = open_bundle(tmp_path / "s.safetensors").tables().by_name["d1-anatomy"]
    assert table.row(0)["snr"] is None and table.reasons[0]["snr"] == "the poles have no spread"
