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
    hidden: torch.Tensor | None = None  # normed hidden state of the last token, [d]


@dataclass(eq=False)
class Group:
    """Prompts processed together, padded on the right, in a cache of their own.

    Padding is exact for attention: nothing reaches back from it. In hybrid families it would run into the
    recurrent state, so there a group holds prompts of one length only; and their chunks are whole multiples
    of 64 tokens, the span over which those blocks work internally, so that chunks give what one pass gives.
    """

    entries: list[Entry]
    takers: list[tuple[Track, list[int]]]  # a row, and the entries of its lanes
    cache: SlotCache
    stages: Stages
    length: int
    position: int = 0
    serves: dict[tuple[int, bool], int] = field(default_factory=dict)

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
        """Process one chunk; True when the group is done."""
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
        hidden = forward.timed_span(ids.to(device), start, self.cache, context)
        for line, entry in enumerate(self.entries):
            if start < len(entry.ids) <= stop:
                entry.hidden = hidden[line, len(entry.ids) - 1 - start]
        self.position = stop
        return stop == self.length

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
    known: dict[object, int] = {}
    entries: list[Entry] = []
    takers: list[tuple[Track, list[int]]] = []
    first = len(waiting[0].ids)
    for track in list(islice(waiting, _LOOKAHEAD * free)):
        if track.lanes > free:
            break
        wanted = [_signature(track, shadow=lane.shadow) for lane in track.as_lanes()]
        fresh = [signature for signature in dict.fromkeys(wanted) if signature not in known]
        if takers and fresh and not _fits(track, len(fresh), entries, first, forward):
            continue
        for lane, signature in zip(track.as_lanes(), wanted, strict=True):
            if signature not in known:
                known[signature] = len(entries)
                edits = None if lane.shadow else track.edits
                entries.append(Entry(track.ids, edits))
        takers.append((track, [known[signature] for signature in wanted]))
        free -= track.lanes
    for track, _ in takers:
        waiting.remove(track)
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


def _signature(track: Track, shadow: bool) -> object:
    """Equal for lanes whose prompts leave the same cache behind."""
    if track.tokens and not shadow and track.edits is not None:
        return id(track)  # interrupted in mid-answer: what it generated was edited in its own way
    if shadow or track.edits is None:
        return (track.ids, ())
    return (track.ids, track.edits.prompt_signature())


def _fits(track: Track, more: int, entries: list[Entry], first: int, forward: Forward) -> bool:
    lengths = [len(entry.ids) for entry in entries] + [len(track.ids)] * more
    if forward.hybrid:
        return len(track.ids) == first and len(lengths) * first <= forward.pace.tokens
    padded = max(lengths) * len(lengths)
    return padded <= max(forward.pace.tokens, first) and padded <= _WASTE * sum(lengths)
