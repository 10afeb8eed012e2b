"""Submitting specs and steering jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from labtui_artifacts.errors import UsageError
from labtui_kernels import protocol
from labtui_kernels.broker import planning
from labtui_kernels.broker.jobs import BATCH, INTERACTIVE
from labtui_kernels.broker.methods import images
from labtui_kernels.broker.methods.registry import Params, method
from labtui_sessions.pace import seconds_for

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker
    from labtui_kernels.broker.writer import LiveSession
    from labtui_kernels.specs import Spec

MAX_UNFINISHED = 1000
URGENT = frozenset({"generate", "patch", "compose", "reference"})


class Submit(Params):
    """``spec`` as a plain map with ``kind``; ``priority`` by its kind when left out. ``names`` says by digest what the
    user calls its pictures, which the kernel has been sent."""

    spec: dict[str, Any]
    session: str | None = None
    priority: Literal["interactive", "batch"] | None = None
    parent: str | None = None
    names: dict[str, str] = msgspec.field(default_factory=dict)


class JobParams(Params):
    """``job``: its id; ``force``: do not wait for its step (the worker is killed and restarted)."""

    job: str
    force: bool = False


class KnobParams(Params):
    """A new strength (a number is alpha, text has its unit) for one edit of a running row."""

    job: str
    row: str
    edit: int
    strength: float | str


class Plan(Params):
    """``spec``: a spec that is not to be run yet; ``session``: the one whose table it may extend."""

    spec: dict[str, Any]
    session: str | None = None


def check_extends(spec: Spec, live: LiveSession) -> None:
    """UsageError where a sweep or a calibration would extend a table with rows of a direction that has changed since."""
    from labtui_kernels.lang.algebra import parse_algebra
    from labtui_kernels.specs import Calibrate, Stroop, Sweep

    if isinstance(spec, Stroop) and spec.table in live.tables.by_name:
        raise spec.refuse(
            "table", f"{spec.table!r} is there already, and such a job runs as a whole; expected another"
        )
    if not isinstance(spec, Sweep | Calibrate) or spec.table not in live.tables.by_name:
        return
    began = live.tables.by_name[spec.table].began
    directions = spec.directions if isinstance(spec, Sweep) else [spec.direction]
    for name in dict.fromkeys(name for text in directions for name in parse_algebra(text).names):
        artifact = live.state.artifacts.get(name)
        if artifact is not None and artifact.t > began:
            raise spec.refuse(
                "table",
                f"{name} was made anew after the first rows of table {spec.table!r}, which it would extend; "
                "expected another table",
            )


@method("submit", Submit)
async def submit(broker: Broker, client: Client, params: Submit) -> dict[str, Any]:
    """Check a spec and queue it; the answer has the job's id and session."""
    from labtui_kernels import specs

    if broker.state in ("draining", "stopping"):
        raise UsageError(f"kernel {broker.config.name!r} is stopping: it takes no new jobs")
    if broker.keeper.failure is not None:
        raise UsageError(f"kernel {broker.config.name!r} has no worker: {broker.keeper.failure[1]}")
    if len(broker.jobs.open) >= MAX_UNFINISHED:
        raise UsageError(f"{MAX_UNFINISHED} jobs are unfinished: wait, or cancel some")
    spec = await asyncio.to_thread(specs.load, params.spec)
    live = broker.sessions.get(params.session)
    check_extends(spec, live)
    if (shape := broker.keeper.shape) is not None:
        specs.check_pictures(spec, shape)  # else the worker does, once it has a model
    await images.admit(live, specs.pictures_in(specs.to_dict(spec)), params.names)
    job = broker.jobs.new_id(spec.kind, set(live.state.jobs))
    priority = params.priority or (INTERACTIVE if spec.kind in URGENT else BATCH)
    event = live.append(
        "job.queued",
        {
            "job": job,
            "kind": spec.kind,
            "spec": params.spec,
            "priority": priority,
            "client": client.label,
            "parent": params.parent,
        },
    )
    broker.log.write("job.queued", job=job, kind=spec.kind, session=live.id, client=client.label)
    return {"job": job, "session": live.id, "seq": event.seq}


@method("job.pause", JobParams)
async def pause(broker: Broker, client: Client, params: JobParams) -> None:
    """Have a job stand still at its next step."""
    broker.keeper.control(broker.jobs.get(params.job), "pause")


@method("job.resume", JobParams)
async def resume(broker: Broker, client: Client, params: JobParams) -> None:
    """Have a job go on; also tries a journal again that could not be written."""
    broker.sessions.retry()
    broker.keeper.control(broker.jobs.get(params.job), "resume")
    broker.wake()


@method("job.cancel", JobParams)
async def cancel(broker: Broker, client: Client, params: JobParams) -> None:
    """End a job at its next step, or at once with ``force``; its committed cells stay."""
    job = broker.jobs.get(params.job)
    if params.force:
        broker.keeper.kill_job(job)
    else:
        broker.keeper.control(job, "cancel")


@method("knob", KnobParams)
async def knob(broker: Broker, client: Client, params: KnobParams) -> None:
    """Turn a knob; the ``knob`` event says from which token it applies."""
    broker.jobs.get(params.job)
    broker.keeper.knob(protocol.Knob(params.job, params.row, params.edit, params.strength))


@method("plan", Plan)
async def plan(broker: Broker, client: Client, params: Plan) -> dict[str, Any]:
    """What a spec would run in that session: counts of rows and cells, and for a sweep see ``planning.planned``;
    ``extends`` is the table that it would extend, ``seconds`` how long it takes by what was ``measured``."""
    from labtui_kernels import specs
    from labtui_kernels.broker.methods.artifacts import store

    spec = await asyncio.to_thread(specs.load, params.spec)
    shape = broker.keeper.shape
    if shape is None:
        raise UsageError("the model is not loaded yet: a plan needs its sites")
    if not isinstance(spec, specs.Sweep):
        counts = await asyncio.to_thread(planning.planned, spec, shape, store())
        seconds = seconds_for(counts, broker.sessions.get(None).state.jobs.values())
        return counts if seconds is None else {**counts, "seconds": seconds}
    live = broker.sessions.get(params.session)
    table = live.tables.by_name.get(spec.table)
    if table is not None:
        check_extends(spec, live)
    cells = {cell for _, cell in table.cells} if table is not None else None
    counts = await asyncio.to_thread(planning.planned, spec, shape, store(), cells)
    time = broker.keeper.speed.seconds(counts["new"], spec.max_new_tokens, live.state)
    return {**counts, "extends": spec.table if table is not None else "", **time}
