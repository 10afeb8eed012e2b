"""Keys one after the other: each is served when all that the one before it set going has been done.

A terminal hands over what was typed ahead, or pasted, or sent over a slow line, in one piece. By itself the
toolkit passes a key on and looks at the next one at once, while the first may still have to move the focus
or open a dialogue; the letters meant for an input would then be taken for commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from textual import events
from textual.message_pump import MessagePump

if TYPE_CHECKING:
    from textual.worker import Worker

    from labtui.app import LabApp

PATIENCE = 1.0
"""Longest wait for what one key set going, in seconds: a screen that is stuck must not hold up ctrl+q."""
HOLD = 2.0
"""Longest wait for a dialogue or screen that has to ask something before it opens."""
ROUNDS = 3
"""A key makes a widget say something, a list makes a choice of that, and a dialogue closes on the choice."""


class TypeAhead:
    """A part of the app, before :class:`textual.app.App` in its bases; ``self`` is always a
    :class:`labtui.app.LabApp`."""

    _opening: Worker[None] | None = None

    def hold_keys(self: LabApp, worker: Worker[None]) -> None:  # type: ignore[misc]
        """Keys wait until ``worker`` is done, since what it opens is what they are meant for."""
        self._opening = worker

    async def on_event(self: LabApp, event: events.Event) -> None:  # type: ignore[misc]
        if event.is_forwarded or not isinstance(event, (events.Key, events.Paste)):
            await super().on_event(event)  # type: ignore[misc]
            return
        await self._opened()
        if not (isinstance(event, events.Key) and await self._command(event)):
            await super().on_event(event)  # type: ignore[misc]
        await self._served()

    async def _command(self: LabApp, event: events.Key) -> bool:  # type: ignore[misc]
        """Run what the key is bound to, here and now; False where it types a character or is not bound."""
        focused = self.focused
        if focused is not None and focused.check_consume_key(event.key, event.character):
            return False
        self.hush()
        return await self._check_bindings(event.key, priority=True) or await self._check_bindings(event.key)

    async def _opened(self: LabApp) -> None:  # type: ignore[misc]
        """Wait until the screen in view, or the dialogue over it, can take keys."""
        if self._opening is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(_done(self._opening)), HOLD)
            self._opening = None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.screen._mounted_event.wait(), HOLD)

    async def _served(self: LabApp) -> None:  # type: ignore[misc]
        """Wait until what the key made the focused widget say has passed all that hear it."""
        end = time.monotonic() + PATIENCE
        for _ in range(ROUNDS):
            start = self.focused or self.screen
            for node in start.ancestors_with_self:
                if node is self:
                    break
                await _passed(node, end)


async def _passed(pump: MessagePump, end: float) -> None:
    """Wait until ``pump`` has handled all that was posted to it up to now; it may also close over that."""
    reached = asyncio.Event()
    if not pump.call_later(reached.set):
        return
    while not reached.is_set() and pump.is_running and time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reached.wait(), 0.02)


async def _done(worker: Worker[None]) -> None:
    """Wait for a worker, however it ends."""
    while not worker.is_finished:
        await asyncio.sleep(0.01)
