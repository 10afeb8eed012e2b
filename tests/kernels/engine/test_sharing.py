"""Rows that begin alike are prefilled once up to where they part, and are what they are alone."""

from __future__ import annotations

import pytest

from labtui_kernels.engine import Edit, Engine, Row
from labtui_kernels.engine.forward import Forward
from labtui_kernels.engine.sharing import trunk_length
from labtui_kernels.engine.tracks import Track
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, tokens, vector
from .reference import greedy, site


def watched(loaded) -> list[int]:
    """The number of tokens of each pass, as it comes."""
    processed: list[int] = []
    loaded.model.get_input_embeddings().register_forward_hook(
        lambda _m, args, _o: processed.append(args[0].numel())
    )
    return processed


def add(where: str, strength: float, seed: int = 2, at: str = "llm.1.out") -> Edit:
    return Edit(site(at), "add", vector(48, seed), strength, parse_where(where))


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_rows_of_a_point_share_the_system_prompt_and_points_do_not(family: str) -> None:
    loaded = tiny(family)
    engine = Engine(loaded)
    system = prompt(64, 1)
    edits = [add("all", 1.0), add("all", 2.5), add("generated", 3.0)]
    length = {True: lambda n: 9, False: lambda n: 7 + n // 2}[engine.forward.hybrid]
    rows = [
        Row(key=f"{e}-{n}", ids=system + prompt(length(n), 10 * e + n), edits=(edit,), max_new_tokens=5)
        for e, edit in enumerate(edits)
        for n in range(4)
    ]
    processed = watched(loaded)
    results = run(engine.batch(slots=12, fill=True), rows)
    assert processed[0] == 3 * 64  # once for each of two edited beginnings, once unedited
    assert processed[1] == 12 * max(length(n) for n in range(4))
    for row in rows:
        assert tokens(results[row.key]) == greedy(loaded.model, row)[0], row.key


def test_strengths_at_the_last_token_share_all_before_it() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    ids = prompt(30, 1)
    rows = [
        Row(key=str(s), ids=ids, edits=(add("last", s),), max_new_tokens=6) for s in (0.0, 1.0, 2.0, 4.0, 8.0)
    ]
    processed = watched(loaded)
    results = run(engine.batch(slots=5), rows)
    assert processed[:2] == [29, 5]
    for row in rows:
        assert tokens(results[row.key]) == greedy(loaded.model, row)[0], row.key


def test_a_row_with_surprise_shares_its_shadows_beginning() -> None:
    loaded = tiny("qwen2")
    engine = Engine(loaded)
    system, edit = prompt(40, 1), add("all", 2.0)
    rows = [
        Row(
            key=str(n),
            ids=system + prompt(6 + n // 2, 5 + n),
            edits=(edit,),
            max_new_tokens=5,
            surprise=True,
        )
        for n in range(4)
    ]
    processed = watched(loaded)
    results = run(engine.batch(slots=8), rows)
    assert processed[0] == 2 * 40
    for row in rows:
        plain = Row(key="plain", ids=row.ids, max_new_tokens=5)
        assert tokens(results[row.key]) == greedy(loaded.model, row)[0]
        assert greedy(loaded.model, plain)[0]  # the shadow is teacher-forced along the row, see test_score


def test_a_trunk_longer_than_a_chunk_is_processed_in_chunks_and_may_lose_its_rows() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded, chunk_tokens=16)
    system = prompt(50, 1)
    rows = [Row(key=str(n), ids=system + prompt(4, 5 + n), max_new_tokens=4) for n in range(6)]
    batch = engine.batch(slots=6)
    for row in rows:
        batch.add(row)
    assert batch.step() == []
    for key in "015":
        batch.cancel(key)
    results = run(batch, [])
    for row in rows:
        if row.key not in "015":
            assert tokens(results[row.key]) == greedy(loaded.model, row)[0], row.key


def tracks(rows: list[Row]) -> list[Track]:
    forward = Forward(tiny("qwen3"))
    return [Track.of(row, forward) for row in rows]


def test_what_is_worth_a_trunk() -> None:
    system = prompt(40, 1)
    few = tracks([Row(key=str(n), ids=system + prompt(8, 5 + n)) for n in range(2)])
    assert trunk_length(few) == 0  # 40 tokens saved, which a pass of its own is not worth
    many = tracks([Row(key=str(n), ids=system + prompt(8, 5 + n)) for n in range(6)])
    assert trunk_length(many) == 40
    assert trunk_length(many, multiple=64) == 0
    assert trunk_length(many, multiple=16) == 32
    apart = tracks(
        [Row(key=str(n), ids=system + prompt(8, 5 + n), edits=(add("all", 1.0 + n),)) for n in range(6)]
    )
    assert trunk_length(apart) == 0  # each edits the beginning in its own way
    late = tracks(
        [
            Row(key=str(n), ids=system + prompt(8, 5), edits=(add("[44,45]", 1.0 + n),), max_new_tokens=2)
            for n in range(6)
        ]
    )
    assert trunk_length(late) == 44
    same = tracks([Row(key=str(n), ids=system) for n in range(6)])
    assert trunk_length(same) == 0  # one prompt: it is processed once anyway
