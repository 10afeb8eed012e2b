"""Cosines between stored directions, and the reference norms that ``artifact.show`` adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.direction import build
from labtui_kernels.broker.methods import artifacts, relations


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path))
    store = artifacts.store()
    vectors = {
        "a": {"llm.0.out": [1.0, 0.0], "llm.1.out": [0.0, 2.0]},
        "b": {"llm.0.out": [3.0, 4.0], "llm.2.out": [1.0, 1.0]},
        "c": {"llm.2.out": [0.0, 0.0]},
    }
    for name, sites in vectors.items():
        tensors, meta = build(
            {site: np.array(v, np.float32) for site, v in sites.items()},
            references={"llm.0.out": (5.0, 7.0)},
        )
        store.put(name, "direction", tensors, meta)


def test_cosines_are_means_over_shared_sites(stored: None) -> None:
    found = relations._table(["a", "b", "c"], None)
    assert found["matrix"][0] == [pytest.approx(1.0), pytest.approx(0.6), None]
    assert found["matrix"][1][0] == pytest.approx(0.6)
    assert found["matrix"][2] == [None, None, None]


def test_cosines_at_one_site(stored: None) -> None:
    found = relations._table(["a", "b"], "llm.0.out")
    assert found["site"] == "llm.0.out" and found["matrix"][1][0] == pytest.approx(0.6)
    with pytest.raises(UsageError, match=r"llm\.1\.out"):
        relations._table(["a", "b"], "llm.1.out")


def test_show_has_the_reference_norms(stored: None) -> None:
    shown = artifacts._show("a")
    assert shown["references"]["llm.0.out"] == {"median": 5.0, "mean": 7.0}
    assert shown["references"]["llm.1.out"] == {"median": None, "mean": None}
