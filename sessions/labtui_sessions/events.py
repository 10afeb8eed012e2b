"""The catalogue of events: everything that can happen in a session, and how it is written.

A session is a list of events with contiguous sequence numbers that start at 1. On disk and on the wire
an event is the msgpack array ``[seq, t, kind, data]``: ``seq`` an integer, ``t`` seconds since the epoch,
``kind`` one of the names below, ``data`` a map. Each kind has a Struct here that gives its keys, their
types and their meaning; ``CATALOGUE`` maps kind to Struct.

Reading is lenient, because a file may have been written by a newer minor version: an unknown kind is
kept and skipped, an unknown key is ignored, a missing key takes its default. Data of a known kind that
does not fit its Struct is *malformed*: ``typed`` returns None and the reducer counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labtui_artifacts.errors import BadFile, LabError

SCHEMA = 1
"""Schema number of the event catalogue. It grows only when an old reader would go wrong."""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened. ``data`` is plain (numbers, text, bytes, lists, maps), as in the catalogue."""

    seq: int
    t: float
    kind: str
    data: dict[str, Any]


class Data(msgspec.Struct, kw_only=True):
    """Base of the data of every kind."""


# -- the session itself ------------------------------------------------------------------------------


class SessionOpened(Data):
    """``session.opened``: the first event of a journal, and again whenever a kernel re-opens it."""

    id: str
    title: str = ""
    kernel: str = ""
    versions: dict[str, str] = {}
    """Package versions, and ``build`` and ``commit`` of labtui when they are known."""
    created: float = 0.0


class SessionTitled(Data):
    """``session.titled``"""

    title: str


class NoteAdded(Data):
    """``note.added``: free text by the user, about the session or one job of it."""

    id: str
    text: str
    job: str | None = None


class NoteRemoved(Data):
    """``note.removed``"""

    id: str


class TagAdded(Data):
    """``tag.added``"""

    tag: str


class TagRemoved(Data):
    """``tag.removed``"""

    tag: str


# -- the kernel and its model ------------------------------------------------------------------------


class KernelStateChanged(Data):
    """``kernel.state``: starting, loading, ready, busy, worker-lost, draining or stopping."""

    state: str
    detail: str = ""
    progress: float | None = None
    """Fraction in [0, 1] while loading, else None."""


class ModelReady(Data):
    """``model.ready``: the model that the following jobs run on (a ModelInfo dictionary)."""

    info: dict[str, Any]


class WorkerLost(Data):
    """``worker.lost``: the process that held the model ended."""

    reason: str
    exit: int | None = None
    """Exit status, negative for a signal, None where it is not known."""


class JournalCut(Data):
    """``journal.cut``: on opening, bytes that were no whole frames were cut off and kept in a side file."""

    bytes: int
    at: int
    """Offset in the journal file where the cut was made."""
    file: str = ""
    """Name of the side file, in the session's folder, that keeps what was cut."""
    lost: int = 0
    """How many events of known sequence number were in the damaged part (0 for a torn tail)."""


class JournalGap(Data):
    """``journal.gap``: stands where a damaged event was, so that sequence numbers stay contiguous."""


# -- jobs --------------------------------------------------------------------------------------------


class JobQueued(Data):
    """``job.queued``: a spec was accepted."""

    job: str
    kind: str
    spec: dict[str, Any] = {}
    priority: str = "batch"
    """``interactive`` or ``batch``."""
    client: str = ""
    parent: str | None = None
    """The job that this one repeats, with or without a change."""


class JobStarted(Data):
    """``job.started``: the worker took it up; again after a lost worker."""

    job: str
    plan: dict[str, Any] = {}
    """Counts: ``rows``, ``cells``, ..."""


class JobPaused(Data):
    """``job.paused``"""

    job: str


class JobResumed(Data):
    """``job.resumed``"""

    job: str


class JobFinished(Data):
    """``job.finished``"""

    job: str
    status: str
    """``done``, ``failed``, ``cancelled`` or ``lost``."""
    error: str | None = None
    seconds: float | None = None
    audit: dict[str, Any] | None = None
    """The hook audit after the job: ``ok``, ``handles``, ``expected``, ``changed_parameters``, ``detail``."""
    result: dict[str, Any] | None = None


# -- rows and cells ----------------------------------------------------------------------------------


class RowStarted(Data):
    """``row.started``: a generation begins. With ``row.tokens`` it is all that ``rerun`` needs."""

    job: str
    row: str
    arm: str = ""
    """``plain``, ``steered``, or a name that the recipe gives."""
    prompt_tokens: int = 0
    pieces: list[str] = []
    """The templated prompt, one piece a token."""
    read: list[int] = []
    edited: list[int] = []
    """Prompt positions that are read, and that an edit touches."""
    messages: list[dict[str, Any]] = []
    edits: str = ""
    """The edit expression in its canonical form; empty for a plain row."""
    strengths: list[dict[str, Any]] = []
    """One map an edit: ``text, alpha, abs, pct, direction, sites, where``; a number or None for each unit."""
    directions: list[str] = []
    """Names of the stored directions that ``edits`` uses, so that a saved session can include them."""
    ids: list[int] = []
    seed: int = 0
    sampling: dict[str, Any] = {}
    """``temperature, top_p, top_k``."""
    max_new_tokens: int = 0
    stop_ids: list[int] = []
    content: list[bool] = []
    """For each prompt token, whether it is content (no template token, no sink)."""

    images: list[dict[str, Any]] = []
    """The prompt's pictures in order: ``digest``, ``start`` (the first of its tokens), ``rows``, ``cols`` (of merged
    patches), ``grid`` (frames, rows and columns of patches); ``min_pixels``, ``max_pixels``, ``fps`` and ``max_frames``
    where they were given. A video has ``seconds``, how long a frame of the grid lasts, and ``starts`` where its frames
    stand apart: the first token of each."""


class RowTokens(Data):
    """``row.tokens``: a chunk of generated tokens, ``start`` the index of its first one."""

    job: str
    row: str
    start: int
    ids: list[int] = []
    pieces: list[str] = []
    """Prefix-stable pieces: their concatenation is the text so far."""
    logprobs: list[float] = []
    """Log-probabilities in nats under the model as edited."""
    plain_logprobs: list[float | None] | None = None
    """The same tokens under the unsteered model, where surprise was asked for."""
    gaps: list[float] = []
    """Log-probability of the best minus that of the second best token, in nats."""


class RowFinished(Data):
    """``row.finished``"""

    job: str
    row: str
    finish: str = ""
    """``stop``, ``length`` or ``cancelled``."""
    text: str = ""
    words: int | None = None
    tokens: int | None = None
    metrics: dict[str, float | int | str | bool | None] = {}
    reasons: dict[str, str] = {}
    """Why a metric is absent (its value is None)."""


class CellCommitted(Data):
    """``cell.committed``: the rows of one grid point, finished for good. A cell counts once."""

    job: str
    cell: str
    table: str
    rows: list[dict[str, Any]] = []
    """One map a row, column to value; the key ``reasons`` maps a column to why its value is absent."""


class Knob(Data):
    """``knob``: the strength of one edit of a running row was changed by hand."""

    job: str
    row: str
    edit: int
    """Index of the edit in the row's expression."""
    strength: float
    """The new strength in units of the stored vector (alpha)."""
    strength_text: str = ""
    step: int = 0
    """Index of the first generated token that the new strength can change."""


class PatchCaptured(Data):
    """``patch.captured``: an activation of one row was kept, to be patched into another."""

    job: str
    row: str
    site: str
    position: int
    norm: float | None = None
    artifact: str = ""


class ImageAdded(Data):
    """``image.added``: a picture that jobs of this session are about; once a session for each digest.

    The picture itself stays with the kernel; what is here is enough to show it in a replay.
    """

    digest: str
    """``sha256:…`` of the file's bytes."""
    name: str = ""
    """The file's name."""
    width: int = 0
    height: int = 0
    """Pixels, upright."""
    thumbnail: bytes = b""
    """PNG, the longest side at most 256, at most 24 KB; of a video its first frame."""
    frames: int = 1
    """How many frames a video's file has."""
    seconds: float = 0.0
    """How long a video lasts."""


# -- artifacts ---------------------------------------------------------------------------------------


class ArtifactSaved(Data):
    """``artifact.saved``: a safetensors file is in the kernel's store under that name."""

    name: str
    kind: str = ""
    meta: dict[str, Any] = {}


class ArtifactRenamed(Data):
    """``artifact.renamed``"""

    old: str
    new: str


class ArtifactDeleted(Data):
    """``artifact.deleted``"""

    name: str


CATALOGUE: dict[str, type[Data]] = {
    "session.opened": SessionOpened,
    "session.titled": SessionTitled,
    "note.added": NoteAdded,
    "note.removed": NoteRemoved,
    "tag.added": TagAdded,
    "tag.removed": TagRemoved,
    "kernel.state": KernelStateChanged,
    "model.ready": ModelReady,
    "worker.lost": WorkerLost,
    "journal.cut": JournalCut,
    "journal.gap": JournalGap,
    "job.queued": JobQueued,
    "job.started": JobStarted,
    "job.paused": JobPaused,
    "job.resumed": JobResumed,
    "job.finished": JobFinished,
    "row.started": RowStarted,
    "row.tokens": RowTokens,
    "row.finished": RowFinished,
    "cell.committed": CellCommitted,
    "knob": Knob,
    "patch.captured": PatchCaptured,
    "image.added": ImageAdded,
    "artifact.saved": ArtifactSaved,
    "artifact.renamed": ArtifactRenamed,
    "artifact.deleted": ArtifactDeleted,
}
"""Every kind of event and the Struct of its data."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event as msgpack. LabError when its data holds something that msgpack cannot carry."""
    try:
        return _encoder.encode(event)
    except (TypeError, ValueError, OverflowError) as error:
        raise LabError(f"event {event.kind!r} cannot be written: {error}") from error


def decode(payload: bytes | memoryview) -> Event:
    """An event from its msgpack form. BadFile when it is not one."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(f"not an event: expected [seq, t, kind, data] as msgpack, found {error}") from error


def plain(data: Mapping[str, Any] | Data) -> dict[str, Any]:
    """The data of an event as a plain map, from such a map or from a Struct of the catalogue."""
    return dict(data) if isinstance(data, Mapping) else msgspec.structs.asdict(data)


def typed(event: Event) -> Data | None:
    """The event's data as the Struct of its kind; None when the kind is unknown or the data malformed."""
    kind = CATALOGUE.get(event.kind)
    if kind is None:
        return None
    try:
        return msgspec.convert(event.data, kind)
    except (msgspec.ValidationError, RecursionError):
        return None
