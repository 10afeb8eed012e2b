"""Waiting until an app has nothing left to do."""

from __future__ import annotations

import contextlib
from typing import Any

from textual.app import App
from textual.worker import WorkerCancelled


async def workers_done(app: App[Any]) -> None:
    """Until every background worker has ended; one that a newer worker replaced has ended too."""
    while running := [worker for worker in app.workers if not worker.is_finished]:
        for worker in running:
            with contextlib.suppress(WorkerCancelled):
                await worker.wait()
