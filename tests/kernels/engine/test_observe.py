"""One pass for many readings: each against an uncached pass of the model with hand-written hooks."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Edit, Engine, Look, Row, Sight
from labtui_kernels.lang.positions import parse_where
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt, vector
from .reference import attach, logits, places, site


def looked(engine: Engine, looks: list[Look]) -> list[Sight]:
    found: dict[int, Sight] = {}
    for part in engine.observe_parts(looks):
        found.update(part)
    return [found[index] for index in range(len(looks))]


def rows() -> list[Row]:
    edits = (
        Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("generated[1:4]")),
        Edit(site("llm.2.in"), "project", vector(48, 2), 1.0),
        Edit(site("llm.2.out"), "replace", vector(48, 3), 0.5, parse_where("last")),
        Edit(site("llm.1.out"), "add", vector(48, 4), 0.3),
    )
    return [
        Row(key="plain", ids=prompt(9, 1), forced=prompt(6, 11)),
        Row(key="edited", ids=prompt(12, 2), edits=edits, forced=prompt(8, 12)),
        Row(key="turned", ids=prompt(30, 4), edits=edits, forced=prompt(9, 14), knobs=((3, 3, 2.0),)),
        Row(key="long", ids=prompt(100, 5), edits=edits, forced=prompt(40, 15)),
    ]


@torch.no_grad()
def residuals(model: object, row: Row, block: int, *, ahead: bool) -> torch.Tensor:
    """Output of a block [positions, d]: after the row's edits there, or just ahead of them."""
    kept: list[torch.Tensor] = []
    ids = torch.tensor([[*row.ids, *(row.forced or ())]])
    base = model.model  # type: ignore[attr-defined]
    with ExitStack() as stack:

        def keep(_module: object, _args: object, output: torch.Tensor) -> None:
            kept.append((output if isinstance(output, torch.Tensor) else output[0])[0].clone())

        if ahead:
            stack.callback(base.layers[block].register_forward_hook(keep).remove)
        attach(stack, model, row, len(row.ids), ids.shape[1])
        if not ahead:
            stack.callback(base.layers[block].register_forward_hook(keep).remove)
        model(input_ids=ids, use_cache=False)  # type: ignore[operator]
    return kept[0]


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_everything_in_one_pass(family: str) -> None:
    loaded = tiny(family)
    engine = Engine(loaded, chunk_tokens=64)
    places_read = (site("llm.1.out"), site("llm.3.out"))
    asked = [
        Look(
            row,
            answer=len(row.forced or ()) - 1,
            logprobs=True,
            state=2,
            logits=True,
            means=places_read,
            moved=True,
        )
        for row in rows()
    ]
    for look, sight in zip(asked, looked(engine, asked), strict=True):
        row, forced = look.row, list(look.row.forced or ())
        start = len(row.ids)
        table = logits(loaded.model, row, forced)
        wanted = table[start - 1 : -1].log_softmax(-1)
        chosen = [float(wanted[index, token]) for index, token in enumerate(forced)]
        assert sight.logprobs == pytest.approx(chosen, abs=1e-3)
        assert sight.logits is not None and sight.state is not None
        np.testing.assert_allclose(sight.logits, table[start - 1].numpy(), atol=2e-3)
        np.testing.assert_allclose(
            engine.forward.logits(sight.state[None])[0].numpy(), table[start + 1].numpy(), atol=2e-3
        )
        for place in places_read:
            block = place.block
            assert block is not None
            after = residuals(loaded.model, row, block, ahead=False)
            mean = after[start : start + look.answer].mean(0).numpy()
            np.testing.assert_allclose(sight.means[place], mean, rtol=1e-3, atol=2e-3)
        if not row.edits:
            assert sight.moved == {}
            continue
        assert set(sight.moved) == {site("llm.1.out"), site("llm.2.in"), site("llm.2.out")}
        for place in (site("llm.1.out"), site("llm.2.out")):
            block = place.block
            assert block is not None
            before, after = (residuals(loaded.model, row, block, ahead=ahead) for ahead in (True, False))
            total = start + look.answer
            at = sorted({p for edit in row.edits if edit.site == place for p in places(edit, start, total)})
            share = (after - before).norm(dim=-1) / before.norm(dim=-1)
            assert sight.moved[place] == pytest.approx(100 * float(np.median(share[at].numpy())), rel=1e-3)


def test_only_what_is_needed_is_processed() -> None:
    loaded = tiny("qwen3")
    engine = Engine(loaded)
    lengths: list[int] = []
    loaded.model.model.embed_tokens.register_forward_hook(
        lambda _m, args, _o: lengths.append(args[0].shape[1])
    )
    row = Row(key="r", ids=prompt(10, 1), forced=prompt(6, 2))
    for look, wanted in {
        Look(row, logits=True): 10,
        Look(row, state=0): 10,
        Look(row, state=3): 13,
        Look(row, logprobs=True): 15,
        Look(row, answer=6, means=(site("llm.1.out"),)): 16,
        Look(Row(key="r", ids=prompt(10, 1)), logits=True): 10,
    }.items():
        looked(engine, [look])
        assert lengths.pop() == wanted and not lengths


def test_an_edit_that_is_nowhere_in_force_and_one_of_zero() -> None:
    engine = Engine(tiny("qwen3"))
    late = Edit(site("llm.1.out"), "add", vector(48, 1), 1.0, parse_where("generated[9:]"))
    zero = Edit(site("llm.2.out"), "add", vector(48, 1), 0.0)
    row = Row(key="r", ids=prompt(10, 1), edits=(late, zero), forced=prompt(4, 2))
    (sight,) = looked(engine, [Look(row, answer=4, moved=True)])
    assert sight.moved == {site("llm.1.out"): None, site("llm.2.out"): 0.0}


def test_a_look_at_what_is_not_there() -> None:
    row = Row(key="r", ids=prompt(10, 1), forced=prompt(4, 2))
    with pytest.raises(UsageError, match="it has 4 forced tokens"):
        Look(row, state=4)
    with pytest.raises(UsageError, match="it has 4 forced tokens"):
        Look(row, answer=5)
    with pytest.raises(UsageError, match="no forced tokens to score"):
        Look(Row(key="r", ids=prompt(10, 1)), logprobs=True)
    with pytest.raises(UsageError, match=r"expected llm\.embed"):
        looked(Engine(tiny("qwen3")), [Look(row, answer=4, means=(site("llm.9.out"),))])
