"""Where the time of a job went: spans of the broker and the worker, as a Chrome trace."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import Any, Final

PER_JOB: Final = 20_000
JOBS: Final = 16


class Spans:
    """A bounded ring of spans for each of the last jobs. Times in seconds since the epoch."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, deque[tuple[str, float, float, dict[str, Any]]]] = OrderedDict()

    def add(self, job: str, name: str, seconds: float, **details: Any) -> None:
        """A span of ``job`` (empty: of the process) that ends now."""
        self.put(job, name, time.time() - seconds, seconds, details)

    def put(self, job: str, name: str, start: float, seconds: float, details: dict[str, Any]) -> None:
        """A span with a start."""
        ring = self._jobs.get(job)
        if ring is None:
            ring = self._jobs[job] = deque(maxlen=PER_JOB)
            while len(self._jobs) > JOBS + 1:
                oldest = next(name for name in self._jobs if name)
                del self._jobs[oldest]
        ring.append((name, start, seconds, details))

    def of(self, job: str) -> list[dict[str, Any]]:
        """The spans of a job as plain maps: ``name, start, seconds, details``."""
        return [
            {"name": name, "start": start, "seconds": seconds, "details": details}
            for name, start, seconds, details in self._jobs.get(job, ())
        ]


def chrome(lanes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Spans by lane (``worker``, ``journal``...) as a Chrome trace: times in microseconds from the first."""
    starts = [span["start"] for spans in lanes.values() for span in spans]
    origin = min(starts, default=0.0)
    events: list[dict[str, Any]] = []
    for number, (lane, spans) in enumerate(lanes.items(), start=1):
        name = {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": lane}}
        events.append(name)
        for span in spans:
            event = {"name": span["name"], "cat": lane, "ph": "X", "pid": 1, "tid": number}
            event["ts"] = round((span["start"] - origin) * 1e6, 1)
            event["dur"] = round(span["seconds"] * 1e6, 1)
            event["args"] = span["details"]
            events.append(event)
    return {"traceEvents": events, "displayTimeUnit": "ms"}
