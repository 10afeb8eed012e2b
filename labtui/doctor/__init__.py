"""Checks of the place the lab runs in: each says what it found and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from labtui.doctor.check import Check, Status

__all__ = ["Check", "Status", "run"]


def run(*, deep: bool = False) -> Iterator[Check]:
    """Every check, in the order they are shown; ``deep`` adds a generation on the bundled model."""
    from labtui.doctor import folders, machine, running, terminal

    parts: list[Callable[[], Iterable[Check]]] = [
        machine.checks,
        terminal.checks,
        folders.checks,
        running.checks,
    ]
    if deep:
        from labtui.doctor import deep as deeper

        parts.append(deeper.checks)
    for part in parts:
        yield from part()
