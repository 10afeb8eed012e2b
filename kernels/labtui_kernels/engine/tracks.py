"""A row on its way through a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from labtui_artifacts.errors import UsageError

from .edits import RowEdits
from .forward import Forward
from .pictures import Layout, Pictures, check_images, same_pictures
from .rows import GREEDY, Finish, Row, Sampling
from .sampling import uniforms

_FIRST_ROOM = 256  # generated tokens for which a slot has room at first; it grows when they are used up


@dataclass(eq=False)
class Track:
    """A row, its edits, and the tokens it has emitted so far."""

    row: Row
    edits: RowEdits | None
    limit: int  # how many tokens it emits at most
    points: np.ndarray | None  # its uniforms, one a step; None when greedy or forced
    layout: Layout | None = None  # None without images
    tokens: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, row: Row, forward: Forward) -> Track:
        """Check a row against the model and prepare it; UsageError says what does not fit."""
        ids = (*row.ids, *(row.forced or ()))
        if min(ids) < 0 or max(ids) >= forward.vocab:
            raise UsageError(f"row {row.key}: a token id is outside the vocabulary of {forward.vocab}")
        if len(row.ids) >= forward.context_length:
            raise UsageError(
                f"row {row.key}: the prompt has {len(row.ids)} tokens and the model's context holds "
                f"{forward.context_length}, the answer included; shorten the prompt"
            )
        check_images(f"row {row.key}", row.ids, row.images, forward)
        wanted = row.max_new_tokens if row.forced is None else len(row.forced)
        limit = min(wanted, forward.context_length - len(row.ids))
        chooses = row.forced is None and not row.sampling.greedy
        return cls(
            row=row,
            edits=RowEdits(row, forward.shape, forward.device) if row.edits else None,
            limit=limit,
            points=uniforms(row.seed, limit) if chooses else None,
            layout=Layout.of(row.ids, row.images, forward),
        )

    def pictures(self, shadow: bool) -> Pictures | None:
        """The row's images as the tower is to show them to this lane; None without any."""
        return Pictures.of(self.layout, None if shadow else self.edits)

    @property
    def delta(self) -> int:
        """What is added to a generated token's index to get its position."""
        return 0 if self.layout is None else self.layout.delta

    def common(self, other: Track) -> int:
        """How many first tokens two rows share, pictures included; edits may differ."""
        pairs = zip(self.ids, other.ids, strict=False)
        shorter = min(len(self.ids), len(other.ids))
        same = next((place for place, (a, b) in enumerate(pairs) if a != b), shorter)
        return same_pictures(self.row.images, other.row.images, same)

    @property
    def ids(self) -> tuple[int, ...]:
        """What a prefill processes: the prompt, and after an interruption the tokens emitted so far."""
        return (*self.row.ids, *self.tokens)

    @property
    def position(self) -> int:
        """The position of the newest token, which the next decode step processes; cached are those before
        it.
        """
        return len(self.row.ids) + len(self.tokens) - 1

    @property
    def room(self) -> int:
        """Positions that a slot should have for this row at first."""
        return len(self.row.ids) + len(self.tokens) + min(self.limit - len(self.tokens), _FIRST_ROOM)

    @property
    def shadowed(self) -> bool:
        """Whether a second lane runs the row unsteered; a row without edits is its own."""
        return self.row.surprise and self.edits is not None

    @property
    def lanes(self) -> int:
        return 2 if self.shadowed else 1

    def as_lanes(self) -> list[Lane]:
        return [Lane(self, False), Lane(self, True)] if self.shadowed else [Lane(self, False)]

    @property
    def forced(self) -> int:
        """The token that must come next; -1 when it is chosen."""
        return -1 if self.row.forced is None else self.row.forced[len(self.tokens)]

    def finish(self, token: int) -> Finish:
        """How the row ends if ``token`` comes next; ``""`` when it goes on. Forced tokens are all emitted."""
        last = len(self.tokens) + 1 >= self.limit
        if token in self.row.stop_ids and (self.row.forced is None or last):
            return "stop"
        return "length" if last else ""


@dataclass(frozen=True, eq=False)
class Lane:
    """One line of a forward pass: a row, or the unsteered shadow of a row."""

    track: Track
    shadow: bool

    @property
    def sampling(self) -> Sampling:
        """Shadows and forced rows choose nothing."""
        return GREEDY if self.shadow or self.track.points is None else self.track.row.sampling
