"""What pictures' tokens mean, as text: the tables of a ``vision-tokens`` job and of an index, for terminals and reports.

A table is known by its columns, whatever its name. Tables come from files, so a row that lacks what it needs is passed
over, and a value that is no number is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from .diagnosis import number, ordered, rows_of, spaced
from .markdown import section
from .tables import Table

Kind = Literal["pictures", "norms", "depth", "tokens", "layers", "index"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "pictures": ("image", "digest", "grid", "rows", "cols", "tokens"),
    "norms": ("image", "site", "norm", "norm_least", "norm_most", "similarity"),
    "depth": ("site", "tokens", "norm", "similarity", "similarity_across"),
    "tokens": ("image", "site", "row", "col", "reading", "token", "score", "hits"),
    "layers": ("site", "reading", "tokens", "score", "distinct", "match"),
    "index": ("index", "site", "vectors", "mean_norm", "similarity"),
}
"""What each table has at least."""
MAX_SITES = 8
MAX_PICTURES = 24
MAX_GRIDS = 3
MAX_COLS = 16
READINGS = ("centred", "raw", "lens", "unembedding", "embedding")
"""Which reading a page shows of a table of tokens: the first that it has."""


def kind_of(table: Table) -> Kind | None:
    """What a table is; None for one of something else."""
    there = set(table.columns)
    return next((kind for kind, needed in COLUMNS.items() if there.issuperset(needed)), None)


def head_of(table: Table) -> str:
    """What a table is, on one line."""
    kind, rows = kind_of(table), rows_of(table)
    if kind == "pictures":
        return f"{_count(len(rows), 'picture')}, {sum(int(number(row.get('tokens')) or 0) for row in rows)} tokens"
    if kind == "norms":
        return "median norms of each picture's tokens by site"
    if kind == "depth":
        return "norms and similarity of pictures' tokens over the depth"
    if kind == "tokens":
        reading, site = _shown(rows)
        some, few = len(_images(rows)), ""
        if some > MAX_GRIDS:
            few = f"the first {MAX_GRIDS} of "
        return f"nearest word of each token, {reading} at {site}, {few}{_count(some, 'picture')}; * names its region"
    if kind == "index":
        return f"index of text {', '.join(sorted({str(row.get('index')) for row in rows}))}"
    return "readings of pictures' tokens by site"


def as_rows(table: Table) -> list[dict[str, Any]]:
    """A table for a terminal: what there is of it in few columns and lines."""
    kind, rows = kind_of(table), rows_of(table)
    if kind == "pictures":
        return [_picture(row) for row in rows[:MAX_PICTURES]]
    if kind == "norms":
        return _norms(rows)
    if kind == "tokens":
        return list(_grids(rows))
    if kind == "layers":
        return [_layer(row) for row in rows]
    names = (
        "site",
        "hidden_state",
        "vectors",
        "tokens",
        "norm",
        "norm_mean",
        "similarity",
        "similarity_across",
    )
    return [{name: row[name] for name in names if row.get(name) is not None} for row in rows]


def page_of(table: Table) -> Iterator[str]:
    """The Markdown of a table."""
    kind = kind_of(table)
    yield from section(
        head_of(table), _METHOD.get(kind, "") if kind else "", as_rows(table), table.reasons.values()
    )


def _picture(row: Mapping[str, Any]) -> dict[str, Any]:
    digest = str(row.get("digest") or "").removeprefix("sha256:")[:12]
    size = f"{row.get('width')}x{row.get('height')}"
    names = ("resized", "grid", "tokens", "labels", "labelled")
    return {
        "image": row.get("image"),
        "digest": digest,
        "size": size,
        **{name: row.get(name) for name in names},
    }


def _norms(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line a picture, a column a site."""
    sites = ordered({str(row.get("site")) for row in rows if row.get("site")})
    shown = [sites[index] for index in spaced(len(sites), MAX_SITES)]
    found: dict[Any, dict[str, Any]] = {}
    for row in rows:
        if row.get("site") in shown:
            found.setdefault(row.get("image"), {})[str(row["site"])] = number(row.get("norm"))
    return [
        {"image": image, **{site: norms.get(site) for site in shown}}
        for image, norms in [*found.items()][:MAX_PICTURES]
    ]


def _layer(row: Mapping[str, Any]) -> dict[str, Any]:
    sites = row.get("hit_sites")
    found: dict[str, Any] = {
        "reading": row.get("reading"),
        "site": row.get("site"),
        "score": number(row.get("score")),
        "shuffled": number(row.get("null")),
        "above 95%": _share(row.get("above")),
        "distinct": row.get("distinct"),
        "changed": _share(row.get("changed")),
        "match": _match(row, "match"),
        "match, shuffled": _share(row.get("match_shuffled")),
        "by chance": _share(row.get("match_chance_95")),
        "any match": _share(row.get("match_any")),
        "any by chance": _share(row.get("match_any_chance_95")),
        "hits at": _sites(sites) if isinstance(sites, Mapping) else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _match(row: Mapping[str, Any], name: str) -> str | None:
    low, high = number(row.get(f"{name}_low")), number(row.get(f"{name}_high"))
    rate = _share(row.get(name))
    return rate if rate is None or low is None or high is None else f"{rate} [{low:.0%}, {high:.0%}]"


def _sites(shares: Mapping[str, Any]) -> str:
    known = [(str(site), value) for site, share in shares.items() if (value := number(share)) is not None]
    best = sorted(known, key=lambda one: -one[1])[:3]
    return ", ".join(f"{site} {share:.0%}" for site, share in best)


def _share(value: Any) -> str | None:
    found = number(value)
    return None if found is None else f"{found:.0%}"


def _images(rows: list[dict[str, Any]]) -> list[Any]:
    return list(dict.fromkeys(row.get("image") for row in rows))


def _shown(rows: list[dict[str, Any]]) -> tuple[str, str]:
    """The reading and the site of a table of tokens that a page shows: the last site it was read at."""
    there = {str(row.get("reading")) for row in rows}
    reading = next((name for name in READINGS if name in there), "")
    sites = ordered(str(row["site"]) for row in rows if row.get("reading") == reading and row.get("site"))
    return reading, sites[-1] if sites else ""


def _grids(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each picture's tokens as they lie in it."""
    reading, site = _shown(rows)
    for image in _images(rows)[:MAX_GRIDS]:
        own = [r for r in rows if (r.get("image"), r.get("reading"), r.get("site")) == (image, reading, site)]
        lines: dict[int, dict[str, Any]] = {}
        for row in own:
            at, col = row.get("row"), row.get("col")
            if type(at) is int and type(col) is int and 0 <= col < MAX_COLS:
                word, mark = (
                    row.get("word") or row.get("token") or "",
                    "*" if row.get("match") is True else "",
                )
                lines.setdefault(at, {})[f"col {col}"] = str(word).strip() + mark
        for at in sorted(lines):
            yield {"image": image, "row": at, **dict(sorted(lines[at].items(), key=lambda c: int(c[0][4:])))}


def _count(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"


_METHOD: dict[Kind | None, str] = {
    "depth": (
        "Norm: the median over the tokens of all pictures. Similarity: the mean cosine of two tokens of one picture; "
        "across: of two tokens of different pictures."
    ),
    "layers": (
        "Raw and centred: cosine to the nearest text in the index, over all of its layers together, as it is and with "
        "each site's mean taken out; embedding and unembedding: cosine to the rows of these matrices; lens: the largest "
        "probability of the logit lens. Score: the median of the best; shuffled: the same for pictures with their patches "
        "in random places; above 95%: the share of tokens that score above the 95th percentile of those. Distinct: how "
        "many words are nearest to some token; changed: the share whose nearest word is another than at the site before. "
        "Match: the share of labelled tokens whose nearest word describes their region, its 95% interval by resampling "
        "pictures, the same in those shuffled pictures, and the 95th percentile of chance (regions get the words of another "
        "picture's); any: one of the "
        "nearest words does. Hits at: the layers of the index that the nearest are from."
    ),
    "tokens": "As they lie in the picture. The table has every token, site and reading, with more neighbours.",
    "index": "Norm: the median over all vectors. Similarity: the mean cosine of two vectors of one site.",
}
