"""How long reading prompts takes here, from the jobs that have read some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

READERS = ("direction", "diagnose", "index")
"""Kinds whose time is that of passes over prompts."""


class Finished(Protocol):
    """What a session knows of a job (``labtui_sessions.fields.JobView``)."""

    kind: str
    status: str
    seconds: float | None
    plan: dict[str, Any]


def seconds_for(counts: Mapping[str, Any], jobs: Iterable[Finished]) -> float | None:
    """Seconds that the ``prompts`` of a plan take at the pace of the last job that read some.

    None where nothing was measured, or the plan does not say how many prompts. Sites cost next to nothing
    beside the pass. The first job on a model also measures the reference norms, so what follows it is faster.
    """
    prompts = counts.get("prompts")
    if not isinstance(prompts, int) or isinstance(prompts, bool):
        return None
    pace = None
    for job in jobs:
        read = job.plan.get("prompts")
        if (
            job.kind in READERS
            and job.status == "done"
            and job.seconds
            and isinstance(read, int)
            and read > 0
        ):
            pace = job.seconds / read
    return None if pace is None else pace * prompts
