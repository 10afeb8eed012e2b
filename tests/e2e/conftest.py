"""For end-to-end tests that start kernels of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import rig


@pytest.fixture
def no_kernels_left(lab_home: Path) -> Iterator[None]:
    """Kill what a test started in its own runtime folder and left running."""
    yield
    rig.kill_all()
