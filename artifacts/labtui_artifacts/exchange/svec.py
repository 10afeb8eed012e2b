"""AISteer360 steering vectors: ``.svec``, JSON with ``model_type`` and ``directions`` {layer: [K, d]}.

Layer l is the output of decoder layer l counted from 0, which is transformers' ``hidden_states[l + 1]``
(AISteer360, ``state_control/_common``). K = 1 is one direction for all positions; a file with K > 1 (a vector
a token, or a head) is another thing and refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile
from labtui_artifacts.exchange.base import (
    MAX_LAYER,
    Imported,
    Reading,
    as_float32,
    block_output,
    block_vectors,
    model_family,
    read_limited,
    text_of,
)
from labtui_artifacts.files import Array, write_atomically
from labtui_artifacts.kinds.direction import DirectionFile

CONVENTION = "layer l is the output of block l, counted from 0 (llm.<l>.out, hidden_states[l + 1])"
MAX_FILE = 512 << 20


def read(path: Path, reading: Reading) -> Imported:
    """Read a ``.svec`` file; BadFile when it is damaged or not one direction a layer."""
    try:
        said: Any = json.loads(read_limited(path, MAX_FILE))
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"{path}: not the JSON of a .svec file ({str(problem)[:80]})") from problem
    directions = said.get("directions") if isinstance(said, dict) else None
    if not isinstance(directions, dict) or not directions:
        raise BadFile(f"{path}: no .svec file: expected an object with directions by layer")
    if said.get("num_heads") is not None:
        raise BadFile(f"{path}: holds a direction a head, which is no residual direction")
    vectors: dict[str, Array] = {}
    for layer in sorted(directions, key=lambda text: (len(text), text)):
        if (
            not layer.isascii()
            or not layer.isdigit()
            or str(int(layer[:9])) != layer
            or int(layer) > MAX_LAYER
        ):
            raise BadFile(f"{path}: {layer[:40]!r} is no layer number from 0 to {MAX_LAYER}")
        vectors[block_output(int(layer), str(path))] = _vector(directions[layer], f"{path}: layer {layer}")
    if len({vector.size for vector in vectors.values()}) > 1:
        raise BadFile(f"{path}: its directions differ in width")
    extra = {"model_type": text_of(said, "model_type")}
    return Imported(vectors, {key: value for key, value in extra.items() if value})


def write(direction: DirectionFile, out: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Write the block outputs as a ``.svec`` file; returns notes on what was left out."""
    vectors, notes = block_vectors(direction, sites, what="a .svec file")
    said = {
        "model_type": model_family(direction),
        "directions": {str(block): [vector.astype(np.float64).tolist()] for block, vector in vectors.items()},
    }
    raw = json.dumps(said).encode("utf-8")
    write_atomically(out, lambda handle: handle.write(raw), expected=len(raw))
    return notes


def _vector(value: Any, where: str) -> Array:
    try:
        array = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as problem:
        raise BadFile(f"{where}: expected a list of numbers") from problem
    if array.ndim == 2 and array.shape[0] != 1:
        raise BadFile(f"{where}: holds {array.shape[0]} vectors (one a token or head), expected one")
    if array.ndim not in (1, 2):
        raise BadFile(f"{where}: has shape {list(array.shape)}, expected [1, d]")
    return as_float32(array.reshape(-1), where)
