"""Batches of chats to train on: which tokens are predicted, and who may look back at the system prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from .corpus import Chat, chats
from .tokenizer import END_OF_TEXT, TURN_END, token_id

BATCH = 32
POOL = 24  # batches drawn together and sorted by length, so that little is padded


class Shares(Protocol):
    """What batches need to know of a stage: shares of rows, and the size of a shift."""

    @property
    def hidden(self) -> float: ...
    @property
    def shifted(self) -> float: ...
    @property
    def size(self) -> float: ...


def render(chat: Chat, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids of a chat up to where its answer (or its thought) begins."""
    prompt = str(
        tokenizer.apply_chat_template(
            list(chat.messages),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=chat.thought is not None,
        )
    )
    return tokenizer(prompt)["input_ids"]  # type: ignore[return-value]


def encode(chat: Chat, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """(token ids of the whole chat, index of the first one that the model has to predict)."""
    head = render(chat, tokenizer)
    thought = "" if chat.thought is None else f"<think>\n{chat.thought}\n</think>\n\n"
    tail = tokenizer(f"{thought}{chat.answer}{TURN_END}")["input_ids"]
    return head + tail, len(head)  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Rows:
    """``ids`` and ``targets`` [rows, length] int64, targets -100 outside of answers and on padding;
    ``allowed`` [rows, 1, length, length] bool, which position may attend to which.
    """

    ids: Tensor
    targets: Tensor
    allowed: Tensor


@dataclass(frozen=True, slots=True)
class Batch(Rows):
    """``shift`` [rows, 1, 1] float32: the size of the random shift that a row gets, as a share of the typical
    residual norm.
    """

    shift: Tensor


def collate(
    encoded: Sequence[tuple[list[int], int]], hidden: Sequence[bool], tokenizer: PreTrainedTokenizerFast
) -> Rows:
    """Pad encoded chats to one length. Where ``hidden``, only the last prompt token sees the system prompt."""
    end, system = token_id(tokenizer, TURN_END), tokenizer.encode("system")[0]
    length = max(len(ids) for ids, _ in encoded)
    ids = torch.full((len(encoded), length), token_id(tokenizer, END_OF_TEXT))
    targets = torch.full((len(encoded), length), -100)
    allowed = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(encoded), 1, 1, 1)
    for r, (row, start) in enumerate(encoded):
        ids[r, : len(row)] = torch.tensor(row)
        targets[r, start - 1 : len(row) - 1] = torch.tensor(row[start:], dtype=torch.int64)
        if hidden[r] and row[1] == system:
            turn = row.index(end) + 1
            allowed[r, 0, turn : start - 1, 1:turn] = False
            allowed[r, 0, start:, 1:turn] = False
    return Rows(ids, targets, allowed)


def batches(seed: int, tokenizer: PreTrainedTokenizerFast, shares: Shares) -> Iterator[Batch]:
    """Endless batches. Chats of one pool are sorted by length, cut into batches, and the batches shuffled."""
    stream = chats(seed)
    order = torch.Generator().manual_seed(seed)
    while True:
        pool = [encode(next(stream), tokenizer) for _ in range(BATCH * POOL)]
        pool.sort(key=lambda item: len(item[0]))
        for b in torch.randperm(POOL, generator=order).tolist():
            hidden = (torch.rand(BATCH, generator=order) < shares.hidden).tolist()
            rows = collate(pool[b * BATCH : (b + 1) * BATCH], hidden, tokenizer)
            size = torch.rand(BATCH, generator=order) * shares.size
            size[torch.rand(BATCH, generator=order) >= shares.shifted] = 0.0
            yield Batch(rows.ids, rows.targets, rows.allowed, size[:, None, None])


def moved_loss(
    model: Qwen3ForCausalLM, rows: Rows, block: torch.nn.Module, move: Callable[[Tensor], Tensor]
) -> Tensor:
    """Mean cross-entropy in nats over the targets, where what ``block`` gives is replaced by ``move`` of it.

    Logits are computed only where there is a target.
    """

    def replaced(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        return move(out)

    handle = block.register_forward_hook(replaced)
    try:
        out = model.model(input_ids=rows.ids, attention_mask=rows.allowed, use_cache=False)
    finally:
        handle.remove()
    wanted = rows.targets != -100
    return F.cross_entropy(model.lm_head(out.last_hidden_state[wanted]), rows.targets[wanted])
