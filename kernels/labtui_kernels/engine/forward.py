"""One forward pass of the decoder over our cache, with masks and positions of our own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from labtui_artifacts.errors import UsageError

from .cache import SlotCache
from .hooks import Context, Hooks

CHUNK_SECONDS = 0.35
"""What a prefill chunk aims to cost, so that one rarely takes more than half a second."""


class Pace:
    """How many prompt tokens a chunk may hold: measured, so that a step boundary is never far.

    A pass costs something for the weights it reads, whatever it processes, and something for each token. What it
    costs at least is known from decode steps. Where that alone is a large part of `CHUNK_SECONDS`, a chunk may
    cost twice as much as an empty pass: smaller ones would be nearly all overhead.
    """

    def __init__(self, fixed: int | None = None, first: int = 256, least: int = 16) -> None:
        self.tokens, self._least, self._fixed = fixed or first, least, fixed is not None
        self._overhead = math.inf

    def step(self, seconds: float) -> None:
        """Take into account a decode step. The cheapest one tells; it is forgotten slowly, as a machine that is
        busy with something else gets slower for good."""
        self._overhead = min(self._overhead * 1.01, seconds)

    def learn(self, tokens: int, seconds: float) -> None:
        """Take into account a chunk of ``tokens`` that cost ``seconds``; at most double after one
        observation.
        """
        if self._fixed:
            return
        overhead = min(self._overhead, 0.9 * seconds) if math.isfinite(self._overhead) else 0.0
        aim = max(CHUNK_SECONDS, 2 * overhead)
        affordable = tokens * (aim - overhead) / max(seconds - overhead, 1e-4)
        # A small chunk is mostly overhead: it may only show that there is room for more, never that there is
        # less.
        if affordable > self.tokens or tokens * 2 >= self.tokens:
            self.tokens = int(max(self._least, min(affordable, self.tokens * 2)))


class Forward:
    """The decoder and the head of one model, called with our cache, masks and positions.

    Attention masks are additive, ``[lanes or 1, 1, queries, keys]`` in the dtype of the residual stream,
    which every attention implementation but the flash ones takes as it is.
    """

    def __init__(self, loaded: Any, chunk_tokens: int | None = None) -> None:
        family, model = loaded.family, loaded.model
        self.family, self.model, self.device = family, model, torch.device(loaded.device)
        self.shape = family.shape(model.config)
        config = model.config.get_text_config()
        implementation = getattr(config, "_attn_implementation", None)
        if implementation not in ("sdpa", "eager"):
            raise UsageError(
                f"attention implementation {implementation!r}: load the model with 'sdpa' or 'eager'"
            )
        self.decoder, self.head = family.decoder(model), family.head(model)
        self.layer_types = layer_types(config)
        self.kinds = {kind for kind in self.layer_types if kind != "linear_attention"}
        self.window: int | None = getattr(config, "sliding_window", None)
        self.hybrid = "linear_attention" in self.layer_types
        self.vocab = int(config.vocab_size)
        self.context_length = int(config.max_position_embeddings)
        self.dtype: torch.dtype = family.embed(model).weight.dtype
        self.hooks = Hooks(model, family, self.shape.blocks)
        self.pace = Pace(fixed=chunk_tokens)
        self.after_first_pass: Callable[[], None] | None = None

    def cache(self, slots: int, capacity: int) -> SlotCache:
        return SlotCache(self.layer_types, slots, min(capacity, self.context_length))

    def span(self, ids: torch.Tensor, start: int, cache: SlotCache | None, context: Context) -> torch.Tensor:
        """Process ``ids`` [lanes, n] at positions start.. of every lane: normed hidden states [lanes, n, d].

        Rows shorter than n are padded on the right: what comes after a row's end never reaches what is
        before. Without a cache ``start`` must be 0.
        """
        lanes, n = ids.shape
        if cache is not None:
            cache.aim_span(lanes, start, start + n)
        if start == 0:
            # Plain causal attention needs no mask of ours, and without one the kernels skip half the work.
            return self._run(ids, None, None, cache, context)
        positions = torch.arange(start, start + n, device=self.device)
        keys = torch.arange(start + n, device=self.device)
        return self._run(ids, positions[None], self._masks(positions[None], keys), cache, context)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, last: int, cache: SlotCache, context: Context
    ) -> torch.Tensor:
        """Process one token a lane: ``ids`` and ``positions`` [lanes]; normed hidden states [lanes, d]."""
        cache.aim_step(positions, last)
        keys = torch.arange(cache.write.length, device=self.device)
        column = positions[:, None]
        return self._run(ids[:, None], column, self._masks(column, keys), cache, context)[:, 0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [n, vocab] of normed hidden states [n, d]."""
        with torch.inference_mode():
            return self.head(hidden).float()

    def timed_span(
        self, ids: torch.Tensor, start: int, cache: SlotCache | None, context: Context
    ) -> torch.Tensor:
        """:meth:`span`, and what it cost taught to the pace."""
        began = time.perf_counter()
        hidden = self.span(ids, start, cache, context)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.pace.learn(ids.numel(), time.perf_counter() - began)
        return hidden

    def _masks(self, queries: torch.Tensor, keys: torch.Tensor) -> Any:
        allowed = keys <= queries[..., None]
        masks: dict[str, Any] = {}
        for kind in self.kinds:
            seen = allowed
            if kind == "sliding_attention" and self.window is not None:
                seen = allowed & (keys > queries[..., None] - self.window)
            blocked = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
            masks[kind] = blocked.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]
        if len(masks) == 1:
            # Families differ in whether they take a mapping; all take a ready-made 4-D mask as it is.
            return next(iter(masks.values()))
        return {**masks, "linear_attention": None}

    def _run(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor | None,
        masks: Any,
        cache: SlotCache | None,
        context: Context,
    ) -> torch.Tensor:
        with torch.inference_mode(), self.hooks.using(context):
            out = self.decoder(
                input_ids=ids,
                attention_mask=masks,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        if self.after_first_pass is not None:
            call, self.after_first_pass = self.after_first_pass, None
            call()
        return out.last_hidden_state


def layer_types(config: Any) -> list[str]:
    """The kind of token mixer of every block: full_attention, sliding_attention or linear_attention."""
    named = getattr(config, "layer_types", None)
    if named:
        kinds = list(named)[: config.num_hidden_layers]
    else:
        sliding = getattr(config, "sliding_window", None) is not None
        kinds = ["sliding_attention" if sliding else "full_attention"] * config.num_hidden_layers
    unknown = set(kinds) - {"full_attention", "sliding_attention", "linear_attention"}
    if unknown:
        raise UsageError(
            f"this model has blocks of kind {', '.join(sorted(unknown))}, which the engine does not know"
        )
    return kinds
