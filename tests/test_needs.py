"""What a test needs and lacks: skipped on a workplace, a failure where ``CI`` is set."""

from __future__ import annotations

import json

import pytest

from tests.conftest import need, need_module


def test_what_is_there_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert need("sh").endswith("/sh")
    assert need_module("json") is json


@pytest.mark.parametrize("ask", [lambda: need("no-such-tool"), lambda: need_module("no_such_package")])
def test_what_is_missing_skips_and_fails_in_ci(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="is not installed"):
        ask()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="is not installed"):
        ask()
