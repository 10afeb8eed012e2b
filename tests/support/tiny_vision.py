"""Tiny random models with a vision tower, of the real transformers classes, and small pictures to show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import transformers
from PIL import Image

from labtui_kernels.models.load import LoadedModel

from .tiny import COMMON, EXPERTS, LINEAR, SHARED, made, tiny_tokenizer

VISION_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5_vl", "qwen3_5_vl_moe")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}{{- message.content -}}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- else -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}
_TOWER2: dict[str, Any] = {
    "depth": 3,
    "embed_dim": 32,
    "hidden_size": 48,
    "num_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 14,
}
_TOWER25: dict[str, Any] = {
    **{"depth": 3, "hidden_size": 32, "out_hidden_size": 48, "num_heads": 2, "intermediate_size": 48},
    **{"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]},
}
_TOWER3: dict[str, Any] = {
    **{"depth": 3, "hidden_size": 32, "out_hidden_size": 48, "num_heads": 2, "intermediate_size": 48},
    **{"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
}
_TOWER35 = {key: value for key, value in _TOWER3.items() if key != "deepstack_visual_indexes"}
_ROPE35 = {**_ROPE, "partial_rotary_factor": 1.0, "mrope_interleaved": True}
_ROPE3 = {**_ROPE, "mrope_interleaved": True}
_CONFIGS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen2_vl": ("Qwen2VLConfig", {"rope_parameters": _ROPE}, _TOWER2),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", {"rope_parameters": _ROPE}, _TOWER25),
    "qwen3_vl": ("Qwen3VLConfig", {"head_dim": 12, "rope_parameters": _ROPE3}, _TOWER3),
    "qwen3_vl_moe": ("Qwen3VLMoeConfig", {"head_dim": 12, "rope_parameters": _ROPE3, **EXPERTS}, _TOWER3),
    "qwen3_5_vl": ("Qwen3_5Config", {**LINEAR, "rope_parameters": _ROPE35}, _TOWER35),
    "qwen3_5_vl_moe": (
        "Qwen3_5MoeConfig",
        {**LINEAR, **EXPERTS, **SHARED, "rope_parameters": _ROPE35},
        _TOWER35,
    ),
}


def vision_tokenizer() -> transformers.Qwen2Tokenizer:
    """The tiny tokenizer with Qwen's image tokens and a template that takes images in a message's parts."""
    tokenizer = tiny_tokenizer()
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *marks]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_vision(
    family: str, *, seed: int = 0, text: dict[str, Any] | None = None, tower: dict[str, Any] | None = None
) -> LoadedModel:
    """A tiny random model of the real class of ``family`` (one of :data:`VISION_FAMILIES`), float32 on the CPU.

    ``text`` and ``tower`` replace single fields of the two configurations.
    """
    tokenizer = vision_tokenizer()
    name, usual_text, usual_tower = _CONFIGS[family]
    ids = {
        f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for kind, token in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    padded = (len(tokenizer) // 64 + 1) * 64
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    settings = getattr(transformers, name)(
        text_config={**COMMON, **usual_text, **ends, "vocab_size": padded, **(text or {})},
        vision_config={**usual_tower, "initializer_range": 0.15, **(tower or {})},
        tie_word_embeddings=False,
        **ids,
    )
    return made(family, settings, tokenizer, seed)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
