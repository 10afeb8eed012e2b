"""Each way of copying, with real programs where there are any."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from labtui import clipboard


async def test_osc52_outside_tmux(tmp_path: Path) -> None:
    written: list[str] = []
    done = await clipboard.copy("α=2", written.append, tmp_path, {"TERM": "xterm-256color"})
    assert done.way == "osc52"
    assert written == [f"\x1b]52;c;{base64.b64encode('α=2'.encode()).decode()}\a"]


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": "linux"}, {}])
async def test_a_file_where_the_terminal_has_no_clipboard(tmp_path: Path, environ: dict[str, str]) -> None:
    done = await clipboard.copy("text", lambda sequence: None, tmp_path / "home", environ)
    place = tmp_path / "home" / "copied.txt"
    assert done.way == "file" and str(place) in done.text
    assert place.read_text() == "text" and place.stat().st_mode & 0o777 == 0o600


async def test_a_long_text_goes_to_a_file(tmp_path: Path) -> None:
    done = await clipboard.copy("x" * 80_000, lambda sequence: None, tmp_path, {"TERM": "xterm"})
    assert done.way == "file"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
async def test_the_buffer_of_a_real_tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "tmux.sock"
    tmux = ["tmux", "-S", str(socket)]
    subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", "cat"], check=True)
    try:
        monkeypatch.setenv("TMUX", f"{socket},0,0")
        done = await clipboard.copy("from the lab", lambda sequence: None, tmp_path)
        shown = subprocess.run([*tmux, "show-buffer"], capture_output=True, text=True, check=True).stdout
        assert done.way == "tmux" and shown == "from the lab"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
