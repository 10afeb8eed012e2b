"""Many known sequences through the model at once: the passes that capture and teacher forcing share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from labtui_artifacts.errors import UsageError

from ..lang.sites import Site
from .cache import SlotCache
from .edits import RowEdits, Stages
from .forward import Forward
from .hooks import Context, Tap
from .pictures import Layout, Pictures, check_images
from .rows import ImageInput

_WASTE = 1.25  # padded positions of a pass over its real ones, at most


@dataclass(frozen=True)
class Span:
    """One chunk of some sequences: positions [start, stop) of lane i are those of sequence ``members[i]``.

    Lanes shorter than ``stop`` are padded on the right; ``hidden`` [lanes, stop - start, d] is normed.
    """

    members: tuple[int, ...]
    start: int
    stop: int
    hidden: torch.Tensor
    last: bool  # whether this chunk ends these sequences


Taps = Callable[[Sequence[int], int, int], Mapping[Site, Tap]]
Begin = Callable[[Sequence[int]], None]


class Shows(Protocol):
    """A prompt that may show images (a Row, a Prompt)."""

    @property
    def ids(self) -> Sequence[int]: ...


def images_of(row: object) -> tuple[ImageInput, ...]:
    """The images of a prompt, none where it knows no such thing; UsageError where it has their places alone."""
    images = tuple(getattr(row, "images", ()))
    if not all(isinstance(image, ImageInput) for image in images):
        raise UsageError("the prompt has image tokens, but not the pixels of its images; give both")
    return images


def look_at(
    names: Sequence[str], rows: Sequence[Shows], edits: Sequence[RowEdits | None], forward: Forward
) -> list[Pictures | None]:
    """The pictures of prompts, which the errors call by ``names``, each under its edits."""
    layouts: list[Layout | None] = []
    for name, row in zip(names, rows, strict=True):
        check_images(name, row.ids, images_of(row), forward)
        layouts.append(Layout.of(row.ids, images_of(row), forward))
    return [Pictures.of(layout, each) for layout, each in zip(layouts, edits, strict=True)]


def check_ids(what: str, ids: Sequence[int], forward: Forward) -> None:
    """Raise UsageError unless ``ids`` is a sequence that the model can process."""
    if not ids:
        raise UsageError(f"{what}: no tokens; give at least one")
    if min(ids) < 0 or max(ids) >= forward.vocab:
        raise UsageError(f"{what}: a token id is outside the vocabulary of {forward.vocab}")
    if len(ids) > forward.context_length:
        raise UsageError(
            f"{what}: {len(ids)} tokens; the model's context holds {forward.context_length}; shorten it"
        )


def spans(
    forward: Forward,
    sequences: Sequence[Sequence[int]],
    edits: Sequence[RowEdits | None],
    taps: Taps | None = None,
    before: Taps | None = None,
    pictures: Sequence[Pictures | None] = (),
    begin: Begin | None = None,
) -> Iterator[Span]:
    """Run all sequences through the decoder, similar lengths together, each pass about one prefill chunk in
    cost.

    ``taps`` makes the readers of a pass from its members, start and stop, ``before`` those that read ahead of
    the edits. ``pictures`` are those of the sequences; ``begin`` is told the members of a pass before the tower sees
    them. Padding on the right is exact for
    every family here, hybrid ones included, since nothing that follows the padding is used. A sequence longer
    than one chunk goes through alone, in chunks over a cache.
    """
    for members in _passes([len(ids) for ids in sequences], forward):
        length = max(len(sequences[index]) for index in members)
        width = length if length <= _chunk(forward) or len(members) > 1 else _chunk(forward)
        cache: SlotCache | None = forward.cache(len(members), length) if width < length else None
        stages = Stages([edits[index] for index in members], forward.device)
        shown = [pictures[index] for index in members] if pictures else []
        if begin is not None:
            begin(members)
        if any(shown):
            forward.see_all(shown)
        for start in range(0, length, width):
            stop = min(length, start + width)
            ids = torch.zeros(len(members), stop - start, dtype=torch.long)
            ends = []
            for line, index in enumerate(members):
                piece = sequences[index][start:stop]
                ids[line, : len(piece)] = torch.tensor(piece, dtype=torch.long)
                ends.append(start + len(piece))
            stages.aim([start] * len(members), ends, stop - start)
            readers = taps(members, start, stop) if taps else {}
            early = before(members, start, stop) if before else {}
            context = Context(edits=stages.by_site, taps=readers, before=early)
            hidden = forward.timed_span(ids.to(forward.device), start, cache, context, shown)
            yield Span(tuple(members), start, stop, hidden, stop == length)
        for each in shown:
            if each is not None:
                each.forget()


def _chunk(forward: Forward) -> int:
    tokens = forward.pace.tokens
    return max(64, tokens // 64 * 64) if forward.hybrid else tokens


def _passes(lengths: Sequence[int], forward: Forward) -> Iterator[list[int]]:
    """Sequence numbers by pass: of similar length, and together about as many tokens as a chunk may have."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    at = 0
    while at < len(order):
        members = [order[at]]
        real = lengths[order[at]]
        for index in order[at + 1 :]:
            padded = lengths[index] * (len(members) + 1)
            if padded > forward.pace.tokens or padded > _WASTE * (real + lengths[index]):
                break
            members.append(index)
            real += lengths[index]
        at += len(members)
        yield members
