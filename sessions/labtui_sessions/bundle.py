"""A session in one file: ``save`` writes it, ``open_bundle`` reads it, on any machine, without torch.

The file is a safetensors artifact of kind ``session``:

- ``events/frames`` (uint8): every event, framed as in the journal; ``events/offsets`` (int64 [n + 1]): where
  each begins.
- ``keyframes/seq`` (int64 [k]), ``keyframes/offsets`` (int64 [k + 1]), ``keyframes/states`` (uint8): states
  on the way, so that a reader can jump; they only save time, and ``verify`` makes them anew.
- ``table/...``: the tables as columns (see ``columns.py``).
- ``artifact/<name>/<tensor>``: the tensors of the directions that the session used.
- the header's meta: the summary (see ``Summary``), with a SHA-256 of every tensor; where that is too long for
  a header, it is the tensor ``summary`` (uint8, JSON) and the header keeps the short part of it.

Opening runs nothing from the file: it reads JSON and numbers, and checks every extent before use.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.header import Header, read_header

from . import columns, frames
from .events import Event, encode
from .journal import JournalReader
from .log import EventLog, each
from .state import VERSION, SessionState, from_snapshot, reduce
from .tables import Table, Tables, as_json, finite
from .versions import package_versions

KIND = "session"
SUMMARY_LIMIT = 200_000
"""Bytes of summary kept in the header; a longer one becomes a tensor."""
KEYFRAME_BYTES = 1 << 20
"""A state is kept at least every so many bytes of events, unless states are much larger than that."""
ARTIFACT_LIMIT = 512 << 20
"""Bytes of included artifacts at most."""

Array = columns.Array


class ArtifactInfo(msgspec.Struct):
    """An artifact that is included."""

    name: str
    kind: str
    meta: dict[str, Any]
    tensors: dict[str, str]
    """Its tensors' names, and those they have in this file."""


class Summary(msgspec.Struct, kw_only=True):
    """What a session file says about itself before anything else of it is read."""

    id: str
    title: str
    created: float
    saved: float
    kernel: str = ""
    events: int = 0
    reducer: int = 0
    """Version of the reducer that made the keyframes."""
    models: list[dict[str, Any]] = []
    """ModelInfo of every model, in order: name, fingerprints of weights, tokenizer and template, dtype,
    quantisation, device."""
    seeds: list[int] = []
    versions: dict[str, str] = {}
    """Packages and commit on the machine that ran it."""
    saved_with: dict[str, str] = {}
    """Packages on the machine that saved it."""
    tags: list[str] = []
    notes: int = 0
    jobs: dict[str, int] = {}
    """How many jobs of each kind."""
    tables: list[columns.TableInfo] = []
    artifacts: list[ArtifactInfo] = []
    left_out: dict[str, str] = {}
    """Artifacts that the session used and that are not here, and why."""
    sha256: dict[str, str] = {}
    """SHA-256 of each tensor's bytes, in hexadecimal; of all but ``summary`` where that is a tensor."""


class Bundle:
    """A saved session, open for reading. Make one with ``open_bundle``."""

    def __init__(self, header: Header, summary: Summary) -> None:
        self.header = header
        self.path = header.path
        self.summary = summary
        self._offsets = self._cuts("events/offsets", "events/frames")
        self._key_seqs = self._tensor("keyframes/seq", np.int64)
        self._key_offsets = self._cuts("keyframes/offsets", "keyframes/states")
        if len(self._key_offsets) != len(self._key_seqs) + 1 or (np.diff(self._key_seqs) <= 0).any():
            raise BadFile(f"{self.path}: damaged keyframe index")
        self._tables: Tables | None = None

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event."""
        return len(self._offsets) - 1

    @property
    def keyframes(self) -> list[int]:
        """Sequence numbers of the states that are kept."""
        return self._key_seqs.tolist()

    def read(
        self, from_seq: int = 1, limit: int | None = None, limit_bytes: int | None = None
    ) -> list[Event]:
        """Events from ``from_seq`` on, at most ``limit`` of them and ``limit_bytes`` of file, at least one if
        there is one. BadFile when one of them is damaged."""
        start = max(from_seq, 1) - 1
        if start >= self.last_seq:
            return []
        stop = self.last_seq if limit is None else min(self.last_seq, start + max(1, limit))
        if limit_bytes is not None:
            within = int(np.searchsorted(self._offsets, self._offsets[start] + limit_bytes, "right")) - 1
            stop = min(stop, max(start + 1, within))
        first, end = int(self._offsets[start]), int(self._offsets[stop])
        data = files.read_tensor(self.header, "events/frames", first, end).data
        return [self._event(data, i, int(self._offsets[i]) - first) for i in range(start, stop)]

    def keyframe(self, seq: int) -> SessionState | None:
        """The last kept state at or before event ``seq``; None where there is none this version can use."""
        if self.summary.reducer != VERSION:
            return None
        index = int(np.searchsorted(self._key_seqs, seq, "right")) - 1
        if index < 0:
            return None
        first, end = int(self._key_offsets[index]), int(self._key_offsets[index + 1])
        state = from_snapshot(files.read_tensor(self.header, "keyframes/states", first, end).tobytes())
        if state.seq != self._key_seqs[index]:
            raise BadFile(f"{self.path}: keyframe {index} is the state of another event")
        return state

    def table(self, info: columns.TableInfo) -> Table:
        """One of the tables of the summary, from its columns."""
        table = columns.from_tensors(info, self._reader)
        table.ask_owners = lambda: self._owners(table)
        return table

    def _owners(self, table: Table) -> list[str]:
        """The job of each row of a table, from the events that committed them."""
        jobs: dict[int, str] = {}
        for seq in dict.fromkeys(table.seqs):
            found = self.read(seq, 1) if seq > 0 else []
            jobs[seq] = str(found[0].data.get("job", "")) if found else ""
        return [jobs[seq] for seq in table.seqs]

    def tables(self) -> Tables:
        """All tables, from their columns; read once."""
        if self._tables is None:
            tables = Tables()
            for info in self.summary.tables:
                tables.by_name[info.name] = self.table(info)
            self._tables = tables
        return self._tables

    def artifact(self, name: str) -> tuple[ArtifactInfo, dict[str, Array]]:
        """An included artifact and its tensors. UsageError when it is not here."""
        for info in self.summary.artifacts:
            if info.name == name:
                return info, {own: self._reader(here) for own, here in info.tensors.items()}
        known = ", ".join(info.name for info in self.summary.artifacts) or "none"
        raise UsageError(f"{self.path}: includes no artifact {name!r}; it has {known}")

    def extract(self, name: str, path: Path) -> None:
        """Write an included artifact as a file of its own."""
        info, tensors = self.artifact(name)
        files.write(path, info.kind, tensors, info.meta)

    def _event(self, data: memoryview, index: int, offset: int) -> Event:
        hit = frames.event_at(data, offset)
        if hit is None or hit[0].seq != index + 1:
            raise BadFile(
                f"{self.path}: event {index + 1} is damaged; `labtui session verify` lists all damage"
            )
        return hit[0]

    def _reader(self, name: str) -> Array:
        if name not in self.header.tensors:
            if name.endswith(".present"):
                raise KeyError(name)
            raise BadFile(f"{self.path}: has no tensor {name!r}")
        return files.read_tensor(self.header, name)

    def _tensor(self, name: str, dtype: Any) -> Array:
        array = self._reader(name)
        if array.dtype != dtype or array.ndim != 1:
            raise BadFile(f"{self.path}: tensor {name!r} is not a list of {np.dtype(dtype).name}")
        return array

    def _cuts(self, name: str, body: str) -> Array:
        """Rising offsets from 0 to the length of the uint8 tensor ``body``."""
        if self.header.tensors.get(body, ("", ()))[0] != "U8" or len(self.header.tensors[body][1]) != 1:
            raise BadFile(f"{self.path}: tensor {body!r} is missing or not a list of bytes")
        cuts = self._tensor(name, np.int64)
        length = self.header.tensors[body][1][0]
        if len(cuts) < 1 or cuts[0] != 0 or cuts[-1] != length or (np.diff(cuts) < 0).any():
            raise BadFile(f"{self.path}: {name} does not fit {body} of {length} bytes")
        return cuts


def open_bundle(path: Path | str) -> Bundle:
    """Open a saved session. BadFile with one line when it is damaged, no session, or too new."""
    header = read_header(path, kind=KIND)
    return Bundle(header, read_summary(header))


def read_summary(header: Header) -> Summary:
    """The summary of a session file, from its header or its ``summary`` tensor."""
    raw: Any = header.meta
    try:
        if "summary" in header.tensors:
            raw = json.loads(files.read_tensor(header, "summary").tobytes())
        return msgspec.convert(raw, Summary)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise BadFile(f"{header.path}: damaged summary: {error}") from error


def save(
    source: EventLog | Path | str,
    out: Path | str,
    *,
    artifacts: Mapping[str, Path] | None = None,
    replace: bool = False,
    until: int | None = None,
) -> Summary:
    """Write the session as one file, whole or not at all, and return its summary.

    ``source`` is a log or a session folder (it may be live); ``artifacts`` maps names to the files of those
    that may be included: those that the events say were used are. ``until`` saves only up to that event.
    UsageError when ``out`` exists and ``replace`` is not set; JobFailed when the disk is full.
    """
    out = Path(out)
    if out.exists() and not replace:
        raise UsageError(f"{out}: exists already; give another name, or --force to replace it")
    if isinstance(source, Path | str):
        with JournalReader.open(source) as log:
            return _save(log, out, artifacts or {}, until)
    return _save(source, out, artifacts or {}, until)


def _save(log: EventLog, out: Path, artifacts: Mapping[str, Path], until: int | None) -> Summary:
    writer = _Writer()
    for event in each(log, until=until):
        writer.add(event)
    summary, tensors = writer.finish()
    _include(summary, tensors, writer.directions, artifacts)
    summary.sha256 = {name: sha256(array) for name, array in tensors.items()}
    meta: dict[str, Any] = finite(msgspec.to_builtins(summary))
    raw = json.dumps(meta, allow_nan=False).encode()
    if len(raw) > SUMMARY_LIMIT:
        tensors["summary"] = np.frombuffer(raw, np.uint8)
        meta = {"id": summary.id, "title": summary.title, "created": summary.created, "saved": summary.saved,
                "events": summary.events, "sha256": {"summary": sha256(tensors["summary"])}}  # fmt: skip
    files.write(out, KIND, tensors, meta, min_reader=1)
    return summary


def sha256(array: Array) -> str:
    """SHA-256 of a tensor's bytes as they lie in the file."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


class _Writer:
    """Gathers what a file holds while the events pass by once."""

    def __init__(self) -> None:
        self.state = SessionState()
        self.tables = Tables()
        self.frames: list[bytes] = []
        self.offsets = [0]
        self.keys: list[tuple[int, bytes]] = []
        self.since_key = 0
        self.models: list[dict[str, Any]] = []
        self.seeds: dict[int, None] = {}
        self.jobs: dict[str, int] = {}
        self.directions: dict[str, None] = {}

    def add(self, event: Event) -> None:
        """Take one event."""
        reduce(self.state, event)
        self.tables.apply(event)
        data = frames.frame(encode(event))
        self.frames.append(data)
        self.offsets.append(self.offsets[-1] + len(data))
        self._note(event)
        self.since_key += len(data)
        if self.since_key >= KEYFRAME_BYTES:
            snapshot = self.state.snapshot()
            if self.since_key >= 2 * len(snapshot):
                self.keys.append((event.seq, snapshot))
                self.since_key = 0

    def _note(self, event: Event) -> None:
        data = event.data
        if event.kind == "model.ready" and isinstance(data.get("info"), dict):
            info = _model_info(data["info"])
            if info not in self.models[-1:]:
                self.models = [*self.models[-15:], info]
        elif event.kind == "job.queued":
            kind = str(data.get("kind", ""))[:40]
            self.jobs[kind] = self.jobs.get(kind, 0) + 1
            spec = data.get("spec")
            if isinstance(spec, dict):
                self._seeds([spec.get("seed"), *_listed(spec.get("seeds"))])
                self._names(spec.get("directions"))
        elif event.kind == "row.started":
            self._seeds([data.get("seed")])
            self._names(data.get("directions"))

    def _seeds(self, seeds: Iterable[Any]) -> None:
        for seed in seeds:
            if type(seed) is int and len(self.seeds) < 1_000:
                self.seeds[seed] = None

    def _names(self, names: Any) -> None:
        for name in _listed(names):
            if isinstance(name, str) and len(name) <= 200 and len(self.directions) < 10_000:
                self.directions[name] = None

    def finish(self) -> tuple[Summary, dict[str, Array]]:
        """The summary and the tensors of the events, keyframes and tables."""
        key_offsets = np.cumsum([0, *(len(state) for _, state in self.keys)], dtype=np.int64)
        tensors: dict[str, Array] = {
            "events/frames": _bytes(b"".join(self.frames)),
            "events/offsets": np.asarray(self.offsets, np.int64),
            "keyframes/seq": np.asarray([seq for seq, _ in self.keys], np.int64),
            "keyframes/offsets": key_offsets,
            "keyframes/states": _bytes(b"".join(state for _, state in self.keys)),
        }
        infos = []
        for number, table in enumerate(self.tables.by_name.values()):
            info, parts = columns.to_tensors(table, number)
            infos.append(info)
            tensors.update(parts)
        state = self.state
        summary = Summary(
            id=state.id,
            title=state.title,
            created=state.created if math.isfinite(state.created) else 0.0,
            saved=time.time(),
            kernel=state.kernel_name,
            events=state.seq,
            reducer=VERSION,
            models=self.models,
            seeds=list(self.seeds),
            versions=state.versions,
            saved_with=package_versions(),
            tags=list(state.tags),
            notes=len(state.notes),
            jobs=self.jobs,
            tables=infos,
        )
        return summary, tensors


def _include(
    summary: Summary, tensors: dict[str, Array], wanted: Iterable[str], available: Mapping[str, Path]
) -> None:
    """Put the tensors of the used artifacts in, as far as they are there and fit."""
    used = 0
    for number, name in enumerate(wanted):
        path = available.get(name)
        if path is None:
            continue  # an expression, or something made on the fly
        try:
            artifact = files.read(path)
            size = artifact.header.size
            if used + size > ARTIFACT_LIMIT:
                summary.left_out[name] = f"{size} bytes, over the limit of {ARTIFACT_LIMIT} for all"
                continue
            parts = artifact.tensors()
        except LabError as error:
            summary.left_out[name] = str(error)
            continue
        used += size
        names = {own: f"artifact/{number}/{own}" for own in parts}
        tensors.update({names[own]: array for own, array in parts.items()})
        summary.artifacts.append(ArtifactInfo(name, artifact.kind, artifact.meta, names))


def _model_info(info: dict[str, Any]) -> dict[str, Any]:
    """A model's description as JSON can hold it, at most 20 KB."""
    kept = finite(info)
    return kept if len(as_json(kept)) <= 20_000 else {"name": str(info.get("name", ""))[:200]}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _bytes(data: bytes) -> Array:
    return np.frombuffer(data, np.uint8)
