"""Claims: the ledger on the kernel's machine, held against the sessions there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from labtui_kernels.broker.methods.registry import Params, method
from labtui_sessions.claims import Claim, Comparison, Query, Subject

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker
    from labtui_sessions.ledger import Board


class New(Params):
    """A claim; when it was made is now, by the clock that stamps the sessions here."""

    name: str
    text: str
    metric: str
    of: Subject
    comparison: Comparison
    threshold: float
    query: Query
    parent: str | None = None


class Name(Params):
    """``name`` of a claim."""

    name: str


@method("claim.board")
async def board(broker: Broker, client: Client, params: Params) -> Board:
    """Every claim with its status and what decides it, computed now."""
    from labtui_sessions import ledger

    return await asyncio.to_thread(ledger.board)


@method("claim.add", New)
async def add(broker: Broker, client: Client, params: New) -> None:
    """Add a claim. UsageError when it makes no sense, its name is taken or its parent is not there."""
    from labtui_sessions import ledger

    claim = Claim(
        name=params.name,
        text=params.text,
        metric=params.metric,
        of=params.of,
        comparison=params.comparison,
        threshold=params.threshold,
        created=time.time(),
        query=params.query,
        parent=params.parent,
    )
    await asyncio.to_thread(ledger.add, claim)


@method("claim.remove", Name)
async def remove(broker: Broker, client: Client, params: Name) -> None:
    """Remove a claim for good; one that others refine stays until they are removed."""
    from labtui_sessions import ledger

    await asyncio.to_thread(ledger.remove, params.name)
