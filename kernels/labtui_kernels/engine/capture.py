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
from .patches import PatchReader, Selection, check_pooling, in_tower, patch_norms, tower_of
from .pictures import Pictures
from .rows import Edit, ImageInput, Row, image_spans
from .spans import check_ids, images_of, look_at, spans
from .tower import take_rows

Pooling: TypeAlias = Literal["last", "mean", "max", "none"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max", "none")


class Tokens(Protocol):
    """A prompt to read: token ids, and which of them are content (a rendered chat, a Row, a Prompt).

    It may have ``images``, a sequence of :class:`.rows.ImageInput`.
    """

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
    images: tuple[ImageInput, ...] = ()


@dataclass(frozen=True)
class RefNorm:
    """Euclidean norms of the hidden state at a site.

    ``median`` and ``content_mean`` are over the content positions of all prompts together; ``mean`` is over
    all positions, sinks and template tokens included, as some write-ups have it. ``positions`` counts content
    positions. In the vision tower every patch of every image counts, and both means are one.
    """

    median: float
    mean: float
    content_mean: float
    positions: int


def selected(row: Tokens, where: Where, merge: int = 2) -> list[int]:
    """The positions that ``where`` selects in prompt and answer, ascending; UsageError for none.

    ``merge`` is the side of the square of patches that the model makes into one token of an image.
    """
    answer = len(getattr(row, "answer", ()))
    mask = where.prompt_mask(len(row.ids), row.content, image_spans(getattr(row, "images", ()), merge))
    mask += [where.generated_at(step, len(row.ids)) for step in range(answer)]
    found = [position for position, chosen in enumerate(mask) if chosen]
    if not found:
        raise UsageError(f"where {where}: it selects no position of a prompt of {len(row.ids)} tokens")
    return found


def selected_patches(row: Tokens, where: Where, merge: int = 2) -> list[tuple[int, int]]:
    """The merged patches that ``where`` selects at a site of the tower: (image, number in raster order), ascending.

    With pooling ``none`` a reading has merge² lines for each, in the order of their square; at ``vision.merged`` one.
    """
    masks = where.patch_mask(image_spans(getattr(row, "images", ()), merge))
    return [(image, place) for image, mask in enumerate(masks) for place, on in enumerate(mask) if on]


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
    applying to every row. At sites of the vision tower ``where`` selects patches of the rows' images, all of which are
    pooled together; ``last`` means nothing there. UsageError for an unknown pooling, a site that the model lacks, no
    rows, or a selection without positions.
    """
    if pooling not in POOLINGS:
        raise UsageError(f"pooling {pooling!r}; expected one of {', '.join(POOLINGS)}")
    if not rows or not sites:
        raise UsageError("capture: no prompts or no sites; give at least one of each")
    where = where or Where("all")
    seen = in_tower(sites)
    merge = tower_of(forward, seen).merge if seen else forward.shape.merge
    check_pooling(pooling, seen)
    read = [site for site in sites if site not in seen]
    places = [selected(row, where, merge) for row in rows] if read else []
    sequences = [[*row.ids, *getattr(row, "answer", ())] for row in rows]
    for number, sequence in enumerate(sequences):
        check_ids(f"prompt {number}", sequence, forward)
    names = [f"prompt {number}" for number in range(len(rows))]
    prepared = [_edits(row, edits, forward) for row in rows]
    pictures = look_at(names, rows, prepared, forward)
    patches = _reader(forward, names, pictures, where, seen, pooling) if seen else None
    if patches is not None and not read:
        for members in take_rows(pictures, forward.patches):
            yield tuple(members), patches.read(members, keep=False)
        return
    found: dict[Site, torch.Tensor] = {}

    def begin(members: Sequence[int]) -> None:
        if patches is not None:
            found.update(patches.read(members))

    pools: dict[Site, _Pool] = {}

    def taps(members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        if start == 0:
            pools.clear()
            pools.update({site: _Pool(pooling) for site in read})
        choice = _Choice.of(pooling, [places[index] for index in members], start, stop, forward.device)
        return {site: (lambda hidden, pool=pool: pool.take(hidden, choice)) for site, pool in pools.items()}

    for span in spans(forward, sequences, prepared, taps, pictures=pictures, begin=begin):
        if not span.last:
            yield (), {}
            continue
        table = torch.stack([pools[site].result().to(forward.device) for site in pools]).cpu()
        found.update({site: table[line].clone() for line, site in enumerate(pools)})
        yield span.members, {site: found[site] for site in sites}


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
    where, merge = where or Where("all"), forward.shape.merge

    def count(row: Tokens, site: Site) -> int:
        if pooling != "none":
            return 1
        if site.tower == "llm":
            return len(selected(row, where, merge))
        return len(selected_patches(row, where, merge)) * (1 if site.point == "merged" else merge * merge)

    kinds: dict[object, list[int]] = {}
    for site in parts:
        kind = (site.tower, site.point == "merged")
        if kind not in kinds:
            kinds[kind] = _lines([count(row, site) for row in rows], order)
    return {
        site: torch.cat(pieces)[kinds[site.tower, site.point == "merged"]] for site, pieces in parts.items()
    }


def _lines(counts: Sequence[int], order: Sequence[int]) -> list[int]:
    """Where the lines of rows 0, 1, ... stand in readings that came in this order, row n having ``counts[n]``."""
    starts = np.cumsum([0, *(counts[index] for index in order)])
    lines: list[int] = []
    for row in range(len(counts)):
        at = order.index(row)
        lines.extend(range(starts[at], starts[at + 1]))
    return lines


def _reader(
    forward: Forward,
    names: Sequence[str],
    pictures: Sequence[Pictures | None],
    where: Where,
    sites: Sequence[Site],
    pooling: Pooling,
) -> PatchReader:
    merge = forward.shape.merge
    pairs = zip(names, pictures, strict=True)
    chosen = [Selection.of(name, each, where, merge) for name, each in pairs]
    return PatchReader(forward, pictures, chosen, sites, pooling)


def reference_norms(forward: Forward, rows: Sequence[Tokens], sites: Sequence[Site]) -> dict[Site, RefNorm]:
    """Norms of the hidden state at each site over neutral prompts; see :class:`RefNorm`.

    At sites of the vision tower those of the prompts that show images count.
    """
    if not rows or not sites:
        raise UsageError("reference norms: no prompts or no sites; give at least one of each")
    seen = in_tower(sites)
    read = [site for site in sites if site not in seen]
    found = _patch_norms(forward, rows, seen) if seen else {}
    found |= _token_norms(forward, rows, read) if read else {}
    return {site: found[site] for site in sites}


def _patch_norms(forward: Forward, rows: Sequence[Tokens], sites: Sequence[Site]) -> dict[Site, RefNorm]:
    tower = tower_of(forward, sites)
    names = [f"prompt {number}" for number in range(len(rows))]
    pictures = [p for p in look_at(names, rows, [None] * len(rows), forward) if p is not None]
    if not pictures:
        raise UsageError(f"reference norms at {sites[0]}: none of the prompts has an image; give pictures")
    parts = [patch_norms(tower, each, sites) for each in pictures]
    whole = {site: np.concatenate([part[site] for part in parts]) for site in sites}
    return {site: _reference(each, each) for site, each in whole.items()}


def _token_norms(forward: Forward, rows: Sequence[Tokens], sites: Sequence[Site]) -> dict[Site, RefNorm]:
    content = [selected(row, Where("content"), forward.shape.merge) for row in rows]
    for number, row in enumerate(rows):
        check_ids(f"prompt {number}", row.ids, forward)
    names = [f"prompt {number}" for number in range(len(rows))]
    pictures = look_at(names, rows, [None] * len(rows), forward)
    norms: dict[Site, torch.Tensor] = {}
    inside: dict[Site, list[np.ndarray]] = {site: [] for site in sites}
    everywhere: dict[Site, list[np.ndarray]] = {site: [] for site in sites}

    def taps(members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        def measure(site: Site) -> Tap:
            return lambda hidden: norms.__setitem__(site, hidden.float().norm(dim=-1))

        return {site: measure(site) for site in sites}

    for span in spans(forward, [row.ids for row in rows], [None] * len(rows), taps, pictures=pictures):
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
    images = images_of(row)
    held = Row(
        key="capture", ids=tuple(row.ids), content=tuple(row.content), edits=tuple(edits), images=images
    )
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
