"""A process that takes connections on a kernel's socket and never answers: named, and waited for no longer
than a bound."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from labtui import link, starting
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


@pytest.mark.parametrize("words", [["ps"], ["info", "k"], ["stop", "k"], ["logs", "k"], ["start", "k"]])
def test_a_machine_that_never_answers_is_waited_for_no_longer_than_a_bound(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST_TIMEOUT", 0.3)
    begun = time.monotonic()
    done = CliRunner().invoke(command, [*words, "--via", "sh -c 'exec sleep 600'"])
    assert isinstance(done.exception, Unreachable) and time.monotonic() - begun < 30
    assert f"`labtui kernel {words[0]}` has not ended there in 0.3 s: is the machine reachable" in str(
        done.exception
    )
