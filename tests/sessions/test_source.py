"""A whole row out of its events."""

from __future__ import annotations

from typing import Any

from labtui_sessions.events import Event
from labtui_sessions.source import RowText, collect_row

KEY: dict[str, Any] = {"job": "j", "row": "r"}


def tokens(start: int, *pieces: str, plain: bool = False) -> tuple[str, dict[str, Any]]:
    count = len(pieces)
    numbers = {"ids": [1] * count, "logprobs": [-0.5] * count, "gaps": [0.1] * count}
    extra = {"plain_logprobs": [-2.0] * count} if plain else {}
    return "row.tokens", {**KEY, "start": start, "pieces": list(pieces), **numbers, **extra}


def collect(*events: tuple[str, dict[str, Any]]) -> RowText | None:
    return collect_row([Event(n, float(n), kind, data) for n, (kind, data) in enumerate(events, 1)])


def test_chunks_overlaps_gaps_and_contradictions() -> None:
    contradiction = ("row.tokens", {**KEY, "start": 3, "ids": [1, 2], "pieces": ["x"], "logprobs": [-1.0]})
    row = collect(
        (
            "row.started",
            {**KEY, "arm": "steered", "ids": [7], "pieces": ["p"], "messages": [{"role": "user"}]},
        ),
        tokens(0, "a", "b"),
        tokens(1, "b", "c", plain=True),
        tokens(9, "never: there is nothing between"),
        contradiction,
        ("knob", {**KEY, "edit": 0, "strength": 2.0, "step": 2}),
        tokens(3, "d"),
    )
    assert row is not None
    assert (row.text, row.pieces, row.ids) == ("abcd", ["a", "b", "c", "d"], [1, 1, 1, 1])
    assert row.plain_logprobs == [None, None, -2.0, None] and row.knobs[0].step == 2
    assert (row.key, row.arm, row.prompt_ids, row.prompt_pieces, row.finish) == (
        "j/r",
        "steered",
        [7],
        ["p"],
        "",
    )


def test_a_row_that_began_again_and_its_own_text() -> None:
    row = collect(
        ("row.started", KEY),
        tokens(0, "half"),
        ("row.started", KEY),
        tokens(0, "who", "le"),
        ("row.finished", {**KEY, "finish": "stop", "text": "whole "}),
    )
    assert row is not None and (row.text, row.finish, row.pieces) == ("whole ", "stop", ["who", "le"])


def test_a_row_that_never_started() -> None:
    assert collect(tokens(0, "a")) is None
