"""Readings at sites of the vision tower: hidden states of patches, pooled inside a pass, and how far edits move them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labtui_artifacts.errors import UsageError

from ..lang.positions import Where
from ..lang.sites import Site
from .forward import Forward
from .hooks import Tap
from .pictures import Pictures, TowerInput
from .rows import image_spans
from .tower import Tower, segments, unique

POOLINGS = ("mean", "max", "none")


def in_tower(sites: Sequence[Site]) -> tuple[Site, ...]:
    """Those of ``sites`` that lie in the vision tower."""
    return tuple(site for site in sites if site.tower == "vision")


def tower_of(forward: Forward, sites: Sequence[Site]) -> Tower:
    """The model's tower; UsageError names the first site when it has none."""
    if forward.tower is None:
        raise UsageError(
            f"site {sites[0]}: expected llm.embed, llm.norm, or a block llm.0 to llm.{forward.shape.blocks - 1}; "
            "this model has no vision tower"
        )
    return forward.tower


def check_pooling(pooling: str, sites: Sequence[Site]) -> None:
    """Raise UsageError for a pooling that means nothing among patches."""
    if sites and pooling not in POOLINGS:
        raise UsageError(
            f"pooling {pooling!r} at {sites[0]}: patches have no order in which one is the last; "
            f"expected {', '.join(POOLINGS)}"
        )


@dataclass(frozen=True, eq=False)
class Selection:
    """Which patches of one prompt are read: one mask over merged patches for each of its images."""

    masks: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, name: str, pictures: Pictures | None, where: Where, merge: int) -> Selection:
        """What ``where`` selects; UsageError for a prompt without images, or without a selected patch."""
        images = () if pictures is None else pictures.layout.images
        masks = tuple(np.asarray(mask, dtype=bool) for mask in where.patch_mask(image_spans(images, merge)))
        if not any(mask.any() for mask in masks):
            raise UsageError(f"{name}: where {str(where)!r} selects no patch of its images")
        return cls(masks)


class PatchReader:
    """Reads sites of the tower for prompts, pass by pass."""

    def __init__(
        self,
        forward: Forward,
        pictures: Sequence[Pictures | None],
        chosen: Sequence[Selection],
        sites: Sequence[Site],
        pooling: str,
    ) -> None:
        self._tower, self._device = tower_of(forward, sites), forward.device
        self._pictures, self._chosen, self._sites, self._pooling = pictures, chosen, sites, pooling

    def unit(self, site: Site) -> int:
        """How many patches a site has for each merged patch."""
        return 1 if site.point == "merged" else self._tower.unit

    def read(self, members: Sequence[int], keep: bool = True) -> dict[Site, torch.Tensor]:
        """Show the tower the images of these prompts: site → float32 on the CPU, a line for each prompt in the order of
        ``members``, or with pooling ``none`` for each of its selected patches. ``keep`` gives them the features."""
        pictures = [each for index in members if (each := self._pictures[index]) is not None]
        inputs = unique(pictures)
        found: dict[Site, torch.Tensor] = {}
        places = {unit: self._places(members, inputs, unit) for unit in {self.unit(s) for s in self._sites}}

        def tap(site: Site) -> Tap:
            return lambda hidden: found.__setitem__(
                site, _pooled(hidden, places[self.unit(site)], self._pooling)
            )

        features = self._tower.run(inputs, {site: tap(site) for site in self._sites})
        self._tower.share(inputs, features, pictures if keep else ())
        return {site: found[site].cpu().clone() for site in self._sites}

    def _places(self, members: Sequence[int], inputs: Sequence[TowerInput], unit: int) -> list[torch.Tensor]:
        """The selected patches of each prompt in the pass, ascending image by image, int64."""
        where = segments(inputs, self._tower.unit)
        found = []
        for index in members:
            pictures = self._pictures[index]
            assert pictures is not None
            pieces = []
            for entry, mask in zip(pictures.inputs, self._chosen[index].masks, strict=True):
                merged = where[entry.key][0] + np.flatnonzero(mask)
                pieces.append((merged[:, None] * unit + np.arange(unit)).ravel())
            found.append(torch.from_numpy(np.concatenate(pieces)).to(self._device))
        return found


def _pooled(hidden: torch.Tensor, places: Sequence[torch.Tensor], pooling: str) -> torch.Tensor:
    if pooling == "none":
        return hidden[torch.cat(list(places))].float()
    pieces = [hidden[chosen].float() for chosen in places]
    if pooling == "mean":
        return torch.stack([piece.mean(0) for piece in pieces])
    return torch.stack([piece.amax(0) for piece in pieces])


def patch_norms(tower: Tower, pictures: Pictures, sites: Sequence[Site]) -> dict[Site, np.ndarray]:
    """The norm of every patch of a prompt's images at each site; what the tower gives is kept."""
    found: dict[Site, torch.Tensor] = {}

    def tap(site: Site) -> Tap:
        return lambda hidden: found.__setitem__(site, hidden.float().norm(dim=-1))

    tower.share(pictures.inputs, tower.run(pictures.inputs, {site: tap(site) for site in sites}), ())
    return {site: each.cpu().numpy() for site, each in found.items()}


def moved(tower: Tower, pictures: Pictures, sites: Sequence[Site]) -> dict[Site, list[float]]:
    """How far a prompt's edits move its patches at each site: norm of the change over the norm before it, for every patch
    that an edit touches. What the tower gives is kept."""
    held: dict[Site, torch.Tensor] = {}
    shares: dict[Site, np.ndarray] = {}

    def after(site: Site) -> Tap:
        def tap(hidden: torch.Tensor) -> None:
            early = held.pop(site)
            change = torch.linalg.vector_norm(hidden.float() - early, dim=-1)
            shares[site] = (change / torch.linalg.vector_norm(early, dim=-1)).cpu().numpy()

        return tap

    inputs = pictures.inputs
    before: Mapping[Site, Tap] = {
        site: (lambda hidden, site=site: held.__setitem__(site, hidden.float().clone())) for site in sites
    }
    features = tower.run(inputs, {site: after(site) for site in sites}, before)
    tower.share(inputs, features, [pictures])
    found: dict[Site, list[float]] = {}
    for site in sites:
        unit = 1 if site.point == "merged" else tower.unit
        touched = np.concatenate([_touched(entry, site, tower.merged(entry)) for entry in inputs])
        found[site] = shares[site][touched.repeat(unit)].tolist()
    return found


def _touched(entry: TowerInput, site: Site, merged: int) -> np.ndarray:
    touched = np.zeros(merged, dtype=bool)
    for edit in entry.edits:
        if edit.site == site:
            touched |= edit.mask > 0
    return touched
