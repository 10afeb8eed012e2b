"""The ledger of claims: one JSON file a claim under ``$LABTUI_HOME/claims``, written whole or not at all.

A file from elsewhere is not believed until it is checked: bounded in size, strictly typed, no unknown key, and
named after its claim.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from labtui_artifacts import paths
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.files import sync_folder, write_atomically
from labtui_artifacts.header import open_regular

from .bundle import Bundle
from .claims import Checked, Claim, Evidence, Model, Studied, check, validate, wants
from .home import Listed, describe, describe_bundle, listing, open_session
from .journal import JournalReader
from .log import EventLog, each
from .state import SessionState, reduce
from .tables import Table, Tables

SCHEMA = 1
MAX_BYTES = 64 * 1024
MAX_CLAIMS = 2_000
MAX_EVIDENCE = 40
"""Sessions of one claim on a board."""
MAX_FOUND = 8_000
"""Cells of all claims on a board."""


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    claim: Claim


class Board(msgspec.Struct, kw_only=True):
    """The whole ledger as it was checked ``at``, in seconds since the epoch; ``problems`` says by file or
    session why one could not be read."""

    claims: list[Checked]
    problems: dict[str, str]
    at: float


_decoder = msgspec.json.Decoder(_Stored, strict=True)


def read(path: Path) -> Claim:
    """The claim of a file. UsageError when there is none, BadFile when it is not one."""
    with open_regular(path) as handle:
        raw = handle.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise BadFile(f"{path}: larger than a claim can be ({MAX_BYTES} bytes)")
    try:
        stored = _decoder.decode(raw)
        claim = validate(stored.claim)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(f"{path}: not a claim: {_newer(raw) or error}") from error
    except UsageError as error:
        raise BadFile(f"{path}: {error}") from error
    if stored.schema != SCHEMA:
        raise BadFile(
            f"{path}: claim of schema {stored.schema}, this program reads {SCHEMA}: use a newer one"
        )
    if claim.name != path.stem:
        raise BadFile(f"{path}: holds claim {claim.name!r}, expected the one that the file is named after")
    return claim


def place_of(name: str) -> Path:
    """The file of the claim of that name. UsageError when the name cannot be one."""
    if not name or "/" in name or "\\" in name or name.startswith(".") or len(name) > 100:
        raise UsageError(f"claim {name[:40]!r}: expected the name of a claim; `labtui claim ls` lists them")
    return paths.claims() / f"{name}.json"


def get(name: str) -> Claim:
    """The claim of that name. UsageError when there is none, BadFile when its file is damaged."""
    place = place_of(name)
    if not place.exists():
        raise UsageError(f"no claim {name!r} in {place.parent}; `labtui claim ls` lists those there are")
    return read(place)


def add(claim: Claim) -> Path:
    """Write a new claim. UsageError when it makes no sense, its name is taken or its parent is not there."""
    place = place_of(validate(claim).name)
    if place.exists():
        raise UsageError(f"claim {claim.name!r} is there already; give another --name, or refine it")
    if claim.parent is not None:
        get(claim.parent)
    if len(list(_files())) >= MAX_CLAIMS:
        raise UsageError(f"the ledger holds {MAX_CLAIMS} claims already; remove some")
    data = msgspec.json.format(msgspec.json.encode(_Stored(SCHEMA, claim)), indent=2) + b"\n"
    write_atomically(place, lambda out: out.write(data) and None, expected=len(data))
    return place


def remove(name: str) -> None:
    """Remove a claim, damaged or not. UsageError when there is none, or when others refine it."""
    place = place_of(name)
    if not place.is_file():
        raise UsageError(f"no claim {name!r} in {place.parent}; `labtui claim ls` lists those there are")
    children = [claim.name for claim in everything()[0] if claim.parent == name]
    if children:
        raise UsageError(f"claim {name!r} is refined by {', '.join(children[:5])}: remove these first")
    try:
        place.unlink()
        sync_folder(place.parent)
    except OSError as error:
        raise LabError(f"{place}: not removed: {error.strerror}") from error


def everything() -> tuple[list[Claim], dict[str, str]]:
    """All claims, oldest first, and for each file that is not one, why not."""
    claims, problems = [], {}
    for place in _files():
        try:
            claims.append(read(place))
        except LabError as error:
            problems[place.name] = str(error)
    return sorted(claims, key=lambda claim: (claim.created, claim.name)), problems


def check_all(
    claims: Iterable[Claim], files: Iterable[str | Path] | None = None
) -> tuple[list[Checked], dict[str, str]]:
    """Hold claims against the sessions on this machine, or against ``files`` (saved files, folders or ids).

    Each session is read at most once. Also gives, by session, why one could not be read.
    """
    claims = list(claims)
    studied, problems = [], {}
    for listed, ref in _sessions(files):
        wanted = any(wants(claim.query, title=listed.title, tags=listed.tags) for claim in claims)
        if not wanted or (not listed.rows and not listed.problem):
            continue
        try:
            with open_session(ref) as log:
                studied.append(study(log, listed))
        except LabError as error:
            problems[listed.id] = str(error)
    return [check(claim, studied) for claim in claims], problems


def board() -> Board:
    """All claims held against the sessions on this machine, cut to what a screen shows."""
    claims, damaged = everything()
    checked, unread = check_all(claims)
    for one in checked:
        one.evidence = _shown(one.evidence)
    shown = [evidence for one in checked for evidence in one.evidence]
    if sum(len(evidence.found) for evidence in shown) > MAX_FOUND:
        for evidence in shown:
            del evidence.found[max(1, MAX_FOUND // len(shown)) :]
    return Board(claims=checked, problems={**damaged, **unread}, at=time.time())


def _shown(evidence: list[Evidence]) -> list[Evidence]:
    """The sessions that decide, then the latest others, at most so many; the oldest first."""
    first = sorted(evidence, key=lambda one: (one.role != "deciding", -one.created))[:MAX_EVIDENCE]
    return [one for one in evidence if one in first]


def study(log: EventLog, listed: Listed) -> Studied:
    """What a check needs of a session: its tables, and of each row the model that was loaded when it was made."""
    state, tables = SessionState(), Tables()
    loaded: list[tuple[int, Model]] = [(0, ("", ""))]
    for event in each(log):
        reduce(state, event)
        tables.apply(event)
        if event.kind == "model.ready" and isinstance(info := event.data.get("info"), dict):
            loaded.append((event.seq, (str(info.get("name", "")), str(info.get("weight_hash", "")))))
    live = {job.job for job in state.live_jobs()}
    return Studied(
        id=listed.id,
        title=listed.title,
        tags=listed.tags,
        created=listed.created,
        tables=tables.by_name,
        made_by={table.name: _made_by(table, loaded) for table in tables.by_name.values()},
        running=frozenset(table.name for table in state.tables.values() if table.job in live),
    )


def _made_by(table: Table, loaded: list[tuple[int, Model]]) -> list[Model]:
    """For each row, the last model loaded before its cell was committed."""
    return [loaded[bisect_left(loaded, seq, key=lambda one: one[0]) - 1][1] for seq in table.seqs]


def _sessions(files: Iterable[str | Path] | None) -> Iterator[tuple[Listed, str | Path]]:
    if files is None:
        yield from ((one, Path(one.path)) for one in listing())
        return
    for ref in files:
        with open_session(ref) as log:
            listed = describe_bundle(log) if isinstance(log, Bundle) else _described(log)
        yield listed, ref


def _described(log: EventLog) -> Listed:
    assert isinstance(log, JournalReader)
    return describe(log.folder)


def _files() -> Iterator[Path]:
    """The files of the ledger in order of their names, at most so many."""
    places = sorted(place for place in paths.claims().iterdir() if place.suffix == ".json")
    yield from (place for place in places[:MAX_CLAIMS] if not place.name.startswith("."))


def _newer(raw: bytes) -> str:
    """What to say of a file whose schema this program does not read."""
    try:
        schema = json.loads(raw).get("schema")
    except (ValueError, AttributeError, RecursionError):
        return ""
    known = not isinstance(schema, int) or schema <= SCHEMA
    return "" if known else f"schema {schema}, this program reads {SCHEMA}: use a newer one"
