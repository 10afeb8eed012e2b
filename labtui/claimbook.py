"""The ledger of claims as the app reaches it: the attached kernel's, wherever that runs, else this machine's."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from labtui.options import Target
from labtui.projection import SessionCard
from labtui.replaying import END, open_player
from labtui_artifacts import paths
from labtui_artifacts.errors import LabError
from labtui_sessions import ledger
from labtui_sessions.claims import Claim
from labtui_sessions.ledger import Board

if TYPE_CHECKING:
    from labtui.projection import Kernel, Lobby, Source

PATIENCE = 600.0
"""Seconds for a check: it reads every session that a claim asks about."""


class Claimbook(Protocol):
    """What the Claims screen asks for; each method raises a LabError with its one line."""

    @property
    def place(self) -> str:
        """Whose ledger it is."""
        ...

    async def board(self) -> Board:
        """Every claim, held against the sessions as they are now."""
        ...

    async def add(self, claim: Claim) -> None:
        """Write a claim; it counts as made now, whatever it says."""
        ...

    async def remove(self, name: str) -> None: ...


class LocalClaimbook:
    """The ledger of this home folder."""

    place = "this machine"

    async def board(self) -> Board:
        return await asyncio.to_thread(ledger.board)

    async def add(self, claim: Claim) -> None:
        await asyncio.to_thread(ledger.add, msgspec.structs.replace(claim, created=time.time()))

    async def remove(self, name: str) -> None:
        await asyncio.to_thread(ledger.remove, name)


class KernelClaimbook:
    """The ledger of a kernel's machine, through its broker."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def place(self) -> str:
        return f"the machine of {self._kernel.name}"

    async def board(self) -> Board:
        answer = await asyncio.wait_for(self._kernel.request("claim.board"), PATIENCE)
        try:
            return msgspec.convert(answer, Board)
        except msgspec.ValidationError as error:
            raise LabError(
                f"kernel {self._kernel.name}: its answer is no board of claims: {error}"
            ) from error

    async def add(self, claim: Claim) -> None:
        fields = msgspec.to_builtins(claim)
        del fields["created"]
        await self._kernel.request("claim.add", **fields)

    async def remove(self, name: str) -> None:
        await self._kernel.request("claim.remove", name=name)


def claimbook(kernel: Kernel | None) -> Claimbook:
    """The ledger to show: a kernel's while one answers, since its sessions are what decides."""
    return KernelClaimbook(kernel) if kernel is not None and kernel.link.up else LocalClaimbook()


async def open_session(session: str, lobby: Lobby, kernel: Kernel | None, fetched: Path) -> Source:
    """A replay of a session that a board names: one that lies here, else fetched from the kernel into the
    file ``fetched``."""
    if kernel is None or (paths.sessions() / session).is_dir():
        return await lobby.open(SessionCard(session))
    await asyncio.to_thread(_fetch, session, fetched, Target(kernel.name, lobby.via))
    return open_player(fetched, at=END)


def _fetch(session: str, place: Path, target: Target) -> None:
    from labtui.fetching import pull

    pull(session, place, target, replace=True)
