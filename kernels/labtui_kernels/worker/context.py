"""What the worker gives a running recipe (see ``recipes.context.JobContext``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from labtui_artifacts.images import ImageStore
from labtui_kernels import protocol
from labtui_kernels.broker.trace import Spans
from labtui_kernels.recipes.context import KnobTurn
from labtui_kernels.worker.watch import Watch

if TYPE_CHECKING:
    import numpy as np

    from labtui_artifacts.store import Store
    from labtui_kernels.engine import Engine
    from labtui_kernels.models.load import LoadedModel

STEP_BUDGET = 900.0
PROGRESS_EVERY = 0.2


class Context:
    """The context of one job. Everything is called on the worker's main thread."""

    def __init__(
        self,
        run: protocol.Run,
        loaded: LoadedModel,
        engine: Engine,
        store: Store,
        send: Callable[[protocol.FromWorker], None],
        watch: Watch,
        spans: Spans,
        halvings: int = 0,
    ) -> None:
        self.job = run.job
        self.loaded = loaded
        self.engine = engine
        self.store = store
        self.images = ImageStore()
        self.committed = frozenset(run.committed)
        self.known = run.known
        self.first_row = run.first_row
        self.made_with = run.made_with
        self.picture_names = run.pictures
        self.own = frozenset(run.committed[: run.own])
        self.halvings = halvings
        self._send = send
        self._watch = watch
        self._spans = spans
        self._knobs: list[KnobTurn] = []
        self._phase = "step"
        self._budget = STEP_BUDGET
        self._began = time.time()
        self._told = 0.0

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Write an event of the session."""
        self._send(protocol.Emit(kind, {"job": self.job, **data}))

    def save_artifact(
        self, name: str, kind: str, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]
    ) -> None:
        """Leave an artifact in the store's incoming folder for the broker to adopt."""
        self.store.save_incoming(name, kind, tensors, meta)
        self._send(protocol.Saved(self.job, name, kind))

    def knobs(self) -> list[KnobTurn]:
        """The turns that have arrived since the last call."""
        turns, self._knobs = self._knobs, []
        return turns

    def turn(self, knob: protocol.Knob) -> None:
        """A knob was turned."""
        self._knobs.append(KnobTurn(knob.row, knob.edit, knob.strength))

    def progress(self, done: float, total: float, text: str) -> None:
        """Tell how far the job is, at a bounded rate."""
        now = time.monotonic()
        if now - self._told < PROGRESS_EVERY and done < total:
            return
        self._told = now
        data = {"job": self.job, "done": done, "total": total, "text": text}
        self._send(protocol.Measured({"progress": data}))

    def budget(self, phase: str, seconds: float) -> None:
        """What follows belongs to ``phase`` and honest work ends within ``seconds``."""
        self._close_span()
        self._phase, self._budget = phase, seconds
        self._watch.phase(phase, seconds)

    def begin_step(self) -> None:
        """A step begins in the phase that the recipe declared last."""
        self._began = time.time()
        self._watch.phase(self._phase, self._budget)

    def end_step(self) -> None:
        """The step has ended: what it took becomes a span of its phase."""
        self._close_span()

    def _close_span(self) -> None:
        now = time.time()
        self._spans.put(self.job, self._phase, self._began, now - self._began, {})
        self._began = now
