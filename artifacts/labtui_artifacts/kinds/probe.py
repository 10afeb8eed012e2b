"""The kind ``probe``: a linear classifier of hidden states, at one or several sites.

Tensors, for each site: ``site/<site>/weights`` float32 [labels, d] and ``site/<site>/bias`` float32 [labels].
The probabilities of the labels are softmax(weights . h + bias); a binary probe has two rows, one of which may
be zero. Meta: ``labels`` and ``sites`` (lists of texts); optional ``name``, ``read`` (pooling position),
``accuracy`` (site to held-out accuracy), ``model`` (a ModelInfo as a dict), ``spec``, ``seed``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.files import Array, ArtifactFile
from labtui_artifacts.kinds.direction import SITE, shorten

KIND = "probe"
MAX_LABELS = 10_000


@dataclass(frozen=True)
class ProbeFile:
    """A probe on disk, checked; weights are read when asked for."""

    name: str
    file: ArtifactFile
    sites: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> ProbeFile:
        """Open a probe file; errors as ``files.read``. ``name`` defaults to the file's."""
        return cls.view(files.read(path, kind=KIND), name)

    @classmethod
    def view(cls, file: ArtifactFile, name: str | None = None) -> ProbeFile:
        """The typed view of an opened artifact; BadFile when it is no sound probe."""
        if file.kind != KIND:
            raise BadFile(f"{file.path}: holds a {file.kind}, expected a {KIND}")
        labels, sites = (_listed(file, key) for key in ("labels", "sites"))
        if not 2 <= len(labels) <= MAX_LABELS:
            raise BadFile(f"{file.path}: damaged probe: {len(labels)} labels, expected 2 to {MAX_LABELS:,}")
        for site in sites:
            _check_site(file, site, len(labels))
        return cls(name or file.path.name.removesuffix(".safetensors"), file, sites, labels)

    @property
    def meta(self) -> dict[str, Any]:
        return self.file.meta

    def check(self, site: str, width: int) -> None:
        """Raise UsageError unless there is a probe at ``site`` for hidden states of this width."""
        if site not in self.sites:
            raise UsageError(f"probe {self.name!r} was not fitted at {site}: it has {shorten(self.sites)}")
        stored = self.file.header.tensors[f"site/{site}/weights"][1][1]
        if stored != width:
            raise UsageError(f"probe {self.name!r}: its width at {site} is {stored}, this model's is {width}")

    def label(self, text: str) -> int:
        """The index of a label; UsageError lists those there are."""
        if text not in self.labels:
            raise UsageError(f"probe {self.name!r} has no label {text[:60]!r}: it has {shorten(self.labels)}")
        return self.labels.index(text)

    def at(self, site: str) -> tuple[Array, Array]:
        """Weights float64 [labels, d] and bias float64 [labels] at a site; BadFile where not finite."""
        if site not in self.sites:
            raise UsageError(f"probe {self.name!r} was not fitted at {site}: it has {shorten(self.sites)}")
        weights, bias = (
            self.file.tensor(f"site/{site}/{part}").astype(np.float64) for part in ("weights", "bias")
        )
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise BadFile(f"{self.file.path}: the probe at {site} holds NaN or infinity")
        return weights, bias


def softmax(weights: Array, bias: Array, hidden: Array) -> Array:
    """softmax(weights . hidden + bias), float64 [labels]."""
    scores = weights @ np.asarray(hidden, dtype=np.float64) + bias
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def build(
    sites: Mapping[str, tuple[Array, Array]], labels: Sequence[str], meta: Mapping[str, Any] | None = None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """``(tensors, meta)`` of a probe, ready for ``files.write(path, "probe", ...)`` or a store.

    ``sites``: site ("llm.12.out") to weights [labels, d] and bias [labels]. Raises UsageError for a shape,
    number or site name that is no probe.
    """
    if not sites or not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) < len(labels):
        raise UsageError("a probe needs one site at least, and two labels that differ")
    tensors: dict[str, Array] = {}
    for site, (weights, bias) in sites.items():
        w, b = np.array(weights, dtype=np.float32), np.array(bias, dtype=np.float32)
        if not SITE.fullmatch(site):
            raise UsageError(f"{site!r} is no site, expected one like llm.12.out, llm.embed, llm.norm")
        if w.ndim != 2 or w.shape[0] != len(labels) or w.shape[1] == 0 or b.shape != (len(labels),):
            raise UsageError(
                f"the probe at {site} has weights {list(w.shape)} and bias {list(b.shape)}, expected "
                f"[{len(labels)}, d] and [{len(labels)}]"
            )
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise UsageError(f"the probe at {site} holds NaN or infinity")
        tensors[f"site/{site}/weights"], tensors[f"site/{site}/bias"] = w, b
    return tensors, {**(meta or {}), "sites": list(sites), "labels": list(labels)}


def _listed(file: ArtifactFile, key: str) -> tuple[str, ...]:
    said = file.meta.get(key)
    if not isinstance(said, list) or not said or not all(isinstance(item, str) for item in said):
        raise BadFile(f"{file.path}: damaged probe: meta {key} must be a list of texts")
    if len(set(said)) < len(said):
        raise BadFile(f"{file.path}: damaged probe: meta {key} names something twice")
    return tuple(said)


def _check_site(file: ArtifactFile, site: str, labels: int) -> None:
    if not SITE.fullmatch(site):
        raise BadFile(f"{file.path}: damaged probe: {site[:40]!r} is no site")
    for part, rank in (("weights", 2), ("bias", 1)):
        name = f"site/{site}/{part}"
        found = file.header.tensors.get(name)
        if found is None:
            raise BadFile(f"{file.path}: damaged probe: {name} is missing")
        dtype, shape = found
        sound = len(shape) == rank and shape[:1] == (labels,) and 0 not in shape
        if not sound or dtype not in ("F32", "F16", "BF16", "F64"):
            raise BadFile(
                f"{file.path}: damaged probe: {name} is {dtype} {list(shape)}, expected [{labels}, ...]"
            )
