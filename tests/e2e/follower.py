"""Follow a kernel's session and print what is shown: ``FROM TO`` for events, ``reset SEQ`` for a snapshot."""

from __future__ import annotations

import asyncio
import sys

from labtui.client import AsyncLab


async def follow(name: str) -> None:
    """Until killed."""
    lab = await AsyncLab.connect(name)
    print(f"reset {lab.state.seq}", flush=True)
    async for change in lab.changes():
        if change.reset:
            print(f"reset {lab.state.seq}", flush=True)
        elif change.events:
            print(f"{change.events[0].seq} {change.events[-1].seq}", flush=True)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1]))
