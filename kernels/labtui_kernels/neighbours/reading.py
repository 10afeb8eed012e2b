"""Captions through the decoder, always in the same passes, so that the same captions give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from labtui_artifacts.errors import UsageError

from ..engine import Engine
from ..engine.capture import Prompt
from ..engine.forward import Pace
from ..lang.positions import Where
from ..lang.sites import Site
from ..models.chat import plain_tokens

PASS = 512
"""Tokens of one pass; the engine's own choice hangs on how fast earlier passes were."""
SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Caption:
    """A caption's tokens, the characters that each covers, and the positions that the index keeps of it."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    kept: tuple[int, ...]


def read_captions(tokenizer: Any, texts: Sequence[str], first: int, longest: int) -> list[Caption]:
    """Tokenise captions, as plain text without a template.

    Of each caption the positions from ``first`` on are kept, but for those whose token and all tokens before it begin
    an earlier caption too: a decoder looks back only, so that the vector would be the same. UsageError for a caption
    of more than ``longest`` tokens.
    """
    seen: dict[int, Any] = {}
    found = []
    for number, text in enumerate(texts):
        ids, spans = plain_tokens(tokenizer, text)
        if len(ids) > longest:
            raise UsageError(f"caption {number + 1}: {len(ids)} tokens; the model's context holds {longest}")
        kept, level = [], seen
        for position, token in enumerate(ids):
            if token not in level:
                level[token] = {}
                if position >= first:
                    kept.append(position)
            level = level[token]
        found.append(Caption(tuple(ids), tuple(spans), tuple(kept)))
    return found


def cut(captions: Sequence[Caption], sites: int, width: int, shard: int = 0) -> list[range]:
    """The captions of each shard: ``shard`` of them, or as many as make 64 MiB of vectors (float16)."""
    pieces: list[range] = []
    start = size = 0
    for number, caption in enumerate(captions):
        cost = len(caption.kept) * sites * width * 2
        full = number - start >= shard if shard else size + cost > SHARD_BYTES
        if full and number > start:
            pieces.append(range(start, number))
            start, size = number, 0
        size += cost
    return [*pieces, range(start, len(captions))]


@dataclass
class ShardReading:
    """What one shard's captions gave: float16 [n, d] by site, the columns int32, and how many had no place there."""

    vectors: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    dropped: int


def read_shard(
    engine: Engine, captions: Sequence[Caption], members: range, sites: Sequence[Site]
) -> Iterator[int | ShardReading]:
    """Yields how many captions are done, after every pass, and at last the shard."""
    rows = [Prompt(ids=captions[number].ids) for number in members]
    kept = [captions[number].kept for number in members]
    starts = np.cumsum([0, *(len(places) for places in kept)])
    table: dict[Site, np.ndarray] = {}
    done = 0
    reading = [number for number, places in enumerate(kept) if places]
    parts = engine.capture_parts(
        [rows[number] for number in reading], sites, pooling="none", where=Where("all")
    ) if reading else iter(())  # fmt: skip
    while True:
        with _steady(engine):
            part = next(parts, None)
        if part is None:
            break
        for site, values in part[1].items():
            if site not in table:
                table[site] = np.empty((starts[-1], values.shape[1]), np.float16)
            at = 0
            for member in part[0]:
                number = reading[member]
                own = values[at : at + len(rows[number].ids)].numpy()
                with np.errstate(over="ignore"):
                    table[site][starts[number] : starts[number + 1]] = own[list(kept[number])]
                at += len(rows[number].ids)
        done += len(part[0])
        yield done
    columns = _columns(captions, members)
    width = engine.forward.shape.width
    vectors = {str(site): table.get(site, np.empty((0, width), np.float16)) for site in sites}
    sound = np.ones(starts[-1], bool)
    for values in vectors.values():
        sound &= np.isfinite(values).all(1)
    if not sound.all():
        vectors = {site: values[sound] for site, values in vectors.items()}
        columns = {name: values[sound] for name, values in columns.items()}
    yield ShardReading(vectors, columns, int((~sound).sum()))


def _columns(captions: Sequence[Caption], members: range) -> dict[str, np.ndarray]:
    lines = [(number, position) for number in members for position in captions[number].kept]
    return {
        "token": np.array([captions[n].ids[p] for n, p in lines], np.int32),
        "caption": np.array([n for n, _ in lines], np.int32),
        "position": np.array([p for _, p in lines], np.int32),
        "span": np.array([captions[n].spans[p] for n, p in lines], np.int32).reshape(-1, 2),
    }


@contextmanager
def _steady(engine: Engine) -> Iterator[None]:
    """Passes of one size, whatever the engine has learnt about its speed."""
    kept, engine.forward.pace = engine.forward.pace, Pace(PASS)
    try:
        yield
    finally:
        engine.forward.pace = kept
