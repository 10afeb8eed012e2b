"""Shared by the tests of the app: a fixed zone and terminal, and apps over a fake kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labtui.app import LabApp
from tests.support.fake_kernel import FakeKernel, FakeLobby
from tests.support.stories import CARDS, SAVED, STYLES


@pytest.fixture(autouse=True)
def fixed_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same zone and colours on every machine; no tmux or ssh around the tests."""
    for name in ("TMUX", "SSH_CONNECTION", "SSH_TTY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def make_app(tmp_path: Path):
    """Builds an app: ``make_app(kernel, first="steer")``."""

    def make(kernel: FakeKernel | None = None, *, lobby: FakeLobby | None = None, **options) -> LabApp:
        empty = kernel is None and lobby is None
        machine = lobby or FakeLobby([] if empty else CARDS, [] if empty else SAVED)
        options.setdefault("theme", "lab-dark")
        return LabApp(machine, kernel=kernel, home=tmp_path, styles=STYLES, **options)

    return make
