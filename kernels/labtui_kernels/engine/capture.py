"""Readings: hidden states at many sites, pooled inside the forward pass, copied to the host once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import torch

from labtui_artifacts.errors import UsageError

from ..lang.positions import Where
from ..lang.sites import Site
from .edits import RowEdits
from .forward import Forward
from .hooks import Tap
from .rows import Edit, Row
from .spans import check_ids, spans

Pooling: TypeAlias = Literal["last", "mean", "max", "none"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max", "none")


class Tokens(Protocol):
    """A prompt to read: token ids, and which of them are content (a rendered chat, a Row, a Prompt)."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def content(self) -> Sequence[bool]: ...


@dataclass(frozen=True)
class Prompt:
    """A prompt to read, with an answer behind it if ``answer`` has tokens (those are the generated
    positions).
    """

    ids: tuple[int, ...]
    content: tuple[bool, ...] = ()
    answer: tuple[int, ...] = ()


@dataclass(frozen=True)
class RefNorm:
    """Euclidean norms of the hidden state at a site.

    ``median`` and ``content_mean`` are over the content positions of all prompts together; ``mean`` is over
    all positions, sinks and template tokens included, as some write-ups have it. ``positions`` counts content
    positions.
    """

    median: float
    mean: float
    content_mean: float
    positions: int


def selected(row: Tokens, where: Where) -> list[int]:
    """The positions that ``where`` selects in prompt and answer, ascending; UsageError for none."""
    answer = len(getattr(row, "answer", ()))
    mask = where.prompt_mask(len(row.ids), row.content)
    mask += [where.generated_at(step, len(row.ids)) for step in range(answer)]
    found = [position for position, chosen in enumerate(mask) if chosen]
    if not found:
        raise UsageError(f"where {where}: it selects no position of a prompt of {len(row.ids)} tokens")
    return found


def capture_parts(
    forward: Forward,
    rows: Sequence[Tokens],
    sites: Sequence[Site],
    pooling: Pooling = "last",
    where: Where | None = None,
    edits: Sequence[Edit] = (),
) -> Iterator[tuple[tuple[int, ...], dict[Site, torch.Tensor]]]:
    """Read ``sites`` pass by pass, so that the caller can do other things in between.

    Yields (row numbers, site → float32 [rows of this part, d] on the CPU) whenever some rows are complete,
    and ``((), {})`` after a chunk that completes none. With pooling ``none`` a part has one line for every
    selected position of its rows, in their order. Readings are taken after the edits at a site, ``edits``
    applying to every row. UsageError for an unknown pooling, a site that the model lacks, no rows, or a
    selection without positions.
    """
    if pooling not in POOLINGS:
        raise UsageError(f"pooling {pooling!r}; expected one of {', '.join(POOLINGS)}")
    if not rows or not sites:
        raise UsageError("capture: no prompts or no sites; give at least one of each")
    where = where or Where("all")
    places = [selected(row, where) for row in rows]
    sequences = [[*row.ids, *getattr(row, "answer", ())] for row in rows]
    for number, sequence in enumerate(sequences):
        check_ids(f"prompt {number}", sequence, forward)
    prepared = [_edits(row, edits, forward) for row in rows]
    pools: dict[Site, _Pool] = {}

    def taps(members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        if start == 0:
            pools.clear()
            pools.update({site: _Pool(pooling) for site in sites})
        choice = _Choice.of(pooling, [places[index] for index in members], start, stop, forward.device)
        return {site: (lambda hidden, pool=pool: pool.take(hidden, choice)) for site, pool in pools.items()}

    for span in spans(forward, sequences, prepared, taps):
        if not span.last:
            yield (), {}
            continue
        table = torch.stack([pools[site].result().to(forward.device) for site in pools]).cpu()
        yield span.members, {site: table[line].clone() for line, site in enumerate(pools)}


def capture(
    forward: Forward,
    rows: Sequence[Tokens],
    sites: Sequence[Site],
    pooling: Pooling = "last",
    where: Where | None = None,
    edits: Sequence[Edit] = (),
) -> dict[Site, torch.Tensor]:
    """:func:`capture_parts` to the end, in the order of ``rows``: site → float32 [n, d] on the CPU."""
    order: list[int] = []
    parts: dict[Site, list[torch.Tensor]] = {site: [] for site in sites}
    for members, readings in capture_parts(forward, rows, sites, pooling, where, edits):
        order.extend(members)
        for site, reading in readings.items():
            parts[site].append(reading)
    counts = [1] * len(rows)
    if pooling == "none":
        counts = [len(selected(row, where or Where("all"))) for row in rows]
    starts = np.cumsum([0, *(counts[index] for index in order)])
    lines: list[int] = []
    for row in range(len(rows)):
        at = order.index(row)
        lines.extend(range(starts[at], starts[at + 1]))
    return {site: torch.cat(pieces)[lines] for site, pieces in parts.items()}


def reference_norms(forward: Forward, rows: Sequence[Tokens], sites: Sequence[Site]) -> dict[Site, RefNorm]:
    """Norms of the hidden state at each site over neutral prompts; see :class:`RefNorm`."""
    if not rows or not sites:
        raise UsageError("reference norms: no prompts or no sites; give at least one of each")
    content = [selected(row, Where("content")) for row in rows]
    for number, row in enumerate(rows):
        check_ids(f"prompt {number}", row.ids, forward)
    norms: dict[Site, torch.Tensor] = {}
    inside: dict[Site, list[np.ndarray]] = {site: [] for site in sites}
    everywhere: dict[Site, list[np.ndarray]] = {site: [] for site in sites}

    def taps(members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        def measure(site: Site) -> Tap:
            return lambda hidden: norms.__setitem__(site, hidden.float().norm(dim=-1))

        return {site: measure(site) for site in sites}

    for span in spans(forward, [row.ids for row in rows], [None] * len(rows), taps):
        table = torch.stack([norms[site].to(forward.device) for site in sites]).cpu().numpy()
        for lane, index in enumerate(span.members):
            known = min(len(rows[index].ids), span.stop) - span.start
            chosen = [p - span.start for p in content[index] if span.start <= p < span.stop]
            for line, site in enumerate(sites):
                inside[site].append(table[line, lane, chosen])
                everywhere[site].append(table[line, lane, : max(0, known)])
    return {
        site: _reference(np.concatenate(inside[site]), np.concatenate(everywhere[site])) for site in sites
    }


def _reference(inside: np.ndarray, everywhere: np.ndarray) -> RefNorm:
    return RefNorm(
        median=float(np.median(inside)),
        mean=float(everywhere.mean(dtype=np.float64)),
        content_mean=float(inside.mean(dtype=np.float64)),
        positions=len(inside),
    )


def _edits(row: Tokens, edits: Sequence[Edit], forward: Forward) -> RowEdits | None:
    if not edits:
        return None
    held = Row(key="capture", ids=tuple(row.ids), content=tuple(row.content), edits=tuple(edits))
    return RowEdits(held, forward.shape, forward.device)


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which positions of one pass are read, in the form that the pooling wants, on the device."""

    lanes: torch.Tensor | None = None  # lane and position of every reading, int64 [m]
    offsets: torch.Tensor | None = None
    weights: torch.Tensor | None = None  # mean: 1 / the row's count at its positions, float32 [lanes, 1, n]
    mask: torch.Tensor | None = None  # max: True at the positions, [lanes, n, 1]

    @classmethod
    def of(
        cls, pooling: Pooling, places: Sequence[Sequence[int]], start: int, stop: int, device: torch.device
    ) -> _Choice:
        if pooling == "last":
            places = [found[-1:] for found in places]
        pairs = [(lane, p - start) for lane, found in enumerate(places) for p in found if start <= p < stop]
        lanes = torch.tensor([lane for lane, _ in pairs], dtype=torch.long, device=device)
        offsets = torch.tensor([offset for _, offset in pairs], dtype=torch.long, device=device)
        if pooling in ("last", "none"):
            return cls(lanes=lanes, offsets=offsets)
        table = torch.zeros(len(places), stop - start, device=device)
        if pooling == "max":
            table[lanes, offsets] = 1
            return cls(mask=table[..., None] > 0)
        share = torch.tensor([1 / len(found) for found in places], device=device)
        table[lanes, offsets] = share[lanes]
        return cls(weights=table[:, None])


class _Pool:
    """What one site has given so far for the rows of a pass."""

    def __init__(self, pooling: Pooling) -> None:
        self._pooling = pooling
        self._pieces: list[torch.Tensor] = []
        self._value: torch.Tensor | None = None

    def take(self, hidden: torch.Tensor, choice: _Choice) -> None:
        """Pool a chunk's hidden states [lanes, n, d]; the result is a tensor of its own."""
        if choice.lanes is not None and choice.offsets is not None:
            self._pieces.append(
                hidden[choice.lanes.to(hidden.device), choice.offsets.to(hidden.device)].float()
            )
        elif choice.weights is not None:
            pooled = torch.bmm(choice.weights.to(hidden.device), hidden.float()).squeeze(1)
            self._value = pooled if self._value is None else self._value + pooled
        else:
            assert choice.mask is not None
            pooled = hidden.float().masked_fill(~choice.mask.to(hidden.device), -torch.inf).amax(1)
            self._value = pooled if self._value is None else torch.maximum(self._value, pooled)

    def result(self) -> torch.Tensor:
        """The readings of this pass, [lanes or selected positions, d]: lane by lane, positions ascending.

        Several chunks come only from a pass of one lane, so the pieces are in order as they are.
        """
        return torch.cat(self._pieces) if self._pieces else self._value  # type: ignore[return-value]
