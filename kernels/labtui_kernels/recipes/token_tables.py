"""The rows of the tables of ``vision-tokens``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..lang.shape import ModelShape
from ..lang.sites import Site, other_names, parse_site
from ..neighbours.exact import Hits
from ..neighbours.regions import plain, share
from ..neighbours.search import Hit, IndexSearch

if TYPE_CHECKING:
    from .vision_tokens import Seen

FEW = "a picture of one token has no pairs"


@dataclass(frozen=True)
class Measured:
    """Norms [tokens] of one picture's tokens at a site, and the sum of their unit vectors [d]."""

    norms: np.ndarray
    units: np.ndarray

    @property
    def similarity(self) -> float | None:
        """The mean cosine of two different tokens: (|sum of units|^2 - n) / (n(n - 1)); None for one token."""
        n = len(self.norms)
        return None if n < 2 else float((self.units @ self.units - n) / (n * (n - 1)))


def measure(states: torch.Tensor) -> Measured:
    """Of states float32 [tokens, d]."""
    exact = states.double()
    norms = exact.norm(dim=1)
    units = (exact / norms.clamp_min(1e-30)[:, None]).sum(0)
    return Measured(norms.numpy(), units.numpy())


@dataclass(frozen=True)
class Near:
    """One neighbour: its token's text, the word it is of, and for one of an index its site and marked caption."""

    token: str
    word: str
    score: float
    site: str = ""
    caption: str = ""

    def as_hit(self) -> dict[str, Any]:
        where = {"at": self.site, "caption": self.caption} if self.site else {}
        return {"token": self.token, "score": round(self.score, 6), **where}


@dataclass(frozen=True)
class Read:
    """One reading of all tokens at a site: their neighbours, best first, and the best scores of shuffled pictures."""

    near: list[list[Near]]
    null: np.ndarray
    null_words: list[str]
    """And their best words, picture by picture, copy by copy."""
    depth: float | None
    """The mean depth of the best hits: 0 at the embeddings, 1 after the last block; None without an index."""

    @property
    def words(self) -> list[str]:
        """Each token's best word."""
        return [plain(found[0].word) if found else "" for found in self.near]


def reading_of(hits: Hits, nulls: Hits, tell: Any, shape: ModelShape) -> Read:
    """What hits are, told by the index that was searched or by the tokenizer; ``nulls`` are those of shuffled pictures."""
    near = []
    null, best = nulls.scores[:, 0], nulls.numbers[:, 0]
    numbered = np.unique(np.concatenate([hits.numbers.ravel(), best]))
    if isinstance(tell, IndexSearch):
        known: dict[int, Hit] = {}
        for number in numbered:
            if number >= 0:
                (known[int(number)],) = tell.hits(np.array([number]))
        for numbers, scores in zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True):
            there = [(known[n], score) for n, score in zip(numbers, scores, strict=True) if n >= 0]
            near.append([Near(hit.token, hit.word, score, hit.site, hit.marked) for hit, score in there])
        depths = [_depth(found[0].site, shape) for found in near if found]
        words = [plain(known[n].word) if n >= 0 else "" for n in best.tolist()]
        return Read(near, null, words, float(np.mean(depths)) if depths else None)
    texts = {int(n): tell.decode([int(n)]) for n in numbered if n >= 0}
    for numbers, scores in zip(hits.numbers.tolist(), hits.scores.tolist(), strict=True):
        there = [(texts[n], score) for n, score in zip(numbers, scores, strict=True) if n >= 0]
        near.append([Near(text, text.strip(), score) for text, score in there])
    return Read(near, null, [plain(texts[n]) if n >= 0 else "" for n in best.tolist()], None)


def _depth(site: str, shape: ModelShape) -> float:
    found = parse_site(site, shape)
    if found.block is None:
        return 0.0 if found.point == "embed" else 1.0
    return (found.block + (found.point == "out")) / shape.blocks


def picture_rows(pictures: Sequence[Seen]) -> list[dict[str, Any]]:
    """A row a picture."""
    rows = []
    for one in pictures:
        pixels = one.prompt.pixels[0]
        rows.append(
            {
                "image": one.number,
                "digest": one.name,
                "width": pixels.size[0],
                "height": pixels.size[1],
                "resized": f"{pixels.resized[0]}x{pixels.resized[1]}",
                "grid": "x".join(map(str, pixels.grid)),
                "rows": pixels.rows,
                "cols": pixels.cols,
                "tokens": one.tokens,
                "labels": len(one.regions),
                "labelled": sum(mark is not None for mark in one.labels),
            }
        )
    return rows


def norm_rows(one: Seen, sites: Sequence[Site]) -> list[dict[str, Any]]:
    """A row a site: norms and self-similarity of one picture's tokens."""
    rows = []
    for site in sites:
        found = one.measured[site]
        row = {
            "image": one.number,
            "site": site.short,
            "norm": float(np.median(found.norms)),
            "norm_mean": float(found.norms.mean()),
            "norm_least": float(found.norms.min()),
            "norm_most": float(found.norms.max()),
            "similarity": found.similarity,
        }
        rows.append(row if found.similarity is not None else {**row, "reasons": {"similarity": FEW}})
    return rows


def depth_rows(pictures: Sequence[Seen], sites: Sequence[Site], shape: ModelShape) -> list[dict[str, Any]]:
    """A row a site over all pictures; similarity within a picture, and between tokens of different pictures."""
    rows = []
    for site in sites:
        found = [one.measured[site] for one in pictures]
        norms = np.concatenate([each.norms for each in found])
        within = [each.similarity for each in found if each.similarity is not None]
        across = _across(found)
        row: dict[str, Any] = {
            "site": site.short,
            "hidden_state": other_names(site, shape).get("transformers", ""),
            "tokens": len(norms),
            "norm": float(np.median(norms)),
            "norm_mean": float(norms.mean()),
            "similarity": float(np.mean(within)) if within else None,
            "similarity_across": across,
        }
        reasons = {"similarity": FEW, "similarity_across": "one picture has no others"}
        absent = {name: why for name, why in reasons.items() if row[name] is None}
        rows.append({**row, "reasons": absent} if absent else row)
    return rows


def _across(found: Sequence[Measured]) -> float | None:
    """The mean cosine of two tokens of different pictures; None for one picture."""
    if len(found) < 2:
        return None
    total = np.sum([each.units for each in found], axis=0)
    counts = np.array([len(each.norms) for each in found], dtype=float)
    own = sum(float(each.units @ each.units) for each in found)
    return float((total @ total - own) / (counts.sum() ** 2 - (counts**2).sum()))


def token_rows(one: Seen, site: Site, reading: str, read: Read, first: int) -> list[dict[str, Any]]:
    """A row a token of one picture, whose tokens are ``first`` and on in ``read``."""
    pixels = one.prompt.pixels[0]
    rows = []
    for number in range(one.tokens):
        row, col = divmod(number, pixels.cols)
        near, mark = read.near[first + number], one.labels[number]
        best = near[0] if near else None
        found: dict[str, Any] = {
            "image": one.number,
            "site": site.short,
            "row": row,
            "col": col,
            "reading": reading,
            "norm": float(one.measured[site].norms[number]),
            "token": best.token if best else None,
            "word": best.word if best else None,
            "score": best.score if best else None,
            "hits": [each.as_hit() for each in near],
            "label": " ".join(one.regions[mark].words) if mark is not None else "",
        }
        if best is not None and best.site:
            found |= {"at": best.site, "caption": best.caption}
        if mark is not None:
            names = one.regions[mark].names
            found["match"] = best is not None and plain(best.word) in names
            found["match_any"] = any(plain(each.word) in names for each in near)
        rows.append(found)
    return rows


def layer_row(
    pictures: Sequence[Seen], site: Site, reading: str, read: Read, before: Sequence[str] | None, seed: int
) -> dict[str, Any]:
    """One site in one reading, over all tokens. ``before`` are the best words at the site before it."""
    scores = np.array([found[0].score for found in read.near if found])
    threshold = float(np.quantile(read.null, 0.95)) if len(read.null) else None
    words = read.words
    row: dict[str, Any] = {
        "site": site.short,
        "reading": reading,
        "tokens": len(read.near),
        "score": float(np.median(scores)) if len(scores) else None,
        "null": float(np.median(read.null)) if len(read.null) else None,
        "null_95": threshold,
        "above": float((scores > threshold).mean()) if threshold is not None and len(scores) else None,
        "distinct": len(set(words)),
        "changed": float(np.mean([a != b for a, b in zip(words, before, strict=True)])) if before else None,
        **_matches(pictures, read, seed),
    }
    if read.depth is not None:
        counts = Counter(found[0].site for found in read.near if found)
        row["hit_depth"] = read.depth
        row["hit_sites"] = {
            at: count / len(read.near) for at, count in sorted(counts.items(), key=lambda c: -c[1])
        }
    return _with_reasons(row, pictures)


def _matches(pictures: Sequence[Seen], read: Read, seed: int) -> dict[str, Any]:
    near: list[list[frozenset[str]]] = []
    first = 0
    for one in pictures:
        own = read.near[first : first + one.tokens]
        near.append([frozenset(plain(each.word) for each in found) for found in own])
        first += one.tokens
    labels, regions = [one.labels for one in pictures], [one.regions for one in pictures]
    among = share(near, labels, regions, seed)
    first = 0
    tops: list[list[frozenset[str]]] = []
    for one in pictures:
        tops.append([frozenset([word]) for word in read.words[first : first + one.tokens]])
        first += one.tokens
    best = share(tops, labels, regions, seed)
    return {
        "labelled": among.tokens,
        "match": best.rate,
        "match_low": best.low,
        "match_high": best.high,
        "match_shuffled": _shuffled_match(pictures, read),
        "match_chance": best.chance,
        "match_chance_95": best.chance_95,
        "match_any": among.rate,
        "match_any_chance": among.chance,
        "match_any_chance_95": among.chance_95,
    }


def _shuffled_match(pictures: Sequence[Seen], read: Read) -> float | None:
    """The share of labelled places whose nearest word names their region where the patches are in random places."""
    tokens = sum(one.tokens for one in pictures)
    copies = len(read.null_words) // tokens if tokens else 0
    found: list[bool] = []
    first = 0
    for one in pictures:
        for _ in range(copies):
            words = read.null_words[first : first + one.tokens]
            first += one.tokens
            marked = ((word, mark) for word, mark in zip(words, one.labels, strict=True) if mark is not None)
            found += [word in one.regions[mark].names for word, mark in marked]
    return float(np.mean(found)) if found else None


def _with_reasons(row: dict[str, Any], pictures: Sequence[Seen]) -> dict[str, Any]:
    unlabelled = "no token has a label"
    alone = unlabelled if not row["labelled"] else "one picture has no others"
    reasons = {
        "score": "nothing was found",
        "null": "no shuffled pictures were asked for",
        "null_95": "no shuffled pictures were asked for",
        "above": "no shuffled pictures were asked for",
        "changed": "the first site that is read",
        "match": unlabelled,
        "match_any": unlabelled,
        "match_shuffled": "no shuffled pictures were asked for" if row["labelled"] else unlabelled,
        **dict.fromkeys(
            (
                "match_low",
                "match_high",
                "match_chance",
                "match_chance_95",
                "match_any_chance",
                "match_any_chance_95",
            ),
            alone,
        ),
    }
    absent = {name: why for name, why in reasons.items() if row.get(name) is None}
    return {**row, "reasons": absent} if absent else row
