"""Prefilling waiting rows apart from the running ones, several at a time, in chunks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import torch

from .cache import SlotCache
from .edits import RowEdits, Stages
from .forward import Forward
from .hooks import Context
from .pictures import Pictures
from .sharing import signature, trunk_length
from .tracks import Lane, Track

_LOOKAHEAD = 4  # waiting rows looked at for each free slot
_WASTE = 1.25  # padded tokens of a group over its real ones, at most


@dataclass(eq=False)
class Entry:
    """One prompt to process: the rows (or shadows) that it serves have the same ids and the same edits on
    them.
    """

    ids: tuple[int, ...]
    edits: RowEdits | None
    pictures: Pictures | None = None
    hidden: torch.Tensor | None = None  # normed hidden state of the last token, [d]


@dataclass(eq=False)
class Group:
    """Prompts processed together, padded on the right, in a cache of their own.

    Padding is exact for attention: nothing reaches back from it. In hybrid families it would run into the
    recurrent state, so there a group holds prompts of one length only; and their chunks are whole multiples
    of 64 tokens, the span over which those blocks work internally, so that chunks give what one pass gives.

    With ``trunk``, a group of the beginnings that entries share, that one is processed first; entry i goes on from a copy
    of its line ``branches[i]``.
    """

    entries: list[Entry]
    takers: list[tuple[Track, list[int]]]  # a row, and the entries of its lanes
    cache: SlotCache
    stages: Stages
    length: int
    position: int = 0
    serves: dict[tuple[int, bool], int] = field(default_factory=dict)
    trunk: Group | None = None
    branches: list[int] = field(default_factory=list)

    def tracks(self) -> list[Track]:
        return [track for track, _ in self.takers]

    def drop(self, track: Track) -> None:
        """Forget a row; its prompt is still processed if another row shares it, or others are in the
        group.
        """
        self.takers = [(other, entries) for other, entries in self.takers if other is not track]

    def entry_of(self, lane: Lane) -> int:
        return self.serves[id(lane.track), lane.shadow]

    def advance(self, forward: Forward) -> bool:
        """Process one chunk, or show the tower some of the images; True when the group is done."""
        if self.trunk is not None:
            if self.trunk.advance(forward):
                self._branch(self.trunk)
            return False
        pictures = [entry.pictures for entry in self.entries]
        if any(pictures) and not forward.see(pictures):
            return False
        start, stop = self.position, min(self.length, self.position + self._width(forward))
        device = forward.device
        ids = torch.zeros(len(self.entries), stop - start, dtype=torch.long)
        stops = []
        for line, entry in enumerate(self.entries):
            piece = entry.ids[start:stop]
            ids[line, : len(piece)] = torch.tensor(piece, dtype=torch.long)
            stops.append(start + len(piece))
        self.stages.aim([start] * len(self.entries), stops, stop - start)
        context = Context(edits=self.stages.by_site)
        hidden = forward.timed_span(ids.to(device), start, self.cache, context, pictures)
        for line, entry in enumerate(self.entries):
            if start < len(entry.ids) <= stop:
                entry.hidden = hidden[line, len(entry.ids) - 1 - start]
        self.position = stop
        return stop == self.length

    def _branch(self, trunk: Group) -> None:
        for line, source in enumerate(self.branches):
            self.cache.take(line, trunk.cache, source, trunk.length)
        self.position, self.trunk = trunk.length, None

    def last_hidden(self) -> torch.Tensor:
        """Normed hidden states of the prompts' last tokens, [entries, d]."""
        return torch.stack([entry.hidden for entry in self.entries if entry.hidden is not None])

    def _width(self, forward: Forward) -> int:
        width = max(1, forward.pace.tokens // len(self.entries))
        return max(64, width // 64 * 64) if forward.hybrid else width


def form_group(waiting: deque[Track], free: int, forward: Forward, alone: bool) -> Group | None:
    """Take rows from the front of ``waiting`` that fit into ``free`` slots and one chunk, or one long row.

    Rows that do not fit beside the first one stay where they are. None when the first row finds no slots;
    when the batch is otherwise empty (``alone``) it is given what it needs.
    """
    if not waiting or (waiting[0].lanes > free and not alone):
        return None
    free = max(free, waiting[0].lanes)
    candidates = list(islice(waiting, _LOOKAHEAD * free))
    trunk = trunk_length(candidates, multiple=64 if forward.hybrid else 1) if free > 1 else 0
    load = _Load(forward, trunk, candidates[0])
    takers: list[tuple[Track, list[int]]] = []
    for track in candidates:
        if track.lanes > free:
            break
        indices = load.take(track, must=not takers)
        if indices is not None:
            takers.append((track, indices))
            free -= track.lanes
    for track, _ in takers:
        waiting.remove(track)
    group = _group(forward, load.entries, takers)
    if trunk:
        group.trunk = _group(forward, load.trunks, [])
        group.branches = load.branches
    return group


def _group(forward: Forward, entries: list[Entry], takers: list[tuple[Track, list[int]]]) -> Group:
    length = max(len(entry.ids) for entry in entries)
    group = Group(
        entries=entries,
        takers=takers,
        cache=forward.cache(len(entries), length),
        stages=Stages([entry.edits for entry in entries], forward.device),
        length=length,
    )
    for track, indices in takers:
        for lane, index in zip(track.as_lanes(), indices, strict=True):
            group.serves[id(track), lane.shadow] = index
    return group


class _Load:
    """The prompts that go into one group, each once, and the beginnings that they share."""

    def __init__(self, forward: Forward, trunk: int, first: Track) -> None:
        self._forward, self._trunk, self._first = forward, trunk, first
        self.entries: list[Entry] = []
        self.trunks: list[Entry] = []
        self.branches: list[int] = []
        self._known: dict[object, int] = {}
        self._roots: dict[object, int] = {}

    def take(self, track: Track, must: bool) -> list[int] | None:
        """The entries that serve the row's lanes; None, and nothing taken, when it does not fit beside the others."""
        trunk = self._trunk
        if trunk and not (len(track.ids) > trunk and self._first.common(track) >= trunk):
            return None
        lanes = track.as_lanes()
        wanted = [signature(track, lane.shadow, len(track.ids)) for lane in lanes]
        fresh = {mark: lane for mark, lane in zip(wanted, lanes, strict=True) if mark not in self._known}
        if fresh and not must and not self._fits(track, len(fresh)):
            return None
        for mark, lane in fresh.items():
            self._known[mark] = len(self.entries)
            edits = None if lane.shadow else track.edits
            pictures = track.pictures(lane.shadow)
            self.entries.append(Entry(track.ids, edits, pictures))
            if trunk:
                root = signature(track, lane.shadow, trunk)
                if root not in self._roots:
                    self._roots[root] = len(self.trunks)
                    self.trunks.append(Entry(track.ids[:trunk], edits, pictures))
                self.branches.append(self._roots[root])
        return [self._known[mark] for mark in wanted]

    def _fits(self, track: Track, more: int) -> bool:
        """Whether ``more`` entries of the row's length keep the group within a chunk, with little padding."""
        room, first = self._forward.pace.tokens, len(self._first.ids) - self._trunk
        lengths = [len(entry.ids) - self._trunk for entry in self.entries]
        lengths += [len(track.ids) - self._trunk] * more
        if self._forward.hybrid:
            return lengths[-1] == first and len(lengths) * first <= room
        padded = max(lengths) * len(lengths)
        return padded <= max(room, first) and padded <= _WASTE * sum(lengths)
