"""Passes of the vision tower: images of several rows packed into one, each with the edits of its row.

Inside the tower patches are one axis without a batch. Hooks see it in merge-group order (:class:`.hooks.Orders`), so that
merged patch m is the patches [m·u, (m+1)·u) of its image, u being the patches that the merger joins.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..lang.sites import Site
from .edits import change
from .hooks import Context, Hooks, Orders, Tap
from .pictures import Features, PatchEdit, Pictures, TowerInput

CACHE_BYTES = 256 << 20
"""What the features that are kept may take up."""


class FeatureCache:
    """Features by the key of their input, those used last; together at most ``limit`` bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._held = limit, 0
        self._items: OrderedDict[Hashable, Features] = OrderedDict()

    @property
    def bytes(self) -> int:
        return self._held

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable) -> Features | None:
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: Hashable, features: Features) -> None:
        known = self._items.pop(key, None)
        self._held -= known.bytes if known is not None else 0
        if features.bytes > self._limit:
            return
        self._items[key] = features
        self._held += features.bytes
        while self._held > self._limit:
            _, oldest = self._items.popitem(last=False)
            self._held -= oldest.bytes

    def clear(self) -> None:
        self._items.clear()
        self._held = 0


@dataclass(frozen=True, eq=False)
class PatchStage:
    """One operation on the patches of one image in a pass: it starts at patch ``start``."""

    edit: PatchEdit
    start: int
    coefficients: torch.Tensor  # [patches, 1] float32
    active: bool = True

    def apply(self, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden states [all patches, d] with those of the image edited."""
        edited = hidden.clone()
        place = slice(self.start, self.start + len(self.coefficients))
        edited[place] = change(self.edit.op, hidden[place], self.edit.vectors, self.coefficients)
        return edited


class Tower:
    """The vision tower of one model."""

    def __init__(self, model: Any, family: Any, hooks: Hooks, merge: int, device: torch.device) -> None:
        self._model, self._family, self._hooks, self._device = model, family, hooks, device
        self._module: Any = family.tower(model)
        self.merge, self.unit = merge, merge * merge  # patches to a merged patch
        self.cache = FeatureCache()

    def see(self, pictures: Iterable[Pictures | None], patches: int) -> bool:
        """Get features of images that have none yet, by one pass over about so many patches; True when all have some."""
        shown = [each for each in pictures if each is not None]
        missing: dict[Hashable, TowerInput] = {}
        for each in shown:
            for entry in each.inputs:
                if entry.key not in each.features:
                    found = self.cache.get(entry.key)
                    if found is not None:
                        each.features[entry.key] = found
                    else:
                        missing.setdefault(entry.key, entry)
        if not missing:
            return True
        now = take(list(missing.values()), patches)
        self.share(now, self.run(now), shown)
        return len(now) == len(missing)

    def share(
        self, inputs: Sequence[TowerInput], features: Sequence[Features], pictures: Iterable[Pictures]
    ) -> None:
        """Keep what a pass gave, and give it to the prompts that show these images."""
        made = {entry.key: each for entry, each in zip(inputs, features, strict=True)}
        for key, each in made.items():
            self.cache.put(key, each)
        for prompt in pictures:
            prompt.features.update({e.key: made[e.key] for e in prompt.inputs if e.key in made})

    def run(
        self,
        inputs: Sequence[TowerInput],
        taps: Mapping[Site, Tap] | None = None,
        before: Mapping[Site, Tap] | None = None,
    ) -> list[Features]:
        """One pass: the features of each image. ``taps`` read after the edits of a site, ``before`` ahead of them, all
        images in merge-group order, [patches, d] (merged patches at ``vision.merged``)."""
        grids = torch.tensor([entry.image.grid for entry in inputs])
        pixels = torch.cat([entry.image.pixels for entry in inputs])
        context = Context(
            edits=self._stages(inputs), taps=taps or {}, before=before or {}, orders=self._orders(grids)
        )
        with torch.inference_mode(), self._hooks.using(context):
            out = self._module(pixels.to(self._device, self._module.dtype), grid_thw=grids.to(self._device))
            levels = [out.pooler_output, *(getattr(out, "deepstack_features", None) or ())]
            counts = [self.merged(entry) for entry in inputs]
            # Each a tensor of its own: a piece of a split would keep the whole pass in memory.
            split = [[piece.clone() for piece in level.split(counts)] for level in levels]
        return [Features(merged, tuple(deep)) for merged, *deep in zip(*split, strict=True)]

    def merged(self, entry: TowerInput) -> int:
        """How many merged patches an image has."""
        return len(entry.image.pixels) // self.unit

    def _orders(self, grids: torch.Tensor) -> Orders:
        orders = [
            self._family.patch_order(self._model, grids),
            self._family.merged_order(self._model, grids),
        ]
        return Orders(*(None if order is None else order.to(self._device) for order in orders))

    def _stages(self, inputs: Sequence[TowerInput]) -> dict[Site, list[PatchStage]]:
        stages: dict[Site, list[PatchStage]] = {}
        start = 0
        for entry in inputs:
            for edit in entry.edits:
                unit = 1 if edit.site.point == "merged" else self.unit
                values = torch.from_numpy(edit.mask.repeat(unit)[:, None] * np.float32(edit.strength))
                coefficients = values.to(self._device)
                stages.setdefault(edit.site, []).append(PatchStage(edit, start * unit, coefficients))
            start += self.merged(entry)
        return stages


def segments(inputs: Sequence[TowerInput], unit: int) -> dict[Hashable, tuple[int, int]]:
    """Where the merged patches [start, stop) of each image of a pass lie, by its key; ``unit`` patches to one."""
    found: dict[Hashable, tuple[int, int]] = {}
    start = 0
    for entry in inputs:
        stop = start + len(entry.image.pixels) // unit
        found[entry.key] = (start, stop)
        start = stop
    return found


def unique(pictures: Iterable[Pictures | None]) -> list[TowerInput]:
    """The images of prompts, each once."""
    found: dict[Hashable, TowerInput] = {}
    for each in pictures:
        for entry in each.inputs if each is not None else ():
            found.setdefault(entry.key, entry)
    return list(found.values())


def take_rows(pictures: Sequence[Pictures | None], patches: int) -> Iterator[list[int]]:
    """Numbers of prompts, those of a pass together: about so many patches, at least one prompt."""
    members: list[int] = []
    held = 0
    for number, each in enumerate(pictures):
        more = sum(len(entry.image.pixels) for entry in each.inputs) if each is not None else 0
        if members and held + more > patches:
            yield members
            members, held = [], 0
        members.append(number)
        held += more
    if members:
        yield members


def take(inputs: Sequence[TowerInput], patches: int) -> list[TowerInput]:
    """The first of ``inputs`` that have about so many patches together, at least one."""
    taken: list[TowerInput] = []
    held = 0
    for entry in inputs:
        held += len(entry.image.pixels)
        if taken and held > patches:
            break
        taken.append(entry)
    return taken
