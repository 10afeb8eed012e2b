"""What every exchange format has in common: what is read from a file, and how layers are named.

All formats but our own number layers in their own way. Each module states its convention in ``CONVENTION``
and turns it into our sites here, so that an off-by-one has one place to hide in, and a test that looks there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.files import Array
from labtui_artifacts.header import open_regular
from labtui_artifacts.kinds.direction import SITE, DirectionFile, shorten

MAX_LAYER = 9999
ROWS = ("blocks", "hidden-states")
_BLOCK_OUTPUT = re.compile(r"llm\.(\d+)\.out")


@dataclass(frozen=True)
class Reading:
    """How to read a file that does not say its sites: the one site of a single vector, and what a row of a
    stack is: ``blocks`` (row k is the output of block k) or ``hidden-states`` (row k is transformers'
    ``hidden_states[k]``: the embeddings, then block k - 1, the last one after the final norm)."""

    site: str | None = None
    rows: str = "blocks"

    def __post_init__(self) -> None:
        if self.rows not in ROWS:
            raise UsageError(f"rows {self.rows!r}: expected one of {', '.join(ROWS)}")
        if self.site is not None and not SITE.fullmatch(self.site):
            raise UsageError(f"{self.site!r} is no site, expected one like llm.12.out")


@dataclass(frozen=True)
class Imported:
    """What a file holds: vectors by site, what else it said, and lines the user should read."""

    vectors: dict[str, Array]
    said: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def block_output(layer: int, where: str) -> str:
    """The site of the output of block ``layer`` (0-based)."""
    if not 0 <= layer <= MAX_LAYER:
        raise BadFile(f"{where}: layer {layer} is out of range, expected 0 to {MAX_LAYER}")
    return f"llm.{layer}.out"


def stack_sites(count: int, rows: str) -> list[str]:
    """The sites of the rows of a stack of ``count`` vectors (see ``Reading``)."""
    if rows == "blocks":
        return [f"llm.{layer}.out" for layer in range(count)]
    if count < 3:
        raise UsageError(
            f"{count} rows are no hidden_states: expected the embeddings, the blocks and the norm"
        )
    return ["llm.embed", *(f"llm.{row - 1}.out" for row in range(1, count - 1)), "llm.norm"]


def from_array(array: Array, reading: Reading, where: str) -> Imported:
    """A direction from a bare array: [d] at ``reading.site``, or [n, d] as a stack."""
    value = as_float32(array, where)
    if value.ndim == 2 and value.shape[0] == 1 and reading.site is not None:
        value = value[0]
    if value.ndim == 1:
        if reading.site is None:
            raise UsageError(
                f"{where}: holds one vector and does not say where: give its --site, as llm.12.out"
            )
        return Imported({reading.site: value})
    if value.ndim != 2:
        raise BadFile(f"{where}: has shape {list(value.shape)}, expected [d] or [layers, d]")
    if reading.site is not None:
        raise UsageError(f"{where}: holds {value.shape[0]} vectors, --site is for one")
    sites = stack_sites(value.shape[0], reading.rows)
    note = f"its {len(sites)} rows were read as {shorten(sites, 4)}"
    other = "hidden-states" if reading.rows == "blocks" else "blocks"
    return Imported(
        dict(zip(sites, value, strict=True)), notes=(f"{note}; --rows {other} reads them otherwise",)
    )


def as_float32(array: Array, where: str) -> Array:
    """``array`` as finite, non-empty float32; BadFile otherwise."""
    if array.dtype.kind not in "fiu" and array.dtype.name not in ("bfloat16",):
        raise BadFile(f"{where}: holds {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        value = np.asarray(array, dtype=np.float32)
    if value.size == 0:
        raise BadFile(f"{where}: is empty")
    if not np.isfinite(value).all():
        raise BadFile(f"{where}: holds NaN or infinity (or numbers too large for float32)")
    return value


def block_vectors(
    direction: DirectionFile, sites: Sequence[str] | None, *, first: int = 0, what: str
) -> tuple[dict[int, Array], tuple[str, ...]]:
    """The vectors at block outputs by block number, from ``first`` on, and notes on what was left out.

    ``sites`` limits the choice. Raises UsageError when nothing is left that ``what`` can hold.
    """
    chosen = list(sites) if sites else list(direction.sites)
    kept: dict[int, Array] = {}
    left: list[str] = []
    for site in chosen:
        match = _BLOCK_OUTPUT.fullmatch(site)
        if match and int(match[1]) >= first:
            kept[int(match[1])] = direction.vector(site)
        else:
            direction.width(site)
            left.append(site)
    if not kept:
        raise UsageError(
            f"direction {direction.name!r}: {what} holds block outputs from llm.{first}.out on, "
            f"it has only {shorten(left)}"
        )
    widths = {vector.size for vector in kept.values()}
    if len(widths) > 1:
        raise UsageError(
            f"direction {direction.name!r}: {what} needs vectors of one width, found {sorted(widths)}"
        )
    notes = (f"left out, since {what} has no place for it: {shorten(left)}",) if left else ()
    return dict(sorted(kept.items())), notes


def one_site(direction: DirectionFile, sites: Sequence[str] | None, what: str) -> str:
    """The one site to export; UsageError when there are several to choose from."""
    chosen = list(sites) if sites else list(direction.sites)
    if len(chosen) != 1:
        raise UsageError(f"{what} holds one vector: choose its --site among {shorten(chosen)}")
    direction.width(chosen[0])
    return chosen[0]


def read_limited(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most ``limit``."""
    with open_regular(path) as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        raise BadFile(f"{path}: longer than {limit} bytes, which no file of this format is")
    return data


def model_family(direction: DirectionFile) -> str:
    """The model family a direction was read from, ``"unknown"`` when it does not say."""
    family = direction.model.get("family")
    return family if isinstance(family, str) and family else "unknown"


def text_of(said: Mapping[str, Any], key: str, limit: int = 200) -> str | None:
    """A printable text of a foreign file, cut at ``limit``; None when it has none."""
    value = said.get(key)
    if not isinstance(value, str):
        return None
    return "".join(char if char.isprintable() else " " for char in value[:limit])
