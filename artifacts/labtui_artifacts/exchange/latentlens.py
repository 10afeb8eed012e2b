"""Folders that LatentLens saves, and what they are converted to.

LatentLens keeps ``layer_N/embeddings_cache.pt``, N counting transformers' ``hidden_states``: a pickle of ``embeddings``
[n, d], cut to length 1, and ``metadata``, for each row its token's id and text, its caption and its position there. These
are not opened: a pickle may run code. ``python -m labtui_kernels.neighbours.latentlens FOLDER OUT``, which a user runs,
reads them with torch's safe loader and writes

- ``OUT/rows.safetensors``: ``caption``, ``position``, ``token`` int32 [n] (the caption's number, the token's place in it
  and its id), ``captions`` uint8 [bytes] in UTF-8 and ``ends`` int64 [captions], where each ends in them;
- ``OUT/layer_N.safetensors``: ``vectors`` float16 [n, d], the rows in the same order.

Other programs may write the same. Vectors do not say of which weights they are: who reads them asks the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.files import Array, read_tensor
from labtui_artifacts.header import Layout, read_layout

CACHE = "embeddings_cache.pt"
ROWS = "rows.safetensors"
CONVERT = "python -m labtui_kernels.neighbours.latentlens"
MAX_ROWS = 20_000_000
MAX_CAPTION_BYTES = 1 << 30
MAX_WIDTH = 1 << 16
MAX_LAYERS = 512
_LAYER = re.compile(r"layer_(0|[1-9][0-9]{0,3})\.safetensors")
_COLUMNS = ("caption", "position", "token")


def check(folder: Path) -> None:
    """Raise BadFile, with the way to convert it, when ``folder`` or a layer of it is a LatentLens folder."""
    caches = [
        *sorted(folder.glob(f"layer_*/{CACHE}"))[:1],
        *([folder / CACHE] if (folder / CACHE).is_file() else []),
    ]
    if not caches:
        return
    whole = folder.parent if re.fullmatch(r"layer_[0-9]+", folder.name) else folder
    raise BadFile(
        f"{folder}: a LatentLens folder; its {caches[0].relative_to(folder)} is a pickle, which may run code, so it is not "
        f"read. Convert it by `{CONVERT} {whole} OUT` (torch's safe loader), then `labtui run index --set name=theirs "
        "--set vectors=$PWD/OUT` on the model it was made of, which checks that it is"
    )


@dataclass(frozen=True)
class Converted:
    """A converted folder, its headers checked. ``layers`` are the numbers of hidden states, in order."""

    folder: Path
    rows: Layout
    layers: Mapping[int, Layout]

    @property
    def count(self) -> int:
        """How many rows it has; each has a vector in every layer."""
        return self.rows.tensors["caption"].shape[0]

    @property
    def width(self) -> int:
        return next(iter(self.layers.values())).tensors["vectors"].shape[1]

    def columns(self) -> dict[str, Array]:
        """``caption``, ``position`` and ``token`` int32 [n]. BadFile for one that is negative, or of no caption."""
        found = {name: read_tensor(self.rows, name) for name in _COLUMNS}
        for name, values in found.items():
            if len(values) and int(values.min()) < 0:
                raise BadFile(f"{self.rows.path}: {name} has a number below 0")
        captions = self.rows.tensors["ends"].shape[0]
        if len(found["caption"]) and int(found["caption"].max()) >= captions:
            raise BadFile(f"{self.rows.path}: names caption {int(found['caption'].max())} of {captions}")
        return found

    def captions(self) -> list[str]:
        """The captions. BadFile when they are not UTF-8, or their ends do not rise to their length."""
        raw, ends = read_tensor(self.rows, "captions").tobytes(), read_tensor(self.rows, "ends")
        if (np.diff(ends, prepend=0) < 0).any() or (int(ends[-1]) if len(ends) else 0) != len(raw):
            raise BadFile(f"{self.rows.path}: the ends of its captions do not rise to their length")
        try:
            return [raw[a:b].decode() for a, b in zip([0, *ends.tolist()[:-1]], ends.tolist(), strict=True)]
        except UnicodeDecodeError as problem:
            raise BadFile(f"{self.rows.path}: its captions are not UTF-8") from problem

    def vectors(self, layer: int, start: int, stop: int) -> Array:
        """Rows of a layer as float32 [rows, d]. BadFile for one that is not finite."""
        found = read_tensor(self.layers[layer], "vectors", start, stop).astype(np.float32)
        if not np.isfinite(found).all():
            raise BadFile(f"{self.layers[layer].path}: has a vector with NaN or infinity")
        return found


def read(folder: Path) -> Converted:
    """Open a converted folder. UsageError where there is none, BadFile for one that is not sound."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    check(folder)
    found = {int(match[1]): path for path in folder.iterdir() if (match := _LAYER.fullmatch(path.name))}
    if not (folder / ROWS).is_file() or not 0 < len(found) <= MAX_LAYERS:
        raise BadFile(
            f"{folder}: not a converted folder of vectors: expected {ROWS} and layer_N.safetensors, as {CONVERT} writes"
        )
    rows = read_layout(folder / ROWS)
    _tensor(rows, "captions", ("U8",), 1)
    _tensor(rows, "ends", ("I64",), 1)
    count = _tensor(rows, "caption", ("I32",), 1)[0]
    if not 0 < count <= MAX_ROWS or rows.tensors["captions"].shape[0] > MAX_CAPTION_BYTES:
        raise BadFile(
            f"{rows.path}: {count:,} rows of {rows.tensors['captions'].shape[0]:,} bytes of captions; expected 1 to "
            f"{MAX_ROWS:,} rows of at most {MAX_CAPTION_BYTES:,}"
        )
    for name in _COLUMNS[1:]:
        if _tensor(rows, name, ("I32",), 1) != (count,):
            raise BadFile(f"{rows.path}: {name} has another number of rows than caption, which has {count:,}")
    layers = {number: read_layout(found[number]) for number in sorted(found)}
    shapes = {_tensor(layout, "vectors", ("F16", "F32"), 2) for layout in layers.values()}
    if len(shapes) != 1 or (shape := shapes.pop())[0] != count or not 0 < shape[1] <= MAX_WIDTH:
        raise BadFile(f"{folder}: its layers differ in shape, or from the {count:,} rows of {ROWS}")
    return Converted(folder, rows, layers)


def _tensor(layout: Layout, name: str, dtypes: tuple[str, ...], axes: int) -> tuple[int, ...]:
    found = layout.tensors.get(name)
    if found is None or found.dtype not in dtypes or len(found.shape) != axes:
        held = f"{found.dtype} {list(found.shape)}" if found else "missing"
        raise BadFile(f"{layout.path}: {name} is {held}, expected {' or '.join(dtypes)} with {axes} axes")
    return found.shape
