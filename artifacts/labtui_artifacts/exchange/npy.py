"""NumPy ``.npy`` files: one vector [d], or a stack [n, d] with a row a layer.

An array does not say where its rows belong. What we write has a second file beside it, ``NAME.npy.json``,
with the sites; a stack without one is read as block outputs from 0 (or as ``--rows hidden-states``), and a
single vector needs ``--site``. Pickled arrays are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange.base import Imported, Reading, as_float32, from_array, read_limited
from labtui_artifacts.files import Array, write_atomically
from labtui_artifacts.kinds.direction import SITE, DirectionFile

CONVENTION = "row k is the output of block k, counted from 0, unless a .npy.json beside it names the sites"
MAX_FILE = 512 << 20
MAX_SIDECAR = 1 << 20


def read(path: Path, reading: Reading) -> Imported:
    """Read a direction from an array file; BadFile for no plain array, UsageError when --site is missing."""
    array = load_array(read_limited(path, MAX_FILE), str(path))
    sites = _sidecar(path)
    if sites is None or reading.site is not None:
        return from_array(array, reading, str(path))
    value = as_float32(array, str(path))
    if value.ndim != 2 or value.shape[0] != len(sites):
        raise BadFile(
            f"{path}: has shape {list(value.shape)}, but {_beside(path).name} names {len(sites)} sites"
        )
    return Imported(dict(zip(sites, value, strict=True)))


def write(direction: DirectionFile, out: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Write the vectors as a stack [n, d] and, beside it, the sites of its rows."""
    chosen = list(sites) if sites else list(direction.sites)
    vectors = [direction.vector(site) for site in chosen]
    if len({vector.size for vector in vectors}) > 1:
        raise UsageError(
            f"direction {direction.name!r}: its vectors differ in width: choose --site one at a time"
        )
    stack = np.stack(vectors)
    references = {site: direction.reference(site) for site in chosen}
    said = {
        "sites": chosen,
        "direction": direction.name,
        "reference_norms": references,
        "convention": CONVENTION,
    }
    write_atomically(out, lambda handle: np.save(handle, stack, allow_pickle=False))
    write_atomically(_beside(out), lambda handle: handle.write(json.dumps(said, indent=1).encode()))
    return (f"its rows are named in {_beside(out).name}",)


def load_array(raw: bytes, where: str) -> Array:
    """The array in the bytes of a ``.npy`` file; sizes are checked before anything is made of that size."""
    handle = BytesIO(raw)
    try:
        version = np.lib.format.read_magic(handle)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(handle, max_header_size=10_000)
        if dtype.hasobject or dtype.kind not in "fiu":
            raise ValueError(f"holds {dtype}, expected plain numbers")
        if math.prod(shape) * dtype.itemsize != len(raw) - handle.tell():
            raise ValueError(f"{dtype} {list(shape)} does not fill the file: truncated or damaged")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as problem:
        raise BadFile(
            f"{where}: not a plain NumPy array ({' '.join(str(problem).split())[:160]})"
        ) from problem
    flat = np.frombuffer(raw, dtype=dtype, offset=handle.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _sidecar(path: Path) -> list[str] | None:
    place = _beside(path)
    if not place.is_file():
        return None
    try:
        said: Any = json.loads(read_limited(place, MAX_SIDECAR))
        sites = said["sites"]
        if not isinstance(sites, list) or not all(isinstance(s, str) and SITE.fullmatch(s) for s in sites):
            raise ValueError("sites must be a list of sites")
        if len(set(sites)) != len(sites):
            raise ValueError("a site occurs twice")
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise BadFile(f"{place}: does not name the rows of {path.name} ({str(problem)[:80]})") from problem
    return sites
