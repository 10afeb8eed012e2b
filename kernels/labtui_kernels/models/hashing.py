"""Fingerprints of weights on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

WHOLE = 64 << 20
"""Files up to this many bytes are hashed whole."""
HEAD = 1 << 20
BLOCK = 256 << 10
SAMPLES = 64


def weight_hash(files: Sequence[Path], report: Callable[[float], None] = lambda fraction: None) -> str:
    """SHA-256 over the weight files in the order of their names, as hex.

    A file of at most 64 MiB counts with every byte. A larger one counts with its size, its first and last MiB
    (the header with all names and shapes lies in the first) and 64 blocks of 256 KiB spread evenly: 18 MiB a
    file, so that a model of 100 GB is identified in seconds. Two files that differ only between those blocks
    are not told apart; ``labtui doctor --deep`` compares parameters instead. Names are left out: a renamed
    copy has the same hash.
    """
    digest = hashlib.sha256()
    for number, file in enumerate(sorted(files, key=lambda file: file.name)):
        size = file.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with file.open("rb") as handle:
            for start, length in _extents(size):
                handle.seek(start)
                digest.update(handle.read(length))
                report((number + min(1.0, (start + length) / max(size, 1))) / len(files))
    return digest.hexdigest()


def _extents(size: int) -> list[tuple[int, int]]:
    """Which bytes of a file of ``size`` bytes are hashed: ``(start, length)``."""
    if size <= WHOLE:
        return [(start, min(HEAD, size - start)) for start in range(0, size, HEAD)]
    spread = [(HEAD + (size - 2 * HEAD - BLOCK) * k // (SAMPLES - 1), BLOCK) for k in range(SAMPLES)]
    return [(0, HEAD), *spread, (size - HEAD, HEAD)]
