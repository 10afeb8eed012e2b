"""A real ssh server on loopback with a host key, a user key and a configuration that live as long as a test."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.conftest import need

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
ClientAliveInterval 0
PrintMotd no
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """``with Sshd(folder) as node: node.ssh("labtui …")`` gives command lines that go through it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def __enter__(self) -> Self:
        daemon, keygen = need("sshd"), need("ssh-keygen")
        for name in ("host_key", "user_key"):
            command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(command, check=True, timeout=30)
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder), encoding="utf-8")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = (self.folder / "sshd.log").open("wb")
        self.process = subprocess.Popen([daemon, "-D", "-e", "-f", str(config)], stderr=self.log)
        self._wait_until_it_answers()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self.process.terminate()
        self.process.wait(timeout=10)
        self.log.close()

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("sshd did not answer: " + (self.folder / "sshd.log").read_text())

    def command(self, *options: str) -> list[str]:
        """The ssh command that logs in here, without the remote command."""
        return [
            need("ssh"), "-F", "/dev/null", "-p", str(self.port), "-i", str(self.folder / "user_key"),
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known_hosts",
            "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", *options, f"{getpass.getuser()}@127.0.0.1",
        ]  # fmt: skip

    def interactive(self, remote: str) -> str:
        """A shell line that runs ``remote`` on a terminal over ssh."""
        return shlex.join([*self.command("-tt"), remote])

    def via(self) -> str:
        """What a person gives to ``--via``."""
        return shlex.join(self.command())

    def cut(self) -> None:
        """Cut every connection, as a tunnel does: the server's children are killed without a word."""
        for pid in self._children(self.process.pid):
            os.kill(pid, signal.SIGKILL)

    @staticmethod
    def _children(parent: int) -> list[int]:
        task = Path(f"/proc/{parent}/task/{parent}/children")
        if not task.exists():
            return []
        return [int(child) for child in task.read_text().split()]
