"""Keeps a worker alive and in work: loads the model, hands out jobs, takes what it says, restarts it."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

from labtui_artifacts import paths
from labtui_artifacts.errors import LabError, from_code
from labtui_kernels import protocol
from labtui_kernels.broker.jobs import Job, same_model
from labtui_kernels.broker.memory import killed_for_memory, oom_kills
from labtui_kernels.broker.planning import Speed
from labtui_kernels.broker.supervisor import Worker
from labtui_kernels.build import build_id
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.models.info import ModelInfo

if TYPE_CHECKING:
    from labtui_kernels.broker.server import Broker
    from labtui_kernels.broker.writer import LiveSession

PROGRESS_STEP = 0.1
LOSS_WINDOW = 600.0
LOSSES_IN_WINDOW = 8
"""Losses of the worker within so many seconds, with nothing finished between, that count as a crash loop."""
MAX_HALVINGS = 4


class Keeper:
    """The broker's dealings with its worker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.worker: Worker | None = None
        self.ready = False
        self.info: dict[str, Any] | None = None
        self.failure: tuple[int, str] | None = None
        self.halvings = 0
        self.speed = Speed()
        self._oom_kills: int | None = None
        self._queries: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._lost_at: list[float] = []
        self._crashes = 0
        self._stopping = False
        self._forced = ""
        self._shown: tuple[str, float] = ("", -1.0)
        self._since: dict[str, float] = {}

    @property
    def at_work(self) -> bool:
        """Loading, or with jobs to do; a worker that is given up does not count."""
        if self.failure is not None:
            return False
        return (self.worker is not None and not self.ready) or self._broker.jobs.waiting(self.info)

    @property
    def misfits(self) -> str:
        """One line about jobs that wait for another model than this one; empty when there are none."""
        return self._broker.jobs.misfits(self.info) if self.info is not None else ""

    @property
    def shape(self) -> ModelShape | None:
        """The shape of the model that was loaded last; None before the first."""
        return ModelInfo.from_dict(self.info).shape if self.info is not None else None

    # ------------------------------------------------------------ life of the worker

    def start(self) -> None:
        """Spawn a worker and have it load the model."""
        broker = self._broker
        if self.worker is not None or self._stopping:
            return
        self.failure, self.ready, self._shown = None, False, ("", -1.0)
        broker.set_state("loading", "starting the worker", 0.0)
        self._oom_kills = oom_kills()
        worker = Worker(broker.log, broker.limits, self._message, self._lost)
        self.worker = worker
        config = broker.config
        worker.send(
            protocol.Load(
                source=config.model,
                dtype=config.dtype,
                device=config.device,
                quantize=config.quantize,
                store=str(paths.artifacts()),
                halvings=self.halvings,
                budget=broker.limits.load_budget,
            )
        )

    def restart(self) -> None:
        """Try again after the worker was given up, or end the present one and start another."""
        self._crashes, self._lost_at = 0, []
        if self.worker is None:
            self.start()
        else:
            self._forced = "restarted on request"
            self.worker.kill(self._forced)

    def force(self, reason: str) -> None:
        """Kill the worker; the jobs that it had go on in the next one."""
        self._forced = reason
        if self.worker is not None:
            self.worker.kill(reason)

    async def stop(self, grace: float) -> None:
        """End the worker for good; one that still loads its model has nothing to finish and is not waited for."""
        self._stopping = True
        if self.worker is not None:
            await self.worker.quit(grace if self.ready else 0.0)
        self._fail_queries("the kernel is stopping")

    def _lost(self, worker: Worker, reason: str, status: int | None) -> None:
        broker = self._broker
        self.worker, self.ready = None, False
        blamed = [] if self._forced or self._stopping else [job.id for job in broker.jobs.running()]
        self._fail_queries(f"the worker was lost: {reason}")
        broker.log.write("worker.ended", level="warning", reason=reason, exit=status)
        broker.jobs.worker_gone()
        if self._stopping:
            return
        if self.failure is not None:
            broker.set_state("worker-lost", self.failure[1])
            return
        if not self._forced and killed_for_memory(status, self._oom_kills, oom_kills()):
            self.halvings = min(MAX_HALVINGS, self.halvings + 1)
        data = {"reason": reason, "exit": status, "jobs": blamed}
        broker.sessions.need_current().post("worker.lost", data)
        for live in {broker.jobs.open[job].session for job in blamed} - {broker.sessions.need_current().id}:
            broker.sessions.get(live).post("worker.lost", data)
        forced, self._forced = self._forced, ""
        broker.set_state("worker-lost", reason)
        self._set_aside(reason)
        for job in [job for job in broker.jobs.open.values() if job.wish]:
            self.control(job, job.wish)  # what the lost worker was asked to do
        self._again(reason, forced=bool(forced))

    def _again(self, reason: str, *, forced: bool) -> None:
        """Start another worker after a while, unless it keeps dying."""
        broker = self._broker
        now = time.monotonic()
        if not forced:
            self._crashes += 1
            self._lost_at = [*(moment for moment in self._lost_at if now - moment < LOSS_WINDOW), now]
        delays = broker.limits.retry_delays
        if self._crashes > len(delays) or len(self._lost_at) >= LOSSES_IN_WINDOW:
            name = broker.config.name
            self._give_up(
                1,
                f"given up after {len(self._lost_at)} losses, last: {reason}; "
                f"`labtui kernel start {name}` tries again",
            )
            return
        delay = 0.0 if forced or not self._crashes else delays[self._crashes - 1]
        asyncio.get_running_loop().call_later(delay, self.start)

    def _give_up(self, code: int, message: str) -> None:
        self.failure = (code, message)
        self._broker.set_state("worker-lost", message)

    def _set_aside(self, reason: str) -> None:
        """A job that lost the worker too often, with no committed cell between, is not tried again."""
        most = self._broker.limits.losses
        for job in [job for job in self._broker.jobs.open.values() if job.losses >= most]:
            error = (
                f"set aside: the worker was lost {job.losses} times in it without a finished cell: {reason}"
            )
            self._finish(job, "lost", error=error)

    # ------------------------------------------------------------ what the worker says

    async def _message(self, message: protocol.FromWorker) -> None:
        if isinstance(message, protocol.Emit):
            await self._write(message.data.get("job"), message.kind, message.data)
        elif isinstance(message, protocol.Finished):
            await self._finished(message)
        elif isinstance(message, protocol.Measured):
            self._broker.telemetry.update(message.data)
            self._broker.broadcast(protocol.Telemetry(message.data))
        elif isinstance(message, protocol.Answer):
            self._answer(message)
        elif isinstance(message, protocol.Paused):
            if message.job in self._broker.jobs.open:
                kind = "job.paused" if message.paused else "job.resumed"
                await self._write(message.job, kind, {"job": message.job})
        elif isinstance(message, protocol.Saved):
            await self._saved(message)
        else:
            await self._life(message)

    async def _life(self, message: protocol.FromWorker) -> None:
        broker = self._broker
        if isinstance(message, protocol.Started):
            if message.build != build_id():
                broker.stop(
                    restart=True, reason="labtui was upgraded: the kernel starts again with the new code"
                )
        elif isinstance(message, protocol.Progress):
            self._progress(message)
        elif isinstance(message, protocol.Ready):
            self.info, self.ready, self._crashes = message.info, True, 0
            await self._write(None, "model.ready", {"info": message.info})
            self.show_state()
            broker.wake()
        elif isinstance(message, protocol.Fatal):
            self._give_up(message.code, message.message)

    def _progress(self, message: protocol.Progress) -> None:
        phase, fraction = self._shown
        if message.phase == phase and message.fraction - fraction < PROGRESS_STEP and message.fraction < 1.0:
            self._broker.progress = message.fraction
            self._broker.wake()
            return
        self._shown = (message.phase, message.fraction)
        self._broker.set_state("loading", message.phase, message.fraction)

    async def _write(self, job: str | None, kind: str, data: dict[str, Any]) -> None:
        """Journal what the worker said, however long the disk takes; the worker waits meanwhile."""
        broker = self._broker
        live = broker.sessions.of_job(job)
        if kind == "cell.committed" and live.has_cell(data):
            return
        if kind == "image.added" and data.get("digest") in live.images:
            return
        start = time.monotonic()
        if live.stalled and self.worker is not None:
            self.worker.hold(True)
        try:
            await live.write(kind, data, broker.limits.disk_retry)
        finally:
            if self.worker is not None:
                self.worker.hold(False)
        if kind == "cell.committed" or (kind == "job.finished" and data["status"] == "done"):
            self._lost_at.clear()
        broker.spans.add(job or "", "journal.write", time.monotonic() - start, kind=kind)

    async def _finished(self, message: protocol.Finished) -> None:
        broker = self._broker
        job = broker.jobs.open.get(message.job)
        if job is None:
            return
        if job.kind == "sweep":
            self.speed.note(message.result)
        audit = message.audit
        status, error = message.status, message.error
        tainted = audit is not None and not audit.get("ok", True)
        if audit is not None and tainted:
            status = "failed"
            error = f"the hook audit failed, so the model may have been changed: {audit.get('detail', '')}"
        data = {
            "job": job.id,
            "status": status,
            "error": error,
            "code": message.code,
            "seconds": message.seconds,
            "audit": audit,
            "result": message.result,
        }
        await self._write(job.id, "job.finished", data)
        broker.log.write("job.finished", job=job.id, status=status, error=error, seconds=message.seconds)
        self.show_state()
        if tainted:
            self.force("the hook audit failed after a job")

    async def _saved(self, message: protocol.Saved) -> None:
        """Adopt an artifact that the worker left in the store's incoming folder."""
        from labtui_kernels.broker.methods import artifacts

        broker = self._broker
        try:
            meta = await asyncio.to_thread(artifacts.adopt, message)
        except (LabError, OSError) as error:
            broker.log.write("artifact.refused", level="error", job=message.job, error=str(error))
            return
        await self._write(message.job, "artifact.saved", meta)

    # ------------------------------------------------------------ jobs

    def dispatch(self) -> None:
        """Give the worker what it should do now."""
        broker = self._broker
        if not self.ready or self.worker is None or broker.draining or broker.sessions.stalled:
            return
        for job in broker.jobs.next(self.info):
            job.sent = True
            self._introduce(broker.sessions.get(job.session))
            cells, first = self._extended(job)
            committed = list(dict.fromkeys([*job.committed, *cells]))
            broker.log.write("job.sent", job=job.id, kind=job.kind, committed=len(committed))
            known = self._known(job, set(committed))
            self.worker.send(
                protocol.Run(
                    job.id,
                    job.kind,
                    job.spec,
                    job.priority,
                    committed,
                    known,
                    losses=job.losses,
                    first_row=first,
                    made_with=job.made_with,
                    own=len(job.committed),
                    pictures=self._pictures(job),
                )
            )
        self.show_state()

    def _pictures(self, job: Job) -> dict[str, str]:
        """What the user calls the job's pictures, by digest."""
        from labtui_kernels.specs.images import pictures_in

        live = self._broker.sessions.live.get(job.session)
        names = live.image_names if live is not None else {}
        return {digest: names[digest] for digest in pictures_in(job.spec) if digest in names}

    def _introduce(self, live: LiveSession) -> None:
        """Tell a session that is not the current one which model its rows come from, before they come."""
        told = live.state.model
        if self.info is not None and (told is None or not same_model(told, self.info)):
            live.post("model.ready", {"info": self.info})

    def _extended(self, job: Job) -> tuple[list[str], int]:
        """The cells of the table that a sweep extends, which are not run again, and its first row's number."""
        name = job.spec.get("table")
        tables = self._broker.sessions.get(job.session).tables.by_name
        if job.kind not in ("sweep", "calibrate") or not isinstance(name, str) or name not in tables:
            return [], 0
        return tables[name].earlier(job.id)

    def _known(self, job: Job, cells: set[str]) -> dict[str, dict[str, Any]]:
        """What a search or a choice goes on from: what the committed rows measured."""
        if job.kind not in ("calibrate", "match", "stroop") or not cells:
            return {}
        from labtui_kernels import specs

        spec = specs.load(job.spec)
        assert isinstance(spec, specs.Calibrate | specs.Match | specs.Stroop)
        table = self._broker.sessions.get(job.session).tables.by_name.get(spec.table or job.id)
        return {} if table is None else table.measured(cells, spec.judged_by)

    def show_state(self) -> None:
        """``busy`` while a job runs, else ``ready``; other states are set where they arise."""
        if not self.ready or self._broker.draining or self.failure is not None:
            return
        state = "busy" if self._broker.jobs.running() else "ready"
        if self._broker.state != state:
            self._broker.set_state(state)

    def control(self, job: Job, action: str) -> None:
        """Pause, resume or cancel: at the next step when the worker has the job, else at once."""
        if job.sent and self.worker is not None:
            job.wish = action
            self.worker.send(protocol.Control(job.id, action))
            return
        job.wish = ""
        if action == "cancel":
            self._finish(job, "cancelled")
        else:
            kind = "job.paused" if action == "pause" else "job.resumed"
            self._broker.sessions.get(job.session).post(kind, {"job": job.id})

    def kill_job(self, job: Job) -> None:
        """Cancel a job without waiting for its step: the worker is killed when it has it."""
        sent = job.sent
        self._finish(job, "cancelled", error="stopped by force")
        if sent:
            self.force(f"job {job.id} was stopped by force")

    def _finish(self, job: Job, status: str, *, error: str | None = None) -> None:
        data = {
            "job": job.id,
            "status": status,
            "error": error,
            "seconds": None,
            "audit": None,
            "result": None,
        }
        self._broker.sessions.get(job.session).post("job.finished", data)
        self._broker.log.write("job.finished", job=job.id, status=status, error=error)

    # ------------------------------------------------------------ questions

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Put a question to the worker; answered between two steps. LabError when there is no model."""
        if not self.ready or self.worker is None:
            raise LabError(f"no model is loaded: the kernel is {self._broker.state} ({self._broker.detail})")
        number, future = self._question()
        self.worker.send(protocol.Query(number, method, params))
        try:
            return await future
        finally:
            self._queries.pop(number, None)

    async def spans(self, job: str) -> list[dict[str, Any]]:
        """The worker's spans of a job; none when no worker runs."""
        if not self.ready or self.worker is None:
            return []
        number, future = self._question()
        self.worker.send(protocol.Trace(number, job))
        try:
            return await future
        finally:
            self._queries.pop(number, None)

    def _question(self) -> tuple[int, asyncio.Future[Any]]:
        number = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queries[number] = future
        return number, future

    def knob(self, message: protocol.Knob) -> None:
        """Pass a turned knob on."""
        if self.worker is not None:
            self.worker.send(message)

    def _answer(self, message: protocol.Answer) -> None:
        future = self._queries.get(message.id)
        if future is None or future.done():
            return
        if message.ok:
            future.set_result(message.result)
        else:
            error = message.error or protocol.ErrorInfo(1, "no reason was given")
            future.set_exception(from_code(error.code, error.message))

    def _fail_queries(self, reason: str) -> None:
        for future in self._queries.values():
            if not future.done():
                future.set_exception(LabError(reason))
