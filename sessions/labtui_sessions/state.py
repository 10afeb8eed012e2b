"""The one reducer: ``state = reduce(state, event)`` for every event makes what every screen shows.

The state is deterministic (the same events give the same state, live, replayed or from a snapshot plus the
events after it) and bounded: ``snapshot()`` is at most ``MAX_SNAPSHOT`` bytes whatever the events hold.
Texts and tables beyond that are read by range from the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from labtui_artifacts.errors import BadFile

from . import events as ev
from . import rows as rowbook
from .events import Event
from .fields import (
    ArtifactView,
    Cut,
    ImageView,
    JobView,
    KernelView,
    Loss,
    Note,
    Patch,
    RowView,
    TableView,
    Tried,
    row_key,
)
from .rows import clip, size_of

VERSION = 2
"""Version of the reducer: raised when the same events give another state, so that stored states of an older
one are not used."""

MAX_SNAPSHOT = 256 * 1024
MAX_ID = 200
"""Characters of a job, row, note or artifact name; an event with a longer one is malformed."""

# Largest encoded bytes of each part. Together with the rows' they stay below MAX_SNAPSHOT.
_JOBS, _JOB_COUNT = 40_000, 200
_PROMPTS, _PROMPT_COUNT = 16_000, 200
_NOTES, _NOTE_COUNT = 10_000, 100
_ARTIFACTS, _ARTIFACT_COUNT = 14_000, 200
_TRIED, _TRIED_COUNT = 12_000, 120
_TABLES, _TABLE_COUNT = 8_000, 48
_SMALL = 2_000  # tags, last_jobs, losses, cuts, unknown
_PATCHES = 3_000
_IMAGES, _IMAGE_COUNT = 5_000, 40

T = TypeVar("T")


class SessionState(msgspec.Struct):
    """All that a session's screens show. ``seq`` is the last event in it; 0 for an empty session."""

    seq: int = 0
    t: float = 0.0
    id: str = ""
    title: str = ""
    created: float = 0.0
    opened: int = 0
    """How many times a kernel opened it."""
    kernel_name: str = ""
    versions: dict[str, str] = {}
    kernel: KernelView = msgspec.field(default_factory=KernelView)
    model: dict[str, Any] | None = None
    """ModelInfo of the model now loaded; None before the first ``model.ready``."""
    jobs: dict[str, JobView] = {}
    rows: dict[str, RowView] = {}
    """Recent rows by ``job/row``, oldest first."""
    tables: dict[str, TableView] = {}
    notes: dict[str, Note] = {}
    tags: list[str] = []
    prompts: list[str] = []
    """Prompts in the order of their last use, each once."""
    artifacts: dict[str, ArtifactView] = {}
    images: dict[str, ImageView] = {}
    """The last pictures by digest."""
    tried: list[Tried] = []
    last_jobs: dict[str, str] = {}
    """The last job of each kind."""
    patches: list[Patch] = []
    losses: list[Loss] = []
    cuts: list[Cut] = []
    jobs_dropped: int = 0
    """Jobs no longer listed here, because there were too many."""
    skipped: int = 0
    """Events of a known kind whose data was malformed."""
    unknown: dict[str, int] = {}
    """Events of kinds this version does not know, counted by kind."""

    def snapshot(self) -> bytes:
        """The state as msgpack, at most ``MAX_SNAPSHOT`` bytes."""
        return _encode(self)

    def rows_of(self, job: str) -> list[RowView]:
        """The kept rows of a job, oldest first."""
        return [row for row in self.rows.values() if row.job == job]

    def live_jobs(self) -> list[JobView]:
        """Jobs that are queued, running or paused, oldest first."""
        return [job for job in self.jobs.values() if job.live]


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(SessionState)


def from_snapshot(data: bytes | memoryview) -> SessionState:
    """The state of a snapshot. BadFile when it is not one."""
    if len(data) > MAX_SNAPSHOT:
        raise BadFile(f"session snapshot: {len(data)} bytes, at most {MAX_SNAPSHOT} are expected")
    try:
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(f"session snapshot: not a state of this version: {error}") from error
    rowbook.measure(state.rows.values())
    return state


def reduce(state: SessionState, event: Event) -> None:
    """Put one event into the state, in place. Never raises; an event already in it changes nothing."""
    if event.seq <= state.seq:
        return
    state.seq, state.t = event.seq, event.t
    handler = _HANDLERS.get(event.kind)
    if handler is None:
        kind = clip(event.kind, 60)
        state.unknown[kind] = state.unknown.get(kind, 0) + 1
        _trim(state.unknown, _SMALL, 32)
        return
    data = ev.typed(event)
    if data is None or not _named(data) or handler(state, data, event.t) is False:
        state.skipped += 1


def _named(data: ev.Data) -> bool:
    """The names in the data are short enough to be keys of the state."""
    for name in (
        "job",
        "row",
        "id",
        "name",
        "tag",
        "old",
        "new",
        "table",
        "cell",
        "site",
        "artifact",
        "digest",
    ):
        value = getattr(data, name, None)
        if isinstance(value, str) and len(value) > MAX_ID:
            return False
    return True


def _trim(items: dict[str, Any] | list[Any], size: int, count: int) -> None:
    """Drop the oldest until there are at most ``count`` and at most ``size`` encoded bytes."""
    while len(items) > count or (len(items) > 1 and size_of(items) > size):
        if isinstance(items, dict):
            del items[next(iter(items))]
        else:
            del items[: max(1, len(items) // 16)]


def _small(value: dict[str, Any] | None, size: int) -> dict[str, Any]:
    """The map's entries, in order, as long as they fit."""
    kept: dict[str, Any] = {}
    used = 8
    for name, item in (value or {}).items():
        cost = size_of(name) + size_of(item)
        if used + cost <= size:
            kept[name] = item
            used += cost
    return kept


# -- the session and its kernel ----------------------------------------------------------------------


def _opened(state: SessionState, data: ev.SessionOpened, t: float) -> None:
    state.id = data.id
    state.title = clip(data.title, 400) or state.title
    state.kernel_name = clip(data.kernel, 200)
    state.versions = _small(data.versions, 1_500)
    state.created = state.created or data.created or t
    state.opened += 1


def _titled(state: SessionState, data: ev.SessionTitled, t: float) -> None:
    state.title = clip(data.title, 400)


def _note(state: SessionState, data: ev.NoteAdded, t: float) -> None:
    state.notes[data.id] = Note(data.id, clip(data.text, 2_000), data.job, t)
    _trim(state.notes, _NOTES, _NOTE_COUNT)


def _note_gone(state: SessionState, data: ev.NoteRemoved, t: float) -> None:
    state.notes.pop(data.id, None)


def _tag(state: SessionState, data: ev.TagAdded, t: float) -> None:
    tag = clip(data.tag, 64)
    if tag not in state.tags:
        state.tags.append(tag)
    _trim(state.tags, _SMALL, 64)


def _tag_gone(state: SessionState, data: ev.TagRemoved, t: float) -> None:
    tag = clip(data.tag, 64)
    if tag in state.tags:
        state.tags.remove(tag)


def _kernel(state: SessionState, data: ev.KernelStateChanged, t: float) -> None:
    state.kernel = KernelView(clip(data.state, 40), clip(data.detail, 400), data.progress, t)


def _model(state: SessionState, data: ev.ModelReady, t: float) -> None:
    state.model = _small(data.info, 4_000)


def _lost(state: SessionState, data: ev.WorkerLost, t: float) -> None:
    state.losses.append(Loss(clip(data.reason, 200), data.exit, t))
    _trim(state.losses, _SMALL, 20)


def _cut(state: SessionState, data: ev.JournalCut, t: float) -> None:
    state.cuts.append(Cut(data.bytes, data.at, data.lost, clip(data.file, 100), t))
    _trim(state.cuts, _SMALL, 20)


def _gap(state: SessionState, data: ev.JournalGap, t: float) -> None:
    """Nothing is known of the event that stood here."""


# -- jobs --------------------------------------------------------------------------------------------


def _queued(state: SessionState, data: ev.JobQueued, t: float) -> None:
    kept = size_of(data.spec) <= 6_000
    state.jobs.pop(data.job, None)
    state.jobs[data.job] = JobView(
        job=data.job,
        kind=clip(data.kind, 40),
        priority=clip(data.priority, 20),
        client=clip(data.client, 60),
        parent=clip(data.parent, MAX_ID) if data.parent is not None else None,
        spec=data.spec if kept else {},
        spec_kept=kept,
        queued=t,
    )
    state.last_jobs.pop(clip(data.kind, 40), None)
    state.last_jobs[clip(data.kind, 40)] = data.job
    _trim(state.last_jobs, _SMALL, 32)
    prompt = _prompt(data.spec) if data.kind == "generate" else ""
    if prompt:
        if prompt in state.prompts:
            state.prompts.remove(prompt)
        state.prompts.append(prompt)
        _trim(state.prompts, _PROMPTS, _PROMPT_COUNT)
    _fit_jobs(state)


def _prompt(spec: dict[str, Any]) -> str:
    """What the user typed: the prompt, or the last user message of a conversation."""
    prompt = spec.get("prompt")
    if isinstance(prompt, str):
        return clip(prompt, 2_000)
    messages = prompt if isinstance(prompt, list) else spec.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            return clip(content, 2_000) if isinstance(content, str) else ""
    return ""


def _started(state: SessionState, data: ev.JobStarted, t: float) -> None:
    job = state.jobs.get(data.job)
    if job is None:
        return
    job.status, job.started, job.finished = "running", t, None
    job.starts += 1
    counts = {name: value for name, value in data.plan.items() if name != "made_with"}  # as long as it may be
    job.plan = _small(counts, 600)
    _fit_jobs(state)


def _paused(state: SessionState, data: ev.JobPaused, t: float) -> None:
    job = state.jobs.get(data.job)
    if job is not None and job.live:
        job.status = "paused"


def _resumed(state: SessionState, data: ev.JobResumed, t: float) -> None:
    job = state.jobs.get(data.job)
    if job is not None and job.live:
        job.status = "running" if job.starts else "queued"


def _finished(state: SessionState, data: ev.JobFinished, t: float) -> None:
    job = state.jobs.get(data.job)
    if job is None:
        return
    job.status, job.finished, job.seconds = clip(data.status, 20), t, data.seconds
    job.error = clip(data.error, 600) if data.error else None
    job.audit = _small(data.audit, 600) if data.audit is not None else None
    job.result = _small(data.result, 1_500) if data.result is not None else None
    _fit_jobs(state)


def _fit_jobs(state: SessionState) -> None:
    """Let go of the specs and results of old jobs, then of old jobs: finished ones first."""
    jobs = state.jobs
    for live in (False, True):
        for key in [key for key, job in jobs.items() if job.live == live]:
            if len(jobs) <= _JOB_COUNT:
                break
            del jobs[key]
            state.jobs_dropped += 1
    total = size_of(jobs)
    slack = 30 * len(jobs)  # counters grow without coming here
    newest = next(reversed(jobs), None)
    for live in (False, True):
        for key, job in jobs.items():
            if total + slack <= _JOBS:
                return
            if job.live == live and key != newest:
                before = size_of(job)
                job.spec, job.spec_kept, job.result = {}, job.spec_kept and not job.spec, None
                total += size_of(job) - before
    for live in (False, True):
        for key in [key for key, job in jobs.items() if job.live == live and key != newest]:
            if total + slack <= _JOBS:
                return
            total -= size_of(jobs.pop(key))
            state.jobs_dropped += 1


# -- rows, cells, artifacts --------------------------------------------------------------------------


def _row_started(state: SessionState, data: ev.RowStarted, t: float) -> None:
    rowbook.start(state.rows, data, t)


def _row_tokens(state: SessionState, data: ev.RowTokens, t: float) -> bool:
    return rowbook.extend(state.rows, data)


def _row_finished(state: SessionState, data: ev.RowFinished, t: float) -> None:
    row = rowbook.finish(state.rows, data, t)
    if row is None:
        return
    first = row.strengths[0] if row.strengths else {}
    untouched = 0.0 if not row.edits else None
    state.tried.append(
        Tried(
            job=row.job,
            row=row.row,
            arm=row.arm,
            edits=clip(row.edits, 120),
            alpha=_number(first.get("alpha"), untouched),
            abs=_number(first.get("abs"), untouched),
            pct=_number(first.get("pct"), untouched),
            words=row.words,
            tokens=data.tokens,
            perplexity=_number(row.metrics.get("perplexity"), None),
            finish=row.finish,
            knobbed=bool(row.knobs),
        )
    )
    _trim(state.tried, _TRIED, _TRIED_COUNT)


def _number(value: Any, absent: float | None) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else absent


def _cell(state: SessionState, data: ev.CellCommitted, t: float) -> None:
    table = state.tables.get(data.table)
    if table is None:
        table = state.tables[data.table] = TableView(data.table)
    digest = hashlib.blake2b(f"{data.job}\0{data.cell}".encode("utf-8", "replace"), digest_size=8)
    mark = int.from_bytes(digest.digest(), "little") >> 1  # fits a signed 64-bit integer
    if mark in table.recent:
        return
    table.recent.append(mark)
    del table.recent[:-64]
    table.rows += len(data.rows)
    table.cells += 1
    table.job = data.job
    for row in data.rows[:1]:
        new = [clip(name, 64) for name in row if name != "reasons" and name not in table.columns]
        table.columns.extend(new[: max(0, 64 - len(table.columns))])
    job = state.jobs.get(data.job)
    if job is not None:
        job.cells += 1
        job.rows += len(data.rows)
    _trim(state.tables, _TABLES, _TABLE_COUNT)


def _knob(state: SessionState, data: ev.Knob, t: float) -> None:
    rowbook.turn(state.rows, data, t)


def _patch(state: SessionState, data: ev.PatchCaptured, t: float) -> None:
    patch = Patch(data.job, data.row, data.site, data.position, data.norm, data.artifact)
    state.patches.append(patch)
    _trim(state.patches, _PATCHES, 40)


def _saved(state: SessionState, data: ev.ArtifactSaved, t: float) -> None:
    state.artifacts.pop(data.name, None)
    meta = _small(data.meta, 400)
    state.artifacts[data.name] = ArtifactView(data.name, clip(data.kind, 40), meta, t)
    _trim(state.artifacts, _ARTIFACTS, _ARTIFACT_COUNT)


def _image(state: SessionState, data: ev.ImageAdded, t: float) -> None:
    state.images.pop(data.digest, None)
    state.images[data.digest] = ImageView(clip(data.name, 60), data.width, data.height, state.seq)
    _trim(state.images, _IMAGES, _IMAGE_COUNT)


def _renamed(state: SessionState, data: ev.ArtifactRenamed, t: float) -> None:
    artifact = state.artifacts.pop(data.old, None)
    if artifact is not None:
        artifact.name = data.new
        state.artifacts[data.new] = artifact
        _trim(state.artifacts, _ARTIFACTS, _ARTIFACT_COUNT)


def _deleted(state: SessionState, data: ev.ArtifactDeleted, t: float) -> None:
    state.artifacts.pop(data.name, None)


_HANDLERS: dict[str, Callable[[SessionState, Any, float], bool | None]] = {
    "session.opened": _opened,
    "session.titled": _titled,
    "note.added": _note,
    "note.removed": _note_gone,
    "tag.added": _tag,
    "tag.removed": _tag_gone,
    "kernel.state": _kernel,
    "model.ready": _model,
    "worker.lost": _lost,
    "journal.cut": _cut,
    "journal.gap": _gap,
    "job.queued": _queued,
    "job.started": _started,
    "job.paused": _paused,
    "job.resumed": _resumed,
    "job.finished": _finished,
    "row.started": _row_started,
    "row.tokens": _row_tokens,
    "row.finished": _row_finished,
    "cell.committed": _cell,
    "knob": _knob,
    "patch.captured": _patch,
    "image.added": _image,
    "artifact.saved": _saved,
    "artifact.renamed": _renamed,
    "artifact.deleted": _deleted,
}

assert _HANDLERS.keys() == ev.CATALOGUE.keys()
__all__ = ["MAX_SNAPSHOT", "SessionState", "from_snapshot", "reduce", "row_key"]
