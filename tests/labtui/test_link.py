"""The stdio of a command as a link: banners, quoting, failures, and a real kernel behind a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labtui.client import AsyncLab
from labtui.link import CommandLink, remote_command, skip_to_preamble
from labtui_artifacts.errors import Unreachable, UsageError
from labtui_kernels.protocol import PREAMBLE
from tests.support import kernels


@pytest.fixture(autouse=True)
def remote(lab_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``labtui`` at the other end is this one; it finds the packages as this process does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("LABTUI_REMOTE", f"{sys.executable} -m labtui")
    yield
    kernels.stop_all()


async def test_a_kernel_behind_a_command_is_a_kernel() -> None:
    kernels.start("far")
    await (await kernels.ready("far")).close()
    lab = await AsyncLab.connect("far", via="env FAR=1")
    view = await kernels.finished(lab, await kernels.submit(lab, "a", "b"))
    assert (view.status, lab.name, lab.where) == ("done", "far", "via 'env FAR=1'")
    await lab.close()
    only = await AsyncLab.connect(via="env")
    assert only.hello.kernel == "far"
    await only.close()


async def test_banners_come_first_and_the_command_may_die_and_come_back(tmp_path: Path) -> None:
    kernels.start("far")
    script = tmp_path / "hop"
    script.write_text('#!/bin/sh\necho "Welcome to node 7"\nprintf LABTUI\necho $$ > "$HOP"\nexec "$@"\n')
    script.chmod(0o700)
    os.environ["HOP"] = str(tmp_path / "pid")
    lab = await AsyncLab.connect("far", via=str(script))
    await kernels.until(lab, lambda: lab.state.kernel.state == "ready", "ready")
    kernels.kill(int((tmp_path / "pid").read_text()))
    await kernels.until(lab, lambda: lab.link.phase == "lost", "the loss")
    await kernels.until(lab, lambda: lab.link.up, "the way back")
    assert (await kernels.finished(lab, await kernels.submit(lab, "a"))).status == "done"
    await lab.close()


@pytest.mark.parametrize(
    ("via", "pattern"),
    [
        ("sh -c 'echo no route to host >&2; exit 255' --", r"no route to host \(exit 255\)"),
        ("sh -c 'exit 127' --", "labtui was not found at the other end: set LABTUI_REMOTE"),
        ("env", "no kernel 'far' here"),
        ("/no/such/program", "No such file"),
        ("sh -c 'yes banner' --", "no kernel spoke within 256 KiB"),
    ],
)
async def test_what_went_wrong_there_is_said_here(via: str, pattern: str) -> None:
    with pytest.raises(Unreachable, match=pattern):
        await AsyncLab.connect("far", via=via)


async def test_the_preamble_is_found_wherever_it_starts() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"LAB" + PREAMBLE[:-1] + b"x" + PREAMBLE + b"rest")
    await skip_to_preamble(reader)
    assert await reader.read(10) == b"rest"


def test_ssh_gets_no_terminal_and_quoted_words_and_others_get_them_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABTUI_REMOTE", "'/opt/my lab/labtui'")
    words = remote_command("ssh -p 22 node", ["kernel", "pipe", "a b"], batch=True)
    assert words[:4] == ["ssh", "-T", "-o", "BatchMode=yes"]
    assert words[4:] == ["-p", "22", "node", "'/opt/my lab/labtui'", "kernel", "pipe", "'a b'"]
    words = remote_command("srun --jobid 42 --overlap", ["kernel", "ps"])
    assert words == ["srun", "--jobid", "42", "--overlap", "/opt/my lab/labtui", "kernel", "ps"]
    for bad in ("", "ssh 'node"):
        with pytest.raises(UsageError, match="--via"):
            remote_command(bad, [])


def test_a_link_is_named_by_its_command() -> None:
    assert CommandLink("ssh node", "toy").where == "via 'ssh node'"
