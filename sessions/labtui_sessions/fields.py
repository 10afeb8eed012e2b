"""The parts of a session's state: what a screen shows of a job, a row, a table, a note.

All are plain msgspec Structs, changed in place by the reducer in ``state.py`` and ``rows.py`` only, and
bounded: text longer than its place is clipped, and the full text is read from the journal by range.
Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Any

import msgspec


class KernelView(msgspec.Struct):
    """What the kernel last said about itself."""

    state: str = ""
    detail: str = ""
    progress: float | None = None
    since: float = 0.0


class JobView(msgspec.Struct):
    """A job: its spec, where it stands and how it ended."""

    job: str
    kind: str
    status: str = "queued"
    """``queued, running, paused, done, failed, cancelled`` or ``lost``."""
    priority: str = "batch"
    client: str = ""
    parent: str | None = None
    spec: dict[str, Any] = {}
    spec_kept: bool = True
    """False where the spec was too long to keep here: its ``job.queued`` event has it."""
    plan: dict[str, Any] = {}
    queued: float = 0.0
    started: float | None = None
    finished: float | None = None
    seconds: float | None = None
    error: str | None = None
    audit: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    starts: int = 0
    """How often it was taken up: more than 1 after a lost worker."""
    cells: int = 0
    rows: int = 0
    """Committed cells, and the rows in them."""

    @property
    def live(self) -> bool:
        """Still to be done, or being done."""
        return self.status in ("queued", "running", "paused")

    @property
    def to_run(self) -> int | None:
        """Cells that this job commits: all of its plan's but those that a table had before; None where the plan
        does not say."""
        planned = self.plan.get("new", self.plan.get("cells"))
        return planned if isinstance(planned, int) and planned >= 0 else None

    @property
    def fraction(self) -> float | None:
        """Share of its cells that are committed; None where the plan does not say."""
        return min(1.0, self.cells / self.to_run) if self.to_run else None


class KnobTurn(msgspec.Struct):
    """A strength changed by hand: from generated token ``step`` on, edit number ``edit`` has it."""

    edit: int
    strength: float
    text: str
    step: int
    t: float


class RowView(msgspec.Struct):
    """A generation: its prompt, its edits, and as much of its text as the state keeps.

    ``pieces``, ``logprobs`` and ``plain_logprobs`` run from generated token ``first`` on. ``text`` is the
    answer from character ``text_from`` on. Where ``first`` or ``text_from`` is not 0, the earlier part was
    let go to keep the state small: ``Source.row_text`` reads the whole row from the journal.
    """

    job: str
    row: str
    arm: str = ""
    edits: str = ""
    strengths: list[dict[str, Any]] = []
    seed: int = 0
    sampling: dict[str, Any] = {}
    max_new_tokens: int = 0
    messages: list[dict[str, Any]] = []
    started: float = 0.0
    finished: float | None = None
    finish: str = ""
    words: int | None = None
    tokens: int = 0
    metrics: dict[str, float | int | str | bool | None] = {}
    reasons: dict[str, str] = {}
    knobs: list[KnobTurn] = []
    prompt_tokens: int = 0
    prompt_pieces: list[str] = []
    read: list[int] = []
    edited: list[int] = []
    images: list[dict[str, Any]] = []
    """Where the prompt's pictures lie, as in ``row.started``."""
    text: str = ""
    text_from: int = 0
    first: int = 0
    pieces: list[str] = []
    logprobs: list[float] = []
    plain_logprobs: list[float | None] | None = None
    head_bytes: int = 0
    detail_bytes: int = 0
    text_bytes: int = 0
    """Upper bounds of the encoded size of the three parts, kept by the reducer."""

    @property
    def key(self) -> str:
        """The row's key in ``SessionState.rows``."""
        return row_key(self.job, self.row)

    @property
    def whole(self) -> bool:
        """The text here is all there is."""
        return self.text_from == 0


class ImageView(msgspec.Struct, array_like=True):
    """A picture of the session; its thumbnail is in event ``seq``. Sizes in pixels."""

    name: str
    width: int
    height: int
    seq: int


class TableView(msgspec.Struct):
    """A table's size and columns; its rows are paged."""

    name: str
    columns: list[str] = []
    rows: int = 0
    cells: int = 0
    job: str = ""
    """The job that last committed a cell of it."""
    recent: list[int] = []
    """Fingerprints of the last cells, so that a cell committed twice in a row of failures counts once."""


class Note(msgspec.Struct):
    """A note: ``id``, its text, and the job that it is about."""

    id: str
    text: str
    job: str | None
    t: float


class ArtifactView(msgspec.Struct):
    """An artifact in the kernel's store."""

    name: str
    kind: str
    meta: dict[str, Any]
    t: float


class Tried(msgspec.Struct):
    """A point of the chart of words and perplexity over strength: one finished row."""

    job: str
    row: str
    arm: str
    edits: str
    alpha: float | None
    abs: float | None
    pct: float | None
    """The strength of the row's first edit in its three units; 0 for a row without edits."""
    words: int | None
    tokens: int | None
    perplexity: float | None
    finish: str
    knobbed: bool
    """A knob was turned while it streamed, so the strength is not that of all its tokens."""


class Patch(msgspec.Struct):
    """An activation that was kept to be patched into another row."""

    job: str
    row: str
    site: str
    position: int
    norm: float | None
    artifact: str


class Loss(msgspec.Struct):
    """A lost worker."""

    reason: str
    exit: int | None
    t: float


class Cut(msgspec.Struct):
    """A damaged part of the journal that was cut off."""

    bytes: int
    at: int
    lost: int
    file: str
    t: float


def row_key(job: str, row: str) -> str:
    """The key of a row in a session: ``job/row``."""
    return f"{job}/{row}"
