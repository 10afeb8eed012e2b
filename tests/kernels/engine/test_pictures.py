"""Rows with pictures: what the engine gives is what plain transformers give, token for token."""

from __future__ import annotations

import pytest

from labtui_kernels.engine import Engine
from tests.support.tiny_vision import VISION_FAMILIES, tiny_vision

from .driving import run, tokens
from .seeing import generate, pictured


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_rows_with_pictures_equal_generate(family: str) -> None:
    loaded = tiny_vision(family)
    rows = [
        pictured(loaded, [(3, 2)], 1, "one", max_new_tokens=20),
        pictured(loaded, [(5, 4), (2, 3)], 2, "two", max_new_tokens=20),
        pictured(loaded, [], 3, "text", max_new_tokens=20),
    ]
    results = run(Engine(loaded).batch(slots=3), rows)
    for row in rows:
        assert tokens(results[row.key]) == generate(loaded, row), row.key
    assert loaded.model.model.rope_deltas is None
