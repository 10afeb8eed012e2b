"""Converts a folder that LatentLens saved, ``layer_N/embeddings_cache.pt``, with torch's safe loader.

``python -m labtui_kernels.neighbours.latentlens FOLDER OUT``. The layout of OUT is that of
``labtui_artifacts.exchange.latentlens``. Rows that not every layer has are left out and counted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.exchange.latentlens import CACHE, CONVERT, MAX_ROWS, MAX_WIDTH, ROWS
from labtui_artifacts.files import write_safetensors

Row = tuple[str, int, int]
"""A caption, a position in it, and the token there."""
MAX_TEXT = 100_000


def convert(folder: Path, out: Path) -> dict[str, int]:
    """Write ``out``; how many ``rows``, ``layers``, ``captions``, and rows that were ``left_out``. Errors are LabErrors."""
    caches = {
        int(match[1]): path / CACHE
        for path in sorted(folder.glob("layer_*"))
        if (match := re.fullmatch(r"layer_([0-9]{1,4})", path.name)) and (path / CACHE).is_file()
    }
    if not caches:
        raise UsageError(f"{folder}: no layer_N/{CACHE} in it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; give a new folder")
    common: dict[Row, int] | None = None
    most = 0
    for path in caches.values():
        own = dict.fromkeys(_rows(path, _loaded(path)))
        most = max(most, len(own))
        common = {row: 0 for row in (own if common is None else common) if row in own}
    rows = list(common or {})
    if not rows:
        raise BadFile(f"{folder}: its layers have no row in common")
    captions = list(dict.fromkeys(caption for caption, _, _ in rows))
    number = {caption: place for place, caption in enumerate(captions)}
    try:
        raw = [caption.encode() for caption in captions]
    except UnicodeEncodeError as problem:
        raise BadFile(f"{folder}: has a caption that is no text: UTF-8 cannot hold it") from problem
    out.mkdir(parents=True, exist_ok=True)
    for layer, path in caches.items():
        cache = _loaded(path)
        places = {row: place for place, row in enumerate(_rows(path, cache))}
        chosen = torch.tensor([places[row] for row in rows])
        half = cache["embeddings"][chosen].half()
        if not bool(torch.isfinite(half).all()):
            raise BadFile(f"{path}: has vectors that float16 cannot hold")
        write_safetensors(out / f"layer_{layer}.safetensors", {"vectors": half.numpy()}, {})
    table: dict[str, Any] = {
        "caption": np.array([number[caption] for caption, _, _ in rows], np.int32),
        "position": np.array([position for _, position, _ in rows], np.int32),
        "token": np.array([token for _, _, token in rows], np.int32),
        "captions": np.frombuffer(b"".join(raw), np.uint8),
        "ends": np.cumsum([len(one) for one in raw], dtype=np.int64),
    }
    write_safetensors(out / ROWS, table, {})
    return {"rows": len(rows), "layers": len(caches), "captions": len(captions), "left_out": most - len(rows)}


def _loaded(path: Path) -> Mapping[str, Any]:
    """What a cache holds, its vectors mapped; only tensors and plain values are made."""
    try:
        cache = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, OSError) as problem:
        said = str(problem).strip().splitlines() or ["unknown"]
        raise BadFile(f"{path}: torch's safe loader refuses it: {said[0][:200]}") from problem
    vectors = cache.get("embeddings") if isinstance(cache, dict) else None
    metadata = cache.get("metadata") if isinstance(cache, dict) else None
    if not isinstance(vectors, torch.Tensor) or not isinstance(metadata, list) or vectors.ndim != 2:
        raise BadFile(f"{path}: expected embeddings [n, d] and a list of metadata")
    if len(metadata) != len(vectors) or len(metadata) > MAX_ROWS or not 0 < vectors.shape[1] <= MAX_WIDTH:
        raise BadFile(f"{path}: {list(vectors.shape)} vectors, {len(metadata):,} rows of metadata")
    return cache


def _rows(path: Path, cache: Mapping[str, Any]) -> list[Row]:
    found: list[Row] = []
    for place, entry in enumerate(cache["metadata"]):
        said = entry if isinstance(entry, dict) else {}
        caption, position, token = said.get("caption"), said.get("position"), said.get("token_id")
        sound = isinstance(caption, str) and len(caption) <= MAX_TEXT
        if not sound or type(position) is not int or type(token) is not int or min(position, token) < 0:
            raise BadFile(
                f"{path}: row {place} of its metadata lacks a caption (a text), a position or a token_id (whole numbers)"
            )
        if max(position, token) >= 1 << 31:
            raise BadFile(f"{path}: row {place} of its metadata has a number beyond 32 bits")
        found.append((str(caption), position, token))
    return found


def main(arguments: list[str]) -> int:
    """Command line: the exit code."""
    if len(arguments) != 2:
        sys.stderr.write(f"usage: {CONVERT} FOLDER OUT\n")
        return 2
    try:
        done = convert(Path(arguments[0]), Path(arguments[1]))
    except LabError as problem:
        sys.stderr.write(f"{problem}\n")
        return 4
    left = f", {done['left_out']:,} that not all layers have left out" if done["left_out"] else ""
    sys.stdout.write(
        f"{arguments[1]}: {done['rows']:,} rows of {done['captions']:,} captions in {done['layers']} layers{left}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
