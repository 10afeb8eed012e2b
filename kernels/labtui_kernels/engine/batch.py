"""A batch: rows that wait, are prefilled, run together and leave, over cache slots of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labtui_artifacts.errors import JobFailed, UsageError

from .cache import SlotCache
from .edits import RowEdits, Stages
from .forward import Forward
from .hooks import Context
from .picking import pick
from .prefill import Group, form_group
from .rows import Emitted, Finish, Row
from .sampling import Chooser
from .tracks import Lane, Track


@dataclass(eq=False)
class Arrangement:
    """What is constant between two changes of the set of running rows, on the device."""

    lanes: list[Lane]
    stages: Stages
    context: Context
    chooser: Chooser
    main: torch.Tensor | None  # for each lane the lane of its row; None when no lane is a shadow
    tokens: torch.Tensor  # the token that each lane processes next, [lanes]
    deltas: torch.Tensor | None  # what the lanes' images add to positions, [lanes]; None for nothing


class Batch:
    """Rows decoded together. Several batches may be alive at once; their owner decides whose turn it is.

    With ``fill``, rows that wait are prefilled before any decodes on, as long as slots are free: nobody reads along,
    and a decode step costs nearly the same for few rows as for many. Without it the two alternate.

    :meth:`step` does one bounded piece of work. Rows run in at most ``slots`` cache slots (a row with
    ``surprise`` and edits takes two); the others wait in the order in which they came.
    """

    def __init__(self, forward: Forward, slots: int, fill: bool = False) -> None:
        if slots < 1:
            raise UsageError(f"a batch of {slots} slots; expected at least 1")
        self._forward, self.slots = forward, slots
        self._tracks: dict[str, Track] = {}
        self._waiting: deque[Track] = deque()
        self._group: Group | None = None
        self._lanes: list[Lane] = []
        self._cache: SlotCache | None = None
        self._arranged: Arrangement | None = None
        self._announce: list[Emitted] = []
        self._finished: dict[str, Finish] = {}
        self._prefilled_last, self._fill = False, fill
        self._closed = False

    # --- what is in it ---------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        """Keys of the rows that are being decoded, in slot order."""
        return [lane.track.row.key for lane in self._lanes if not lane.shadow]

    @property
    def waiting(self) -> list[str]:
        """Keys of the rows that do not decode yet; the first ones may be in the middle of a prefill."""
        begun = [track.row.key for track in self._group.tracks()] if self._group else []
        return begun + [track.row.key for track in self._waiting]

    @property
    def finished(self) -> dict[str, Finish]:
        """How each row that has left the batch ended."""
        return dict(self._finished)

    @property
    def done(self) -> bool:
        """True when a step would have nothing to do."""
        return not (self._lanes or self._waiting or self._group or self._announce)

    # --- commands --------------------------------------------------------------------------------

    def add(self, row: Row) -> None:
        """Queue a row.

        UsageError for a key that is already in the batch, a token outside the vocabulary, an edit that does
        not fit the model, or a prompt that leaves no room in the model's context. A row whose
        ``max_new_tokens`` would pass the end of the context is taken, and ends there with
        ``finish="length"``.
        """
        self._check_open()
        if row.key in self._tracks:
            raise UsageError(f"row {row.key}: a row of that key is already in the batch")
        track = Track.of(row, self._forward)
        if track.lanes > self.slots:
            raise UsageError(f"row {row.key}: surprise needs 2 slots; this batch has {self.slots}")
        self._tracks[row.key] = track
        self._waiting.append(track)

    def set_strength(self, key: str, edit: int, strength: float) -> int:
        """Change an edit's strength in a row that waits or runs.

        Returns the index of the first generated token that the change can affect; putting
        ``(that index, edit, strength)`` into :attr:`Row.knobs` replays it. A prompt that is being prefilled
        keeps the old strength to its end. UsageError when the row is not in the batch, or has no such edit, and for an
        edit in the vision tower once the row's prompt is under way: the picture has been read.
        """
        track = self.check_strength(key, edit, strength)
        step = len(track.tokens)
        if self._group is not None and track in self._group.tracks():
            step += 1
        assert track.edits is not None
        track.edits.turn(step, edit, strength)
        if self._arranged is not None:
            self._arranged.stages.varies = True
        return step

    def check_strength(self, key: str, edit: int, strength: float) -> Track:
        """The row, if `set_strength` would change it so; the same UsageErrors."""
        track = self._find(key)
        track.row.check_knob(edit, strength)
        if track not in self._waiting or track.tokens:
            track.row.check_seen(edit)
        return track

    def cancel(self, key: str) -> None:
        """Take a row out; the next step announces it as ``cancelled``. UsageError when it is not there."""
        track = self._find(key)
        if track in self._waiting:
            self._waiting.remove(track)
        elif self._group is not None and track in self._group.tracks():
            self._group.drop(track)
            if not self._group.tracks():
                self._group = None
        else:
            self._leave(track)
        nan = float("nan")
        self._announce.append(Emitted(key, len(track.tokens), -1, nan, None, nan, "cancelled"))
        self._end(track, "cancelled")

    def close(self) -> None:
        """Drop all rows and free the cache. The batch takes no rows afterwards."""
        self._waiting.clear()
        self._tracks.clear()
        self._group, self._cache, self._arranged = None, None, None
        self._lanes.clear()
        self._announce.clear()
        self._closed = True

    # --- work ------------------------------------------------------------------------------------

    def step(self) -> list[Emitted]:
        """One decode step of all running rows, or one chunk of a prefill: at most about half a second.

        The two alternate while rows of both sorts are there, unless the batch is to be filled first. Returns
        what was emitted, in slot order; an empty list when a prefill goes on or there is nothing to do.
        """
        self._check_open()
        try:
            return self._work()
        except torch.OutOfMemoryError as error:
            self._shrink(error)
            return []

    def _work(self) -> list[Emitted]:
        decode_now = bool(self._lanes) and self._prefilled_last and not self._fill
        if self._group is None and not decode_now:
            self._group = self._next_group()
        if self._group is not None and not decode_now:
            self._prefilled_last = True
            emitted = self._prefill(self._group)
        else:
            self._prefilled_last = False
            emitted = self._decode() if self._lanes else []
        announced, self._announce = self._announce, []
        return announced + emitted

    def _next_group(self) -> Group | None:
        """Rows to prefill next. A full batch waits until an eighth of its slots is free: a prefill of one row
        costs about as much as a decode step of all."""
        free = self.slots - len(self._lanes)
        if self._lanes and free < min(self.slots // 8, len(self._waiting)):
            return None
        return form_group(self._waiting, free, self._forward, alone=not self._lanes)

    def _shrink(self, error: torch.OutOfMemoryError) -> None:
        """The device is out of memory: free the cache, halve the slots, and let all rows wait again.

        They are prefilled anew, answers so far included, so nothing is emitted twice or lost. JobFailed when
        a row fails alone in a batch that has room for no other.
        """
        inside = [lane.track for lane in self._lanes if not lane.shadow]
        inside += self._group.tracks() if self._group else []
        if self.slots <= sum(track.lanes for track in inside[:1]) and len(inside) <= 1:
            length = len(inside[0].ids) if inside else 0
            raise JobFailed(
                f"out of device memory with a single row of {length} tokens: use a shorter prompt"
                f"{', smaller pictures' if inside and inside[0].row.images else ''}, "
                "a smaller dtype, or quantize the model"
            ) from error
        self.slots = max(1, self.slots // 2)
        self._waiting.extendleft(reversed(inside))
        self._group, self._cache, self._arranged = None, None, None
        self._lanes.clear()
        if self._forward.tower is not None:
            self._forward.tower.cache.clear()
        if self._forward.device.type == "cuda":
            torch.cuda.empty_cache()

    def _prefill(self, group: Group) -> list[Emitted]:
        if not group.advance(self._forward):
            return []
        self._group = None
        tracks = group.tracks()
        logits = self._forward.logits(group.last_hidden())
        lanes = [lane for track in tracks for lane in track.as_lanes()]
        rows = torch.tensor([group.entry_of(lane) for lane in lanes], device=logits.device)
        picked = pick(logits[rows], self._chooser(lanes), lanes, self._main(lanes))
        emitted = [self._advance(track, picked.of(track)) for track in tracks]
        for track, emission in zip(tracks, emitted, strict=True):
            if not emission.finish:
                self._enter(track, group)
        return emitted

    def _decode(self) -> list[Emitted]:
        if self._arranged is None:
            self._arranged = self._arrange()
            aim = True
        else:
            aim = self._arranged.stages.varies
        now, device = self._arranged, self._forward.device
        assert self._cache is not None
        positions = [lane.track.position for lane in now.lanes]
        last = max(positions)
        self._cache.fit(last + 1, len(positions), self._forward.context_length)
        if aim:
            now.stages.aim(positions, [position + 1 for position in positions], 1)
            now.stages.varies = now.stages.changes()
        began = time.perf_counter()
        hidden = self._forward.step(
            now.tokens, torch.tensor(positions, device=device), last, self._cache, now.context, now.deltas
        )
        picked = pick(self._forward.logits(hidden), now.chooser, now.lanes, now.main)
        now.tokens = picked.tokens
        self._forward.pace.step(time.perf_counter() - began)  # what was picked is here, so the device is done
        emitted = [self._advance(lane.track, picked.of(lane.track)) for lane in now.lanes if not lane.shadow]
        ended = {emission.key for emission in emitted if emission.finish}
        for lane in now.lanes:
            if not lane.shadow and lane.track.row.key in ended:
                self._leave(lane.track)
        return emitted

    def _advance(self, track: Track, emission: Emitted) -> Emitted:
        track.tokens.append(emission.token)
        if emission.finish:
            self._end(track, emission.finish)
        return emission

    # --- lanes -----------------------------------------------------------------------------------

    def _enter(self, track: Track, group: Group) -> None:
        wanted, limit = max(self.slots, track.lanes), self._forward.context_length
        if self._cache is None:
            self._cache = self._forward.cache(wanted, track.room)
        if self._cache.slots < wanted:
            self._cache.resize(wanted, self._cache.capacity, len(self._lanes))
        self._cache.fit(min(track.room, limit), len(self._lanes), limit)
        for lane in track.as_lanes():
            self._cache.take(len(self._lanes), group.cache, group.entry_of(lane), track.position)
            self._lanes.append(lane)
        self._arranged = None

    def _leave(self, track: Track) -> None:
        """Free the row's slots: the last lane moves into each hole, so the lanes in use stay the first."""
        for index in reversed([i for i, lane in enumerate(self._lanes) if lane.track is track]):
            moved = self._lanes.pop()
            if index < len(self._lanes):
                assert self._cache is not None
                self._cache.take(index, self._cache, len(self._lanes), moved.track.position)
                self._lanes[index] = moved
        self._arranged = None

    def _arrange(self) -> Arrangement:
        lanes, device = list(self._lanes), self._forward.device
        edits: list[RowEdits | None] = [None if lane.shadow else lane.track.edits for lane in lanes]
        stages = Stages(edits, device)
        deltas = [lane.track.delta for lane in lanes]
        return Arrangement(
            lanes=lanes,
            stages=stages,
            context=Context(edits=stages.by_site),
            chooser=self._chooser(lanes),
            main=self._main(lanes),
            tokens=torch.tensor([lane.track.tokens[-1] for lane in lanes], device=device),
            deltas=torch.tensor(deltas, device=device) if any(deltas) else None,
        )

    def _chooser(self, lanes: Sequence[Lane]) -> Chooser:
        return Chooser.of([lane.sampling for lane in lanes], self._forward.vocab, self._forward.device)

    def _main(self, lanes: Sequence[Lane]) -> torch.Tensor | None:
        if not any(lane.shadow for lane in lanes):
            return None
        home = {id(lane.track): index for index, lane in enumerate(lanes) if not lane.shadow}
        return torch.tensor([home[id(lane.track)] for lane in lanes], device=self._forward.device)

    # --- finding ---------------------------------------------------------------------------------

    def _end(self, track: Track, finish: Finish) -> None:
        del self._tracks[track.row.key]
        self._finished[track.row.key] = finish

    def _find(self, key: str) -> Track:
        track = self._tracks.get(key)
        if track is None:
            raise UsageError(f"row {key}: not in the batch; it has ended or was never added")
        return track

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the batch is closed; make another")
