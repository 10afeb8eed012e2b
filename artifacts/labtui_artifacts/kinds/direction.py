"""The kind ``direction``: one vector a site, what it was measured against, and where it came from.

Tensors: ``site/<site>`` float32 [d] for each site (``site/llm.12.out``), and ``ref/median`` and ``ref/mean``
float32 [n], the reference norms of the sites in the order of ``meta["sites"]`` (NaN where not measured).
Optional: ``shuffled/<site>`` float16 [count, d], unit vectors that the same pipeline gave with permuted labels.

Meta, all but ``sites`` optional: ``name``, ``sites`` (list), ``method``, ``pairs`` (how many contrasts),
``norms``, ``gaps``, ``split_half`` (each site to number), ``read`` (pooling position), ``model`` (a ModelInfo
as a dict), ``spec`` (the spec it was made from), ``seed``, ``origin`` (of an imported one).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.files import Array, ArtifactFile

KIND = "direction"
SITE = re.compile(
    r"(?:llm|vision)\.(?:embed|(?:0|[1-9]\d{0,3})\.(?:in|out|attn|mlp))|llm\.norm|vision\.(?:premerge|merged)"
)
_PER_SITE = ("norms", "gaps", "split_half")


@dataclass(frozen=True)
class DirectionFile:
    """A direction on disk, checked; vectors are read when asked for."""

    name: str
    file: ArtifactFile
    sites: tuple[str, ...]
    references: Mapping[str, tuple[float | None, float | None]]

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> DirectionFile:
        """Open a direction file; errors as ``files.read``. ``name`` defaults to the file's."""
        return cls.view(files.read(path, kind=KIND), name)

    @classmethod
    def view(cls, file: ArtifactFile, name: str | None = None) -> DirectionFile:
        """The typed view of an opened artifact; BadFile when it is no sound direction."""
        if file.kind != KIND:
            raise BadFile(f"{file.path}: holds a {file.kind}, expected a {KIND}")
        sites = _sites(file)
        return cls(name or file.path.name.removesuffix(".safetensors"), file, sites, _references(file, sites))

    @property
    def meta(self) -> dict[str, Any]:
        return self.file.meta

    @property
    def method(self) -> str:
        return str(self.meta.get("method", "unknown"))

    @property
    def model(self) -> dict[str, Any]:
        """The ModelInfo it was read from, as a dict; empty when unknown."""
        value = self.meta.get("model")
        return value if isinstance(value, dict) else {}

    @property
    def read(self) -> str:
        """The pooling position its activations were read at."""
        return str(self.meta.get("read", "unknown"))

    @property
    def origin(self) -> dict[str, Any]:
        """Where an imported direction came from; empty for one made here."""
        value = self.meta.get("origin")
        return value if isinstance(value, dict) else {}

    def width(self, site: str) -> int:
        """The width d of the vector at ``site``."""
        return self.file.header.tensors[self._tensor(site)][1][0]

    def vector(self, site: str) -> Array:
        """The vector at ``site``, float32 [d], all finite; UsageError lists the sites when it has none."""
        value = np.asarray(self.file.tensor(self._tensor(site)), dtype=np.float32)
        if not np.isfinite(value).all():
            raise BadFile(f"{self.file.path}: the vector at {site} holds NaN or infinity")
        return value

    @property
    def shuffles(self) -> int:
        """How many directions with permuted labels it brings along for each site; 0 for none."""
        counts = [self._shuffled_shape(site)[0] for site in self.sites]
        return min(counts, default=0)

    def shuffled(self, site: str, number: int) -> Array:
        """The unit vector with permuted labels of that number at ``site``, float32 [d], all finite."""
        self._tensor(site)
        count, _ = self._shuffled_shape(site)
        if not 0 <= number < count:
            raise UsageError(
                f"direction {self.name!r} has {count} shuffled-label controls at {site}, so no number {number}: "
                "make it again from a style or from pairs to have them"
            )
        value = np.asarray(self.file.tensor(f"shuffled/{site}")[number], dtype=np.float32)
        if not np.isfinite(value).all():
            raise BadFile(f"{self.file.path}: the shuffled-label vectors at {site} hold NaN or infinity")
        return value

    def _shuffled_shape(self, site: str) -> tuple[int, int]:
        """(count, d); (0, 0) where there are none."""
        name = f"shuffled/{site}"
        if name not in self.file:
            return 0, 0
        dtype, shape = self.file.header.tensors[name]
        if len(shape) != 2 or shape[1] != self.width(site) or dtype not in ("F16", "F32", "BF16"):
            raise BadFile(
                f"{self.file.path}: damaged direction: {name} is {dtype} {list(shape)}, "
                f"expected F16 [count, {self.width(site)}]"
            )
        return shape[0], shape[1]

    def vectors(self) -> dict[str, Array]:
        """Every vector by site."""
        return {site: self.vector(site) for site in self.sites}

    def digest(self) -> str:
        """16 hex digits over its sites and vectors, to tell whether two files hold the same direction."""
        found = hashlib.sha256()
        for site, vector in sorted(self.vectors().items()):
            found.update(f"{site}\0{len(vector)}\0".encode())
            found.update(np.ascontiguousarray(vector, dtype="<f4").data)
        return found.hexdigest()[:16]

    def norm(self, site: str) -> float:
        """The Euclidean norm of the vector at ``site``."""
        return float(np.linalg.norm(self.vector(site).astype(np.float64)))

    def reference(self, site: str) -> float | None:
        """The reference norm at ``site`` (median residual norm over content positions); None if unknown."""
        self._tensor(site)
        return self.references[site][0]

    def reference_mean(self, site: str) -> float | None:
        """The mean residual norm at ``site``, sinks included, for comparison with others' numbers."""
        self._tensor(site)
        return self.references[site][1]

    def gap(self, site: str) -> float | None:
        """The distance between the class means along the direction; None when not stored."""
        return self._number("gaps", site)

    def split_half(self, site: str) -> float | None:
        """Cosine between the directions of two halves of the contrasts; None when not stored."""
        return self._number("split_half", site)

    def _number(self, key: str, site: str) -> float | None:
        self._tensor(site)
        value = self.meta.get(key)
        found = value.get(site) if isinstance(value, dict) else None
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def _tensor(self, site: str) -> str:
        if site not in self.sites:
            raise UsageError(f"direction {self.name!r} has no vector at {site}: it has {shorten(self.sites)}")
        return f"site/{site}"


def build(
    vectors: Mapping[str, Array],
    *,
    references: Mapping[str, tuple[float | None, float | None]] | None = None,
    shuffled: Mapping[str, Array] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """``(tensors, meta)`` of a direction, ready for ``files.write(path, "direction", ...)`` or a store.

    ``vectors``: site ("llm.12.out") to [d]; ``references``: site to (median, mean) residual norm;
    ``shuffled``: site to [count, d], fitted with permuted labels, kept as unit vectors. ``sites`` and
    ``norms`` are filled in. Raises UsageError for a site name, shape or number that is no direction.
    """
    if not vectors:
        raise UsageError("a direction needs a vector at one site at least")
    tensors: dict[str, Array] = {}
    norms: dict[str, float] = {}
    for site, vector in vectors.items():
        if not SITE.fullmatch(site):
            raise UsageError(f"{site!r} is no site, expected one like llm.12.out, llm.embed, llm.norm")
        value = np.array(vector, dtype=np.float32)
        if value.ndim != 1 or value.size == 0:
            raise UsageError(f"the vector at {site} has shape {list(value.shape)}, expected [d]")
        if not np.isfinite(value).all():
            raise UsageError(f"the vector at {site} holds NaN or infinity")
        tensors[f"site/{site}"] = value
        norms[site] = float(np.linalg.norm(value.astype(np.float64)))
    for site, nulls in (shuffled or {}).items():
        rows = np.array(nulls, dtype=np.float64)
        if site not in vectors or rows.ndim != 2 or rows.shape[1] != len(vectors[site]):
            raise UsageError(
                f"the shuffled vectors at {site} have shape {list(rows.shape)}, expected [count, d]"
            )
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        tensors[f"shuffled/{site}"] = rows.astype(np.float16)
    sites = list(vectors)
    known = references or {}
    for column, name in enumerate(("median", "mean")):
        numbers = [known.get(site, (None, None))[column] for site in sites]
        tensors[f"ref/{name}"] = np.array(
            [math.nan if number is None else number for number in numbers], dtype=np.float32
        )
    return tensors, {**(meta or {}), "sites": sites, "norms": norms}


def sort_key(site: str) -> tuple[int, str, int, str]:
    """Orders sites as the model runs them: vision before llm, embed first, blocks by number, norm last."""
    tower, _, rest = site.partition(".")
    number, _, point = rest.partition(".")
    if number.isdigit():
        return (tower != "vision", "1", int(number), point)
    return (tower != "vision", "0" if rest == "embed" else "2", 0, rest)


def shorten(sites: Sequence[str], limit: int = 8) -> str:
    """A short text for a list of sites."""
    if len(sites) <= limit:
        return ", ".join(sites)
    return f"{', '.join(sites[: limit - 1])}, ... {sites[-1]} ({len(sites)} sites)"


def _sites(file: ArtifactFile) -> tuple[str, ...]:
    header = file.header
    stored = [name.removeprefix("site/") for name in header.tensors if name.startswith("site/")]
    said = header.meta.get("sites")
    if not stored or not isinstance(said, list) or sorted(map(str, said)) != sorted(stored):
        raise BadFile(f"{file.path}: damaged direction: its list of sites and its site/ tensors differ")
    for site in stored:
        dtype, shape = header.tensors[f"site/{site}"]
        if not SITE.fullmatch(site):
            raise BadFile(f"{file.path}: damaged direction: {site[:40]!r} is no site")
        if len(shape) != 1 or shape[0] == 0 or dtype not in ("F32", "F16", "BF16", "F64"):
            raise BadFile(
                f"{file.path}: damaged direction: the vector at {site} is {dtype} {list(shape)}, "
                "expected F32 [d]"
            )
    for key in _PER_SITE:
        if not isinstance(header.meta.get(key, {}), dict):
            raise BadFile(f"{file.path}: damaged direction: meta {key} must map sites to numbers")
    return tuple(said)


def _references(file: ArtifactFile, sites: tuple[str, ...]) -> dict[str, tuple[float | None, float | None]]:
    columns: list[list[float | None]] = []
    for name in ("ref/median", "ref/mean"):
        if name not in file:
            columns.append([None] * len(sites))
            continue
        dtype, shape = file.header.tensors[name]
        if shape != (len(sites),) or dtype not in ("F32", "F64"):
            raise BadFile(
                f"{file.path}: damaged direction: {name} is {dtype} {list(shape)}, expected F32 [sites]"
            )
        columns.append([float(x) if math.isfinite(x) and x > 0 else None for x in file.tensor(name)])
    return dict(zip(sites, zip(*columns, strict=True), strict=True))
