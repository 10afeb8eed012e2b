"""The worker's loop: one step of the most urgent job, then whatever the broker said meanwhile.

A job is a recipe's generator; each of its yields is a step boundary. An interactive job pre-empts a batch at
the next boundary, because it is simply the one that is advanced from then on.
"""

from __future__ import annotations

import queue
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from labtui_artifacts.errors import LabError
from labtui_kernels import protocol, recipes, specs
from labtui_kernels.broker.trace import Spans
from labtui_kernels.recipes.context import Steps
from labtui_kernels.worker import queries
from labtui_kernels.worker.context import Context
from labtui_kernels.worker.link import BrokerLink
from labtui_kernels.worker.watch import Watch

if TYPE_CHECKING:
    from labtui_artifacts.store import Store
    from labtui_kernels.engine import Engine
    from labtui_kernels.models.load import LoadedModel

IDLE_BUDGET = 0.0
MEMORY_EVERY = 2.0


@dataclass
class Running:
    """A job in the worker."""

    id: str
    urgent: bool
    context: Context
    steps: Steps | None = None
    paused: bool = False
    started: float = field(default_factory=time.monotonic)


class Loop:
    """Runs jobs until told to quit."""

    def __init__(
        self,
        link: BrokerLink,
        watch: Watch,
        loaded: LoadedModel,
        engine: Engine,
        store: Store,
        halvings: int = 0,
    ) -> None:
        self._link = link
        self._watch = watch
        self._loaded = loaded
        self._engine = engine
        self._store = store
        self._halvings = halvings
        self._spans = Spans()
        self._jobs: dict[str, Running] = {}
        self._quit = False
        self._measured = 0.0

    def run(self) -> None:
        """Until ``Quit``: messages, then a step, and so on; waits when there is nothing to do."""
        while not self._quit:
            job = self._next()
            self._take_messages(wait=job is None)
            job = self._next()
            if job is not None and not self._quit:
                self._step(job)
                self._measure()
        for job in list(self._jobs.values()):
            self._close(job)

    def _next(self) -> Running | None:
        """The oldest urgent job that does not stand still, else the oldest other one."""
        awake = [job for job in self._jobs.values() if not job.paused]
        return next((job for job in awake if job.urgent), awake[0] if awake else None)

    # ------------------------------------------------------------ messages

    def _take_messages(self, *, wait: bool) -> None:
        if wait:
            self._watch.phase("idle", IDLE_BUDGET)
            self._measure()
        while not self._quit:
            try:
                message = self._link.inbox.get(block=wait)
            except queue.Empty:
                return
            wait = False
            self._take(message)

    def _take(self, message: protocol.ToWorker) -> None:
        if isinstance(message, protocol.Run):
            self._begin(message)
        elif isinstance(message, protocol.Control):
            self._control(message)
        elif isinstance(message, protocol.Knob):
            if message.job in self._jobs:
                self._jobs[message.job].context.turn(message)
        elif isinstance(message, protocol.Query):
            self._query(message)
        elif isinstance(message, protocol.Trace):
            self._link.send(protocol.Answer(message.id, True, self._spans.of(message.job)))
        elif isinstance(message, protocol.Quit):
            self._quit = True

    def _control(self, message: protocol.Control) -> None:
        job = self._jobs.get(message.job)
        if job is None:
            return
        if message.action == "cancel":
            self._close(job)
            self._end(job, "cancelled")
        elif job.paused != (message.action == "pause"):
            job.paused = message.action == "pause"
            self._link.send(protocol.Paused(job.id, job.paused))

    def _query(self, message: protocol.Query) -> None:
        self._watch.phase(message.method, queries.BUDGET)
        try:
            result = queries.answer(self._loaded, self._engine, message.method, message.params)
            reply = protocol.Answer(message.id, True, result)
        except LabError as error:
            info = protocol.ErrorInfo(error.exit_code, str(error))
            reply = protocol.Answer(message.id, False, None, info)
        except Exception as error:
            traceback.print_exc()
            info = protocol.ErrorInfo(1, f"{message.method}: {_describe(error)}")
            reply = protocol.Answer(message.id, False, None, info)
        self._link.send(reply)

    # ------------------------------------------------------------ jobs

    def _begin(self, message: protocol.Run) -> None:
        context = Context(
            message,
            self._loaded,
            self._engine,
            self._store,
            self._link.send,
            self._watch,
            self._spans,
            self._halvings,
        )
        job = Running(message.job, message.priority == "interactive", context)
        self._jobs[job.id] = job
        try:
            context.budget("plan", queries.BUDGET)
            recipe = recipes.recipe(specs.load(message.spec))
            plan = recipe.plan(context)
            context.emit("job.started", {"plan": plan})
            job.steps = recipe.run(context)
        except Exception as error:
            self._fail(job, error)

    def _step(self, job: Running) -> None:
        assert job.steps is not None
        job.context.begin_step()
        try:
            next(job.steps)
        except StopIteration as stop:
            job.context.end_step()
            self._end(job, "done", result=stop.value or {})
            return
        except Exception as error:
            self._fail(job, error)
            return
        job.context.end_step()

    def _close(self, job: Running) -> None:
        """Have the recipe free what it holds."""
        if job.steps is None:
            return
        try:
            job.steps.close()
        except Exception:
            traceback.print_exc()  # its output is in the kernel's log; the job ends either way

    def _fail(self, job: Running, error: Exception) -> None:
        self._close(job)
        if isinstance(error, LabError):
            # A recipe that compared something and found it wanting says what it compared.
            result = getattr(error, "result", None)
            self._end(job, "failed", error=str(error), code=error.exit_code, result=result)
            return
        traceback.print_exception(error)
        self._free_memory(error)
        self._end(job, "failed", error=_describe(error))

    def _free_memory(self, error: Exception) -> None:
        """After a failed allocation on the device, give back what is cached."""
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()

    def _end(
        self,
        job: Running,
        status: str,
        *,
        error: str | None = None,
        code: int = 1,
        result: dict[str, Any] | None = None,
    ) -> None:
        del self._jobs[job.id]
        self._watch.phase("audit", queries.BUDGET)
        began = time.time()
        audit = msgspec.to_builtins(self._engine.audit())
        self._spans.put(job.id, "audit", began, time.time() - began, {})
        seconds = time.monotonic() - job.started
        self._link.send(protocol.Finished(job.id, status, seconds, error, code, audit, result))

    def _measure(self) -> None:
        """Now and then, tell how much memory is in use."""
        now = time.monotonic()
        if now - self._measured < MEMORY_EVERY:
            return
        self._measured = now
        self._link.send(protocol.Measured({"memory": queries.memory(self._loaded)}))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
