"""Tables from committed cells: once each, typed, paged, sorted, filtered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtui_artifacts.errors import UsageError
from labtui_sessions.events import Event
from labtui_sessions.tables import Tables, gather, parse_conditions


def cell(seq: int, key: str, *rows: dict[str, Any], table: str = "sweep", job: str = "j") -> Event:
    return Event(seq, 0.0, "cell.committed", {"job": job, "cell": key, "table": table, "rows": list(rows)})


def words(tables: Tables, **how: Any) -> list[Any]:
    page = tables.page("sweep", 0, 100, **how)
    return [row[page.columns.index("words")] for row in page.rows]


@pytest.fixture
def tables() -> Tables:
    return gather(
        [
            cell(1, "a", {"direction": "terse", "strength": 2, "words": 13, "text": "Mutex."}),
            cell(2, "b", {"direction": "terse", "strength": 1.5, "words": 20, "text": "A lock."}),
            cell(3, "a", {"direction": "terse", "strength": 2, "words": 99}),
            cell(4, "c", {"direction": "-terse", "strength": 0, "reasons": {"words": "empty"}}),
            cell(5, "d", {"x": 1}, table="other"),
        ]
    )


def test_a_cell_counts_once_and_jobs_have_their_own(tables: Tables) -> None:
    assert words(tables) == [13, 20, None]
    assert not tables.apply(cell(6, "b", {"words": 1}))
    assert tables.apply(cell(7, "b", {"words": 1}, job="j2"))
    assert tables.committed("j") == {"a", "b", "c", "d"}
    assert tables.has("j2", "b", "sweep") and not tables.has("j2", "a", "sweep")


def test_types_are_stable_and_absent_values_say_why(tables: Tables) -> None:
    page = tables.page("sweep", 0, 10)
    assert dict(zip(page.columns, page.types, strict=True)) == {
        "direction": "str", "strength": "float", "words": "int", "text": "str",
    }  # fmt: skip
    assert page.reasons == [{}, {}, {"words": "empty"}]
    assert (page.total, page.matched, page.start) == (3, 3, 0)
    table = tables.table("sweep").to_arrow()
    assert table.schema.field("strength").type == "double" and table.num_rows == 3
    assert table.column("words").to_pylist() == [13, 20, None]


def test_a_column_of_several_kinds_becomes_json() -> None:
    tables = gather([cell(1, "a", {"v": 1, "w": 1}, {"v": "one", "w": 2.5}, {"v": [1, float("nan")]})])
    table = tables.table("sweep")
    assert [column.type for column in table.columns.values()] == ["json", "float"]
    assert table.columns["v"].stored() == ["1", '"one"', "[1,null]"]
    assert table.columns["w"].stored() == [1.0, 2.5, None]
    assert table.to_arrow().num_rows == 3


def test_pages_sort_and_filter(tables: Tables) -> None:
    assert words(tables, sort="words", descending=True) == [20, 13, None]
    assert words(tables, conditions=parse_conditions("words>=13 words<20")) == [13]
    assert words(tables, conditions=parse_conditions("direction=terse text~LOCK")) == [20]
    assert words(tables, conditions=parse_conditions("words=")) == [None]
    assert words(tables, conditions=parse_conditions("direction!=terse")) == [None]
    page = tables.page("sweep", 1, 2, sort="strength")
    assert (page.start, page.matched, [row[1] for row in page.rows]) == (1, 3, [1.5])
    assert tables.page("sweep", 50, 60).rows == []
    before = tables.page("sweep", 0, 9, until=2, sort="words", descending=True)
    assert (before.total, [row[2] for row in before.rows]) == (2, [20, 13])


@pytest.mark.parametrize("text", ["words", "=3", "a b", ">"])
def test_a_bad_filter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a column"):
        parse_conditions(text)


def test_unknown_names_are_answered_with_those_there_are(tables: Tables) -> None:
    with pytest.raises(UsageError, match="it has other, sweep"):
        tables.table("nope")
    with pytest.raises(UsageError, match="it has direction, strength, words, text"):
        tables.page("sweep", 0, 1, sort="nope")


_value = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**64), 2**65), st.floats(), st.text(), st.lists(st.integers())
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "words", "text", "kl"]), _value), max_size=30))
def test_any_rows_make_columns_of_equal_length_that_arrow_takes(rows: list[dict[str, Any]]) -> None:
    table = gather([cell(1, "a", *rows)]).by_name["sweep"]
    assert {len(column.values) for column in table.columns.values()} <= {len(rows)}
    assert table.to_arrow().num_rows in (0, len(rows))
    for name in table.columns:
        assert sorted(table.select(sort=name)) == list(range(len(rows)))
