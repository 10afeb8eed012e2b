"""The tables of a look at a picture, read: by site and merged patch. No NumPy.

A table is known by its columns, whatever its name. Tables come from files, so a row that lacks what it needs is passed
over, and a value that is no number is absent. Patches are counted raster over the merged grid, from 0.
"""

from __future__ import annotations

import base64
import binascii
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .diagnosis import number, ordered
from .markdown import cell, grid, line
from .tables import Table

Kind = Literal["patches", "depth", "similar", "scores", "readings", "neighbours", "effect", "attention"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "patches": ("site", "patch", "row", "col", "norm"),
    "depth": ("site", "median", "lowest", "highest"),
    "similar": ("site", "patch", "cosines"),
    "scores": ("site", "patch", "direction", "projection", "cosine", "rank"),
    "readings": ("site", "patch", "reading", "tokens", "values"),
    "neighbours": ("site", "patch", "how", "hits"),
    "effect": ("site", "patch", "change", "share"),
    "attention": ("site", "position", "word", "weights"),
}
"""What each table has at least."""
READINGS = {
    "embedding": "word embeddings, cosine",
    "unembedding": "unembedding rows, cosine",
    "lens": "logit lens, probability",
}
"""The three static readings, and what their numbers are."""
HOW = ("raw", "centred")
MAX_COLS, MAX_LINES = 16, 24
"""Columns and rows of a picture's patches on a page."""
ANSWER = "(answer)"
"""In place of a word: the prompt's last token, from which the answer begins."""

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Hit:
    """A neighbour: a token of a caption, the site where its state was read, and how near it is."""

    token: str
    caption: str
    site: str
    cosine: float
    position: int | None = None
    span: tuple[int, int] | None = None
    """The characters of the caption that the token covers."""


@dataclass(frozen=True)
class Score:
    """Where a patch stands along a direction: h·v/|v|, its cosine, its rank from 1 among the picture's patches, and the
    share of the others below it in %."""

    projection: float
    cosine: float | None = None
    rank: int | None = None
    percentile: float | None = None


@dataclass(frozen=True)
class Depth:
    """All patches at a site: their norms' median and ends, and their mean cosine to each other."""

    site: str
    median: float
    lowest: float
    highest: float
    alike: float | None = None


def kind_of(columns: Iterable[str]) -> Kind | None:
    """What a table with these columns is; None for one that is no look's."""
    there = set(columns)
    return next((kind for kind, needed in COLUMNS.items() if there.issuperset(needed)), None)


def pack(cosines: Sequence[float]) -> str:
    """Cosines in a byte each (to 1/127), as text that a table can hold."""
    return base64.b64encode(
        array("b", [max(-127, min(127, round(127 * one))) for one in cosines]).tobytes()
    ).decode()


def unpack(text: Any) -> tuple[float, ...]:
    """What :func:`pack` was given, as precise as it kept it; empty for what it did not write."""
    if not isinstance(text, str):
        return ()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ()
    return tuple(one / 127 for one in array("b", raw))


def pack_half(values: Sequence[float]) -> str:
    """Numbers in half precision, as text that a table can hold."""
    return base64.b64encode(struct.pack(f"<{len(values)}e", *values)).decode()


def unpack_half(text: Any) -> tuple[float, ...]:
    """What :func:`pack_half` was given, to three digits; empty for what it did not write."""
    if not isinstance(text, str):
        return ()
    try:
        raw = base64.b64decode(text, validate=True)
        return struct.unpack(f"<{len(raw) // 2}e", raw)
    except (binascii.Error, ValueError, struct.error):
        return ()


def by_patch(rows: Rows, column: str, count: int) -> tuple[float | None, ...]:
    """A column's numbers in the order of the patches; None where there is none."""
    found: list[float | None] = [None] * count
    for row in rows:
        patch = row.get("patch")
        if isinstance(patch, int) and 0 <= patch < count:
            found[patch] = number(row.get(column))
    return tuple(found)


def by_site(rows: Rows, column: str) -> dict[str, float]:
    """A column's numbers by site, in the order of a forward pass."""
    found = {str(row.get("site") or ""): number(row.get(column)) for row in rows}
    return {site: value for site in ordered(s for s in found if s) if (value := found[site]) is not None}


def similar_to(rows: Rows, patch: int, count: int) -> tuple[float | None, ...]:
    """The cosines of all patches to one, at the site that the rows are of."""
    for row in rows:
        if row.get("patch") == patch:
            found = unpack(row.get("cosines"))
            if len(found) == count:
                return found
    return (None,) * count


def words(rows: Rows) -> dict[int, str]:
    """The words whose attention is told, by position in the prompt, in order."""
    found = {
        row["position"]: str(row.get("word") or "") for row in rows if isinstance(row.get("position"), int)
    }
    return {position: found[position] for position in sorted(found)}


def attention_of(rows: Rows, position: int, count: int) -> tuple[float | None, ...]:
    """A word's attention to all patches, at the site that the rows are of."""
    for row in rows:
        if row.get("position") == position:
            found = tuple(number(value) for value in unpack_half(row.get("weights")))
            if len(found) == count:
                return found
    return (None,) * count


def depths(rows: Rows) -> list[Depth]:
    """Every site, in the order of a forward pass."""
    found: dict[str, Depth] = {}
    for row in rows:
        site = str(row.get("site") or "")
        ends = number(row.get("median")), number(row.get("lowest")), number(row.get("highest"))
        if site and ends[0] is not None and ends[1] is not None and ends[2] is not None:
            found[site] = Depth(site, ends[0], ends[1], ends[2], number(row.get("alike")))
    return [found[site] for site in ordered(found)]


def scores(rows: Rows, patch: int) -> dict[str, dict[str, Score]]:
    """By direction, then site in the order of a forward pass, the scores of one patch."""
    found: dict[str, dict[str, Score]] = {}
    for row in rows:
        site, name = str(row.get("site") or ""), str(row.get("direction") or "")
        projection, rank = number(row.get("projection")), row.get("rank")
        if row.get("patch") == patch and site and name and projection is not None:
            found.setdefault(name, {})[site] = Score(
                projection,
                number(row.get("cosine")),
                rank if isinstance(rank, int) else None,
                number(row.get("percentile")),
            )
    return {name: {site: of[site] for site in ordered(of)} for name, of in found.items()}


def readings(rows: Rows, patch: int) -> dict[str, list[tuple[str, float]]]:
    """By reading, the nearest words of one patch with their numbers, best first."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        tokens, values = row.get("tokens"), row.get("values")
        if row.get("patch") != patch or not isinstance(tokens, list) or not isinstance(values, list):
            continue
        pairs = [(str(token), number(value)) for token, value in zip(tokens, values, strict=False)]
        found[str(row.get("reading"))] = [(token, value) for token, value in pairs if value is not None]
    return {name: found[name] for name in READINGS if name in found}


def neighbours(rows: Rows, how: str) -> dict[str, list[Hit]]:
    """By site, in the order of a forward pass, the hits of one patch, best first."""
    found: dict[str, list[Hit]] = {}
    for row in rows:
        hits = row.get("hits")
        if row.get("how") == how and isinstance(hits, list) and row.get("site"):
            found[str(row["site"])] = [hit for one in hits if (hit := _hit(one)) is not None]
    return {site: found[site] for site in ordered(found)}


def _hit(one: Any) -> Hit | None:
    if not isinstance(one, Mapping) or (cosine := number(one.get("cosine"))) is None:
        return None
    position, span = one.get("position"), one.get("span")
    ends = tuple(span) if isinstance(span, list | tuple) and len(span) == 2 else ()
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
    return Hit(
        str(one.get("token") or ""),
        str(one.get("caption") or ""),
        str(one.get("site") or ""),
        cosine,
        position if isinstance(position, int) else None,
        (ends[0], ends[1]) if ends and whole else None,
    )


# -- on a page ----------------------------------------------------------------------------------------


def unpacked(table: Table) -> Table:
    """The table with its packed columns as lists of numbers, for other programs."""
    packed = {"similar": ("cosines", unpack), "attention": ("weights", unpack_half)}.get(
        kind_of(table.columns) or ""
    )
    if packed is None:
        return table
    name, read = packed
    made = Table(table.name)
    for index in range(table.rows):
        row = table.row(index)
        numbers = [round(value, 6) for value in read(row.get(name))]
        made.add("", str(index), [{**row, name: numbers if numbers else row.get(name)}])
    return made


def head_of(table: Table) -> str:
    """A line that says what a look's table is."""
    kind = kind_of(table.columns)
    patches = len(set(table.columns["patch"].values)) if "patch" in table.columns else 0
    said = {
        "patches": "norm of each patch",
        "depth": "all patches, site by site",
        "similar": "cosines between patches",
        "scores": "scores along directions",
        "readings": "static readings",
        "neighbours": "contextual neighbours",
        "effect": "what the edit did to each patch",
        "attention": "attention from words of the prompt",
    }
    if kind == "patches" and (sites := ordered({str(site) for site in table.columns["site"].values if site})):
        said["patches"] += f" at {sites[-1]}"
    return f"{said.get(kind or 'patches')}" + (f", {patches} patches" if patches else "")


def as_rows(table: Table) -> list[dict[str, Any]]:
    """A look's table, short: a row a site, or the picture's patches as they lie. The whole table is exported."""
    kind = kind_of(table.columns)
    rows = [table.row(index) for index in range(table.rows)]
    if kind == "patches":
        return list(_grid(rows))
    if kind == "similar":
        return [_alike(site, of) for site, of in _sites(rows).items()]
    if kind == "depth":
        return [_depth_row(one) for one in depths(rows)]
    if kind == "effect":
        return [_largest(site, "change", of) for site, of in _sites(rows).items()]
    if kind == "scores":
        return [row for site, of in _sites(rows).items() for row in _scored(site, of)]
    if kind == "attention":
        return [_attends(site, of) for site, of in _sites(rows).items()]
    if kind == "readings":
        return [_first(site, of) for site, of in _sites(rows).items()]
    if kind == "neighbours":
        return [row for site, of in _sites(rows).items() for row in _nearest(site, of)]
    return []


def _depth_row(one: Depth) -> dict[str, Any]:
    norms = {"norm": one.median, "lowest": one.lowest, "highest": one.highest}
    rounded = {name: round(value, 2) for name, value in norms.items()}
    return {"site": one.site, **rounded, "alike": None if one.alike is None else round(one.alike, 3)}


def page_of(table: Table) -> Iterator[str]:
    """A look's table in a report: what it is, then a row a site where it has such."""
    head = line(head_of(table))
    yield f"{head[:1].upper()}{head[1:]}."
    yield ""
    if rows := as_rows(table):
        names = list(dict.fromkeys(name for row in rows for name in row))
        yield from grid(names, [[cell(row.get(name)) for name in names] for row in rows])
        yield ""


def _sites(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row.get("site") or ""), []).append(row)
    return {site: found[site] for site in ordered(found)}


def _grid(rows: Rows) -> Iterator[dict[str, Any]]:
    """The patches' norms as they lie in the picture, at the last site."""
    site, of = next(reversed(_sites(rows).items()), ("", []))
    lines: dict[int, dict[int, float]] = {}
    for row in of:
        at, col, value = row.get("row"), row.get("col"), number(row.get("norm"))
        if type(at) is int and type(col) is int and value is not None and 0 <= col < MAX_COLS:
            lines.setdefault(at, {})[col] = round(value, 1)
    for at in sorted(lines)[:MAX_LINES]:
        yield {"site": site, "row": at, **{f"col {col}": lines[at][col] for col in sorted(lines[at])}}


def _alike(site: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean cosine of two patches, and the two that are most and least alike."""
    pairs = [
        (cosine, f"{patch} and {other}")
        for row in rows
        if type(patch := row.get("patch")) is int
        for other, cosine in enumerate(unpack(row.get("cosines")))
        if patch < other
    ]
    if not pairs:
        return {"site": site}
    most, least = max(pairs), min(pairs)
    mean = sum(cosine for cosine, _ in pairs) / len(pairs)
    return {
        **{"site": site, "mean": round(mean, 3), "most": round(most[0], 3), "patches": most[1]},
        **{"least": round(least[0], 3), "of patches": least[1]},
    }


def _largest(site: str, column: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [(value, row.get("patch")) for row in rows if (value := number(row.get(column))) is not None]
    if not values:
        return {"site": site}
    most = max(values, key=lambda one: one[0])
    mean = sum(value for value, _ in values) / len(values)
    return {
        "site": site,
        f"mean {column}": round(mean, 3),
        f"largest {column}": round(most[0], 3),
        "at patch": most[1],
    }


def _scored(site: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each direction's mean projection over the patches, and the patch that has the largest."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("direction"):
            found.setdefault(str(row["direction"]), []).append(row)
    return [
        {
            "site": site,
            "direction": name,
            **{k: v for k, v in _largest(site, "projection", of).items() if k != "site"},
        }
        for name, of in found.items()
    ]


def _attends(site: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The share of its attention that the average word and the answer's beginning give the picture."""
    sums = {str(row.get("word")): sum(unpack_half(row.get("weights"))) for row in rows}
    most = max(sums, key=lambda word: sums[word], default="")
    return {
        "site": site,
        "words": round(sum(sums.values()) / max(1, len(sums)), 4),
        "answer": round(sums.get(ANSWER, 0.0), 4),
        "most": most.strip(),
        "its share": round(sums.get(most, 0.0), 4),
    }


def _first(site: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The words that most patches have first, reading by reading."""
    found: dict[str, Any] = {"site": site}
    for name in READINGS:
        counts: dict[str, int] = {}
        for row in rows:
            tokens = row.get("tokens")
            if row.get("reading") == name and isinstance(tokens, list) and tokens:
                counts[str(tokens[0])] = counts.get(str(tokens[0]), 0) + 1
        best = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:3]
        found[name] = ", ".join(f"{token.strip() or repr(token)} x{count}" for token, count in best)
    return found


def _nearest(site: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for how in HOW:
        hits = [(hit, row.get("patch")) for row in rows for hit in neighbours([row], how).get(site, [])[:1]]
        if hits:
            hit, patch = max(hits, key=lambda one: one[0].cosine)
            found.append({"site": site, "how": how, "patch": patch, "cosine": round(hit.cosine, 3), "at": hit.site,
                          "token": hit.token.strip(), "caption": hit.caption[:60]})  # fmt: skip
    return found
