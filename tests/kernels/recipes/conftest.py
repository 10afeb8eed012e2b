"""One tiny model for all of these tests; a store of its own for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtui_artifacts.store import Store
from tests.kernels.recipes.lab import Lab


@pytest.fixture(scope="session")
def model_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("store"))


@pytest.fixture
def lab(model_of_the_session: Lab, tmp_path: Path) -> Lab:
    model_of_the_session.store = Store(tmp_path / "artifacts")
    return model_of_the_session
