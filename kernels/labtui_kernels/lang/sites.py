"""Sites: named points of a model where activations are read or edited.

One grammar, blocks counted from 0, ranges inclusive. ``llm.14`` alone means ``llm.14.out``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal, TypeAlias, cast

from labtui_artifacts.errors import UsageError

from .shape import ModelShape
from .text import bounded, did_you_mean, shown

Tower: TypeAlias = Literal["llm", "vision"]
Point: TypeAlias = Literal["embed", "in", "out", "attn", "mlp", "norm", "premerge", "merged"]

BLOCK_POINTS: dict[str, tuple[str, ...]] = {"llm": ("in", "attn", "mlp", "out"), "vision": ("in", "out")}
PLAIN_POINTS: dict[str, tuple[str, ...]] = {
    "llm": ("embed", "norm"),
    "vision": ("embed", "premerge", "merged"),
}
MAX_GROUPS = 10_000
"""Most groups that one text may stand for."""

# The extraction points of the information study: the site at its reference depth (28 decoder blocks,
# 32 vision blocks); a fraction (k, reference) moves with the depth: ceil(k * depth / reference) - 1.
_ALIASES: dict[str, tuple[str, str, tuple[int, int] | None]] = {
    "E1": ("vision", "embed", None),
    "E2": ("vision", "out", (8, 32)),
    "E3": ("vision", "out", (16, 32)),
    "E4": ("vision", "premerge", None),
    "E5": ("vision", "merged", None),
    "E6": ("llm", "out", (0, 28)),
    "E7": ("llm", "out", (14, 28)),
    "E8": ("llm", "out", (28, 28)),
    "E8n": ("llm", "norm", None),
}
ALIASES = tuple(_ALIASES)


@total_ordering
@dataclass(frozen=True)
class Site:
    """One point of a model. ``block`` is None for the points that belong to no block.

    Sites sort in the order in which a forward pass reaches them.
    """

    tower: Tower
    block: int | None
    point: Point

    def __str__(self) -> str:
        return (
            f"{self.tower}.{self.point}" if self.block is None else f"{self.tower}.{self.block}.{self.point}"
        )

    @property
    def short(self) -> str:
        """The same site as briefly as it can be written: ``llm.14`` for ``llm.14.out``."""
        return f"{self.tower}.{self.block}" if self.block is not None and self.point == "out" else str(self)

    def _depth(self) -> tuple[int, int, int]:
        tower = 0 if self.tower == "vision" else 1
        if self.block is not None:
            return (tower, self.block + 1, BLOCK_POINTS[self.tower].index(self.point))
        last = {"embed": 0, "norm": 1, "premerge": 1, "merged": 2}[self.point]
        return (tower, 0, 0) if self.point == "embed" else (tower, 1 << 30, last)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Site):
            return NotImplemented
        return self._depth() < other._depth()


SiteGroup: TypeAlias = tuple[Site, ...]
"""Sites that are edited together in one row (``llm.12+14``); usually one."""


def describe(shape: ModelShape) -> str:
    """The sites of a model in one phrase, for error lines."""
    parts = [f"llm.embed, llm.0 to llm.{shape.blocks - 1} (.in .out .attn .mlp), llm.norm"]
    if shape.vision_blocks:
        parts.append(
            f"vision.embed, vision.0 to vision.{shape.vision_blocks - 1} (.in .out), vision.premerge, "
            "vision.merged"
        )
    return "; ".join(parts)


def _exists(site: Site, shape: ModelShape | None, text: str) -> Site:
    if shape is None:
        return site
    depth = shape.blocks if site.tower == "llm" else shape.vision_blocks
    if site.tower == "vision" and not depth:
        raise UsageError(f"site {shown(text)}: this model has no vision tower; it has {describe(shape)}")
    if site.block is not None and site.block >= depth:
        raise UsageError(
            f"site {shown(text)}: block {site.block} does not exist, blocks count from 0; "
            f"this model has {describe(shape)}"
        )
    return site


def _alias(name: str, shape: ModelShape | None) -> Site:
    tower, point, fraction = _ALIASES[name]
    if fraction is None:
        return _exists(Site(cast(Tower, tower), None, cast(Point, point)), shape, name)
    if shape is None:
        raise UsageError(
            f"site {name!r} depends on the model's depth: name a site such as llm.12, or attach a model"
        )
    depth = shape.blocks if tower == "llm" else shape.vision_blocks
    k, reference = fraction
    block = max(0, math.ceil(k * depth / reference) - 1)
    return _exists(Site(cast(Tower, tower), block, cast(Point, point)), shape, name)


def _point(tower: str, point: str, text: str) -> Point:
    if point not in BLOCK_POINTS[tower]:
        known = BLOCK_POINTS[tower]
        raise UsageError(
            f"site {shown(text)}: unknown point {point!r} of a block; expected one of "
            f"{', '.join(known)}{did_you_mean(point, known)}"
        )
    return cast(Point, point)


def _tower(word: str, text: str) -> Tower:
    if word not in BLOCK_POINTS:
        raise UsageError(
            f"site {shown(text)}: unknown site; expected something like llm.12, llm.12.mlp, llm.embed, "
            f"llm.norm or vision.merged{did_you_mean(word, [*BLOCK_POINTS, *ALIASES])}"
        )
    return cast(Tower, word)


_NUMBER = re.compile(r"[0-9]{1,6}\Z")
_RANGE = re.compile(r"([0-9]{1,6})-([0-9]{1,6})\Z")


@dataclass(frozen=True)
class _Part:
    """One member of a list before a model's depth is known: blocks first..last, or a point without block."""

    text: str
    tower: Tower
    point: Point
    first: int | None
    last: int | None  # None with first = 0: to the end ("*")
    alias: str = ""

    @property
    def many(self) -> bool:
        return self.first is not None and self.last != self.first

    def sites(self, shape: ModelShape | None) -> list[Site]:
        if self.alias:
            return [_alias(self.alias, shape)]
        if self.first is None:
            return [_exists(Site(self.tower, None, self.point), shape, self.text)]
        last = self.last
        if last is None:
            if shape is None:
                raise UsageError(
                    f"site {shown(self.text)}: '*' needs a model; attach one, or name the blocks"
                )
            last = (shape.blocks if self.tower == "llm" else shape.vision_blocks) - 1
        _exists(Site(self.tower, max(last, 0), self.point), shape, self.text)
        return [Site(self.tower, block, self.point) for block in range(self.first, last + 1)]


def _blocks(text: str, whole: str) -> tuple[int, int | None] | None:
    """``12`` -> (12, 12), ``8-20`` -> (8, 20), ``*`` -> (0, None); None when it is none of these."""
    if text == "*":
        return 0, None
    if _NUMBER.match(text):
        return int(text), int(text)
    if match := _RANGE.match(text):
        first, last = int(match[1]), int(match[2])
        if last < first:
            raise UsageError(f"site {shown(whole)}: the range {text} runs backwards; write {last}-{first}")
        return first, last
    return None


def _parse_part(text: str, before: _Part | None) -> _Part:
    """Read one part; a part without tower takes tower and point from ``before``."""
    text = text.strip()
    if not text:
        raise UsageError("sites: an empty entry; expected something like llm.12")
    if text in _ALIASES:
        tower, point, _ = _ALIASES[text]
        return _Part(text, cast(Tower, tower), cast(Point, point), None, None, alias=text)
    words = text.split(".")
    bare = _blocks(words[0], text)
    if bare is not None:
        if before is None or before.first is None:
            raise UsageError(f"site {shown(text)}: which tower? write llm.{text}")
        point = _point(before.tower, words[1], text) if len(words) == 2 else before.point
        if len(words) > 2:
            raise UsageError(f"site {shown(text)}: expected a block and at most one point, as in llm.12.mlp")
        if point != before.point:
            raise UsageError(
                f"site {shown(text)}: the sites before it mean .{before.point}; "
                f"write {before.tower}.{text} in full"
            )
        return _Part(text, before.tower, point, *bare)
    tower = _tower(words[0], text)
    if len(words) == 2 and words[1] in PLAIN_POINTS[tower]:
        return _Part(text, tower, cast(Point, words[1]), None, None)
    blocks = _blocks(words[1], text) if len(words) > 1 else None
    if blocks is None or len(words) > 3:
        known = [f"{tower}.{p}" for p in PLAIN_POINTS[tower]]
        raise UsageError(
            f"site {shown(text)}: expected {tower}.BLOCK, {tower}.BLOCK.POINT or one of {', '.join(known)}"
            f"{did_you_mean(text, known)}"
        )
    point = _point(tower, words[2], text) if len(words) == 3 else "out"
    return _Part(text, tower, cast(Point, point), *blocks)


def parse_site(text: str, shape: ModelShape | None = None) -> Site:
    """One site from its name; with ``shape``, its existence is checked.

    Raises UsageError that names the nearest site, or lists what the model has.
    """
    text = bounded(text, "site", 100).strip()
    if "," in text or "+" in text:
        raise UsageError(f"site {shown(text)}: expected one site, such as llm.12")
    part = _parse_part(text, None)
    if part.many:
        raise UsageError(f"site {shown(text)}: expected one site, such as llm.12, not a range")
    return part.sites(shape)[0]


def _items(text: str) -> list[list[_Part]]:
    items: list[list[_Part]] = []
    before: _Part | None = None
    for item in bounded(text, "sites").split(","):
        group: list[_Part] = []
        for word in item.split("+"):
            before = _parse_part(word, before)
            group.append(before)
        if len(group) > 1 and any(part.many for part in group):
            raise UsageError(
                f"sites {shown(item)}: a range stands for one row each and cannot be joined with '+'; "
                "join single blocks, as in llm.12+14"
            )
        items.append(group)
    return items


def check_sites(text: str) -> None:
    """Raise UsageError when ``text`` is no list of sites of any model."""
    _items(text)


def parse_sites(text: str, shape: ModelShape | None) -> list[SiteGroup]:
    """Groups of sites from a list: ``llm.8-20``, ``llm.*``, ``llm.0,4,8``, ``llm.*.mlp``, ``llm.12+14``.

    Each group is one arm of a sweep. ``+`` joins sites into one group, ``,`` separates groups. After the
    first, a bare block number takes the tower and the point before it. Raises UsageError for an unknown
    site, a site named twice, or more than 10,000 groups.
    """
    groups: list[SiteGroup] = []
    for item in _items(text):
        if len(item) == 1:
            groups.extend((site,) for site in item[0].sites(shape))
        else:
            groups.append(tuple(site for part in item for site in part.sites(shape)))
        if len(groups) > MAX_GROUPS:
            raise UsageError(f"sites {shown(text)}: more than {MAX_GROUPS} groups")
    seen: set[SiteGroup] = set()
    for group in groups:
        if len(set(group)) != len(group):
            raise UsageError(f"sites {shown(text)}: the group {format_group(group)} names a site twice")
        if group in seen:
            raise UsageError(f"sites {shown(text)}: {format_group(group)} is named twice")
        seen.add(group)
    return groups


def format_group(group: SiteGroup) -> str:
    """The text that ``parse_sites`` reads back as this one group: ``llm.12+14``."""
    words: list[str] = []
    before: Site | None = None
    for site in group:
        if (
            before is not None
            and site.block is not None
            and before.block is not None
            and (site.tower, site.point) == (before.tower, before.point)
        ):
            words.append(str(site.block))
        else:
            words.append(site.short)
        before = site
    return "+".join(words)


def all_sites(shape: ModelShape) -> list[Site]:
    """Every site of a model, in the order in which a forward pass reaches them."""
    sites: list[Site] = []
    for tower, depth in (("vision", shape.vision_blocks), ("llm", shape.blocks)):
        if not depth:
            continue
        sites.extend(Site(cast(Tower, tower), None, cast(Point, point)) for point in PLAIN_POINTS[tower])
        sites.extend(
            Site(cast(Tower, tower), block, cast(Point, point))
            for block in range(depth)
            for point in BLOCK_POINTS[tower]
        )
    return sorted(sites)


def site_width(site: Site, shape: ModelShape) -> int:
    """How many numbers one position has at a site. (What the merger gives has the decoder's width.)"""
    return shape.vision_width if site.tower == "vision" and site.point != "merged" else shape.width


def other_names(site: Site, shape: ModelShape) -> dict[str, str]:
    """What other tools and papers call this site, by who says so.

    transformers' ``hidden_states`` has one entry more than there are blocks: entry N is the output of
    block N-1, but the last one is taken after the final norm, so the last block's own output has none.
    """
    if site.tower == "vision":
        if site.block is None:
            return {}
        return {"counting from 1": f"vision block {site.block + 1} of {shape.vision_blocks}"}
    names: dict[str, str] = {}
    if site.point == "embed":
        return {"transformers": "hidden_states[0]"}
    if site.point == "norm":
        return {
            "transformers": f"hidden_states[{shape.blocks}]",
            "TransformerLens": "ln_final.hook_normalized",
        }
    assert site.block is not None
    block = site.block
    if site.point == "in":
        if not (0 < block <= shape.deepstack):
            names["transformers"] = f"hidden_states[{block}]"
    elif site.point == "out":
        names["transformers"] = (
            f"hidden_states[{block + 1}]"
            if block + 1 < shape.blocks
            else f"none: hidden_states[{shape.blocks}] is after the final norm"
        )
        names["control vector"] = f"direction.{block}" if block else "direction.0, which llama.cpp leaves out"
    hook = {"in": "hook_resid_pre", "out": "hook_resid_post", "attn": "hook_attn_out", "mlp": "hook_mlp_out"}
    names["TransformerLens"] = f"blocks.{block}.{hook[site.point]}"
    names["counting from 1"] = f"layer {block + 1} of {shape.blocks}"
    return names


def alias_note(name: str, shape: ModelShape) -> str:
    """One line that says which site an alias stands for in this model."""
    if name not in _ALIASES:
        raise UsageError(
            f"{shown(name)} is no alias; expected one of {', '.join(ALIASES)}{did_you_mean(name, ALIASES)}"
        )
    site = _alias(name, shape)
    return f"{name} = {site.short} in this model" + (
        " (image positions)" if name in ("E6", "E7", "E8", "E8n") else ""
    )


def complete_site(prefix: str, shape: ModelShape) -> list[str]:
    """The site names that start with ``prefix``, the short form before the longer ones."""
    names: list[str] = []
    for site in all_sites(shape):
        names.extend(dict.fromkeys([site.short, str(site)]))
    names.extend(
        f"{tower}.*" for tower, depth in (("llm", shape.blocks), ("vision", shape.vision_blocks)) if depth
    )
    order = {name: (len(name.split(".")), i) for i, name in enumerate(names)}
    return sorted((name for name in names if name.startswith(prefix.strip())), key=lambda name: order[name])
