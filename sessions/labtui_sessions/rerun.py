"""Doing it again: the recorded rows as a spec that a kernel can check, and a spec with one thing changed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from labtui_artifacts.errors import UsageError

from .events import Event, JobQueued, Knob, RowStarted, RowTokens, typed
from .fields import row_key
from .log import EventLog, each

TOLERANCE: dict[str, float] = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.5}
"""Largest difference of a token's log-probability, in nats, at which a repeated row passes, by dtype.

Decoding a token at a time and scoring the answer in one pass add the same numbers in another order. In
float32 that moves a log-probability by about 1e-5; bfloat16 keeps 8 bits, so logits near 32 are 0.125 to
0.25 apart and two roundings can differ by twice that."""


class _Recorded:
    """A row while its events pass by."""

    def __init__(self, start: RowStarted) -> None:
        self.start = start
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.gaps: list[float] = []
        self.knobs: list[list[float]] = []

    def extend(self, data: RowTokens) -> None:
        skip = len(self.ids) - data.start
        if 0 <= skip < len(data.ids) == len(data.logprobs):
            self.ids += data.ids[skip:]
            self.logprobs += data.logprobs[skip:]
            self.gaps += data.gaps[skip:]

    def spec(self, names: Mapping[Any, str]) -> dict[str, Any]:
        """The row for a spec; ``names`` are those of the pictures by digest."""
        start = self.start
        return {
            "key": row_key(start.job, start.row),
            "ids": start.ids,
            "content": start.content,
            "edits": start.edits,
            "forced": self.ids,
            "logprobs": self.logprobs,
            "gaps": self.gaps,
            "knobs": self.knobs,
            "sampling": start.sampling,
            "seed": start.seed,
            "max_new_tokens": start.max_new_tokens,
            "stop_ids": start.stop_ids,
            **(
                {"images": [{**image, "name": names.get(image.get("digest"), "")} for image in start.images]}
                if start.images
                else {}
            ),
        }


def build(log: EventLog, *, job: str | None = None, limit: int | None = None) -> dict[str, Any]:
    """The spec of kind ``rerun`` for the recorded rows (of one job; the first ``limit`` of them).

    Rows recorded on another model than the last one are left out: a rerun is on one model. UsageError when
    nothing can be repeated.
    """
    model: dict[str, Any] = {}
    rows: dict[str, _Recorded] = {}
    names: dict[Any, str] = {}
    identity = ""
    for event in each(log):
        if event.kind == "session.opened":
            identity = str(event.data.get("id", ""))
        elif event.kind == "model.ready" and isinstance(event.data.get("info"), dict):
            if _fingerprints(event.data["info"]) != _fingerprints(model):
                rows.clear()
            model = event.data["info"]
        elif event.kind == "image.added":
            names[event.data.get("digest")] = str(event.data.get("name", ""))[:200]
        elif job is None or event.data.get("job") == job:
            _take(rows, event)
    recorded = [row.spec(names) for row in rows.values() if row.ids and row.start.ids][:limit]
    if not recorded:
        what = f"job {job!r}" if job is not None else "this session"
        raise UsageError(f"{what} has no recorded row with prompt and generated tokens, so nothing to rerun")
    dtype = str(model.get("dtype", "float32")).removeprefix("torch.")
    directions = {name: name for row in rows.values() for name in row.start.directions}
    return {
        "kind": "rerun",
        "source": identity,
        "dtype": dtype,
        "tolerance": tolerance(dtype),
        "model": model,
        "any_model": False,
        "directions": directions,
        "rows": recorded,
    }


def tolerance(dtype: str) -> float:
    """The tolerance for a dtype in nats; that of bfloat16 for a dtype without one of its own."""
    return TOLERANCE.get(dtype.removeprefix("torch."), TOLERANCE["bfloat16"])


def _take(rows: dict[str, _Recorded], event: Event) -> None:
    data = typed(event)
    if isinstance(data, RowStarted):
        rows[row_key(data.job, data.row)] = _Recorded(data)
    elif isinstance(data, RowTokens | Knob) and (row := rows.get(row_key(data.job, data.row))) is not None:
        if isinstance(data, RowTokens):
            row.extend(data)
        else:
            row.knobs.append([data.step, data.edit, data.strength])


def _fingerprints(model: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(model.get(name) for name in ("weight_hash", "tokenizer_hash", "dtype", "quantisation"))


class Again(msgspec.Struct):
    """A job to be submitted again: its spec, the job it repeats, and what changed."""

    spec: dict[str, Any]
    parent: str
    changed: dict[str, tuple[Any, Any]]
    """Dotted key to the value before and after; None where it was or becomes absent."""


def respec(job: str, spec: Mapping[str, Any], changes: Mapping[str, Any]) -> Again:
    """The same spec with some values changed; ``spec`` itself is left as it is.

    A key may be dotted (``controls.random``); None removes it. UsageError for a path through a value that
    is no table.
    """
    new = copy.deepcopy(dict(spec))
    changed: dict[str, tuple[Any, Any]] = {}
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = new
        for name in parents:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or not last:
            raise UsageError(f"{path!r}: no such place in the spec of job {job}")
        before = place.get(last)
        if before == value and type(before) is type(value):
            continue
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
        changed[path] = (before, value)
    return Again(new, job, changed)


def job_spec(log: EventLog, job: str) -> dict[str, Any]:
    """The spec of a job as it was submitted. UsageError when there is no such job."""
    known: list[str] = []
    for event in each(log):
        if event.kind == "job.queued":
            data = typed(event)
            if isinstance(data, JobQueued):
                if data.job == job:
                    return {"kind": data.kind, **data.spec}
                known.append(data.job)
    raise UsageError(f"no job {job!r} in this session; it has {', '.join(known[-20:]) or 'none'}")
