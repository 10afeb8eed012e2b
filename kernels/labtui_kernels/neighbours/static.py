"""Static readings of hidden states: what they are near to in the model's own vocabulary, without any context.

Three, each by its name, none a stand-in for another:

- ``embedding``: cosine of the state and the rows of the input embedding;
- ``unembedding``: cosine of the state and the rows of the head's matrix;
- ``lens``: the logit lens, softmax of the head applied to the state after the final norm (nostalgebraist 2020); a
  state of ``llm.norm`` is normed already.

Only ids that the tokenizer knows take part: checkpoints pad their matrices, and what is in those rows was never
trained. Where a model ties its matrices the first two agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from ..engine import Engine
from .bounds import full_sums
from .exact import Hits

Reading: TypeAlias = Literal["embedding", "unembedding", "lens"]
READINGS: tuple[Reading, ...] = get_args(Reading)
WORDS = 8192
"""Rows of the vocabulary of one matrix product."""
STATES = 512


class Vocabulary:
    """The matrices of a loaded model that stand for its vocabulary."""

    def __init__(self, engine: Engine, tokenizer: Any) -> None:
        family, model = engine.loaded.family, engine.loaded.model
        self._embedding: torch.Tensor = family.embed(model).weight
        head = family.head(model)
        self._head: torch.Tensor = head.weight
        self._bias: torch.Tensor | None = getattr(head, "bias", None)
        self._norm = family.norm(model)
        self.device = torch.device(engine.loaded.device)
        rows = min(len(self._embedding), len(self._head))
        ids = sorted({number for number in tokenizer.get_vocab().values() if 0 <= number < rows})
        self.ids = torch.tensor(ids, dtype=torch.long)
        self.tied = self._embedding.data_ptr() == self._head.data_ptr()

    def normed(self, states: torch.Tensor) -> torch.Tensor:
        """``states`` float32 [n, d] after the final norm, as the model computes it."""
        weight = self._norm.weight
        with torch.inference_mode():
            return self._norm(states.to(weight.device, weight.dtype)).float().cpu()

    def steps(self) -> int:
        """How many steps :func:`nearest` has."""
        return -(-len(self.ids) // WORDS)

    def pieces(self, reading: Reading) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """Ids [w], their rows float32 [w, d] and, of a head that has one, their bias float32 [w], on the device."""
        matrix = self._embedding if reading == "embedding" else self._head
        bias = self._bias if reading == "lens" else None
        for low in range(0, len(self.ids), WORDS):
            ids = self.ids[low : low + WORDS]
            there = ids.to(matrix.device)
            rows = matrix[there].detach().to(self.device, torch.float32)
            yield ids, rows, None if bias is None else bias[there].detach().to(self.device, torch.float32)


class Found:
    """What :func:`nearest` has found so far."""

    def __init__(self, count: int, k: int) -> None:
        self.k = k
        self.numbers = torch.full((count, k), -1, dtype=torch.long)
        self.values = torch.full((count, k), -torch.inf)
        self.total = torch.full((count,), -torch.inf)

    def take(self, lines: slice, ids: torch.Tensor, values: torch.Tensor) -> None:
        """Put values [n, w] of the words ``ids`` among the best: higher first, then lower ids."""
        best = values.topk(min(self.k, values.shape[1]), dim=1)
        every = torch.cat([self.values[lines], best.values.cpu()], dim=1)
        numbers = torch.cat([self.numbers[lines], ids[best.indices.cpu()]], dim=1)
        # The order of ids first, then a stable one of values: ties go by id.
        order = torch.where(numbers < 0, torch.iinfo(torch.long).max, numbers).argsort(dim=1)
        every, numbers = every.gather(1, order), numbers.gather(1, order)
        order = every.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        self.values[lines], self.numbers[lines] = every.gather(1, order), numbers.gather(1, order)

    def add(self, lines: slice, logits: torch.Tensor) -> None:
        """Count logits [n, w] towards the softmax's sum."""
        self.total[lines] = torch.logaddexp(self.total[lines], logits.logsumexp(1).cpu())

    def hits(self, reading: Reading) -> Hits:
        """Ids [n, k] and cosines, or probabilities of the lens; id -1 and NaN where there are fewer words than k."""
        scores = (self.values - self.total[:, None]).exp() if reading == "lens" else self.values
        known = self.numbers >= 0
        return Hits(self.numbers.numpy(), torch.where(known, scores, torch.nan).numpy().astype(np.float32))


def nearest(
    vocabulary: Vocabulary,
    states: torch.Tensor,
    reading: Reading,
    k: int,
    *,
    normed: Sequence[bool] | bool = False,
) -> Iterator[Found]:
    """The best ``k`` words of each state, float32 [n, d], in steps: yields what it has after each piece of vocabulary.

    ``normed`` says (of all states, or of each) that they are from after the final norm; only the lens asks.
    """
    found = Found(len(states), k)
    queries = _queries(vocabulary, states, reading, normed).to(vocabulary.device)
    for ids, rows, bias in vocabulary.pieces(reading):
        if reading != "lens":
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
        for low in range(0, len(states), STATES):
            lines = slice(low, low + STATES)
            with full_sums():
                values = queries[lines] @ rows.T
            if reading == "lens":
                values = values if bias is None else values + bias
                found.add(lines, values)
            found.take(lines, ids, values)
        yield found


def _queries(
    vocabulary: Vocabulary, states: torch.Tensor, reading: Reading, normed: Sequence[bool] | bool
) -> torch.Tensor:
    if reading != "lens":
        return states / states.norm(dim=1, keepdim=True).clamp_min(1e-30)
    done = torch.as_tensor([normed] * len(states) if isinstance(normed, bool) else list(normed))
    return torch.where(done[:, None], states, vocabulary.normed(states))
