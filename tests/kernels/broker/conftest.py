"""Kernels that a test leaves behind are killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import kernels


@pytest.fixture(autouse=True)
def no_kernels_left(lab_home: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LABTUI_SYNC", "LABTUI_FULL", "LABTUI_LIMITS", "LABTUI_ECHO", "LABTUI_ECHO_BUILD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    kernels.stop_all()
