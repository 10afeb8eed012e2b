"""The kinds of artifact, their schema numbers, and how an older file is brought up to date as it is read.

A change that only adds raises a kind's schema number; a change that an older program would misread also
raises the file's ``min_reader`` above the reader version of those programs: they refuse it by that number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

READER = 1
"""Reader version of this program: files whose ``labtui.min_reader`` is higher are refused."""

SCHEMAS: dict[str, int] = {
    "direction": 1,
    "directions": 1,
    "activations": 1,
    "probe": 1,
    "sae": 1,
    "index": 1,
    "chunks": 1,
    "session": 1,
}
"""The schema number that this program writes for each kind."""

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

UPGRADES: dict[tuple[str, int], Upgrade] = {}
"""``(kind, schema)`` to the function that turns the meta of that schema into the meta of the next."""


def upgrade(kind: str, schema: int, meta: dict[str, Any]) -> dict[str, Any]:
    """The meta of ``kind`` as this program's schema has it, from one of ``schema``; the file is not touched.

    A newer schema is returned as it is: its ``min_reader`` has said that this program may read it.
    Raises ValueError for a schema that no upgrade starts from.
    """
    for step in range(schema, SCHEMAS[kind]):
        if (kind, step) not in UPGRADES:
            raise ValueError(f"no upgrade from schema {step} is known")
        meta = UPGRADES[kind, step](meta)
    return meta
