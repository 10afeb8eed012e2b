"""A process that takes connections on a kernel's socket and never answers: named, and waited for no longer
than a bound."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from labtui import starting
from labtui.commands.kernel import command
from labtui.lobby import LocalLobby
from labtui_artifacts.errors import Unreachable
from labtui_kernels.broker import registry


@pytest.fixture
def silent(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    runtime = tmp_path / "rt"
    monkeypatch.setenv("LABTUI_RUNTIME", str(runtime))
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(registry.socket_path("mute")))
        listener.listen()
        yield "mute"


def test_it_is_listed_as_not_answering(silent: str) -> None:
    begun = time.monotonic()
    done = CliRunner().invoke(command, ["ps"])
    assert done.exit_code == 0, done.output
    assert "mute" in done.output and "not answering" in done.output
    assert time.monotonic() - begun < 4 * starting.LISTED_WITHIN
    cards = asyncio.run(LocalLobby().kernels())
    assert [(card.name, card.error) for card in cards] == [("mute", "not answering")]


def test_a_request_to_it_ends_with_one_line(silent: str) -> None:
    with pytest.raises(Unreachable, match=r"'mute' is not answering.*labtui kernel logs mute"):
        asyncio.run(starting.ask(silent, "info", within=0.3))


def test_a_socket_that_nobody_holds_is_not_listed(silent: str) -> None:
    path = registry.socket_path("dead")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert "dead" not in [one.name for one in asyncio.run(starting.roster())]
