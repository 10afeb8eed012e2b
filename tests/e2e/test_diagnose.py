"""A diagnosis on a real kernel, from Python, in a saved file, and from the shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labtui
from labtui_sessions.bundle import open_bundle
from tests.e2e.lab import must


@pytest.fixture
def toy() -> Iterator[str]:
    """A kernel with the bundled model, stopped at the end."""
    must("kernel", "start", "toy", "--model", "toy-qwen3", "--dtype", "float32", "--wait")
    yield "toy"
    must("kernel", "stop", "toy")


def test_a_diagnosis_from_python_in_a_file_and_from_the_shell(toy: str, tmp_path: Path) -> None:
    lab = labtui.connect(toy)
    assert "seconds" not in lab.request("plan", spec={"kind": "diagnose", "style": "terse"})
    for style in ("terse", "formal"):
        lab.direction(style, style=style)
    planned = lab.request("plan", spec={"kind": "diagnose", "style": "terse"})
    assert planned["prompts"] == 128 + 24 and planned["seconds"] > 0
    tables = lab.diagnose(direction="terse", directions=["*"])
    assert set(tables) == {"anatomy", "landscape", "cosines"}
    layers = tables["anatomy"].rows
    assert [row["site"] for row in layers] == [f"llm.{block}" for block in range(8)]
    for row in layers:
        assert row["cosine"] == pytest.approx(1.0, abs=1e-5) and row["split_half"] > 0.9
        assert row["snr"] > 3 * row["snr_null"] > 0
    assert len(tables["landscape"]) == 8 * (128 + 24 + 3) and len(tables["cosines"]) == 8
    (one_site,) = [row["cosine"] for row in tables["cosines"] if row["site"] == "llm.3"]
    assert one_site == pytest.approx(lab.cosine("terse", "formal", site="llm.3.out")[0][1], abs=1e-6)
    saved = lab.session.save(tmp_path / "s.safetensors")
    kept = open_bundle(saved).tables().table(tables["anatomy"].name)
    assert [kept.row(index) for index in range(kept.rows)] == layers
    lab.close()
    assert "layer anatomy of terse" in must("session", "show", str(saved))
    assert must("session", "verify", str(saved)).startswith("ok")
    printed = must(
        "run", "diagnose", "--set", "style=formal", "--set", "sites=llm.2", "--set", "landscape=none"
    )
    assert printed.splitlines()[0] == "layer anatomy of formal" and printed.splitlines()[2].startswith(
        "llm.2 "
    )
