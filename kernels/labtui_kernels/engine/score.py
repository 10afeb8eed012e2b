"""Teacher forcing: what a model says of tokens that are already known, in one pass instead of one step a
token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from labtui_artifacts.errors import UsageError

from .edits import RowEdits
from .forward import Forward
from .pictures import mark_of
from .rows import Emitted, Row
from .spans import check_ids, look_at, spans

_LOGITS = 1 << 24  # floats of logits held at a time


def score_parts(forward: Forward, rows: Sequence[Row]) -> Iterator[dict[int, list[Emitted]]]:
    """Score the rows' ``forced`` tokens pass by pass: row number → one Emitted for each forced token.

    The numbers equal those of decoding the row with ``forced`` step by step, up to rounding: edits, positions
    and knobs apply at the same places. An empty part means that a long row goes on. UsageError for a row
    without forced tokens, or one that passes the model's context.
    """
    steered = _gather(forward, rows, [_edits(row, forward) for row in rows], _numbers)
    shadowed = [index for index, row in enumerate(rows) if row.surprise and row.edits]
    plain: dict[int, list[tuple[float, ...]]] = {}
    if shadowed:
        some = [rows[index] for index in shadowed]
        for part in _gather(forward, some, [None] * len(some), _numbers):
            plain.update({shadowed[index]: values for index, values in part.items()})
            yield {}
    for part in steered:
        yield {index: _emissions(rows[index], values, plain.get(index)) for index, values in part.items()}


def score(forward: Forward, rows: Sequence[Row]) -> list[list[Emitted]]:
    """:func:`score_parts` to the end, in the order of ``rows``."""
    found: dict[int, list[Emitted]] = {}
    for part in score_parts(forward, rows):
        found.update(part)
    return [found[index] for index in range(len(rows))]


def divergence_parts(forward: Forward, rows: Sequence[Row]) -> Iterator[dict[int, list[float]]]:
    """KL(steered ‖ unsteered) in nats at each forced token of each row, teacher-forced, pass by pass.

    Entry i is the divergence of the two distributions from which token i is drawn, over the whole
    vocabulary, at temperature 1. A row without edits gives zeros. Rows of one prompt and equal forced tokens
    share the unsteered pass. An empty part means that no row is complete yet.
    """
    for index, row in enumerate(rows):
        _check(row, index, forward)
    plain_rows = {index: [0.0] * len(row.forced or ()) for index, row in enumerate(rows) if not row.edits}
    if plain_rows:
        yield plain_rows
    steered = [index for index, row in enumerate(rows) if row.edits]
    runs = [rows[index] for index in steered]
    edits: list[RowEdits | None] = [_edits(row, forward) for row in runs]
    unsteered: dict[object, int] = {}
    partner: list[int] = []
    for row in list(runs):
        known = (row.ids, row.forced, tuple(map(mark_of, row.images)))
        if known not in unsteered:
            unsteered[known] = len(runs)
            runs.append(row)
            edits.append(None)
        partner.append(unsteered[known])
    left = Counter(partner)
    hidden: dict[int, torch.Tensor] = {}
    for part in _gather(forward, runs, edits, None):
        hidden.update(part)
        ready = [n for n, other in enumerate(partner) if n in hidden and other in hidden]
        done: dict[int, list[float]] = {}
        for n in ready:
            other = partner[n]
            done[steered[n]] = kl(forward, hidden.pop(n), hidden[other])
            left[other] -= 1
            if not left[other]:
                del hidden[other]
        yield done


def kl(forward: Forward, steered: torch.Tensor, plain: torch.Tensor) -> list[float]:
    """KL(steered ‖ plain) in nats of next-token distributions, from normed hidden states [n, d] each."""
    values: list[float] = []
    block = max(1, _LOGITS // (2 * forward.vocab))
    for start in range(0, len(steered), block):
        p = forward.logits(steered[start : start + block]).log_softmax(-1)
        q = forward.logits(plain[start : start + block]).log_softmax(-1)
        values.extend((p.exp() * (p - q)).sum(-1).clamp_min(0).tolist())
    return values


def _numbers(forward: Forward, hidden: torch.Tensor, forced: Sequence[int]) -> list[tuple[float, ...]]:
    """(log-probability, best token, gap) for each forced token, from normed hidden states [tokens, d]."""
    table: list[tuple[float, ...]] = []
    block = max(1, _LOGITS // forward.vocab)
    for start in range(0, len(forced), block):
        logits = forward.logits(hidden[start : start + block])
        wanted = torch.tensor(forced[start : start + block], device=logits.device)
        top, index = logits.topk(2, dim=-1)
        logprobs = logits.gather(1, wanted[:, None]).squeeze(1) - logits.logsumexp(-1)
        lines = torch.stack([logprobs, index[:, 0].float(), top[:, 0] - top[:, 1]], dim=1)
        table.extend(tuple(line) for line in lines.tolist())
    return table


def _gather(
    forward: Forward,
    rows: Sequence[Row],
    edits: Sequence[RowEdits | None],
    read: Callable[..., list[tuple[float, ...]]] | None,
) -> Iterator[dict[int, Any]]:
    """For each complete row ``read`` of the hidden states that predict its forced tokens, or those
    themselves.
    """
    for index, row in enumerate(rows):
        _check(row, index, forward)
    sequences = [(*row.ids, *(row.forced or ())[:-1]) for row in rows]
    pictures = look_at([f"row {row.key}" for row in rows], rows, edits, forward)
    kept: dict[int, list[torch.Tensor]] = {}
    for span in spans(forward, sequences, edits, pictures=pictures):
        for lane, index in enumerate(span.members):
            first = max(span.start, len(rows[index].ids) - 1)
            end = min(span.stop, len(sequences[index]))
            if first < end:
                kept.setdefault(index, []).append(span.hidden[lane, first - span.start : end - span.start])
        if not span.last:
            yield {}
            continue
        done = {index: torch.cat(kept.pop(index)) for index in span.members}
        if read is None:
            yield done
        else:
            yield {index: read(forward, hidden, rows[index].forced) for index, hidden in done.items()}


def _edits(row: Row, forward: Forward) -> RowEdits | None:
    return RowEdits(row, forward.shape, forward.device) if row.edits else None


def _check(row: Row, index: int, forward: Forward) -> None:
    if row.forced is None:
        raise UsageError(f"row {row.key}: nothing to score; give the tokens in forced")
    check_ids(f"row {row.key}", (*row.ids, *row.forced), forward)


def _emissions(
    row: Row, values: Sequence[tuple[float, ...]], plain: Sequence[tuple[float, ...]] | None
) -> list[Emitted]:
    forced = row.forced or ()
    out = []
    for index, (token, (logprob, best, gap)) in enumerate(zip(forced, values, strict=True)):
        unsteered = plain[index][0] if plain is not None else logprob if row.surprise else None
        last = index + 1 == len(forced)
        finish = ("stop" if token in row.stop_ids else "length") if last else ""
        out.append(Emitted(row.key, index, token, logprob, unsteered, gap, finish, int(best)))
    return out
