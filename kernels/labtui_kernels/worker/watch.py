"""Signs of life: a thread that tells the broker which phase runs, for how long, and how long it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labtui_kernels import protocol

INTERVAL = 1.0


class Watch:
    """The current phase and its time budget in seconds (0: no limit), sent once a second by a thread."""

    def __init__(self, send: Callable[[protocol.FromWorker], None]) -> None:
        self._send = send
        self._phase = "starting"
        self._budget = 0.0
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="beat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def phase(self, name: str, budget: float) -> None:
        """A phase begins; the worker is killed when it is still in it after ``budget`` seconds."""
        self._phase, self._budget, self._since = name, budget, time.monotonic()

    def _beat(self) -> None:
        while True:
            elapsed = time.monotonic() - self._since
            self._send(protocol.Beat(self._phase, elapsed, self._budget))
            time.sleep(INTERVAL)
