"""The recent rows of a session, with their texts, in a bounded number of bytes.

At most ``MAX_ROWS`` rows are kept, and at most ``MAX_BYTES`` of them in encoded form. What goes first is
the token detail (pieces and log-probabilities) of the oldest finished row, then the texts of finished rows,
then the same of running rows, and at last whole rows. The newest row always keeps what fits in its own
limits. Everything let go can be read back from the journal.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .events import Knob, RowFinished, RowStarted, RowTokens
from .fields import KnobTurn, RowView, row_key

MAX_ROWS = 60
MAX_BYTES = 150_000
ROW_DETAIL = 60_000
ROW_TEXT = 24_000
ROW_HEAD = 6_000
MAX_KNOBS = 48

_FLOAT = 9  # bytes of a msgpack double
_HEADER = 5  # the longest msgpack header of a string or list
_encode = msgspec.msgpack.Encoder().encode

Rows = dict[str, RowView]


def clip(text: str, size: int) -> str:
    """At most ``size`` bytes of UTF-8 from the start of the text, an ellipsis where something was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= size:
        return text
    return raw[: max(0, size - 3)].decode("utf-8", "ignore") + "…"


def clip_front(text: str, size: int) -> str:
    """The last ``size`` bytes of UTF-8 of the text, at a character boundary."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= size else raw[len(raw) - size :].decode("utf-8", "ignore")


def start(rows: Rows, data: RowStarted, t: float) -> None:
    """A row begins, or begins again after a lost worker."""
    key = row_key(data.job, data.row)
    rows.pop(key, None)
    row = RowView(
        job=data.job,
        row=data.row,
        arm=clip(data.arm, 40),
        edits=clip(data.edits, 600),
        strengths=_fitting(data.strengths, 1_500),
        seed=data.seed,
        sampling=data.sampling if size_of(data.sampling) <= 300 else {},
        max_new_tokens=data.max_new_tokens,
        messages=_fitting(data.messages, 2_500),
        started=t,
        prompt_tokens=data.prompt_tokens,
        prompt_pieces=data.pieces,
        read=data.read,
        edited=data.edited,
        images=_fitting(data.images, 1_000),
    )
    if _prompt_bytes(row) > ROW_DETAIL // 2:
        row.prompt_pieces, row.read, row.edited = [], [], []
    _measure_head(row)
    row.detail_bytes = _prompt_bytes(row)
    row.text_bytes = _HEADER
    rows[key] = row
    fit(rows)


def extend(rows: Rows, data: RowTokens) -> bool:
    """More tokens of a row. False when the chunk contradicts itself; one of an unknown row is let pass."""
    count = len(data.pieces)
    plain = data.plain_logprobs
    if len(data.logprobs) != count or data.start < 0 or (plain is not None and len(plain) != count):
        return False
    row = rows.get(row_key(data.job, data.row))
    if row is None:
        return True
    known = max(0, min(count, row.tokens - data.start))  # tokens of this chunk that are here already
    if known == count:
        return True
    if data.start > row.tokens:
        _drop_detail(row)
        row.first = data.start
    pieces = data.pieces[known:]
    row.pieces.extend(pieces)
    row.logprobs.extend(data.logprobs[known:])
    _extend_plain(row, plain[known:] if plain is not None else None, len(pieces))
    row.tokens = data.start + count
    added = "".join(pieces)
    row.text += added
    row.text_bytes += len(added.encode("utf-8", "replace"))
    row.detail_bytes += _token_bytes(pieces)
    _fit_row(row)
    fit(rows)
    return True


def finish(rows: Rows, data: RowFinished, t: float) -> RowView | None:
    """The row is complete: its full text and its metrics. None when the row is not kept any more."""
    row = rows.get(row_key(data.job, data.row))
    if row is None:
        return None
    row.finish = clip(data.finish or "done", 40)
    row.finished = t
    row.words = data.words
    row.tokens = max(row.tokens, data.tokens or 0)
    if size_of(data.metrics) <= 2_000:
        row.metrics = data.metrics
    if size_of(data.reasons) <= 1_500:
        row.reasons = data.reasons
    if data.text:
        row.text, row.text_from = data.text, 0
        row.text_bytes = _HEADER + len(data.text.encode("utf-8", "replace"))
    _measure_head(row)
    _fit_row(row)
    fit(rows)
    return row


def turn(rows: Rows, data: Knob, t: float) -> None:
    """A knob was turned on a row."""
    row = rows.get(row_key(data.job, data.row))
    if row is None:
        return
    row.knobs.append(KnobTurn(data.edit, data.strength, clip(data.strength_text, 24), data.step, t))
    del row.knobs[:-MAX_KNOBS]
    _measure_head(row)
    fit(rows)


def fit(rows: Rows) -> None:
    """Let go of the oldest until the rows fit in their count and their bytes."""
    while len(rows) > MAX_ROWS:
        del rows[next(iter(rows))]
    total = sum(_bytes(row) for row in rows.values())
    if total <= MAX_BYTES:
        return
    *older, _newest = rows.values()
    done = [row for row in older if row.finished is not None]
    running = [row for row in older if row.finished is None]
    for group in (done, running):
        for drop in (_drop_detail, _drop_text):
            for row in group:
                before = _bytes(row)
                drop(row)
                total += _bytes(row) - before
                if total <= MAX_BYTES:
                    return
    while total > MAX_BYTES and len(rows) > 1:
        total -= _bytes(rows.pop(next(iter(rows))))


def measure(rows: Iterable[RowView]) -> None:
    """Count the bytes of rows anew, as for rows that were read from a file."""
    for row in rows:
        _measure_head(row)
        row.detail_bytes = _prompt_bytes(row) + _token_bytes(row.pieces)
        row.text_bytes = _HEADER + len(row.text.encode("utf-8", "replace"))


def size_of(value: object) -> int:
    """Bytes of a plain value in msgpack."""
    return len(_encode(value))


def _bytes(row: RowView) -> int:
    return row.head_bytes + row.detail_bytes + row.text_bytes


def _fitting(items: list[dict], size: int) -> list[dict]:
    return items if size_of(items) <= size else []


def _extend_plain(row: RowView, plain: list[float | None] | None, count: int) -> None:
    if plain is not None and row.plain_logprobs is None:
        row.plain_logprobs = list[float | None]([None] * (len(row.pieces) - count))
    if row.plain_logprobs is not None:
        row.plain_logprobs.extend(plain if plain is not None else [None] * count)


def _token_bytes(pieces: list[str]) -> int:
    text = sum(len(piece.encode("utf-8", "replace")) for piece in pieces)
    return text + len(pieces) * (_HEADER + 2 * _FLOAT)


def _prompt_bytes(row: RowView) -> int:
    text = sum(len(piece.encode("utf-8", "replace")) + _HEADER for piece in row.prompt_pieces)
    return text + _FLOAT * (len(row.read) + len(row.edited)) + 6 * _HEADER


def _measure_head(row: RowView) -> None:
    """Everything but prompt pieces, tokens and text; the field names count too."""
    if size_of(row.knobs) + size_of(row.reasons) + size_of(row.metrics) > ROW_HEAD:
        row.reasons = {}
    parts = (row.job, row.row, row.arm, row.edits, row.strengths, row.sampling, row.messages, row.images)
    rest = (row.metrics, row.reasons, row.knobs, row.finish)
    row.head_bytes = 470 + size_of(parts) + size_of(rest)


def _drop_detail(row: RowView) -> None:
    row.pieces, row.logprobs = [], []
    row.plain_logprobs = None
    row.prompt_pieces, row.read, row.edited = [], [], []
    row.first = row.tokens
    row.detail_bytes = _prompt_bytes(row)


def _drop_text(row: RowView) -> None:
    row.text_from += len(row.text)
    row.text = ""
    row.text_bytes = _HEADER


def _fit_row(row: RowView) -> None:
    """Keep one row within its own limits: the later half of its tokens, the end of its text."""
    while row.detail_bytes > ROW_DETAIL and row.pieces:
        half = (len(row.pieces) + 1) // 2
        del row.pieces[:half], row.logprobs[:half]
        if row.plain_logprobs is not None:
            del row.plain_logprobs[:half]
        row.first += half
        row.detail_bytes = _prompt_bytes(row) + _token_bytes(row.pieces)
    if row.text_bytes > ROW_TEXT:
        kept = clip_front(row.text, ROW_TEXT // 2)
        row.text_from += len(row.text) - len(kept)
        row.text = kept
        row.text_bytes = _HEADER + len(kept.encode("utf-8", "replace"))
