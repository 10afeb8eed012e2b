"""Cache slots of our own: one slot a lane, filled from position 0, never padded inside.

transformers sees an ordinary ``Cache``. Keys and values of all slots lie in one buffer ``[slots, heads,
capacity, head_dim]`` per block, so a decode step writes one line per lane and reads a view; nothing is
concatenated. Blocks with linear attention keep ``[slots, ...]`` convolution and recurrent states, of which
the first lanes are lent to transformers for a step. Lanes in use are always the first ones: a lane that ends
is overwritten by the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionLayer

GRAIN = 64
"""Capacities are multiples of this many positions."""


@dataclass(eq=False)
class Write:
    """What the next forward pass writes: lanes [0, lanes), and for each the positions it processes.

    ``positions`` is None when every lane writes the same positions [start, start + n) (a prefill); else it
    holds one position a lane. ``length`` positions are read back.
    """

    lanes: int = 0
    start: int = 0
    length: int = 0
    positions: torch.Tensor | None = None
    _lines: dict[tuple[int, int, torch.device], torch.Tensor] = field(default_factory=dict)

    def aim(self, lanes: int, start: int, length: int, positions: torch.Tensor | None) -> None:
        self.lanes, self.start, self.length, self.positions = lanes, start, length, positions
        self._lines.clear()

    def lines(self, heads: int, capacity: int, device: torch.device) -> torch.Tensor:
        """Where each lane and head writes in a buffer flattened to [slots * heads * capacity]."""
        found = self._lines.get((heads, capacity, device))
        if found is None:
            assert self.positions is not None
            each = torch.arange(self.lanes * heads, device=device) * capacity
            found = each + self.positions.to(device).repeat_interleave(heads)
            self._lines[heads, capacity, device] = found
        return found


class KeyValueSlots(CacheLayerMixin):
    """Keys and values of one attention block."""

    is_sliding = False

    def __init__(self, write: Write, slots: int, capacity: int) -> None:
        super().__init__()
        self.write, self.slots, self.capacity = write, slots, capacity
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Empty buffers for states like these, ``[lanes, heads, n, head_dim]``."""
        self.keys, self.values = self._buffer(key_states), self._buffer(value_states)
        self.is_initialized = True

    def _buffer(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self.slots, like.shape[1], self.capacity, like.shape[3])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write ``[lanes, heads, n, head_dim]``; return views of all ``length`` positions of those lanes."""
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        write = self.write
        for buffer, states in ((self.keys, key_states), (self.values, value_states)):
            if write.positions is None:
                n = states.shape[2]
                buffer[: write.lanes, :, write.start : write.start + n] = states
            else:
                lines = write.lines(states.shape[1], self.capacity, buffer.device)
                buffer.flatten(0, 2).index_copy_(0, lines, states.flatten(0, 2))
        return self.keys[: write.lanes, :, : write.length], self.values[: write.lanes, :, : write.length]

    def resize(self, slots: int, capacity: int, lanes: int) -> None:
        """New buffers of that size, with the first ``lanes`` lanes kept."""
        self.slots, self.capacity = slots, capacity
        if self.keys is None or self.values is None:
            return

        def resized(buffer: torch.Tensor) -> torch.Tensor:
            fresh = self._buffer(buffer)
            keep = min(buffer.shape[2], capacity)
            fresh[:lanes, :, :keep] = buffer[:lanes, :, :keep]
            return fresh

        self.keys, self.values = resized(self.keys), resized(self.values)

    def take(self, lane: int, other: KeyValueSlots, index: int, length: int) -> None:
        """Copy the first ``length`` positions of lane ``index`` of ``other`` into ``lane``."""
        assert other.keys is not None and other.values is not None
        if self.keys is None or self.values is None:
            self.lazy_initialization(other.keys, other.values)
        assert self.keys is not None and self.values is not None
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[lane, :, :length] = theirs[index, :, :length]
            # Masked positions are multiplied by 0, which does not cancel an earlier row's infinities.
            mine[lane, :, length:] = 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.write.length, 0

    def get_seq_length(self) -> int:
        return self.write.start

    def get_max_length(self) -> int:
        return self.capacity


class RecurrentSlots(LinearAttentionLayer):
    """Convolution and recurrent state of one linear-attention block.

    While prefilling it is transformers' own layer. As slots, ``conv`` and ``recurrent`` hold every lane's
    state and :meth:`lend` shows transformers the first lanes, which it updates in place.
    """

    def __init__(self, write: Write, slots: int) -> None:
        super().__init__()
        self.write, self.slots = write, slots
        self.conv: torch.Tensor | None = None
        self.recurrent: torch.Tensor | None = None

    def take(self, lane: int, other: RecurrentSlots, index: int, length: int) -> None:
        """Copy the state of lane ``index`` of ``other`` into ``lane``."""
        conv, recurrent = other.state()
        if self.conv is None or self.recurrent is None:
            self.conv = conv.new_zeros(self.slots, *conv.shape[1:])
            self.recurrent = recurrent.new_zeros(self.slots, *recurrent.shape[1:])
        self.conv[lane] = conv[index]
        self.recurrent[lane] = recurrent[index]

    def state(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of all lanes: the slots when there are any, else those of the prefill."""
        if self.conv is not None and self.recurrent is not None:
            return self.conv, self.recurrent
        conv, recurrent = self.conv_states[0], self.recurrent_states[0]
        assert conv is not None and recurrent is not None
        return conv, recurrent

    def lend(self) -> None:
        """Let transformers see, and update in place, the states of the lanes of the next pass."""
        conv, recurrent = self.state()
        self.conv_states[0] = conv[: self.write.lanes]
        self.recurrent_states[0] = recurrent[: self.write.lanes]
        self.conv_kernel_size[0] = conv.shape[-1]
        self.is_conv_states_initialized[0] = self.is_recurrent_states_initialized[0] = True
        self.has_previous_state[0] = True

    def resize(self, slots: int, capacity: int, lanes: int) -> None:
        """New slots, with the first ``lanes`` lanes kept; the capacity means nothing here."""
        self.slots = slots
        if self.conv is None or self.recurrent is None:
            return
        conv = self.conv.new_zeros(slots, *self.conv.shape[1:])
        recurrent = self.recurrent.new_zeros(slots, *self.recurrent.shape[1:])
        conv[:lanes], recurrent[:lanes] = self.conv[:lanes], self.recurrent[:lanes]
        self.conv, self.recurrent = conv, recurrent

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.write.length, 0

    def get_seq_length(self) -> int:
        return self.write.start


class SlotCache(Cache):
    """The cache of a batch, or of a few rows being prefilled apart (then every lane writes the same
    positions).
    """

    def __init__(self, layer_types: list[str], slots: int, capacity: int) -> None:
        self.write = Write()
        self.slots = slots
        self.capacity = round_up(capacity)
        self.slot_layers: list[KeyValueSlots | RecurrentSlots] = [
            RecurrentSlots(self.write, slots)
            if kind == "linear_attention"
            else KeyValueSlots(self.write, slots, self.capacity)
            for kind in layer_types
        ]
        super().__init__(layers=list(self.slot_layers))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layer = self.slot_layers[layer_idx]
        assert isinstance(layer, KeyValueSlots)
        return layer.update(key_states, value_states)

    def aim_span(self, lanes: int, start: int, stop: int) -> None:
        """The next pass processes positions [start, stop) of the first ``lanes`` lanes."""
        self.write.aim(lanes, start, stop, None)
        for layer in self.slot_layers:
            if (
                isinstance(layer, RecurrentSlots) and layer.conv is not None
            ):  # a copied beginning to go on from
                layer.lend()

    def aim_step(self, positions: torch.Tensor, last: int) -> None:
        """The next pass processes ``positions[i]`` in lane i; ``last`` is the largest of them.

        Positions are read eight at a time, as attention kernels like it; the mask hides those beyond a
        lane's own.
        """
        self.write.aim(len(positions), last, -(-(last + 1) // 8) * 8, positions)
        for layer in self.slot_layers:
            if isinstance(layer, RecurrentSlots):
                layer.lend()

    def take(self, lane: int, other: SlotCache, index: int, length: int) -> None:
        """Copy ``length`` positions of lane ``index`` of ``other`` (perhaps this cache) into ``lane``."""
        for layer, source in zip(self.slot_layers, other.slot_layers, strict=True):
            layer.take(lane, source, index, length)  # type: ignore[arg-type]

    def fit(self, length: int, lanes: int, limit: int) -> None:
        """Make room for ``length`` positions a lane, at most ``limit``; the first ``lanes`` lanes stay."""
        if length > self.capacity:
            grown = min(max(length, self.capacity * 3 // 2), limit)
            self.resize(self.slots, grown, lanes)

    def resize(self, slots: int, capacity: int, lanes: int) -> None:
        """New buffers of that size, with the first ``lanes`` lanes kept."""
        self.slots, self.capacity = slots, round_up(capacity)
        for layer in self.slot_layers:
            layer.resize(slots, self.capacity, lanes)


def round_up(length: int) -> int:
    """``length`` rounded up to a whole number of grains, at least one."""
    return max(1, -(-length // GRAIN)) * GRAIN
