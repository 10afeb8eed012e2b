"""A row on its way: the events that tell of it, its text as it grows, and what it leaves behind."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..engine import Emitted, Row, Sampling
from ..metrics.base import Values
from ..specs import Decoding, Message
from .context import JobContext
from .detokenize import Detokenizer, Vocabulary
from .pictures import Area
from .prompts import Prompted, plain
from .resolve import PLAIN, Resolved

CHUNK_SECONDS = 0.05
CHUNK_TOKENS = 1024


@dataclass
class Chunk:
    """Tokens that have come and have not been told of."""

    start: int = 0
    ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    plain: list[float | None] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)


@dataclass
class LiveRow:
    """One generation.

    ``tokens`` and ``logprobs`` hold what was generated, the token that ended the turn included; ``answer``
    leaves that one out. ``finish`` is empty until it has ended: ``stop``, ``length`` or ``cancelled``;
    ``told`` says that its end and its metrics have been announced.
    """

    ctx: JobContext
    vocabulary: Vocabulary
    row: str
    arm: str
    prompt: Prompted
    messages: list[Message]
    decoding: Decoding
    seed: int = 0
    resolved: Resolved = PLAIN
    surprise: bool = False
    read: list[int] = field(default_factory=list)
    live: bool = True
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    plain_logprobs: list[float | None] = field(default_factory=list)
    knobs: list[tuple[int, int, float]] = field(default_factory=list)
    finish: str = ""
    told: bool = False

    def __post_init__(self) -> None:
        self._text = Detokenizer(self.vocabulary, self.decoding.stop)
        self._chunk = Chunk()
        self._flushed = time.monotonic()

    @property
    def text(self) -> str:
        return self._text.text

    @property
    def answer(self) -> list[int]:
        """The generated tokens without the one that ended the turn."""
        ends = self.tokens[-1:] and self.tokens[-1] in self.stop_ids
        return self.tokens[:-1] if ends else list(self.tokens)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        return stop_ids(self.ctx)

    def engine_row(self) -> Row:
        """The row as the engine takes it."""
        return Row(
            key=self.row,
            ids=tuple(self.prompt.ids),
            content=tuple(self.prompt.content),
            edits=self.resolved.edits,
            max_new_tokens=self.decoding.max_new_tokens,
            sampling=sampling(self.decoding),
            seed=self.seed,
            stop_ids=self.stop_ids,
            surprise=self.surprise,
            knobs=tuple(self.knobs),
            images=self.prompt.inputs,
        )

    def start(self, *, prompt_pieces: bool = True) -> None:
        """Tell that the row begins: everything that is needed to repeat it."""
        edited = self.resolved.edited(self.prompt)
        seen = self.prompt.seen(Area.of(self.decoding))
        self.ctx.emit(
            "row.started",
            {
                "row": self.row,
                "arm": self.arm,
                "prompt_tokens": len(self.prompt.ids),
                "pieces": list(self.prompt.pieces) if prompt_pieces else [],
                "read": self.read,
                "edited": edited,
                "messages": plain(self.messages) if prompt_pieces else [],
                "edits": self.resolved.text,
                "strengths": [dose.record() for dose in self.resolved.doses],
                "directions": list(self.resolved.names),
                "ids": list(self.prompt.ids),
                "content": list(self.prompt.content),
                "seed": self.seed,
                "sampling": {
                    "temperature": self.decoding.temperature,
                    "top_p": self.decoding.top_p,
                    "top_k": self.decoding.top_k,
                },
                "max_new_tokens": self.decoding.max_new_tokens,
                "stop_ids": sorted(self.stop_ids),
                **({"images": seen} if seen else {}),
            },
        )

    def take(self, emitted: Emitted) -> bool:
        """Add a token; True when a stop text is complete and the engine should drop the row."""
        if emitted.finish == "cancelled":
            if not self.finish:
                self._end("cancelled")
            return False
        if self.finish:
            return False
        piece = self._text.push(emitted.token)
        self.tokens.append(emitted.token)
        self.logprobs.append(emitted.logprob)
        self.plain_logprobs.append(emitted.plain_logprob)
        chunk = self._chunk
        chunk.ids.append(emitted.token)
        chunk.pieces.append(piece)
        chunk.logprobs.append(emitted.logprob)
        chunk.plain.append(emitted.plain_logprob)
        chunk.gaps.append(emitted.gap)
        if self._text.stopped and not emitted.finish:
            self._end("stop")
            return True
        if emitted.finish:
            self._end(emitted.finish)
        elif self.live and time.monotonic() - self._flushed >= CHUNK_SECONDS:
            self.flush()
        return False

    def _end(self, finish: str) -> None:
        if self._chunk.pieces:  # else what is held back belongs to no token that can still be told
            self._chunk.pieces[-1] += self._text.finish()
        self.finish = "stop" if self._text.stopped else finish
        if self.live:
            self.flush()

    def abandon(self) -> None:
        """End a row whose job ends before it."""
        if not self.finish:
            self._end("cancelled")
        if not self.told:
            self.finished(Values())

    def flush(self) -> None:
        """Tell of the tokens that have come since the last time."""
        chunk = self._chunk
        for start in range(0, len(chunk.ids), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            told = any(value is not None for value in chunk.plain)
            self.ctx.emit(
                "row.tokens",
                {
                    "row": self.row,
                    "start": chunk.start + start,
                    "ids": chunk.ids[part],
                    "pieces": chunk.pieces[part],
                    "logprobs": chunk.logprobs[part],
                    "plain_logprobs": chunk.plain[part] if told else None,
                    "gaps": chunk.gaps[part],
                },
            )
        self._chunk = Chunk(start=len(self.tokens))
        self._flushed = time.monotonic()

    def finished(self, metrics: Values) -> None:
        """Tell that the row has ended, with its metrics."""
        self.told = True
        self.ctx.emit(
            "row.finished",
            {
                "row": self.row,
                "finish": self.finish,
                "text": self.text,
                "words": len(self.text.split()),
                "tokens": len(self.answer),
                "metrics": metrics.values,
                "reasons": metrics.reasons,
            },
        )


def sampling(decoding: Decoding) -> Sampling:
    """A spec's sampling settings for the engine."""
    return Sampling(decoding.temperature, decoding.top_p, decoding.top_k)


def stop_ids(ctx: JobContext) -> frozenset[int]:
    """The tokens that end a turn for this model."""
    found = {int(token) for token in ctx.loaded.info.stop_ids}
    own = ctx.loaded.tokenizer.eos_token_id
    return frozenset(found | ({int(own)} if own is not None else set()))


def summary(row: LiveRow, metrics: Values) -> dict[str, Any]:
    """What a job's result says of a row."""
    return {
        "row": row.row,
        "arm": row.arm,
        "seed": row.seed,
        "finish": row.finish,
        "words": len(row.text.split()),
        "tokens": len(row.answer),
        "metrics": metrics.values,
        "reasons": metrics.reasons,
    }
