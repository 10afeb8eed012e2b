"""The Python client against a real kernel with the echo worker: sync face, tables, repr, reconnection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labtui
from labtui.lab import Direction, Lab, Table
from labtui_artifacts.errors import JobFailed, Unreachable, UsageError
from labtui_sessions.tables import Table as Columns
from tests.support import kernels


@pytest.fixture
def lab(lab_home: Path) -> Iterator[Lab]:
    kernels.start("toy")
    with labtui.connect("toy") as found:
        found.wait(kernels.until(found.core, lambda: found.core.state.kernel.state == "ready", "ready"))
        yield found
    kernels.stop_all()


def test_a_sweep_gives_its_table(lab: Lab) -> None:
    spec = kernels.sweep("a", "b", "c")
    table = lab.sweep(**{key: value for key, value in spec.items() if key != "kind"})
    assert (len(table), table.columns) == (3, ["row", "prompt", "pid"])
    assert [row["prompt"] for row in table] == ["a", "b", "c"]
    assert table.to_arrow().column("prompt").to_pylist() == ["a", "b", "c"]
    assert table.outcome is not None and table.outcome.status == "done"
    assert "3 rows" in repr(table) and "<td>b</td>" in table._repr_html_()
    assert len(lab.session.table("echo")) == 3


def test_a_long_table_comes_in_pages(lab: Lab) -> None:
    lab.run(kernels.sweep(*(f"p{number}" for number in range(1203)), tokens=1))
    table = lab.session.table("echo")
    assert [row["prompt"] for row in table] == [f"p{number}" for number in range(1203)]


def test_a_failed_job_raises_what_it_failed_with(lab: Lab) -> None:
    with pytest.raises(UsageError, match="the prompt asked to fail"):
        lab.run(kernels.sweep("fail"))
    with pytest.raises(UsageError, match="kind"):
        lab.run({"kind": "swep"})


def test_the_session_takes_notes_tags_and_a_title_and_is_saved_here(lab: Lab, tmp_path: Path) -> None:
    lab.session.note("odd <b>one</b>")
    lab.session.tag("pilot")
    lab.session.title = "Mutex"
    assert (lab.session.notes, lab.session.tags, lab.session.title) == (
        ["odd <b>one</b>"],
        ["pilot"],
        "Mutex",
    )
    lab.session.untag("pilot")
    assert lab.session.tags == []
    saved = lab.session.save(tmp_path / "mutex.safetensors")
    from labtui_sessions.bundle import open_bundle

    assert open_bundle(saved).summary.title == "Mutex"
    with pytest.raises(UsageError, match="exists already"):
        lab.session.save(saved)


def test_what_a_notebook_shows_is_escaped(lab: Lab) -> None:
    lab.session.title = "<script>"
    assert "Lab('toy', ready, echo" in repr(lab)
    html = Direction("terse", meta={"note": "<script>"})._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    columns = Columns("t")
    columns.add("j", "c", [{"text": "<img>"}])
    assert "<img>" not in Table(columns)._repr_html_()


def test_sites_and_artifacts_are_there_without_a_job(lab: Lab) -> None:
    assert [row["site"] for row in lab.sites()][:2] == ["llm.embed", "llm.0.in"]
    assert lab.artifacts() == []
    with pytest.raises(UsageError, match="terse"):
        lab.direction("terse")


def test_no_kernel_is_one_line(lab_home: Path) -> None:
    with pytest.raises(Unreachable, match=r"no kernel 'toy' here.*labtui kernel start toy"):
        labtui.connect("toy")
    with pytest.raises(Unreachable, match="no kernel is running"):
        labtui.connect()


def test_a_lost_worker_is_a_failed_job(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="set aside"):
        lab.run(kernels.sweep(f"die {tmp_path / 'always'}"))
