"""Teacher forcing in one pass: equal to decoding step by step, and to the definitions."""

from __future__ import annotations

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Row
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, run, vector
from .reference import logits, site


def forced_rows() -> list[Row]:
    edits = (
        Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("generated[1:4]")),
        Edit(site("llm.2.in"), "project", vector(48, 2), 1.0),
    )
    return [
        Row(key="plain", ids=prompt(9, 1), forced=prompt(6, 11)),
        Row(key="edited", ids=prompt(12, 2), edits=edits, forced=prompt(8, 12), surprise=True),
        Row(
            key="one", ids=prompt(1, 3), edits=edits, forced=prompt(1, 13), stop_ids=frozenset(prompt(1, 13))
        ),
        Row(
            key="turned",
            ids=prompt(30, 4),
            edits=edits,
            forced=prompt(9, 14),
            knobs=((0, 1, 0.2), (3, 0, 5.0)),
        ),
        Row(key="long", ids=prompt(100, 5), edits=edits, forced=prompt(40, 15), surprise=True),
    ]


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_scores_equal_decoding(family: str) -> None:
    loaded = tiny(family)
    engine = Engine(loaded, chunk_tokens=64)
    rows = forced_rows()
    scored = engine.score(rows)
    decoded = run(engine.batch(slots=4), rows)
    for row, emitted in zip(rows, scored, strict=True):
        table = logits(loaded.model, row, list(row.forced or ()))[len(row.ids) - 1 : -1].log_softmax(-1)
        for index, (one, two) in enumerate(zip(emitted, decoded[row.key], strict=True)):
            assert (one.key, one.index, one.token, one.finish) == (two.key, two.index, two.token, two.finish)
            assert one.logprob == pytest.approx(float(table[index, one.token]), abs=1e-3)
            assert one.logprob == pytest.approx(two.logprob, abs=1e-3)
            assert one.gap == pytest.approx(two.gap, abs=1e-3)
            assert one.best == int(table[index].argmax())
            top = table[index].topk(2).values
            assert one.gap == pytest.approx(float(top[0] - top[1]), abs=1e-3)
            if row.surprise:
                assert one.plain_logprob == pytest.approx(two.plain_logprob, abs=1e-3)
            else:
                assert one.plain_logprob is None


def test_divergence_is_kl() -> None:
    loaded = tiny("qwen3")
    rows = forced_rows()
    found = Engine(loaded, chunk_tokens=64).divergence(rows)
    for row, values in zip(rows, found, strict=True):
        plain = Row(key="x", ids=row.ids)
        answer = list(row.forced or ())
        p = logits(loaded.model, row, answer)[len(row.ids) - 1 : -1].log_softmax(-1)
        q = logits(loaded.model, plain, answer)[len(row.ids) - 1 : -1].log_softmax(-1)
        wanted = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        assert values == pytest.approx(wanted.tolist(), abs=1e-3)
    assert found[0] == [0.0] * 6 and max(found[1]) > 0.01


def test_divergence_shares_the_unsteered_pass() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    edits = [Edit(site("llm.1.out"), "add", vector(48, 1), strength) for strength in (0.5, 1.0, 2.0)]
    rows = [
        Row(key=str(n), ids=prompt(10, 1), edits=(edit,), forced=prompt(5, 2)) for n, edit in enumerate(edits)
    ]
    alone = [engine.divergence([row])[0] for row in rows]
    processed: list[int] = []
    loaded.model.model.embed_tokens.register_forward_hook(
        lambda _m, args, _o: processed.append(args[0].shape[0])
    )
    together = engine.divergence(rows)
    assert processed == [4]  # three steered sequences and one unsteered
    for one, two in zip(alone, together, strict=True):
        assert one == pytest.approx(two, abs=1e-4)
    assert together[0][0] < together[1][0] < together[2][0]


def test_parts_and_refusals() -> None:
    engine = Engine(tiny("qwen2", max_position_embeddings=64), chunk_tokens=16)
    rows = [Row(key="a", ids=prompt(40, 1), forced=prompt(4, 2)), Row(key="b", ids=(1, 2), forced=(3,))]
    parts = list(engine.score_parts(rows))
    assert parts.count({}) == 2  # the long one goes on for two chunks before it is done
    assert {index for part in parts for index in part} == {0, 1}
    for row, words in (
        (Row(key="c", ids=(1,)), "row c: nothing to score"),
        (Row(key="c", ids=prompt(60, 1), forced=prompt(5, 1)), "65 tokens; the model's context holds 64"),
        (Row(key="c", ids=(1,), forced=(10**6,)), "outside the vocabulary"),
    ):
        with pytest.raises(UsageError, match=words):
            engine.score([row])
        with pytest.raises(UsageError, match=words):
            engine.divergence([row])
