"""Connect to a kernel again and again; one line per contact with the seconds that it took."""

from __future__ import annotations

import asyncio
import sys
import time

from labtui.client import AsyncLab


async def contacts(name: str, count: int) -> None:
    """Every second contact follows the session; each asks one question and leaves."""
    for number in range(count):
        begun = time.monotonic()
        lab = await AsyncLab.connect(name, attach=number % 2 == 0)
        try:
            found = await lab.request("info")
        finally:
            await lab.close()
        print(f"{time.monotonic() - begun:.3f} {found['state']}", flush=True)


if __name__ == "__main__":
    asyncio.run(contacts(sys.argv[1], int(sys.argv[2])))
