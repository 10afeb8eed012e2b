"""A plain way to run a steered model: ``generate`` of transformers and one forward hook on one block.

It shares no code with the lab's engine on purpose: what is claimed about the bundled model is measured
here, and the engine can be held against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, Qwen3ForCausalLM

from .registers import Row

Messages = list[dict[str, str]]
MAX_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer: text, number of generated tokens, whether it ended by itself, and log-probabilities (nats)
    of the generated tokens (end of turn included) under the unsteered model.
    """

    text: str
    tokens: int
    ended: bool
    logprobs: tuple[float, ...]

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability; infinite where nothing was generated."""
        if not self.logprobs:
            return float("inf")
        return float(torch.tensor(self.logprobs).mean().neg().exp())

    @property
    def row(self) -> Row:
        return Row(self.text, self.perplexity, self.ended)


class Reference:
    """A model folder in float32, with greedy generation under a vector that is added at all positions."""

    def __init__(self, folder: Path, batch: int = 96) -> None:
        self.model: Any = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.blocks = self.model.model.layers
        self.width = int(self.model.config.hidden_size)
        self.batch = batch

    def render(self, messages: Messages) -> str:
        """The prompt with the generation prompt, thinking off (the template's default)."""
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _inputs(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        packed = self.tokenizer(list(texts), return_tensors="pt", padding=True)
        return packed["input_ids"], packed["attention_mask"]

    @contextmanager
    def _adding(self, block: int, vectors: Tensor | None) -> Iterator[None]:
        """Add ``vectors`` [rows, d] to the output of ``block`` at every position of the rows."""
        if vectors is None:
            yield
            return
        shift = vectors[:, None, :]
        handle = self.blocks[block].register_forward_hook(lambda _m, _a, out: out + shift)
        try:
            yield
        finally:
            handle.remove()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Messages], block: int = 0, vectors: Tensor | None = None
    ) -> list[Generated]:
        """Greedy answers to ``prompts``, row i under ``vectors[i]`` ([rows, d], None: unsteered)."""
        out: list[Generated] = []
        texts = [self.render(m) for m in prompts]
        for start in range(0, len(texts), self.batch):
            part = slice(start, start + self.batch)
            out += self._generate(texts[part], block, None if vectors is None else vectors[part])
        return out

    def _generate(self, texts: Sequence[str], block: int, vectors: Tensor | None) -> list[Generated]:
        ids, mask = self._inputs(texts)
        with self._adding(block, vectors):
            full = self.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
            )
        answers = full[:, ids.shape[1] :]
        end = self.tokenizer.eos_token_id
        lengths = [_length(row, end) for row in answers.tolist()]
        logprobs = self._score(full, mask, lengths)
        results = []
        for row, n, lp in zip(answers.tolist(), lengths, logprobs, strict=True):
            ended = n > 0 and row[n - 1] == end
            text = self.tokenizer.decode(row[: n - 1] if ended else row[:n], skip_special_tokens=True).strip()
            results.append(Generated(text, n, ended, tuple(lp)))
        return results

    def _score(self, full: Tensor, mask: Tensor, lengths: Sequence[int]) -> list[list[float]]:
        """Log-probabilities of the generated tokens of each row under the unsteered model."""
        start, stop = mask.shape[1], full.shape[1]
        mask = F.pad(mask, (0, stop - start), value=1)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        hidden = self.model.model(
            input_ids=full, attention_mask=mask, position_ids=positions
        ).last_hidden_state
        logits = self.model.lm_head(hidden[:, start - 1 : stop - 1])
        picked = F.log_softmax(logits, -1).gather(-1, full[:, start:, None])[..., 0]
        return [row[:n].tolist() for row, n in zip(picked, lengths, strict=True)]

    @torch.inference_mode()
    def last_states(self, prompts: Sequence[Messages]) -> Tensor:
        """Outputs of every block at the last prompt token: [blocks, rows, d]."""
        states: list[Tensor] = []
        texts = [self.render(m) for m in prompts]
        for start in range(0, len(texts), self.batch):
            ids, mask = self._inputs(texts[start : start + self.batch])
            states.append(torch.stack([out[:, -1] for out in self._block_outputs(ids, mask)]))
        return torch.cat(states, 1)

    def _block_outputs(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        kept: list[Tensor] = []
        handles = [b.register_forward_hook(lambda _m, _a, out: kept.append(out)) for b in self.blocks]
        try:
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            self.model.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return kept

    @torch.inference_mode()
    def content_norms(self, prompts: Sequence[Messages]) -> list[tuple[float, float]]:
        """(median over content positions, mean over all positions) of the residual norm after each block.

        Content positions are the tokens of the messages' own texts, the very first token left out."""
        content: list[list[Tensor]] = [[] for _ in self.blocks]
        every: list[list[Tensor]] = [[] for _ in self.blocks]
        for messages in prompts:
            text = self.render(messages)
            packed = self.tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
            spans, cursor = [], 0
            for message in messages:
                begin = text.index(message["content"], cursor)
                cursor = begin + len(message["content"])
                spans.append((begin, cursor))
            offsets = packed["offset_mapping"][0].tolist()
            inside = torch.tensor([any(a >= s and b <= e for s, e in spans) and a > 0 for a, b in offsets])
            for i, out in enumerate(self._block_outputs(packed["input_ids"], packed["attention_mask"])):
                norms = out[0].norm(dim=-1)
                content[i].append(norms[inside])
                every[i].append(norms)
        return [
            (float(torch.cat(c).median()), float(torch.cat(e).mean()))
            for c, e in zip(content, every, strict=True)
        ]


def _length(row: Sequence[int], end: int) -> int:
    """Generated tokens up to and including the first end of turn."""
    return row.index(end) + 1 if end in row else len(row)
