"""How times, durations, paths and specs are written, the same on every screen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from labtui.projection import Kernel
from labtui_kernels import specs


def ago(seconds: float | None) -> str:
    """A duration in its largest unit."""
    if seconds is None:
        return ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def when(moment: float) -> str:
    """A time as the list shows it, in the local zone."""
    return time.strftime("%d %b %H:%M", time.localtime(moment)) if moment else ""


def short_path(path: Path) -> str:
    """A path as it is typed in this folder, so that the line that names it fits."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def spec_text(data: dict[str, Any]) -> str:
    """A spec as TOML, checked first."""
    return specs.to_toml(specs.load(data))


def spec_command(data: dict[str, Any], kernel: Kernel | None) -> str:
    """The command line that runs a spec on this kernel."""
    return specs.to_command(specs.load(data), kernel.name if kernel is not None else "")
