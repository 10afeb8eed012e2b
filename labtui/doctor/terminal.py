"""The terminal: colours, size, letters, tmux, pictures, and the ways to a clipboard."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping

from labtui.doctor.check import Check

ANSWER_SECONDS = 1.0
_KITTY = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_KITTY_PLACES = "\x1b_Gi=32,s=1,v=1,a=q,t=d,f=24,U=1;AAAA\x1b\\"
"""The same with placement by characters: a terminal that does not know it does not answer."""
_DEVICE_ATTRIBUTES = "\x1b[c"
_DA1 = re.compile(r"\x1b\[\?([\d;]*)c")
_KITTY_PROGRAMS = {"ghostty", "WezTerm", "kitty"}
_SIXEL_TERMS = ("foot", "mlterm", "contour", "yaft")
_NO_CLIPBOARD = {"", "dumb", "linux", "vt100", "vt220"}


def checks() -> Iterator[Check]:
    """What the terminal at stdin and stdout can do, by its environment and, when it is one, by asking it."""
    environ = os.environ
    attached = sys.stdin.isatty() and sys.stdout.isatty()
    yield _terminal(environ, attached)
    yield _colours(environ)
    if attached:
        yield _size()
    yield _letters()
    yield from _tmux(environ)
    answer, seconds = ask() if attached and environ.get("TERM", "dumb") != "dumb" else ("", 0.0)
    yield _graphics(environ, answer)
    if answer:
        yield _distance(seconds)
    yield _clipboard(environ)


def ask(timeout: float = ANSWER_SECONDS) -> tuple[str, float]:
    """Ask the terminal for its graphics and attributes: (what it answered in ``timeout``, seconds taken).

    The question every terminal answers comes last, so its answer ends the wait. Empty when nothing came.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    start = time.monotonic()
    answer = b""
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        sys.stdout.write(_KITTY + _KITTY_PLACES + _DEVICE_ATTRIBUTES)
        sys.stdout.flush()
        while (left := start + timeout - time.monotonic()) > 0 and len(answer) < 4096:
            if not select.select([descriptor], [], [], left)[0]:
                break
            answer += os.read(descriptor, 1024)
            if _DA1.search(answer.decode("ascii", errors="replace")):
                break
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
    return answer.decode("ascii", errors="replace"), time.monotonic() - start


def graphics(environ: Mapping[str, str], answer: str) -> dict[str, str]:
    """Picture protocols and why each is believed: by the terminal's ``answer``, else by its environment."""
    found: dict[str, str] = {}
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "Gi=31;OK" in answer:
        found["kitty"] = "answered"
    elif (
        term in ("xterm-kitty", "xterm-ghostty") or program in _KITTY_PROGRAMS or "KITTY_WINDOW_ID" in environ
    ):
        found["kitty"] = "environment"
    attributes = _DA1.search(answer)
    if attributes and "4" in attributes[1].split(";"):
        found["sixel"] = "answered"
    elif term.startswith(_SIXEL_TERMS):
        found["sixel"] = "environment"
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        found["iterm"] = "environment"
    return found


def places(answer: str) -> bool:
    """Whether a terminal that speaks kitty's protocol also puts pictures in the place of characters, as an app needs
    that scrolls and overlaps them: kitty from 0.28, Ghostty."""
    return "Gi=32;OK" in answer


def colours(environ: Mapping[str, str]) -> int:
    """How many colours the environment promises: 0 (NO_COLOR), 16, 256 or 16777216."""
    if environ.get("NO_COLOR"):
        return 0
    if environ.get("COLORTERM", "") in ("truecolor", "24bit"):
        return 1 << 24
    return 256 if "256color" in environ.get("TERM", "") else 16


def _terminal(environ: Mapping[str, str], attached: bool) -> Check:
    term = environ.get("TERM", "")
    what = f"TERM={term or '(unset)'}" + ("" if attached else ", not attached to one now")
    if program := environ.get("TERM_PROGRAM"):
        what += f", {program} {environ.get('TERM_PROGRAM_VERSION', '')}".rstrip()
    if attached and term in ("", "dumb"):
        return Check(
            "terminal", "terminal", "warn", what, "the app cannot draw here: export TERM=xterm-256color"
        )
    return Check("terminal", "terminal", "ok", what)


def _colours(environ: Mapping[str, str]) -> Check:
    count = colours(environ)
    what = {0: "off by NO_COLOR", 16: "16", 256: "256", 1 << 24: "16 million"}[count]
    advice = "export COLORTERM=truecolor if the terminal has them" if count == 16 else ""
    return Check(
        "terminal", "colours", "ok", what + (f" ({advice})" if advice else ""), data={"colours": count}
    )


def _size() -> Check:
    columns, rows = shutil.get_terminal_size()
    if columns < 80 or rows < 24:
        return Check("terminal", "size", "warn", f"{columns}x{rows}", "the app is made for 80x24 and more")
    return Check("terminal", "size", "ok", f"{columns}x{rows}")


def _letters() -> Check:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return Check(
            "terminal", "unicode", "warn", f"output is {encoding or 'unknown'}", "export LANG=C.UTF-8"
        )
    return Check("terminal", "unicode", "ok", "UTF-8")


def _tmux(environ: Mapping[str, str]) -> Iterator[Check]:
    if not environ.get("TMUX"):
        return
    version = _tmux_says("-V") or "tmux"
    clipboard = _tmux_says("show", "-gv", "set-clipboard")
    passing = _tmux_says("show", "-gv", "allow-passthrough")
    what = f"{version}, set-clipboard {clipboard or 'unknown'}, allow-passthrough {passing or 'unknown'}"
    yield Check("terminal", "tmux", "ok", what)


def _tmux_says(*arguments: str) -> str:
    try:
        done = subprocess.run(["tmux", *arguments], capture_output=True, text=True, timeout=3, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _graphics(environ: Mapping[str, str], answer: str) -> Check:
    found = graphics(environ, answer)
    if not found:
        return Check("terminal", "pictures", "ok", "no picture protocol: pictures are drawn with half blocks")
    what = ", ".join(
        f"{name} ({'by its answer' if how == 'answered' else 'by the environment'})"
        for name, how in found.items()
    )
    return Check("terminal", "pictures", "ok", what, data=found)


def _distance(seconds: float) -> Check:
    what = f"the terminal answers in {seconds * 1000:.0f} ms"
    if seconds > 0.15:
        return Check("terminal", "line", "warn", what, "use --low-bandwidth and ssh -C")
    return Check("terminal", "line", "ok", what)


def _clipboard(environ: Mapping[str, str]) -> Check:
    ways = []
    if environ.get("TMUX") and shutil.which("tmux"):
        ways.append("tmux buffer")
    elif environ.get("TERM", "") not in _NO_CLIPBOARD:
        ways.append("OSC 52 (if the terminal allows it)")
    ways.append("a file")
    return Check("terminal", "clipboard", "ok", ", else ".join(ways), data={"ways": ways})
