"""Tiny random models of the real transformers classes, for tests that must run in milliseconds.

Every model has four blocks and a few ten thousand parameters in float32, drawn from a seed, and a small
byte-level tokenizer with Qwen's special tokens and a ChatML template that knows a thinking switch.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from labtui_kernels.models import families
from labtui_kernels.models.describe import describe
from labtui_kernels.models.load import LoadedModel

TEXT_FAMILIES = ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_moe")

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP_TOKENS = ("<think>", "</think>")  # in the vocabulary but not special: decoding shows them

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}
"""

CORPUS = (
    "You are a helpful assistant. Answer briefly. Explain what a mutex is.",
    "A mutex is a lock that lets one thread at a time enter a critical section.",
    "The quick brown fox jumps over the lazy dog, and then it rests in the shade.",
    "Naïve café — “quotes” and 漢字 are bytes too.",
)

COMMON: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    # Large enough for blocks to matter: at the usual 0.02 every block is close to the identity.
    "initializer_range": 0.15,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
SHARED: dict[str, Any] = {"shared_expert_intermediate_size": 32}
LINEAR: dict[str, Any] = {
    "head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    # Both kinds of block, and full attention both inside and at the end.
    "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2Config", {}),
    "qwen2_moe": ("Qwen2MoeConfig", {**EXPERTS, **SHARED}),
    "qwen3": ("Qwen3Config", {"head_dim": 12}),
    "qwen3_moe": ("Qwen3MoeConfig", {"head_dim": 12, **EXPERTS}),
    "qwen3_next": ("Qwen3NextConfig", {**LINEAR, **EXPERTS, **SHARED}),
    "qwen3_5": ("Qwen3_5TextConfig", LINEAR),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", {**LINEAR, **EXPERTS, **SHARED}),
}


@functools.cache
def _vocabulary() -> str:
    """A byte-level BPE trained on :data:`CORPUS`, as tokenizer JSON (training is deterministic)."""
    pipeline: Tokenizer = transformers.Qwen2Tokenizer()._tokenizer
    alphabet = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=len(alphabet) + 40, initial_alphabet=alphabet, show_progress=False)
    pipeline.train_from_iterator(CORPUS, trainer)
    return pipeline.to_str()


def tiny_tokenizer() -> transformers.Qwen2Tokenizer:
    """A fresh small tokenizer: 256 bytes, 40 merges, Qwen's special tokens, the template above."""
    model = json.loads(_vocabulary())["model"]
    merges: Any = [tuple(merge) for merge in model["merges"]]
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.add_tokens(list(MARKUP_TOKENS))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_config(family: str, *, vocab_size: int, **config: Any) -> Any:
    """A transformers configuration of four blocks; keyword arguments replace single fields."""
    name, fields = _CONFIGS[family]
    return getattr(transformers, name)(vocab_size=vocab_size, **{**COMMON, **fields, **config})


def tiny(family: str, *, seed: int = 0, **config: Any) -> LoadedModel:
    """A tiny random model of the real class of ``family`` (one of :data:`TEXT_FAMILIES`), float32 on the CPU.

    Equal arguments give equal weights. The vocabulary is padded past the tokenizer's, as in real checkpoints.
    """
    tokenizer = tiny_tokenizer()
    padded = (len(tokenizer) // 64 + 1) * 64
    settings = tiny_config(family, vocab_size=config.pop("vocab_size", padded), **config)
    settings.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    settings.pad_token_id = tokenizer.pad_token_id
    return made(family, settings, tokenizer, seed)


def made(family: str, settings: Any, tokenizer: Any, seed: int) -> LoadedModel:
    """The model of a configuration, its weights drawn from the seed, as loading one gives it."""
    adapter = families.by_name(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, adapter.causal_class)(settings)
    model.to(torch.float32).eval().requires_grad_(False)
    info = describe(
        model,
        tokenizer,
        adapter,
        source=f"tiny-{family}",
        name=f"tiny-{family}",
        quantisation=None,
        weight_hash=f"random-{seed}",
    )
    return LoadedModel(model, tokenizer, adapter, info, torch.device("cpu"))
