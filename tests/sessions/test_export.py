"""Tables for other programs, and pages for people."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from labtui_artifacts.errors import UsageError
from labtui_sessions.compare import as_lines, compare
from labtui_sessions.export import FORMATS, export
from labtui_sessions.journal import Journal, JournalReader
from labtui_sessions.report import report
from labtui_sessions.tables import Table
from tests.sessions.scenario import MODEL, answer, write_session


@pytest.fixture
def table() -> Table:
    table = Table("sweep")
    rows = [
        {"direction": "-terse", "strength": -2, "text": '=HYPERLINK("http://x")', "words": 3, "ok": True},
        {"direction": "@x", "strength": 0.5, "text": 'two\nlines, "quoted"', "words": None,
         "reasons": {"words": "cut off"}, "ok": False},
        {"direction": "é", "strength": float("nan"), "text": "+1", "words": 4, "ok": None},
    ]  # fmt: skip
    table.add("j", "c", rows)
    return table


def test_csv_is_guarded_against_formulas(table: Table, tmp_path: Path) -> None:
    assert export(table, tmp_path / "t.csv", "csv") == 3
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ['\'=HYPERLINK("http://x")', 'two\nlines, "quoted"', "'+1"]
    assert [row["direction"] for row in rows] == ["'-terse", "'@x", "é"]
    assert [row["strength"] for row in rows] == ["-2", "0.5", "nan"]  # numbers stay numbers
    assert [row["words"] for row in rows] == ["3", "", "4"]
    assert [row["ok"] for row in rows] == ["true", "false", ""]
    assert rows[1]["reasons"] == '{"words":"cut off"}'


def test_json_and_json_lines(table: Table, tmp_path: Path) -> None:
    export(table, tmp_path / "t.json", "json")
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["table"] == "sweep" and {"name": "words", "type": "int"} in document["columns"]
    assert document["rows"][0]["text"] == '=HYPERLINK("http://x")'
    assert document["rows"][2]["strength"] is None
    export(table, tmp_path / "t.jsonl", "jsonl")
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines == document["rows"] and lines[1]["reasons"] == {"words": "cut off"}


def test_parquet(table: Table, tmp_path: Path) -> None:
    export(table, tmp_path / "t.parquet", "parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.column("words").to_pylist() == [3, None, 4]
    assert back.schema.field("strength").type == "double"
    assert back.column("reasons").to_pylist() == [None, '{"words":"cut off"}', None]


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_table_in_every_format(kind: str, tmp_path: Path) -> None:
    assert export(Table("none"), tmp_path / "t", kind) == 0
    assert (tmp_path / "t").exists()


def test_what_is_refused(table: Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of csv, json"):
        export(table, tmp_path / "t.xls", "xls")
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(table, tmp_path / "t.csv", "csv")
    with pytest.raises(UsageError, match="no folder"):
        export(table, tmp_path / "no" / "t.csv", "csv")
    assert (tmp_path / "t.csv").read_text() == "mine"


def test_a_session_compared_with_itself_and_with_another(tmp_path: Path) -> None:
    one = JournalReader.open(write_session(tmp_path / "s1"))
    same = compare(one, one)
    assert same.same and same.texts_compared == 2
    with Journal.open(tmp_path / "s2") as journal:
        journal.append("session.opened", {"id": "s2", "title": "other", "versions": {"torch": "2.9"}})
        journal.append("model.ready", {"info": {**MODEL, "dtype": "bfloat16"}})
        spec = {"prompt": "Explain what a mutex is.", "edits": "1.0*terse@llm.4"}
        journal.append("job.queued", {"job": "j1", "kind": "generate", "spec": spec})
        answer(journal, "j1", "plain", 0.0, 39, 0.0)
        row = {"prompt": "Explain what a mutex is.", "direction": "terse", "site": "llm.4", "where": "all",
               "strength": 1.0, "seed": 0, "control": "", "words": 10, "text": "A lock."}  # fmt: skip
        journal.append("cell.committed", {"job": "j2", "cell": "c", "table": "sweep", "rows": [row]})
    other = compare(one, JournalReader.open(tmp_path / "s2"))
    assert not other.same
    assert [(c.what, c.a, c.b) for c in other.model] == [("dtype", "float32", "bfloat16")]
    assert [c.what for c in other.versions] == ["torch"]
    assert [c.what for c in other.specs] == ["generate 1: edits", "sweep 1"]
    (table,) = other.tables
    assert (table.rows_a, table.rows_b, table.matched) == (4, 1, 1)
    words = next(c for c in table.columns if c.column == "words")
    assert (words.differ, words.mean_difference, words.max_difference) == (1, -6.0, 6.0)
    (text,) = other.texts
    assert text.a.startswith(text.b) and text.at == len(text.b)
    lines = "\n".join(as_lines(other))
    assert "dtype: 'float32' -> 'bfloat16'" in lines
    assert "words: 1 of 1 differ, mean -6, at most 6" in lines


def test_the_report_is_a_page_that_text_cannot_break_out_of(tmp_path: Path) -> None:
    folder = write_session(tmp_path / "s1")
    with Journal.open(folder) as journal:
        journal.append("session.titled", {"title": "a | b # <script>\n# no heading"})
        row = {"job": "j9", "row": "r"}
        journal.append("row.started", row)
        journal.append("row.finished", {**row, "text": "```\n# not a heading\x1b[31m\n````", "words": 3})
    with JournalReader.open(folder) as log:
        page = report(log)
    lines = page.splitlines()
    assert lines[0] == "# a \\| b \\# \\<script\\> \\# no heading"
    assert "## Table sweep" in lines and "4 rows in 4 cells." in lines
    assert "| terse | llm.4 | 1 | 4 |  | 1 | 20 | 16 | 2.5 |" in lines
    assert "> shorter, still names the lock" in lines and "| weight\\_hash | " + "w" * 64 + " |" in lines
    assert "knob to 1.0 from token 6" in page and "- The worker was lost: killed." in lines
    assert "`````" in lines and "\x1b" not in page
