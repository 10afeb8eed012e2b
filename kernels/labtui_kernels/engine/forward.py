"""One forward pass of the decoder over our cache, with masks and positions of our own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from labtui_artifacts.errors import UsageError

from .cache import SlotCache
from .hooks import Context, Hooks
from .pictures import Pictures
from .tower import Tower

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
        self.hooks = Hooks(model, family, self.shape.blocks, self.shape.vision_blocks)
        self.tower: Tower | None = None
        self.image_token, self.video_token, self.patch_values = -1, -1, 0
        if family.vision:
            self.tower = Tower(model, family, self.hooks, self.shape.merge, self.device)
            self.image_token, self.video_token = (
                family.image_token(model.config),
                family.video_token(model.config),
            )
            self.patch_values = _patch_values(model.config)
        self.pace = Pace(fixed=chunk_tokens)
        self.after_first_pass: Callable[[], None] | None = None

    def cache(self, slots: int, capacity: int) -> SlotCache:
        return SlotCache(self.layer_types, slots, min(capacity, self.context_length))

    @property
    def patches(self) -> int:
        """About how many patches a pass of the tower takes: those of a chunk of tokens."""
        return self.pace.tokens * max(1, self.shape.merge) ** 2

    def see(self, pictures: Sequence[Pictures | None]) -> bool:
        """Get features of images that have none yet, in one pass of the tower of about a chunk's cost; True when all
        have some."""
        if self.tower is None:
            return True
        return self.tower.see(pictures, self.patches)

    def see_all(self, pictures: Sequence[Pictures | None]) -> None:
        """:meth:`see` to the end."""
        while not self.see(pictures):
            pass

    def span(
        self,
        ids: torch.Tensor,
        start: int,
        cache: SlotCache | None,
        context: Context,
        pictures: Sequence[Pictures | None] = (),
    ) -> torch.Tensor:
        """Process ``ids`` [lanes, n] at positions start.. of every lane: normed hidden states [lanes, n, d].

        Rows shorter than n are padded on the right: what comes after a row's end never reaches what is
        before. Without a cache ``start`` must be 0. ``pictures`` of a lane have all their features.
        """
        lanes, n = ids.shape
        if cache is not None:
            cache.aim_span(lanes, start, start + n)
        shown = _Shown(pictures, start, start + n) if any(pictures) else None
        if start == 0:
            # Plain causal attention needs no mask of ours, and without one the kernels skip half the work.
            return self._run(ids, None, None, cache, context, shown)
        positions = torch.arange(start, start + n, device=self.device)
        keys = torch.arange(start + n, device=self.device)
        masks = self._masks(positions[None], keys)
        return self._run(ids, positions[None], masks, cache, context, shown)

    def step(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        last: int,
        cache: SlotCache,
        context: Context,
        deltas: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Process one token a lane: ``ids`` and ``positions`` [lanes]; normed hidden states [lanes, d].

        ``deltas`` [lanes] is what images in the lanes' prompts add to a position's rotation; None for nothing.
        """
        cache.aim_step(positions, last)
        keys = torch.arange(cache.write.length, device=self.device)
        column = positions[:, None]
        turned = column if deltas is None else column + deltas[:, None]
        return self._run(ids[:, None], turned, self._masks(column, keys), cache, context)[:, 0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [n, vocab] of normed hidden states [n, d]."""
        with torch.inference_mode():
            return self.head(hidden).float()

    def timed_span(
        self,
        ids: torch.Tensor,
        start: int,
        cache: SlotCache | None,
        context: Context,
        pictures: Sequence[Pictures | None] = (),
    ) -> torch.Tensor:
        """:meth:`span`, and what it cost taught to the pace."""
        began = time.perf_counter()
        hidden = self.span(ids, start, cache, context, pictures)
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
        shown: _Shown | None = None,
    ) -> torch.Tensor:
        with torch.inference_mode(), self.hooks.using(context):
            tokens: dict[str, Any] = {"input_ids": ids}
            if shown is not None:
                tokens, positions = shown.lay(self.family.embed(self.model)(ids)), shown.rope(ids.device)
            out = self.decoder(
                **tokens,
                attention_mask=masks,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            )
        if self.after_first_pass is not None:
            call, self.after_first_pass = self.after_first_pass, None
            call()
        return out.last_hidden_state


class _Shown:
    """What the images of a pass put in the place of its tokens' embeddings, and the rotations of all its tokens."""

    def __init__(self, pictures: Sequence[Pictures | None], start: int, stop: int) -> None:
        self._pictures, self._start, self._stop = pictures, start, stop

    def rope(self, device: torch.device) -> torch.Tensor:
        """Positions [3, lanes, n]."""
        plain = torch.arange(self._start, self._stop, device=device).expand(3, -1)
        lanes = [
            plain if each is None else each.layout.rope(self._start, self._stop) for each in self._pictures
        ]
        return torch.stack(lanes, dim=1)

    def lay(self, embeds: torch.Tensor) -> dict[str, Any]:
        """What the decoder takes in the place of token ids, from their embeddings [lanes, n, d], which it changes."""
        marks = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
        levels: list[tuple[torch.Tensor, ...]] = []
        for lane, each in enumerate(self._pictures):
            for first, features in each.placed() if each is not None else ():
                low, high = max(first, self._start), min(first + len(features.merged), self._stop)
                if low >= high:
                    continue
                piece, here = slice(low - first, high - first), slice(low - self._start, high - self._start)
                embeds[lane, here] = features.merged[piece].to(embeds.dtype)
                marks[lane, here] = True
                levels.append(tuple(level[piece] for level in features.deep))
        found: dict[str, Any] = {"inputs_embeds": embeds}
        if levels and levels[0]:
            # In the order of the marks: lane by lane, positions ascending.
            found["deepstack_visual_embeds"] = [torch.cat(level) for level in zip(*levels, strict=True)]
            found["visual_pos_masks"] = marks
        return found


def _patch_values(config: Any) -> int:
    """How many pixel values a patch has; 0 where the configuration does not say."""
    tower = config.vision_config
    names = ("in_channels", "temporal_patch_size", "patch_size", "patch_size")
    return math.prod(int(getattr(tower, name, 0) or 0) for name in names)


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
