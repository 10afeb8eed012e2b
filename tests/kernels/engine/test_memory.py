"""The estimate of a slot against what slots take."""

from __future__ import annotations

import pytest
import torch

from labtui_artifacts.errors import UsageError
from labtui_kernels.engine import Engine, Row
from labtui_kernels.engine.cache import RecurrentSlots
from labtui_kernels.engine.memory import KEEP, bytes_per_slot, free_bytes
from tests.support.tiny import TEXT_FAMILIES, tiny

from .driving import prompt


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_estimate_equals_the_buffers(family: str, dtype: torch.dtype) -> None:
    loaded = tiny(family)
    loaded.model.to(dtype)
    engine = Engine(loaded)
    batch = engine.batch(slots=3)
    batch.add(Row(key="a", ids=prompt(30, 1), max_new_tokens=98))
    while not batch.running:
        batch.step()
    cache = batch._cache
    assert cache is not None and cache.capacity == 128
    held = 0
    for layer in cache.slot_layers:
        parts = layer.state() if isinstance(layer, RecurrentSlots) else (layer.keys, layer.values)
        held += sum(part.numel() * part.element_size() for part in parts)  # type: ignore[union-attr]
    logits = 3 * 4 * engine.forward.vocab
    assert bytes_per_slot(engine.forward, 128) - logits == held / 3


def test_slots_that_fit() -> None:
    engine = Engine(tiny("qwen3"))
    each = bytes_per_slot(engine.forward, 100)
    room = int(each * 11 / (1 - KEEP)) + 1
    assert engine.slots_that_fit(100, free=room) == 10
    assert engine.slots_that_fit(200, free=room) < 10
    assert engine.slots_that_fit(100, free=10**12) == 64
    assert 1 <= engine.slots_that_fit(100) <= 64
    assert free_bytes(torch.device("cpu")) > 0
    with pytest.raises(
        UsageError, match=r"no room for one row of 100 tokens: it needs 0 MB .* 0 MB are free"
    ):
        engine.slots_that_fit(100, free=1000)
    with pytest.raises(UsageError, match="slots of 0 tokens"):
        engine.slots_that_fit(0)
