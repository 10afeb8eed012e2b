"""The tables of a diagnosis, read: anatomy by site, landscape by site, cosines by site. No NumPy.

A table is known by its columns, whatever its name. Tables come from files, so a row that lacks what it needs is
passed over, and a value that is no number is absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .tables import Table

Kind = Literal["anatomy", "landscape", "cosines"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "anatomy": ("poles", "site", "reference", "separation", "snr", "split_half"),
    "landscape": ("poles", "site", "group", "point", "x", "y"),
    "cosines": ("site", "a", "b", "cosine"),
}
"""What each table has at least."""
NUMBERS = {
    "reference": "norm",
    "reference_mean": "mean, sinks in",
    "separation": "separation",
    "separation_pct": "% of norm",
    "spread": "spread",
    "snr": "SNR",
    "snr_null": "by chance",
    "split_half": "split-half",
    "accuracy": "accuracy",
    "explained": "explained",
    "cosine": "as stored",
    "pc1": "PC1",
    "pc2": "PC2",
}
"""The numbers of an anatomy's row and how they are headed."""
GROUPS = ("positive", "negative", "neutral")

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Layer:
    """A site of the anatomy: its numbers by column, and why others are absent."""

    site: str
    numbers: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def get(self, column: str) -> float | None:
        return self.numbers.get(column)


@dataclass(frozen=True)
class Spot:
    """A point of the landscape, in activation units."""

    x: float
    y: float
    prompt: str = ""


@dataclass(frozen=True)
class Plane:
    """The landscape of one site: prompts by group, the mean of each group, and the shares of the variance
    along both axes (None where the table lacks them)."""

    site: str
    points: Mapping[str, tuple[Spot, ...]]
    means: Mapping[str, Spot]
    explained: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cosines:
    """Cosines between directions at one site, by pair; a pair that is not there has no cosine."""

    site: str
    names: tuple[str, ...]
    pairs: Mapping[tuple[str, str], float]

    def get(self, one: str, other: str) -> float | None:
        """The cosine of two directions; 1 of one with itself."""
        if one == other:
            return 1.0
        return self.pairs.get((one, other), self.pairs.get((other, one)))


def kind_of(columns: Iterable[str]) -> Kind | None:
    """What a table with these columns is; None for one that is no diagnosis'."""
    there = set(columns)
    return next((kind for kind, needed in COLUMNS.items() if there.issuperset(needed)), None)


def rows_of(table: Table) -> list[dict[str, Any]]:
    """A table's rows as maps; why values are absent stays with them under ``reasons``."""
    return [{**table.row(index), "reasons": table.reasons.get(index, {})} for index in range(table.rows)]


def anatomies(rows: Rows) -> dict[str, list[Layer]]:
    """By poles, the layers in the order of a forward pass; a site that was read again counts as it was last."""
    found: dict[str, dict[str, Layer]] = {}
    for row in rows:
        site, reasons = str(row.get("site") or ""), row.get("reasons")
        if not site:
            continue
        values = {name: number(row.get(name)) for name in NUMBERS}
        found.setdefault(str(row.get("poles") or ""), {})[site] = Layer(
            site,
            {name: value for name, value in values.items() if value is not None},
            dict(reasons) if isinstance(reasons, Mapping) else {},
        )
    return {poles: [layers[site] for site in ordered(layers)] for poles, layers in found.items()}


def planes(rows: Rows) -> dict[str, list[Plane]]:
    """By poles, the landscape of every site, in the order of a forward pass."""
    spots: dict[str, dict[str, dict[tuple[str, str, Any], Spot]]] = {}
    shares: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        x, y, group = number(row.get("x")), number(row.get("y")), row.get("group")
        if x is None or y is None or group not in GROUPS:
            continue
        poles, site = str(row.get("poles") or ""), str(row.get("site"))
        along = number(row.get("explained_x")), number(row.get("explained_y"))
        if along[0] is not None and along[1] is not None:
            shares[poles, site] = along[0], along[1]
        key = (str(group), str(row.get("point")), row.get("number"))
        spots.setdefault(poles, {}).setdefault(site, {})[key] = Spot(x, y, str(row.get("prompt") or ""))
    return {
        poles: [_plane(site, by_site[site], shares.get((poles, site))) for site in ordered(by_site)]
        for poles, by_site in spots.items()
    }


def _plane(
    site: str, spots: Mapping[tuple[str, str, Any], Spot], explained: tuple[float, float] | None
) -> Plane:
    points = {
        group: tuple(spot for (its, point, _), spot in spots.items() if its == group and point == "prompt")
        for group in GROUPS
    }
    means = {group: spot for (group, point, _), spot in spots.items() if point == "mean"}
    return Plane(site, {group: found for group, found in points.items() if found}, means, explained)


def cosine_maps(rows: Rows) -> list[Cosines]:
    """The cosines of every site, in the order of a forward pass."""
    pairs: dict[str, dict[tuple[str, str], float]] = {}
    names: dict[str, None] = {}
    for row in rows:
        one, other, value = str(row.get("a") or ""), str(row.get("b") or ""), number(row.get("cosine"))
        if not one or not other:
            continue
        names.update(dict.fromkeys((one, other)))
        here = pairs.setdefault(str(row.get("site")), {})
        if value is not None:
            here[one, other] = value
    return [Cosines(site, tuple(names), pairs[site]) for site in ordered(pairs)]


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


_POINTS = ("in", "attn", "mlp", "out")


def ordered(sites: Iterable[str]) -> list[str]:
    """Site names in the order of a forward pass: the embeddings first, the final norm last."""
    return sorted(sites, key=_depth)


def _depth(site: str) -> tuple[bool, int, int, str]:
    match = re.fullmatch(r"(vision|llm)\.(\d{1,6})(?:\.(in|attn|mlp|out))?", site)
    if match is None:
        return not site.startswith("vision."), -1 if site.endswith("embed") else 1 << 30, 0, site
    return match[1] != "vision", int(match[2]), _POINTS.index(match[3] or "out"), site


def steps(sites: Sequence[str]) -> tuple[list[float], str]:
    """Where sites stand on an axis, and what the axis counts: blocks, where all are the same point of one; else
    empty, and sites stand at 0, 1, 2, ..."""
    found = [re.fullmatch(r"(vision|llm)\.(\d{1,6})(?:\.(in|attn|mlp|out))?", site) for site in sites]
    kinds = {(match[1], match[3]) for match in found if match is not None}
    if sites and len(kinds) == 1 and all(found):
        tower, point = kinds.pop()
        return [float(match[2]) for match in found if match], f"{tower} block" + (
            f" .{point}" if point else ""
        )
    return [float(index) for index in range(len(sites))], ""


def spaced(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, both ends among them, evenly spread."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})
