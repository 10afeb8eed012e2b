"""The kind ``chunks``: per label and site, the centroids that K-Means found among pooled embeddings.

Tensors, for each ``sort`` of label (``ink``, ``word``) and each site:

- ``<sort>/<site>/centroids`` float32 [labels, K, d]: of norm 1, the larger cluster's first;
- ``<sort>/<site>/norms`` float32 [labels, K]: the norms that they had;
- ``<sort>/<site>/sizes`` int32 [labels, K]: how many images each cluster holds;
- ``<sort>/<site>/means`` float32 [labels, d]: the mean embedding of each label.

Meta: ``labels``, ``sorts`` and ``sites`` (lists of texts); optional ``name``, ``read`` (pooling and place),
``references`` (site to reference norm), ``images`` (how many a label), ``model``, ``spec``, ``job``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.files import Array, ArtifactFile
from labtui_artifacts.kinds.direction import SITE, shorten

KIND = "chunks"
PARTS: dict[str, tuple[int, tuple[str, ...]]] = {
    "centroids": (3, ("F32", "F64")),
    "norms": (2, ("F32", "F64")),
    "sizes": (2, ("I32", "I64")),
    "means": (2, ("F32", "F64")),
}
"""What is kept of each sort and site: rank and dtypes."""
MAX_LABELS = 1_000
UNIT = 1e-3
"""How far a centroid's norm may be from 1."""


@dataclass(frozen=True)
class Chunk:
    """The chunks of one sort at one site, float32; see the module."""

    labels: tuple[str, ...]
    centroids: Array
    norms: Array
    sizes: Array
    means: Array

    @property
    def representatives(self) -> Array:
        """[labels, d] The larger cluster's centroid of each label."""
        return self.centroids[:, 0]


@dataclass(frozen=True)
class ChunksFile:
    """Chunks on disk, checked; tensors are read when asked for."""

    name: str
    file: ArtifactFile
    sites: tuple[str, ...]
    sorts: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> ChunksFile:
        """Open a file of chunks; errors as ``files.read``. ``name`` defaults to the file's."""
        return cls.view(files.read(path, kind=KIND), name)

    @classmethod
    def view(cls, file: ArtifactFile, name: str | None = None) -> ChunksFile:
        """The typed view of an opened artifact; BadFile when it is no sound file of chunks."""
        if file.kind != KIND:
            raise BadFile(f"{file.path}: holds {file.kind}, expected {KIND}")
        sites, sorts, labels = (_listed(file, key) for key in ("sites", "sorts", "labels"))
        if len(labels) > MAX_LABELS:
            raise BadFile(
                f"{file.path}: damaged chunks: {len(labels)} labels, at most {MAX_LABELS:,} are read"
            )
        for site in sites:
            if not SITE.fullmatch(site):
                raise BadFile(f"{file.path}: damaged chunks: {site[:40]!r} is no site")
            for sort in sorts:
                _check(file, f"{sort}/{site}", len(labels))
        return cls(name or file.path.name.removesuffix(".safetensors"), file, sites, sorts, labels)

    @property
    def meta(self) -> dict[str, Any]:
        return self.file.meta

    def reference(self, site: str) -> float | None:
        """The reference norm at a site; None when not stored."""
        known = self.meta.get("references")
        value = known.get(site) if isinstance(known, dict) else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def at(self, sort: str, site: str) -> Chunk:
        """The chunks of a sort at a site; UsageError where there are none, BadFile where they are not sound."""
        if sort not in self.sorts or site not in self.sites:
            raise UsageError(
                f"chunks {self.name!r} have nothing of {sort} at {site}: they have {', '.join(self.sorts)} at "
                f"{shorten(self.sites)}"
            )
        found = {part: self.file.tensor(f"{sort}/{site}/{part}") for part in PARTS}
        centroids, norms, means = (found[part].astype(np.float32) for part in ("centroids", "norms", "means"))
        if not all(np.isfinite(each).all() for each in (centroids, norms, means)):
            raise BadFile(f"{self.file.path}: the chunks of {sort} at {site} hold NaN or infinity")
        if np.abs(np.linalg.norm(centroids.astype(np.float64), axis=-1) - 1).max() > UNIT:
            raise BadFile(f"{self.file.path}: the centroids of {sort} at {site} are not of norm 1")
        return Chunk(self.labels, centroids, norms, found["sizes"].astype(np.int64), means)


def build(
    chunks: Mapping[tuple[str, str], Chunk],
    *,
    references: Mapping[str, float] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """``(tensors, meta)`` of chunks by (sort, site), ready for ``files.write(path, "chunks", ...)`` or a store.

    Raises UsageError where sorts and sites do not fill a table, or labels or shapes differ.
    """
    sorts, sites = (list(dict.fromkeys(key[i] for key in chunks)) for i in (0, 1))
    if not chunks or len(chunks) != len(sorts) * len(sites):
        raise UsageError("chunks need each sort of label at each site")
    labels = next(iter(chunks.values())).labels
    tensors: dict[str, Array] = {}
    for (sort, site), chunk in chunks.items():
        if not SITE.fullmatch(site):
            raise UsageError(f"{site!r} is no site, expected one like vision.3.out or vision.merged")
        shape = chunk.centroids.shape
        sound = (
            chunk.labels == labels
            and len(shape) == 3
            and shape[0] == len(labels)
            and chunk.norms.shape == chunk.sizes.shape == shape[:2]
            and chunk.means.shape == (shape[0], shape[2])
        )
        if not sound:
            raise UsageError(f"the chunks of {sort} at {site} differ in labels or shapes from the others")
        for part in PARTS:
            dtype = np.int32 if part == "sizes" else np.float32
            tensors[f"{sort}/{site}/{part}"] = np.asarray(getattr(chunk, part), dtype=dtype)
    return tensors, {
        **(meta or {}),
        "labels": list(labels),
        "sorts": sorts,
        "sites": sites,
        "references": dict(references or {}),
    }


LAYERS = {"ink": "color", "word": "text"}
"""What the study calls the sorts."""


def layer_files(opened: ChunksFile) -> dict[str, dict[str, Array]]:
    """The representatives as files by layer, under the study's names: ``color/layer3_all.safetensors`` -> label ->
    [d]. ``layerN`` is the output of vision block N, counted from 0; other sites go by their own name."""
    found: dict[str, dict[str, Array]] = {}
    for sort in opened.sorts:
        for site in opened.sites:
            parts = site.split(".")
            block = parts[1] if len(parts) == 3 and parts[2] == "out" else None
            name = f"layer{block}" if block is not None else ".".join(parts[1:])
            chunk = opened.at(sort, site)
            vectors = dict(zip(chunk.labels, chunk.representatives, strict=True))
            found[f"{LAYERS.get(sort, sort)}/{name}_all.safetensors"] = vectors
    return found


def _listed(file: ArtifactFile, key: str) -> tuple[str, ...]:
    said = file.meta.get(key)
    if not isinstance(said, list) or not said or not all(isinstance(item, str) for item in said):
        raise BadFile(f"{file.path}: damaged chunks: meta {key} must be a list of texts")
    if len(set(said)) < len(said) or not all(item.isprintable() and item for item in said):
        raise BadFile(f"{file.path}: damaged chunks: meta {key} names something twice or not in plain text")
    return tuple(said)


def _check(file: ArtifactFile, place: str, labels: int) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for part, (rank, dtypes) in PARTS.items():
        found = file.header.tensors.get(f"{place}/{part}")
        if found is None:
            raise BadFile(f"{file.path}: damaged chunks: {place}/{part} is missing")
        dtype, shape = found
        if len(shape) != rank or shape[0] != labels or 0 in shape or dtype not in dtypes:
            raise BadFile(
                f"{file.path}: damaged chunks: {place}/{part} is {dtype} {list(shape)}, expected [{labels}, ...]"
            )
        shapes[part] = shape
    k, width = shapes["centroids"][1:]
    if shapes["norms"][1] != k or shapes["sizes"][1] != k or shapes["means"][1] != width:
        raise BadFile(f"{file.path}: damaged chunks: the tensors at {place} do not belong together")
