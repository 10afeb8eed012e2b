"""What the demo prints."""

from __future__ import annotations

from typing import Any

from labtui.demo import plot, show

ROWS: list[dict[str, Any]] = [
    {"control": "zero", "strength": 0.0, "words": 40, "site": "", "direction": ""},
    {"control": "", "strength": 1.0, "words": 20, "site": "llm.10", "direction": "terse"},
    {"control": "", "strength": 1.0, "words": 10, "site": "llm.4", "direction": "terse"},
    {"control": "random", "strength": 1.0, "words": 99, "site": "llm.4", "direction": "random:1"},
    {"control": "", "strength": 2.0, "words": None, "site": "llm.4", "direction": "terse"},
]


def test_plot_has_a_line_a_site_and_the_zero_row_in_each() -> None:
    made = plot(ROWS, "words")
    assert made is not None
    assert [(s.label, s.points) for s in made.series] == [
        ("llm.4", ((0.0, 40.0), (1.0, 10.0))),
        ("llm.10", ((0.0, 40.0), (1.0, 20.0))),
    ]
    assert plot([], "words") is None


def test_the_table_and_the_chart_are_printed(capsys) -> None:
    show(ROWS)
    said = capsys.readouterr().out
    lines = said.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("site "))
    sites = [line.split()[0] for line in lines[at + 1 : at + 6]]
    assert sites == ["0.0", "llm.4", "llm.4", "llm.10", "llm.4"] and lines[at + 5].endswith("random")
    assert "words over strength" in said and "● llm.4" in said and "▲ llm.10" in said
