"""The spec of a rerun: recorded rows, and what they were made with."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ..lang.edits import parse_edits
from .base import (
    MAX_IMAGES,
    MAX_MESSAGES,
    Area,
    Frames,
    Part,
    Rate,
    Spec,
)
from .fields import Expression, Name


class RecordedImage(Part, frozen=True, kw_only=True):
    """Where a picture of a recorded prompt lay, and how it was made into patches."""

    digest: Annotated[str, Meta(max_length=100)]
    start: Annotated[int, Meta(ge=0)]
    grid: Annotated[list[Annotated[int, Meta(ge=1, le=1_000_000)]], Meta(min_length=3, max_length=3)]
    rows: int = 0
    cols: int = 0
    min_pixels: Area | None = None
    max_pixels: Area | None = None
    fps: Rate | None = None
    max_frames: Frames | None = None
    seconds: Annotated[float, Meta(gt=0)] | None = None
    starts: list[Annotated[int, Meta(ge=0)]] = field(default_factory=list)
    name: Annotated[str, Meta(max_length=200)] = ""


class RecordedRow(Part, frozen=True, kw_only=True):
    """One row of a session: what went in, and the tokens with their log-probabilities that came out."""

    key: Annotated[str, Meta(max_length=300)]
    arm: Name = ""
    ids: Annotated[list[int], Meta(min_length=1)]
    content: list[bool] = field(default_factory=list)
    edits: Expression = ""
    forced: Annotated[list[int], Meta(min_length=1)]
    logprobs: list[float]
    gaps: list[float] = field(default_factory=list)
    knobs: list[tuple[int, int, float]] = field(default_factory=list)
    sampling: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    max_new_tokens: int = 0
    stop_ids: list[int] = field(default_factory=list)
    images: Annotated[list[RecordedImage], Meta(max_length=MAX_MESSAGES * MAX_IMAGES)] = field(
        default_factory=list
    )


class Rerun(Spec, frozen=True, kw_only=True, tag="rerun"):
    """Teacher-force the recorded tokens of rows and compare their log-probabilities."""

    rows: list[RecordedRow]
    source: str = ""
    dtype: str = ""
    tolerance: Annotated[float, Meta(gt=0)]
    model: dict[str, Any] = field(default_factory=dict)
    any_model: bool = False
    directions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        if not self.rows:
            raise self.refuse("rows", "the list is empty; expected recorded rows")
        for index, row in enumerate(self.rows):
            where = f"rows[{index}]"
            count = len(row.forced)
            if len(row.logprobs) != count or len(row.gaps) not in (0, count):
                raise self.refuse(where, f"expected a log-probability and a gap for each of {count} tokens")
            if row.content and len(row.content) != len(row.ids):
                raise self.refuse(where, f"{len(row.content)} content marks for {len(row.ids)} prompt tokens")
            if any(token < 0 for token in (*row.ids, *row.forced)):
                raise self.refuse(where, "a negative token id")
            if any(step < 0 or edit < 0 for step, edit, _ in row.knobs):
                raise self.refuse(where, "a knob at a negative step or edit")
            parse_edits(row.edits)
