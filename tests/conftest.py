"""What every test stands on: a lab home of its own, few threads, and no silent skips in CI."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

# How long an example takes on a machine that does other things too says nothing of the code.
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")

# Tiny models are fastest on one thread, and two pytest workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

# Collecting garbage took a quarter of a test's time and a third of an import's, since each full collection goes through
# torch and three thousand tests. What is there once all tests are known stays, and none of it is looked at again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def lab_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh ``LABTUI_HOME`` and a short ``LABTUI_RUNTIME`` (sockets have 107 bytes of path) for each test."""
    home = tmp_path_factory.mktemp("home")
    runtime = Path(tempfile.mkdtemp(prefix="lt-"))
    runtime.chmod(0o700)
    monkeypatch.setenv("LABTUI_HOME", str(home))
    monkeypatch.setenv("LABTUI_RUNTIME", str(runtime))
    for name in ("LABTUI_KERNEL", "LABTUI_VIA", "LABTUI_REMOTE", "NO_COLOR", "TMUX", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    yield home
    shutil.rmtree(runtime, ignore_errors=True)


def need(tool: str) -> str:
    """The path of a system tool; where it is missing the test is skipped, but fails with ``CI=true``."""
    path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        _missing(f"{tool} is not installed (apt-get install tmux openssh-server)", whole_file=False)
    return path


def need_module(name: str, *, whole_file: bool = False) -> Any:
    """A package; where it is missing the test (or the file) is skipped, but fails with ``CI=true``."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there, and broken
        _missing(f"{name} is not installed (pip install 'labtui[test]')", whole_file=whole_file)


def _missing(message: str, *, whole_file: bool) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message, allow_module_level=whole_file)
