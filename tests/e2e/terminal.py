"""A real terminal for tests: a tmux server of its own, keys in, screen out."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from pathlib import Path
from typing import Self

WAIT = 0.05


class Terminal:
    """One tmux window of a given size running one command.

    Waiting is for a condition on the screen, with a deadline; never for a length of time.
    """

    def __init__(
        self, command: str, *, width: int = 80, height: int = 24, term: str = "screen-256color"
    ) -> None:
        self.socket = f"labtui-{uuid.uuid4().hex[:8]}"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), command
        )  # fmt: skip
        self._tmux("set-option", "-g", "default-terminal", term)
        self._tmux("set-option", "-g", "remain-on-exit", "on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], check=False, capture_output=True)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.socket, *arguments], check=True, capture_output=True, text=True, timeout=20
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys by their tmux names (``Enter``, ``C-p``, ``j``)."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type text as it stands."""
        self._tmux("send-keys", "-l", text)

    def screen(self, *, colours: bool = False) -> str:
        """What the screen shows now, trailing blanks cut."""
        text = self._tmux("capture-pane", "-p", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in text.splitlines()).rstrip()

    def wait_for(self, pattern: str, timeout: float = 30.0) -> str:
        """The screen once ``pattern`` (a regular expression) is on it; fails with the last screen otherwise."""
        end = time.monotonic() + timeout
        while True:
            text = self.screen()
            if re.search(pattern, text):
                return text
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} within {timeout:.0f} s on:\n{text}")
            time.sleep(WAIT)

    def wait_gone(self, pattern: str, timeout: float = 30.0) -> str:
        """The screen once ``pattern`` is no longer on it."""
        end = time.monotonic() + timeout
        while re.search(pattern, text := self.screen()):
            if time.monotonic() > end:
                raise AssertionError(f"{pattern!r} still there after {timeout:.0f} s on:\n{text}")
            time.sleep(WAIT)
        return text

    def wait_ended(self, timeout: float = 30.0) -> None:
        """Wait until the command in the window has ended, whatever is left on the screen."""
        end = time.monotonic() + timeout
        while self._tmux("display-message", "-p", "#{pane_dead}").strip() != "1":
            if time.monotonic() > end:
                raise AssertionError(f"still running after {timeout:.0f} s on:\n{self.screen()}")
            time.sleep(WAIT)

    def resize(self, width: int, height: int) -> None:
        """Change the window's size, as a person dragging its corner does."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def pane_pid(self) -> int:
        """Process id of the command in the window."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))


def save_screen(terminal: Terminal, path: Path) -> None:
    """Keep a screen with its colours, to look at a failure."""
    path.write_text(terminal.screen(colours=True), encoding="utf-8")
