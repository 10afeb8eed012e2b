"""The lab for scripts and notebooks: the same client with a face that waits.

>>> import labtui
>>> lab = labtui.connect("toy")
>>> lab.generate("Explain a mutex.", edits="2.0*terse@llm.4").text
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from labtui.client import AsyncLab
from labtui.running import Outcome, fetch_table, run
from labtui_artifacts.errors import UsageError
from labtui_kernels.specs.images import with_images
from labtui_sessions.source import RowText
from labtui_sessions.state import SessionState
from labtui_sessions.tables import Table as Columns

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")
SHOWN_ROWS = 20


def connect(name: str | None = None, *, via: str | None = None, session: str | None = None) -> Lab:
    """Connect to a running kernel: the only one when it is not named, elsewhere by the command ``via``.

    Raises Unreachable with one line when there is none.
    """
    return Lab(name, via=via, session=session)


def start(name: str, *, model: str | None = None, wait: bool = True, **options: str) -> Lab:
    """Start a kernel on this machine and connect to it; one that already runs with that model is taken.

    ``options``: ``dtype``, ``device``, ``quantize``, ``idle_ttl``, ``profile``, as on the command line.
    """
    from labtui.starting import configure, start_kernel, wait_ready

    fresh = start_kernel(configure(name, model=model, **options))
    if wait:
        wait_ready(name, lambda done, total, text: None, stop_on_failure=fresh)
    return Lab(name)


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape('' if v is None else _short(v))}</td>" for v in row) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Direction:
    """A direction in the kernel's store; its name stands for it in edits and sweeps."""

    name: str
    kind: str = "direction"
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name

    def _repr_html_(self) -> str:
        rows = [[key, value] for key, value in self.meta.items() if isinstance(value, str | int | float)]
        return _html_table(["", ""], rows, f"direction {self.name}")


@dataclass(frozen=True)
class Generation:
    """The answers to one prompt: ``rows`` in the order in which they were planned."""

    outcome: Outcome
    rows: list[RowText]

    @property
    def text(self) -> str:
        """The steered answer (the plain one where nothing was edited)."""
        return self._first(steered=True).text

    @property
    def plain(self) -> str:
        """The answer without edits; UsageError when it was not asked for."""
        return self._first(steered=False).text

    def _first(self, *, steered: bool) -> RowText:
        found = [row for row in self.rows if (row.arm != "plain") == steered]
        if not found and steered:
            found = self.rows
        if not found:
            raise UsageError("no plain answer was asked for: generate(..., plain=True)")
        return found[0]

    def __repr__(self) -> str:
        return "\n".join(
            f"[{row.arm or 'answer'}{' ' + row.edits if row.edits else ''}] {row.text}" for row in self.rows
        )

    def _repr_html_(self) -> str:
        rows = [[row.arm, row.edits, row.text, row.finish] for row in self.rows]
        return _html_table(["arm", "edits", "text", "finish"], rows, self.outcome.job)


class Table:
    """A table of a session, fetched whole."""

    def __init__(self, columns: Columns, outcome: Outcome | None = None) -> None:
        self._data = columns
        self.outcome = outcome

    @property
    def name(self) -> str:
        """Its name in the session."""
        return self._data.name

    @property
    def columns(self) -> list[str]:
        """The names of its columns."""
        return list(self._data.columns)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its rows as maps; None where a value is absent."""
        return [self._data.row(index) for index in range(self._data.rows)]

    @property
    def phases(self) -> list[dict[str, Any]]:
        """The thresholds that a calibration found, one map a site; empty for other tables."""
        from labtui_sessions.phases import phases_of

        return phases_of(self.outcome.result if self.outcome is not None else None)

    def to_arrow(self) -> pyarrow.Table:
        """As an Arrow table."""
        return self._data.to_arrow()

    def __len__(self) -> int:
        return self._data.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {len(self)} rows: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        rows = [list(row.values()) for row in self.rows[:SHOWN_ROWS]]
        return _html_table(self.columns, rows, f"{self.name}: {len(self)} rows, {len(rows)} shown")


class Session:
    """The session that a lab follows."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def id(self) -> str:
        """Its id."""
        return self._lab.core.session

    @property
    def state(self) -> SessionState:
        """All that screens show of it, now."""
        return self._lab.core.state

    @property
    def title(self) -> str:
        """Its title; assign to change it."""
        return self.state.title

    @title.setter
    def title(self, text: str) -> None:
        self._lab.request("session.title", session=self.id, text=text)

    @property
    def notes(self) -> list[str]:
        """The texts of its notes."""
        return [note.text for note in self.state.notes.values()]

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self.state.tags)

    def note(self, text: str, job: str | None = None) -> None:
        """Add a note, about one job or all of it."""
        self._lab.request("session.note", session=self.id, text=text, job=job)

    def tag(self, text: str) -> None:
        """Add a tag."""
        self._lab.request("session.tag", session=self.id, text=text)

    def untag(self, text: str) -> None:
        """Take a tag away."""
        self._lab.request("session.untag", session=self.id, text=text)

    def table(self, name: str) -> Table:
        """One of its tables."""
        return Table(self._lab.wait(fetch_table(self._lab.core, name)))

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Save it as one file on THIS machine; its path."""
        from labtui.fetching import pull
        from labtui.options import Target

        place = Path(path).expanduser().absolute()
        pull(self.id, place, Target(self._lab.core.name, self._lab.via), replace=replace)
        return place

    def __repr__(self) -> str:
        state = self.state
        tables = ", ".join(state.tables)
        return f"Session({self.id!r}, {state.seq} events, {len(state.jobs)} jobs, tables: {tables})"


class Lab:
    """A kernel, spoken to from a script or a notebook. Calls wait for their answer; Ctrl-C cancels a job.

    Use as a context manager, or :meth:`close` it; the kernel goes on either way.
    """

    def __init__(
        self, name: str | None = None, *, via: str | None = None, session: str | None = None
    ) -> None:
        self.via = via
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="labtui", daemon=True)
        self._thread.start()
        try:
            self.core = self.wait(AsyncLab.connect(name, via=via, session=session))
        except BaseException:
            self._end_loop()
            raise
        self.session = Session(self)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the core and wait for it; an interrupt cancels it first."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(6.0)
            raise

    def request(self, method: str, **params: Any) -> Any:
        """Ask the kernel; its answer, or its LabError."""
        return self.wait(self.core.request(method, **params))

    def run(self, spec: Mapping[str, Any]) -> Outcome:
        """Run any spec to its end; raises the LabError that it failed with."""
        return self.wait(run(self.core, spec))

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self.core.name

    @property
    def model(self) -> dict[str, Any]:
        """What is known of the loaded model."""
        return self.core.state.model or {}

    def direction(self, name: str, **fields: Any) -> Direction:
        """Make a direction from a bundled ``style``, or ``positive`` and ``negative``.

        Without fields, the stored direction of that name.
        """
        if fields:
            self.run({"kind": "direction", "name": name, **_plain(fields)})
        found = self.request("artifact.show", name=name)
        return Direction(name, found["kind"], found["meta"])

    def generate(
        self, prompt: Any, edits: str = "", *, images: Sequence[str | Path] = (), **fields: Any
    ) -> Generation:
        """Answer ``prompt`` (text or chat messages), plain and with ``edits``.

        ``images`` are files of pictures that the prompt, or the last turn of its chat, is about; a word ``@photo.png`` in
        a text is one too.
        """
        asked = with_images(_plain(prompt), [str(image) for image in images]) if images else _plain(prompt)
        spec = {"kind": "generate", "prompt": asked, "edits": str(edits), **_plain(fields)}
        return self.wait(self._generate(spec))

    async def _generate(self, spec: Mapping[str, Any]) -> Generation:
        outcome = await run(self.core, spec)
        return Generation(outcome, [await self.core.row_text(key) for key in outcome.rows])

    def sweep(self, **fields: Any) -> Table:
        """Run a sweep (the fields of ``labtui spec sweep``); its table."""
        return self.wait(self._sweep({"kind": "sweep", **_plain(fields)}))

    def calibrate(self, direction: Direction | str, **fields: Any) -> Table:
        """Find dead zone, effective band and collapse at each site (the fields of ``labtui spec calibrate``).

        The table of the rows that were run; its ``phases`` are the thresholds.
        """
        return self.wait(self._sweep({"kind": "calibrate", "direction": str(direction), **_plain(fields)}))

    def match(self, direction: Direction | str, **fields: Any) -> Table:
        """Find the strength of equal KL at each site (the fields of ``labtui spec match``); one row a site."""
        return self.wait(self._sweep({"kind": "match", "direction": str(direction), **_plain(fields)}))

    async def _sweep(self, spec: Mapping[str, Any]) -> Table:
        outcome = await run(self.core, spec)
        names = list(outcome.tables) or [str(outcome.result.get("table") or outcome.job)]
        return Table(await fetch_table(self.core, names[0]), outcome)

    def diagnose(self, **fields: Any) -> dict[str, Table]:
        """Diagnose poles (the fields of ``labtui spec diagnose``); ``anatomy``, ``landscape`` and ``cosines``."""
        return self.wait(self._several({"kind": "diagnose", **_plain(fields)}))

    def index(self, name: str, **fields: Any) -> Table:
        """Build an index of text (the fields of ``labtui spec index``); one row a site."""
        return self.wait(self._several({"kind": "index", "name": name, **_plain(fields)}))["index"]

    def vision_tokens(self, **fields: Any) -> dict[str, Table]:
        """Read pictures' tokens (the fields of ``labtui spec vision-tokens``): ``pictures``, ``norms``, ``depth``,
        ``tokens`` and ``layers``."""
        return self.wait(self._several({"kind": "vision-tokens", **_plain(fields)}))

    async def _several(self, spec: Mapping[str, Any]) -> dict[str, Table]:
        outcome = await run(self.core, spec)
        tables = [Table(await fetch_table(self.core, name), outcome) for name in outcome.tables]
        return {table.name.rpartition("-")[2]: table for table in tables}

    def sites(self) -> list[dict[str, Any]]:
        """The model's sites: ``site``, ``width`` and what others call it."""
        return self.request("sites")["sites"]

    def artifacts(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the kernel's store holds."""
        return self.request("artifact.list", kind=kind)

    def cosine(self, *directions: Direction | str, site: str | None = None) -> list[list[float | None]]:
        """The cosines between directions, at one site or as the mean over those they share."""
        return self.request("cosine", names=[str(one) for one in directions], site=site)["matrix"]

    def close(self) -> None:
        """Leave; the kernel goes on."""
        if self._loop.is_running():
            self.wait(self.core.close())
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        core = self.core
        model = self.model.get("name", "no model yet")
        state = core.state.kernel.state or core.hello.state
        return f"Lab({core.name!r}, {state}, {model}, session {core.session!r}, link {core.link.phase})"

    def _repr_html_(self) -> str:
        status = {"kernel": self.core.name, **self.core.status, "link": self.core.link.phase}
        return _html_table(["", ""], [[key, value] for key, value in status.items()], repr(self))


def _plain(value: Any) -> Any:
    """Directions by their names, tuples as lists, so that a spec is plain data."""
    if isinstance(value, Direction):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
