"""The kind ``index``: contextual text activations of a model's own decoder, to search neighbours in.

An index is a manifest, the artifact itself, and shards in a folder that is named by what they were made from
(`shards/<key>/00000.safetensors`, ...): the same ingredients give the same key, so a build that was killed goes
on at its first missing shard, and one that ran through gives the same bytes. Shards are written whole or not at
all, and never changed. They are memory-mapped: nobody but this program should touch that folder.

Manifest tensors: ``captions`` uint8 [bytes], UTF-8, and ``ends`` int64 [captions], where each caption ends in it;
for each site ``mean/<site>`` float32 [d], the mean of its vectors. Manifest meta: ``key``, ``sites`` (list, in the
order of a forward pass), ``width`` d, ``tokens``, ``first`` (positions of each caption that are left out at its
beginning), ``dropped`` (positions that float16 cannot hold), ``shards`` (list of ``{tokens, sha256}``), ``model`` (a
ModelInfo as a dict), ``name``, ``spec``, ``versions``.

Shard tensors, n tokens: for each site ``site/<site>`` float16 [n, d] and ``sum/<site>`` float64 [d]; ``token``
int32 [n] (its id), ``caption`` int32 [n], ``position`` int32 [n] (in the caption's tokens), ``span`` int32 [n, 2]
(the characters of the caption that it covers). Shard meta: ``part`` = ``{key, number}``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.files import Array, ArtifactFile
from labtui_artifacts.header import Header, read_header
from labtui_artifacts.kinds.direction import SITE, shorten

KIND = "index"
FOLDER = "shards"
MAX_SHARDS = 5_000
_KEY = re.compile(r"[0-9a-f]{24}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COLUMNS = ("token", "caption", "position")


def key_of(ingredients: Mapping[str, Any]) -> str:
    """24 hex digits for everything that decides what the shards hold."""
    text = json.dumps(dict(ingredients), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def place(store: Path, key: str) -> Path:
    """The folder of an index's shards in the store at ``store``."""
    if not _KEY.fullmatch(key):
        raise BadFile(f"index: its key {key[:40]!r} is not 24 hex digits")
    return store / FOLDER / key


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard ``number``."""
    return folder / f"{number:05d}.safetensors"


@dataclass(frozen=True)
class Shard:
    """One shard, memory-mapped: where each vector is from, and the vectors of each site."""

    header: Header
    sites: tuple[str, ...]

    @property
    def tokens(self) -> int:
        return self.header.tensors["token"].shape[0]

    def vectors(self, site: str) -> Array:
        """The vectors of ``site``, float16 [n, d], mapped."""
        return _mapped(self.header, f"site/{site}")

    def column(self, name: str) -> Array:
        """``token``, ``caption``, ``position`` int32 [n], or ``span`` int32 [n, 2], mapped."""
        return _mapped(self.header, name)

    def sum(self, site: str) -> Array:
        """The sum of the vectors of ``site``, float64 [d]."""
        return files.read_tensor(self.header, f"sum/{site}")


@dataclass(frozen=True)
class IndexFile:
    """An index, checked; its vectors lie site by site, each site's in the order of the captions.

    Vector ``number`` counts from 0 over all of them: ``site * tokens + token``.
    """

    name: str
    file: ArtifactFile
    sites: tuple[str, ...]
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> IndexFile:
        """Open an index by its manifest in a store; errors as ``files.read``."""
        return cls.view(files.read(path, kind=KIND), name)

    @classmethod
    def view(cls, file: ArtifactFile, name: str | None = None) -> IndexFile:
        """The typed view of a manifest; BadFile when it or one of its shards is not sound."""
        if file.kind != KIND:
            raise BadFile(f"{file.path}: holds a {file.kind}, expected an {KIND}")
        if "part" in file.meta:
            raise BadFile(f"{file.path}: is one shard of an index; open the index by its name")
        sites, width = _sites(file), _whole(file, "width", 1)
        counts = _counts(file)
        folder = place(file.path.parent, str(file.meta.get("key")))
        shards = tuple(
            open_shard(folder, number, folder.name, sites, width, count)
            for number, count in enumerate(counts)
        )
        if sum(counts) != _whole(file, "tokens", 0):
            raise BadFile(
                f"{file.path}: damaged index: its shards hold {sum(counts)} tokens, not what it says"
            )
        return cls(name or file.path.name.removesuffix(".safetensors"), file, sites, shards)

    @property
    def meta(self) -> dict[str, Any]:
        return self.file.meta

    @property
    def width(self) -> int:
        return int(self.meta["width"])

    @property
    def tokens(self) -> int:
        """How many tokens it has; each has a vector at every site."""
        return int(self.meta["tokens"])

    @property
    def model(self) -> dict[str, Any]:
        """The ModelInfo it was read from, as a dict; empty when unknown."""
        value = self.meta.get("model")
        return value if isinstance(value, dict) else {}

    @cached_property
    def captions(self) -> list[str]:
        """The captions, in order."""
        ends, raw = self.file.tensor("ends"), self.file.tensor("captions").tobytes()
        if (
            ends.ndim != 1
            or (np.diff(ends, prepend=0) < 0).any()
            or (ends[-1] if len(ends) else 0) != len(raw)
        ):
            raise BadFile(
                f"{self.file.path}: damaged index: the ends of its captions do not rise to their length"
            )
        starts = [0, *ends.tolist()[:-1]]
        try:
            return [raw[a:b].decode() for a, b in zip(starts, ends.tolist(), strict=True)]
        except UnicodeDecodeError as problem:
            raise BadFile(f"{self.file.path}: damaged index: its captions are not UTF-8") from problem

    def mean(self, site: str) -> Array:
        """The mean of the vectors at ``site``, float32 [d]."""
        self.require_site(site)
        value = np.asarray(self.file.tensor(f"mean/{site}"), dtype=np.float32)
        if value.shape != (self.width,) or not np.isfinite(value).all():
            raise BadFile(f"{self.file.path}: damaged index: the mean at {site} is no finite [{self.width}]")
        return value

    def require_site(self, site: str) -> None:
        """UsageError unless the index has vectors of ``site``."""
        if site not in self.sites:
            raise UsageError(f"index {self.name!r} has no vectors of {site}: it has {shorten(self.sites)}")

    def locate(self, number: int) -> tuple[str, Shard, int]:
        """The site, shard and line of vector ``number``."""
        site, token = divmod(int(number), max(self.tokens, 1))
        for shard in self.shards:
            if token < shard.tokens:
                return self.sites[site], shard, token
            token -= shard.tokens
        raise IndexError(number)

    def verify(self) -> None:
        """Compare every shard with its digest, byte by byte; BadFile names the one that differs."""
        for shard, said in zip(self.shards, self.meta["shards"], strict=True):
            if sha256(shard.header.path) != said["sha256"]:
                raise BadFile(f"{shard.header.path}: differs from what the index says of it: build it again")


def open_shard(
    folder: Path, number: int, key: str, sites: Sequence[str], width: int, tokens: int | None = None
) -> Shard:
    """Open one shard and check that it is the one expected. BadFile otherwise, UsageError where it is missing."""
    path = shard_path(folder, number)
    header = read_header(path, kind=KIND)
    if header.meta.get("part") != {"key": key, "number": number}:
        raise BadFile(f"{path}: is no shard {number} of index {key}")
    count = header.tensors["token"].shape[0] if len(_shape(header, "token")) == 1 else -1
    if count < 0 or tokens not in (None, count):
        raise BadFile(f"{path}: damaged shard: holds {count} tokens, expected {tokens}")
    wanted: dict[str, tuple[str, tuple[int, ...]]] = dict.fromkeys(_COLUMNS, ("I32", (count,)))
    wanted["span"] = ("I32", (count, 2))
    for site in sites:
        wanted[f"site/{site}"] = ("F16", (count, width))
        wanted[f"sum/{site}"] = ("F64", (width,))
    for name, (dtype, shape) in wanted.items():
        found = header.tensors.get(name)
        if found is None or (found.dtype, found.shape) != (dtype, shape):
            held = f"{found.dtype} {list(found.shape)}" if found else "missing"
            raise BadFile(f"{path}: damaged shard: {name} is {held}, expected {dtype} {list(shape)}")
    return Shard(header, tuple(sites))


def write_shard(
    folder: Path,
    number: int,
    key: str,
    vectors: Mapping[str, Array],
    columns: Mapping[str, Array],
) -> Shard:
    """Write a shard whole or not at all. ``vectors``: site to float16 [n, d], all finite; ``columns``: int32."""
    tensors: dict[str, Array] = {name: np.asarray(value, dtype=np.int32) for name, value in columns.items()}
    width = 0
    for site, value in vectors.items():
        width = value.shape[1]
        tensors[f"site/{site}"] = np.asarray(value, dtype=np.float16)
        tensors[f"sum/{site}"] = value.astype(np.float64).sum(0)
    files.write(shard_path(folder, number), KIND, tensors, {"part": {"key": key, "number": number}})
    return open_shard(folder, number, key, list(vectors), width)


def manifest(
    key: str, shards: Sequence[Shard], captions: Sequence[str], meta: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """``(tensors, meta)`` of the index that these shards are, ready to be stored."""
    if not shards or not sum(shard.tokens for shard in shards):
        raise UsageError("an index needs one vector at least: the captions gave none")
    tokens = sum(shard.tokens for shard in shards)
    sites = shards[0].sites
    raw = [caption.encode() for caption in captions]
    tensors: dict[str, Array] = {
        "captions": np.frombuffer(b"".join(raw), dtype=np.uint8),
        "ends": np.cumsum([len(one) for one in raw], dtype=np.int64),
    }
    for site in sites:
        total = np.zeros(shards[0].sum(site).shape, np.float64)
        for shard in shards:
            total += shard.sum(site)
        tensors[f"mean/{site}"] = (total / tokens).astype(np.float32)
    held = [{"tokens": shard.tokens, "sha256": sha256(shard.header.path)} for shard in shards]
    width = len(tensors[f"mean/{sites[0]}"])
    return tensors, {
        **meta,
        "key": key,
        "sites": list(sites),
        "width": width,
        "tokens": tokens,
        "vectors": tokens * len(sites),
        "captions": len(captions),
        "shards": held,
    }


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def shard_bytes(store: Path, meta: Mapping[str, Any]) -> int:
    """What the shards of an index take on disk, as far as they are there."""
    key = str(meta.get("key"))
    if not _KEY.fullmatch(key):
        return 0
    return sum(path.stat().st_size for path in place(store, key).glob("*.safetensors"))


def remove_parts(folder: Path) -> None:
    """Remove what a killed build left half written. Only for who holds the folder's lock."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def remove_shards(store: Path, key: str) -> None:
    """Remove the shards named ``key``, unless another index of the store is made of them."""
    for path in store.glob("*.safetensors"):
        try:
            header = read_header(path)
        except LabError:
            continue
        if header.kind == KIND and header.meta.get("key") == key:
            return
    folder = place(store, key)
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)


def _sites(file: ArtifactFile) -> tuple[str, ...]:
    sites = file.meta.get("sites")
    if not isinstance(sites, list) or not sites or len(set(map(str, sites))) != len(sites):
        raise BadFile(f"{file.path}: damaged index: expected a list of sites")
    for site in sites:
        if not isinstance(site, str) or not SITE.fullmatch(site):
            raise BadFile(f"{file.path}: damaged index: {str(site)[:40]!r} is no site")
    return tuple(sites)


def _whole(file: ArtifactFile, name: str, least: int) -> int:
    value = file.meta.get(name)
    if type(value) is not int or not least <= value < 1 << 40:
        raise BadFile(f"{file.path}: damaged index: {name} must be a whole number from {least}")
    return value


def _counts(file: ArtifactFile) -> list[int]:
    shards = file.meta.get("shards")
    if not isinstance(shards, list) or not 0 < len(shards) <= MAX_SHARDS:
        raise BadFile(f"{file.path}: damaged index: expected 1 to {MAX_SHARDS} shards")
    counts = []
    for shard in shards:
        tokens = shard.get("tokens") if isinstance(shard, dict) else None
        digest = shard.get("sha256") if isinstance(shard, dict) else None
        if (
            type(tokens) is not int
            or tokens < 0
            or not isinstance(digest, str)
            or not _DIGEST.fullmatch(digest)
        ):
            raise BadFile(f"{file.path}: damaged index: a shard must say its tokens and its sha256")
        counts.append(tokens)
    return counts


def _shape(header: Header, name: str) -> tuple[int, ...]:
    if name not in header.tensors:
        raise BadFile(f"{header.path}: damaged shard: {name} is missing")
    return header.tensors[name].shape


def _mapped(header: Header, name: str) -> Array:
    """A tensor of a checked file as a private map: pages come from the file when they are looked at."""
    stored, shape = header.tensors[name]
    dtype = files.DTYPES[stored]
    if 0 in shape:
        return np.empty(shape, dtype)
    if header.path.stat().st_size != header.size:
        raise BadFile(f"{header.path}: has changed since its header was read, open it again")
    return np.memmap(header.path, dtype=dtype, mode="c", offset=header.extents[name][0], shape=shape)
