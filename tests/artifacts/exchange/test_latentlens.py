"""LatentLens folders are refused before anything in them is opened."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange import import_into
from labtui_artifacts.exchange.latentlens import read
from labtui_artifacts.store import Store


class Trap:
    """A pickle of it removes a file when it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, (str(self.victim),)


@pytest.mark.parametrize("layer", ["layer_8", ""])
def test_its_pickles_are_refused_unopened(tmp_path: Path, layer: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("still here")
    folder = tmp_path / "index"
    place = folder / layer / "embeddings_cache.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(pickle.dumps(Trap(victim)))
    with pytest.raises(BadFile, match=r"a LatentLens folder; .* `labtui run index") as caught:
        import_into(Store(tmp_path / "store"), folder)
    assert "\n" not in str(caught.value) and victim.exists()
    with pytest.raises(BadFile, match="a LatentLens folder"):
        read(folder)
    assert victim.exists()


def test_other_folders_are_refused_as_before(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"without a vector\.yaml"):
        import_into(Store(tmp_path / "store"), tmp_path)
