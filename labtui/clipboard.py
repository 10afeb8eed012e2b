"""Copying out of a terminal: tmux's buffer where there is tmux, OSC 52 elsewhere, else a file.

Each way is tried and the one that was used is said, because none can be relied on everywhere: tmux
forwards OSC 52 only when it is told to, and many terminals ignore it silently.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

OSC52_LIMIT = 74_000
"""Most bytes of base64 that common terminals take in one OSC 52 sequence."""

_MUTE = frozenset({"", "dumb", "linux", "vt100", "vt220"})
"""Terminals (values of TERM) that have no clipboard to write to."""


@dataclass(frozen=True)
class Copied:
    """Where a text went: ``way`` is ``tmux``, ``osc52`` or ``file``; ``text`` is a line for the user."""

    way: str
    text: str


async def copy(
    text: str, write: Callable[[str], None], folder: Path, environ: Mapping[str, str] | None = None
) -> Copied:
    """Copy ``text``. ``write`` puts an escape sequence on the terminal; ``folder`` takes the fallback file.

    Raises OSError only when even the file cannot be written.
    """
    environ = os.environ if environ is None else environ
    size = f"{len(text):,} characters"
    if environ.get("TMUX") and await _tmux(text):
        return Copied("tmux", f"copied {size} to the tmux buffer (and the clipboard where tmux may set it)")
    payload = base64.b64encode(text.encode()).decode()
    if environ.get("TERM", "") not in _MUTE and not environ.get("TMUX") and len(payload) <= OSC52_LIMIT:
        write(f"\x1b]52;c;{payload}\a")
        return Copied("osc52", f"copied {size} through the terminal (OSC 52)")
    path = await asyncio.to_thread(_to_file, text, folder)
    return Copied("file", f"wrote {size} to {path}")


async def _tmux(text: str) -> bool:
    """Load the tmux buffer; ``-w`` also sets the outer clipboard, and older tmux lacks it."""
    for flags in (["-w"], []):
        try:
            process = await asyncio.create_subprocess_exec(
                "tmux",
                "load-buffer",
                *flags,
                "-",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            return False
        try:
            await asyncio.wait_for(process.communicate(text.encode()), 2.0)
        except TimeoutError:
            process.kill()
            return False
        if process.returncode == 0:
            return True
    return False


def _to_file(text: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "copied.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def to_terminal(sequence: str) -> None:
    """Put an escape sequence on the controlling terminal, past the app's own writer."""
    stream = sys.__stdout__
    if stream is not None:
        stream.write(sequence)
        stream.flush()
