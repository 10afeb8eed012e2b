"""Choosing tokens: greedy, or by inverse CDF with uniforms that depend on seed and step alone.

A row's uniforms come from a counter-based generator (Philox 4x64, Salmon et al. 2011) keyed by the row's
seed, with the generated step as the counter: neither the batch around the row nor the device has a part in
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .rows import Sampling

_DOMAIN = 0x6C61625F726F7773  # keeps these streams apart from other uses of the same seeds
_WORD = (1 << 64) - 1


def uniforms(seed: int, count: int) -> np.ndarray:
    """The uniforms in [0, 1) of a row's first ``count`` steps, float64 ``[count]``; a longer call extends a
    shorter.
    """
    raw = np.random.Philox(key=np.array([seed & _WORD, _DOMAIN], dtype=np.uint64)).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(eq=False)
class Chooser:
    """The sampling settings of the lanes of a batch, ready for the device."""

    sampled: torch.Tensor | None  # lanes that sample, int64 [m]; None when all are greedy
    temperature: torch.Tensor  # [m, 1] float32
    top_p: torch.Tensor  # [m, 1] float32
    top_k: torch.Tensor  # [m, 1] int64, at least 1
    deepest_k: int  # the largest top_k in use, 0 when some row keeps the whole vocabulary
    any_k: bool
    any_p: bool

    @classmethod
    def of(cls, settings: Sequence[Sampling], vocab: int, device: torch.device) -> Chooser:
        lanes = [lane for lane, setting in enumerate(settings) if not setting.greedy]
        rows = [settings[lane] for lane in lanes]
        ks = [min(row.top_k or vocab, vocab) for row in rows]
        return cls(
            sampled=torch.tensor(lanes, device=device) if lanes else None,
            temperature=torch.tensor([[row.temperature] for row in rows], device=device),
            top_p=torch.tensor([[row.top_p] for row in rows], device=device),
            top_k=torch.tensor([[k] for k in ks], device=device, dtype=torch.int64),
            deepest_k=max(ks, default=0) if all(k < vocab for k in ks) else 0,
            any_k=any(k < vocab for k in ks),
            any_p=any(row.top_p < 1 for row in rows),
        )

    def choose(self, logits: torch.Tensor, best: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Token ids [n]: ``best`` (the argmax, [n]) for greedy lanes, a draw for the others.

        ``logits`` float32 [n, vocab]; ``points`` [m, 1] float64 are the sampled lanes' uniforms. Temperature,
        then top-k, then top-p on what is left, as transformers does; tokens that tie with the last one kept
        are kept too.
        """
        if self.sampled is None:
            return best
        scaled = logits[self.sampled] / self.temperature
        if self.any_k or self.any_p:
            scaled = self._cut(scaled)
        cumulative = torch.softmax(scaled.double(), dim=-1).cumsum(dim=-1)
        drawn = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True).squeeze(1)
        # The product may round up to the total; the last token that has any probability is then meant.
        last = (cumulative < cumulative[:, -1:]).sum(-1)
        chosen = best.clone()
        chosen[self.sampled] = torch.minimum(drawn, last)
        return chosen

    def _cut(self, scaled: torch.Tensor) -> torch.Tensor:
        if self.deepest_k:
            ordered = scaled.topk(self.deepest_k, dim=-1).values
        else:
            ordered = scaled.sort(dim=-1, descending=True).values
        kth = ordered.gather(1, (self.top_k - 1).clamp(max=ordered.shape[1] - 1))
        scaled = scaled.masked_fill(scaled < kth, -torch.inf)
        if self.any_p:
            kept = ordered.masked_fill(ordered < kth, -torch.inf)
            probabilities = torch.softmax(kept, dim=-1)
            before = probabilities.cumsum(-1) - probabilities
            # The tokens whose predecessors hold less than top_p; there is always the first.
            count = (before < self.top_p).sum(-1, keepdim=True).clamp_min(1)
            scaled = scaled.masked_fill(scaled < kept.gather(1, count - 1), -torch.inf)
        return scaled
