"""Methods about the kernel itself."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui_kernels.broker.methods.registry import Params, method
from labtui_kernels.broker.trace import chrome
from labtui_kernels.build import build_id

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.jobs import Job
    from labtui_kernels.broker.server import Broker

MAX_LINES = 500


class Logs(Params):
    """``n``: how many of the last lines."""

    n: int = 50


class Stop(Params):
    """``force``: do not wait for the step that runs."""

    force: bool = False


class Trace(Params):
    """``job``: whose spans."""

    job: str


@method("info")
async def info(broker: Broker, client: Client, params: Params) -> dict[str, Any]:
    """All that is known of the kernel: state, model, jobs, clients, worker, memory, folders."""
    worker = broker.keeper.worker
    config = broker.config
    return {
        **broker.status(),
        "build": build_id(),
        "pid": os.getpid(),
        "worker_pid": worker.pid if worker else None,
        "started": broker.started,
        "uptime": time.time() - broker.started,
        "dtype": config.dtype,
        "device": config.device,
        "quantize": config.quantize,
        "idle_ttl": config.idle_ttl,
        "failure": broker.keeper.failure[1] if broker.keeper.failure else None,
        "failure_code": broker.keeper.failure[0] if broker.keeper.failure else None,
        "info": broker.keeper.info,
        "memory": broker.telemetry.get("memory"),
        "broker_memory": _resident(),
        "log": str(broker.log.path),
        "open_jobs": [
            {
                "job": job.id,
                "kind": job.kind,
                "status": _status(broker, job),
                "priority": job.priority,
                "session": job.session,
                "cells": len(job.committed),
                "losses": job.losses,
                "client": job.client,
            }
            for job in broker.jobs.open.values()
        ],
    }


def _status(broker: Broker, job: Job) -> str:
    if not job.fits(broker.keeper.info):
        return "waits for its model"
    return "running" if job.running else job.status


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@method("logs", Logs)
async def logs(broker: Broker, client: Client, params: Logs) -> list[str]:
    """The last lines of the log."""
    return broker.log.tail(max(1, min(params.n, MAX_LINES)))


@method("stop", Stop)
async def stop(broker: Broker, client: Client, params: Stop) -> dict[str, Any]:
    """Stop the kernel; the answer says how many jobs go on at its next start."""
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: broker.stop(force=params.force, reason=f"asked by {client.label}"))
    return {"unfinished": len(broker.jobs.open)}


@method("worker.restart")
async def restart(broker: Broker, client: Client, params: Params) -> None:
    """End the worker and start another, also after it was given up."""
    broker.keeper.restart()


@method("trace", Trace)
async def trace(broker: Broker, client: Client, params: Trace) -> dict[str, Any]:
    """A Chrome trace of a job: what the worker and the journal did for it."""
    return chrome(
        {
            "worker": await broker.keeper.spans(params.job),
            "journal": broker.spans.of(params.job),
            "sync": broker.spans.of(""),
        }
    )
