"""Checks of the place the lab runs in: each says what it found and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding. ``fail`` is for what the core cannot do without; ``todo`` is empty when all is well."""

    area: str
    name: str
    status: Status
    what: str
    todo: str = ""
    data: dict[str, Any] = field(default_factory=dict)


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
