"""labtui: what a person touches: the app, the command line and the Python client. Never imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labtui.client import AsyncLab as AsyncLab
    from labtui.lab import Lab as Lab
    from labtui.lab import connect as connect
    from labtui.lab import start as start

__all__ = ["AsyncLab", "Lab", "connect", "start"]


def __getattr__(name: str) -> Any:
    """Load the client at its first use, so that ``import labtui`` costs nothing for the command line."""
    if name == "AsyncLab":
        from labtui.client import AsyncLab

        return AsyncLab
    if name in __all__:
        from labtui import lab

        return getattr(lab, name)
    raise AttributeError(f"module 'labtui' has no attribute {name!r}")
