"""Contextual neighbours: the vectors of an index that are nearest to hidden states of the same model.

A state of one site is searched in all of the index's sites together (or in those that are asked for), and each hit
says of which site it is. ``raw`` cosines take vectors as they are; ``centred`` ones take from the index's vectors the
mean of their own site, and from the queries the mean of theirs, so that what all states of a site share, and what all
images share against all texts, counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.kinds.index import KIND, IndexFile

from ..lang.sites import parse_site
from ..lang.text import did_you_mean, shown
from ..models.compatibility import compatibility, warning
from ..models.info import ModelInfo
from .exact import Part, Searcher

if TYPE_CHECKING:
    from labtui_artifacts.store import Store

_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class Hit:
    """One vector of an index: its site as briefly as it can be written, and where in which caption its token stands."""

    site: str
    token: str
    caption: str
    number: int
    position: int
    start: int
    stop: int

    @property
    def word(self) -> str:
        """The whole word of the caption that the token is of; the token itself where it is of none."""
        for match in _WORD.finditer(self.caption):
            if match.start() < self.stop and self.start < match.end():
                return match.group()
        return self.token.strip()

    @property
    def marked(self) -> str:
        """The caption with the token in brackets: ``a [red] circle``."""
        text = self.caption
        start = self.start + len(text[self.start : self.stop]) - len(text[self.start : self.stop].lstrip())
        return f"{text[:start]}[{text[start : self.stop]}]{text[self.stop :]}"


def open_index(store: Store, name: str, info: ModelInfo) -> tuple[IndexFile, str]:
    """An index of the store, and a note as of `require_model`. UsageError where there is none, or it is not of the model."""
    if name not in store:
        indexes = [entry.name for entry in store.list(KIND)]
        raise UsageError(
            f"no index {shown(name)} here{did_you_mean(name, indexes)} (there are: {', '.join(indexes[:8]) or 'none yet'}); "
            "`labtui run index --set name=NAME` builds one of this model"
        )
    found = IndexFile.open(store.path(name), name)
    return found, require_model(found, info)


def require_model(index: IndexFile, info: ModelInfo) -> str:
    """A note on another precision of the same model (empty: none); UsageError for an index of another model."""
    match = compatibility(index.meta, info)
    if match == "same":
        return ""
    said = warning(match, index.meta, info).replace("fitted on", "is of", 1)
    if match != "precision":
        raise UsageError(f"index {index.name!r} {said}; build one of this model with `labtui run index`")
    return f"index {index.name!r} {said}"


class IndexSearch:
    """Searches one index; ``layers`` limits it to some of its sites."""

    def __init__(
        self,
        index: IndexFile,
        device: torch.device | str = "cpu",
        *,
        layers: Sequence[str] = (),
        keep: int = 0,
    ) -> None:
        for site in layers:
            index.require_site(site)
        self.index = index
        self.sites = tuple(site for site in index.sites if not layers or site in layers)
        self._device, self._keep = device, keep

    @property
    def unit(self) -> bool:
        """Its vectors were cut to length 1, so that they cannot be centred."""
        return self.index.meta.get("unit") is True

    def require_centring(self) -> None:
        """UsageError for an index of vectors that cannot be centred."""
        if self.unit:
            raise UsageError(
                f"index {self.index.name!r} has vectors cut to length 1, which cannot be centred: leave centred out, or "
                "build an index of its captions"
            )

    def searcher(self, *, centred: bool) -> Searcher:
        """A search over these sites; centred, it expects centred queries."""
        if centred:
            self.require_centring()
        parts = []
        for site in self.sites:
            mean = self.index.mean(site) if centred else None
            for shard in self.index.shards:
                what = f"{shard.header.path}: the vectors at {site}"
                parts.append(Part(shard.vectors(site), mean, what))
        return Searcher(parts, self._device, keep=self._keep)

    def hits(self, numbers: np.ndarray) -> list[Hit]:
        """What the vectors of these numbers are; numbers below 0 are left out."""
        return [self._hit(int(number)) for number in numbers.ravel() if number >= 0]

    def site_of(self, numbers: np.ndarray) -> np.ndarray:
        """For each vector number the place of its site in ``sites``; -1 stays."""
        return np.where(numbers < 0, -1, numbers // max(self.index.tokens, 1))

    def _hit(self, number: int) -> Hit:
        place, token = divmod(number, self.index.tokens)
        columns = self._columns
        at, captions = int(columns["caption"][token]), self.index.captions
        start, stop = (int(one) for one in columns["span"][token])
        if not 0 <= at < len(captions) or not 0 <= start <= stop <= len(captions[at]):
            raise BadFile(
                f"{self.index.file.path}: damaged index: token {token} is of no caption; build it again"
            )
        caption = captions[at]
        position = int(columns["position"][token])
        site = parse_site(self.sites[place]).short
        return Hit(site, caption[start:stop], caption, at, position, start, stop)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        names = ("caption", "position", "span")
        return {
            name: np.concatenate([np.asarray(shard.column(name)) for shard in self.index.shards])
            for name in names
        }
