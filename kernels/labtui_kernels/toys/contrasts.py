"""Rows that are moved along a contrast of two system prompts, and answer in the length that it asks for.

For each row two prompts that ask for different lengths, about some question, are run, and the difference of their
last tokens' residual streams after one block is added, times a share, at every position of the row. Its answer is
as long as that share of the difference in length says. So what a contrast direction means at half its strength is
taught, as a larger model learns it by itself; a random direction means nothing still.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from . import compose, prompts
from .batches import collate, encode, moved_loss, render
from .corpus import Chat, ask, draw_topic

BLOCKS = 6  # contrasts are added after one of the first blocks: later ones are too late to change an answer
_LONGEST = max(level for level in compose.LEVELS.values()) + 0.03
_SPREAD = 0.02


def _chat(system: str, question: str, answer: str, topic: Any) -> Chat:
    messages = ({"role": "system", "content": system}, {"role": "user", "content": question})
    return Chat(messages, answer, "contrast", topic)


class Contrasts:
    """An endless, reproducible stream of such rows."""

    def __init__(self, seed: int, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
        self._rng = Random(f"labtui-toy-qwen3-contrasts:{seed}")
        self._tokenizer, self._rows = tokenizer, rows

    def draw(self) -> tuple[Chat, Chat, Chat, float]:
        """(the row, the chat that the contrast leads from, the one that it leads to, the share)."""
        rng, levels = self._rng, compose.LEVELS
        start, goal = rng.sample(list(levels), 2)
        base = rng.choice(list(levels)) if rng.random() < 0.3 else "neutral"
        share = rng.uniform(0.1, 1.0)
        level = levels[base] + share * (levels[goal] - levels[start])
        if not 0.0 <= level <= _LONGEST:  # a shorter step along the same contrast
            share *= 0.4
            level = min(_LONGEST, max(0.0, levels[base] + share * (levels[goal] - levels[start])))
        topic = draw_topic(rng)
        other = topic if rng.random() < 0.4 else draw_topic(rng)
        answer = compose.at_level(topic, rng.gauss(level, _SPREAD), rng)
        row = _chat(rng.choice(prompts.SYSTEM[base]), ask(topic, rng), answer, topic)
        question = ask(other, rng)
        low, high = (
            _chat(rng.choice(prompts.SYSTEM[register]), question, "", other) for register in (start, goal)
        )
        return row, low, high, share

    def loss(self, model: Qwen3ForCausalLM) -> Tensor:
        """Mean cross-entropy in nats of the next rows, moved after one random block of the first `BLOCKS`."""
        drawn = [self.draw() for _ in range(self._rows)]
        block = model.model.layers[self._rng.randrange(BLOCKS)]
        low = self._last_states(model, block, [d[1] for d in drawn])
        high = self._last_states(model, block, [d[2] for d in drawn])
        shares = torch.tensor([d[3] for d in drawn])
        move = (shares[:, None] * (high - low))[:, None]
        rows = collate([encode(d[0], self._tokenizer) for d in drawn], [True] * len(drawn), self._tokenizer)
        return moved_loss(model, rows, block, lambda out: out + move)

    def _last_states(self, model: Qwen3ForCausalLM, block: torch.nn.Module, chats: Sequence[Chat]) -> Tensor:
        """[chats, d]: the residual stream after ``block`` at the last token of each prompt, without gradient."""
        heads = [render(chat, self._tokenizer) for chat in chats]
        rows = collate([(ids, len(ids)) for ids in heads], [False] * len(heads), self._tokenizer)
        kept: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, out: Any) -> None:
            kept.append(out)

        handle = block.register_forward_hook(keep)
        try:
            with torch.no_grad():
                model.model(input_ids=rows.ids, attention_mask=rows.allowed, use_cache=False)
        finally:
            handle.remove()
        return kept[0][torch.arange(len(heads)), torch.tensor([len(ids) - 1 for ids in heads])]
