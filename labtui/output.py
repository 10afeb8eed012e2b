"""What commands print: results on stdout, everything else on stderr.

Text that came from files, models or the wire may hold terminal escape codes: :func:`clean` takes them out.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TextIO

from labtui_artifacts.errors import LabError

EVERY_SECONDS = 5.0


def clean(text: object, *, keep: str = "") -> str:
    """``text`` as one safe line: control and format characters, but those in ``keep``, become escapes."""
    out = []
    for char in str(text):
        if char in keep or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
            out.append(char)
        else:
            out.append(char.encode("unicode_escape", "surrogatepass").decode("ascii"))
    return "".join(out)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__struct_fields__"):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _finite(value: Any) -> Any:
    """JSON has no NaN: such numbers become null."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def emit_json(obj: Any) -> None:
    """One JSON document on stdout."""
    plain = json.loads(json.dumps(obj, default=_plain)) if not isinstance(obj, dict | list) else obj
    print(json.dumps(_finite(plain), ensure_ascii=False, default=_plain, allow_nan=False))


def cell(value: Any) -> str:
    """A table's cell: numbers short, absent values empty, text on one safe line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return clean(", ".join(cell(item) for item in value))
    return clean(value)


def width(text: str) -> int:
    """Columns ``text`` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _fit(text: str, columns: int) -> str:
    if width(text) <= columns:
        return text
    out, used = "", 0
    for char in text:
        used += width(char)
        if used > columns - 1:
            break
        out += char
    return out + "…"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, limit: int = 60) -> None:
    """An aligned table on stdout: ``columns`` of ``rows``, numbers to the right, cells cut at ``limit``.

    On a terminal the last column is cut so that a row stays on one line.
    """
    body = [[_fit(cell(row.get(name)), limit) for name in columns] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row.get(name), int | float | None.__class__) for row in rows)
        for name in columns
    ]
    widths = [max([width(name), *(width(line[i]) for line in body)]) for i, name in enumerate(columns)]
    screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in [list(columns), *body]:
        padded = [
            " " * (w - width(text)) + text if right else text + " " * (w - width(text))
            for text, w, right in zip(line, widths, numeric, strict=True)
        ]
        text = "  ".join(padded).rstrip()
        print(_fit(text, screen) if screen else text)


def pairs(values: Mapping[str, Any]) -> None:
    """``name  value`` lines on stdout, names aligned."""
    left = max((width(name) for name in values), default=0)
    for name, value in values.items():
        print(f"{name}{' ' * (left - width(name))}  {cell(value)}")


def note(text: str) -> None:
    """A line for the person, on stderr, behind what was printed before it where both go to one place."""
    with contextlib.suppress(
        OSError, ValueError
    ):  # a reader that is gone is found out when stdout is written
        sys.stdout.flush()
    print(clean(text), file=sys.stderr, flush=True)


def fail(error: BaseException | str, code: int | None = None) -> NoReturn:
    """Print the one line on stderr and exit with the error's code (1 when it has none)."""
    note(f"labtui: {error}")
    raise SystemExit(code if code is not None else getattr(error, "exit_code", 1))


def duration(seconds: float) -> str:
    """``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes as ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


class Progress:
    """How far long work has come, on stderr: a bar with rate and time left on a terminal, else a line
    every few seconds.

    Use as a context manager; call :meth:`update` as often as you like.
    """

    def __init__(self, label: str, *, unit: str = "rows", stream: TextIO | None = None) -> None:
        self._label = clean(label)
        self._unit = unit
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = time.monotonic()
        self._shown = 0.0
        self._last = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def update(self, done: float, total: float, text: str = "") -> None:
        """Show ``done`` of ``total`` (0 when unknown) at a bounded rate."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._tty else EVERY_SECONDS):
            return
        line = self._line(done, total, clean(text), now - self._start)
        self._shown, self._last = now, line
        if self._tty:
            columns = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\x1b[K" + _fit(line, columns))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, done: float, total: float, text: str, elapsed: float) -> str:
        parts = [self._label]
        if total > 0:
            share = min(1.0, done / total)
            if self._tty:
                filled = round(share * 20)
                parts.append("█" * filled + "░" * (20 - filled))
            parts.append(f"{share:4.0%}")
            if self._unit:
                parts.append(f"{done:g}/{total:g} {self._unit}")
            if done > 0 and elapsed > 0.5:
                if self._unit:
                    parts.append(f"{done / elapsed:.2g} {self._unit}/s")
                parts.append(f"{duration(elapsed * (total - done) / done)} left")
        return "  ".join([*parts, *([text] if text else [])])

    def close(self) -> None:
        """End the bar's line."""
        if self._tty and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._last = ""


def report(error: BaseException, *, debug: bool) -> int:
    """Print what went wrong as one line (all of it when ``debug``); the exit code."""
    if debug:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, LabError):
        note(f"labtui: {error}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        note("labtui: interrupted")
        return 130
    hint = "" if debug else "; `labtui --debug ...` shows where"
    note(f"labtui: internal error: {type(error).__name__}: {error}{hint}")
    return 1
