"""Is a session file, or a session folder, what it claims to be? Every finding, not just the first."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, LabError
from labtui_artifacts.header import read_header

from . import columns, frames
from .bundle import KIND, Bundle, read_summary, sha256
from .events import CATALOGUE, Event, typed
from .journal import FILE
from .state import VERSION, SessionState, reduce
from .tables import Table, Tables, as_json

MAX_FINDINGS = 200


class Finding(msgspec.Struct):
    """Something about the file. An ``error`` means that it is damaged; a ``note`` is good to know."""

    level: Literal["error", "note"]
    where: str
    message: str


class Report(msgspec.Struct):
    """What was looked at and found; ``ok`` when there is no error."""

    path: str
    kind: str
    events: int = 0
    tensors: int = 0
    tables: int = 0
    keyframes: int = 0
    findings: list[Finding] = []

    @property
    def ok(self) -> bool:
        """Nothing is damaged."""
        return all(finding.level != "error" for finding in self.findings)

    def error(self, where: str, message: str) -> None:
        """Add an error; beyond ``MAX_FINDINGS`` only their number grows no more."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding("error", where, message))

    def note(self, where: str, message: str) -> None:
        """Add a note."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding("note", where, message))

    def raise_if_bad(self) -> None:
        """BadFile with one line when something is damaged."""
        errors = [finding for finding in self.findings if finding.level == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise BadFile(f"{self.path}: damaged: {errors[0].where}: {errors[0].message}{more}")


def verify(path: Path | str) -> Report:
    """Check a saved session, a session folder, or a journal file."""
    place = Path(path)
    if place.is_dir():
        return _verify_journal(place / FILE)
    if place.name == FILE:
        return _verify_journal(place)
    return _verify_bundle(place)


def _verify_journal(path: Path) -> Report:
    report = Report(str(path), "journal")
    try:
        data = memoryview(path.read_bytes())
        frames.check_header(data, str(path))
    except OSError as error:
        report.error("file", f"cannot be read: {error.strerror}")
        return report
    except BadFile as error:
        report.error("header", str(error))
        return report
    found = frames.scan(data)
    if not found.sound:
        what = "damage in the middle" if found.resumes is not None else "a torn tail"
        report.error("frames", f"{what}: {found.size - found.end} bytes from byte {found.end} on")
    check = _Checker(report)
    for offset in found.offsets:
        hit = frames.event_at(data, offset)
        if hit is not None:
            check.add(hit[0])
    check.finish()
    return report


def _verify_bundle(path: Path) -> Report:
    report = Report(str(path), KIND)
    try:
        header = read_header(path, kind=KIND)
        summary = read_summary(header)
        bundle = Bundle(header, summary)
    except BadFile as error:
        report.error("header", str(error))
        return report
    _check_sums(report, bundle)
    check = _Checker(report)
    keyframes = _keyframes(report, bundle)
    damaged = _events(report, bundle, check, keyframes)
    check.finish()
    if summary.events != bundle.last_seq:
        report.error("summary", f"says {summary.events} events, the file has {bundle.last_seq}")
    if not damaged:
        _check_tables(report, bundle, check.tables)
        state = check.state
        for name, ours, theirs in (
            ("id", state.id, summary.id),
            ("title", state.title, summary.title),
            ("tags", list(state.tags), summary.tags),
            ("created", state.created, summary.created),
        ):
            if ours != theirs:
                report.error("summary", f"{name} is {theirs!r}, the events say {ours!r}")
    return report


def _check_sums(report: Report, bundle: Bundle) -> None:
    """Every tensor has a SHA-256 in the summary, and it fits."""
    sums = dict(bundle.summary.sha256)
    if "summary" in bundle.header.tensors:
        sums["summary"] = bundle.header.meta.get("sha256", {}).get("summary", "")
    for name in sorted(bundle.header.tensors.keys() | sums.keys()):
        report.tensors += 1
        if name not in bundle.header.tensors:
            report.error(f"tensor {name}", "is in the list of checksums but not in the file")
        elif name not in sums:
            report.error(f"tensor {name}", "has no checksum")
        elif sha256(files.read_tensor(bundle.header, name)) != sums[name]:
            report.error(f"tensor {name}", "does not fit its SHA-256")


def _keyframes(report: Report, bundle: Bundle) -> dict[int, bytes]:
    """The stored states by sequence number, as this version encodes them."""
    if bundle.summary.reducer != VERSION:
        report.note("keyframes", f"made by reducer {bundle.summary.reducer}, not used by reducer {VERSION}")
        return {}
    found: dict[int, bytes] = {}
    for seq in bundle.keyframes:
        try:
            state = bundle.keyframe(seq)
        except BadFile as error:
            report.error("keyframes", str(error))
            continue
        if state is not None:
            report.keyframes += 1
            found[seq] = state.snapshot()
    return found


def _events(report: Report, bundle: Bundle, check: _Checker, keyframes: dict[int, bytes]) -> bool:
    """Read every event on its own; True when one of them is damaged."""
    damaged = False
    offsets = files.read_tensor(bundle.header, "events/offsets")
    raw = files.read_tensor(bundle.header, "events/frames").data
    for index in range(bundle.last_seq):
        hit = frames.event_at(raw, int(offsets[index]))
        if hit is None or hit[1] != offsets[index + 1]:
            report.error(f"event {index + 1}", "is damaged (its CRC or length does not fit)")
            damaged = True
            continue
        event = hit[0]
        if event.seq != index + 1:
            report.error(f"event {index + 1}", f"has sequence number {event.seq}")
            damaged = True
            continue
        check.add(event)
        if not damaged and event.seq in keyframes and check.state.snapshot() != keyframes[event.seq]:
            report.error(f"keyframe {event.seq}", "is not the state that the events give")
    return damaged


def _check_tables(report: Report, bundle: Bundle, rebuilt: Tables) -> None:
    """The tables of the file are those that its events give, value for value."""
    listed = {info.name for info in bundle.summary.tables}
    for name in sorted(rebuilt.by_name.keys() - listed):
        report.error(f"table {name}", "is in the events but not in the file")
    used: set[str] = set()
    for info in bundle.summary.tables:
        report.tables += 1
        used |= columns.tensor_names(info, bundle.header.tensors)
        theirs = rebuilt.by_name.get(info.name)
        if theirs is None:
            report.error(f"table {info.name}", "is in the file but not in the events")
            continue
        try:
            difference = _difference(bundle.table(info), theirs)
        except LabError as error:
            difference = str(error)
        if difference:
            report.error(f"table {info.name}", difference)
    for name in bundle.header.tensors:
        if name.startswith("table/") and name not in used:
            report.error(f"tensor {name}", "belongs to no table of the summary")


def _difference(stored: Table, rebuilt: Table) -> str:
    if stored.rows != rebuilt.rows or stored.seqs != rebuilt.seqs:
        return f"has {stored.rows} rows, the events give {rebuilt.rows}"
    if list(stored.columns) != list(rebuilt.columns):
        return "has other columns than the events give"
    for name, column in rebuilt.columns.items():
        if stored.columns[name].type != (column.type or "str"):
            return f"column {name}: type {stored.columns[name].type}, the events give {column.type}"
        for row, (ours, theirs) in enumerate(
            zip(stored.columns[name].stored(), column.stored(), strict=True)
        ):
            if not _same(ours, theirs):
                return f"column {name}, row {row}: holds {_short(ours)}, the events give {_short(theirs)}"
    if {i: as_json(r) for i, r in stored.reasons.items()} != {
        i: as_json(r) for i, r in rebuilt.reasons.items()
    }:
        return "gives other reasons for absent values than the events"
    return ""


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or (np.isnan(ours) and np.isnan(theirs))
    return ours == theirs


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Checker:
    """What the events say, gathered as they pass: state, tables, and oddities."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.state = SessionState()
        self.tables = Tables()
        self._repeated = 0
        self._gaps = 0

    def add(self, event: Event) -> None:
        """Take one sound event."""
        self.report.events += 1
        reduce(self.state, event)
        self._repeated += not self.tables.apply(event)
        self._gaps += event.kind == "journal.gap"
        if event.kind in CATALOGUE and typed(event) is None:
            self.report.note(f"event {event.seq}", f"malformed data of kind {event.kind}: skipped by readers")

    def finish(self) -> None:
        """Say what is good to know of the whole."""
        report, state = self.report, self.state
        for kind, count in state.unknown.items():
            report.note("events", f"{count} of kind {kind!r}, unknown to this version: skipped by readers")
        if self._repeated:
            report.note("events", f"{self._repeated} cells were committed again: they count once")
        if self._gaps:
            report.note("events", f"{self._gaps} events were lost to damage of the journal")
        for cut in state.cuts:
            report.note(
                "events", f"{cut.bytes} bytes were cut from the journal and kept in {cut.file or '?'}"
            )
