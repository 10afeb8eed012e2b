"""Permanent hooks, one per place in use, that read one context.

A hook is registered the first time a site is used and stays. It does nothing unless a context is current, and
a context is current only inside :meth:`Hooks.using`, so several batches share the hooks by swapping contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from labtui_artifacts.errors import UsageError

from ..lang.sites import Site

Tap = Callable[[torch.Tensor], None]


class Change(Protocol):
    """What edits do at one site in one pass."""

    @property
    def active(self) -> bool: ...

    def apply(self, hidden: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Orders:
    """How the patches of a tower pass come into merge-group order, ``hidden[order]``; None where they are in it.

    ``merged`` is for what the merger gives, ``patches`` for all before it.
    """

    patches: torch.Tensor | None = None
    merged: torch.Tensor | None = None

    def at(self, site: Site) -> torch.Tensor | None:
        return self.merged if site.point == "merged" else self.patches


@dataclass(eq=False)
class Context:
    """What the hooks do in one forward pass: edits by site, then taps that read what the edits left.

    ``before`` are taps that read what the edits find. ``orders`` is set in a pass of the vision tower.
    """

    edits: Mapping[Site, Sequence[Change]] = field(default_factory=dict)
    taps: Mapping[Site, Tap] = field(default_factory=dict)
    before: Mapping[Site, Tap] = field(default_factory=dict)
    orders: Orders | None = None

    def sites(self) -> set[Site]:
        return {*self.edits, *self.taps, *self.before}


@dataclass(frozen=True)
class Place:
    """A module and the side of it where a hook sits; ``sites`` in the order in which they are reached."""

    module: nn.Module
    before: bool
    sites: tuple[Site, ...]


class Hooks:
    """The hooks of one model."""

    def __init__(self, model: nn.Module, family: Any, blocks: int, vision_blocks: int = 0) -> None:
        self._model, self._family, self._blocks = model, family, blocks
        self._vision_blocks = vision_blocks
        self._current: Context | None = None
        self.placed: dict[Site, RemovableHandle] = {}
        self.functions: set[Any] = set()

    @contextmanager
    def using(self, context: Context) -> Iterator[None]:
        """Make ``context`` the current one; UsageError names a site that the model lacks."""
        for site in context.sites():
            if site not in self.placed:
                self._place(site)
        previous, self._current = self._current, context
        try:
            yield
        finally:
            self._current = previous

    def handles(self) -> list[RemovableHandle]:
        """The handles in use, each once."""
        return list({id(handle): handle for handle in self.placed.values()}.values())

    def remove(self) -> None:
        """Take all hooks off the model."""
        for handle in self.handles():
            handle.remove()
        self.placed.clear()
        self.functions.clear()

    def check(self) -> list[tuple[Site, bool]]:
        """For every site in use, whether its hook is still where it was put."""
        found = []
        for site, handle in self.placed.items():
            table = handle.hooks_dict_ref()
            found.append((site, table is not None and handle.id in table))
        return found

    def _place(self, site: Site) -> None:
        place = self._find(site)
        if place.before:
            function = self._before(place.sites)
            handle = place.module.register_forward_pre_hook(function, prepend=True, with_kwargs=True)
        else:
            function = self._after(place.sites)
            handle = place.module.register_forward_hook(function, prepend=True)
        self.functions.add(function)
        for each in place.sites:
            self.placed[each] = handle

    def _find(self, site: Site) -> Place:
        if site.tower == "vision" and self._vision_blocks:
            return self._find_in_tower(site)
        if site.tower != "llm" or (site.block is not None and not 0 <= site.block < self._blocks):
            raise UsageError(
                f"site {site}: expected llm.embed, llm.norm, or a block llm.0 to llm.{self._blocks - 1}"
            )
        if site.point == "norm":
            return Place(self._family.norm(self._model), False, (site,))
        # The embeddings are read where they enter block 0, and so share a hook with llm.0.in.
        if site.point == "embed" or (site.point == "in" and site.block == 0):
            first = (Site("llm", None, "embed"), Site("llm", 0, "in"))
            return Place(self._family.blocks(self._model)[0], True, first)
        assert site.block is not None
        block = self._family.blocks(self._model)[site.block]
        if site.point == "in":
            return Place(block, True, (site,))
        if site.point == "attn":
            return Place(self._family.attn_module(block), False, (site,))
        if site.point == "mlp":
            return Place(self._family.mlp_module(block), False, (site,))
        return Place(block, False, (site,))

    def _find_in_tower(self, site: Site) -> Place:
        if site.block is not None and not 0 <= site.block < self._vision_blocks:
            raise UsageError(
                f"site {site}: expected vision.embed, vision.premerge, vision.merged, or a block vision.0 to "
                f"vision.{self._vision_blocks - 1}"
            )
        if site.point in ("premerge", "merged"):
            return Place(self._family.merger(self._model), site.point == "premerge", (site,))
        blocks = self._family.vision_blocks(self._model)
        # What enters block 0: with the position embeddings of the families that add them.
        if site.point == "embed" or (site.point == "in" and site.block == 0):
            return Place(blocks[0], True, (Site("vision", None, "embed"), Site("vision", 0, "in")))
        assert site.block is not None
        return Place(blocks[site.block], site.point == "in", (site,))

    def _before(self, sites: tuple[Site, ...]) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._current is None:
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            edited = self._touch(sites, hidden)
            if edited is None:
                return None
            if args:
                return (edited, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": edited}

        return hook

    def _after(self, sites: tuple[Site, ...]) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            if self._current is None:
                return None
            whole = isinstance(output, torch.Tensor)
            edited = self._touch(sites, output if whole else output[0])
            if edited is None:
                return None
            return edited if whole else (edited, *output[1:])

        return hook

    def _touch(self, sites: tuple[Site, ...], hidden: torch.Tensor) -> torch.Tensor | None:
        context = self._current
        assert context is not None
        order = context.orders.at(sites[0]) if context.orders is not None else None
        if order is None:
            return self._work(context, sites, hidden)
        worked = self._work(context, sites, hidden[order])
        return None if worked is None else torch.empty_like(worked).index_copy_(0, order, worked)

    def _work(self, context: Context, sites: tuple[Site, ...], hidden: torch.Tensor) -> torch.Tensor | None:
        changed = False
        for site in sites:
            early = context.before.get(site)
            if early is not None:
                early(hidden)
            for stage in context.edits.get(site, ()):
                if stage.active:
                    hidden = stage.apply(hidden)
                    changed = True
            tap = context.taps.get(site)
            if tap is not None:
                tap(hidden)
        return hidden if changed else None
