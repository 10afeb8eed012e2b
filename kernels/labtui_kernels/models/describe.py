"""A :class:`ModelInfo` from a model that is in memory."""

from __future__ import annotations

import hashlib
from typing import Any

from labtui_kernels.models.families.base import Family, text_part
from labtui_kernels.models.families.vision import VisionFamily
from labtui_kernels.models.info import ModelInfo

UNBOUNDED = 1 << 30  # a context that no configuration states


def describe(
    model: Any,
    tokenizer: Any,
    family: Family,
    *,
    source: str,
    name: str,
    quantisation: str | None,
    weight_hash: str,
    revision: str = "",
) -> ModelInfo:
    """Everything :class:`ModelInfo` holds, read from the live model, its configuration and its tokenizer."""
    config = text_part(model.config)
    shape = family.shape(model.config)
    parameter = next(model.parameters())
    return ModelInfo(
        source=source,
        name=name,
        family=family.name,
        architecture=type(model).__name__,
        blocks=shape.blocks,
        width=shape.width,
        vocab=int(config.vocab_size),
        parameters=logical_parameters(model),
        dtype=str(model.dtype).removeprefix("torch."),
        quantisation=quantisation,
        device=str(parameter.device),
        context_length=int(getattr(config, "max_position_embeddings", None) or UNBOUNDED),
        weight_hash=weight_hash,
        tokenizer_hash=tokenizer_hash(tokenizer),
        template_hash=template_hash(tokenizer),
        revision=revision,
        default_thinking=default_thinking(tokenizer),
        memory_bytes=memory_bytes(model),
        stop_ids=stop_ids(model, tokenizer),
        sliding_window=sliding_window(config),
        rope=rope_scaling(config),
        vision_blocks=shape.vision_blocks,
        vision_width=shape.vision_width,
        deepstack=shape.deepstack,
        merge=shape.merge,
        vision_windowed=family.windowed(model.config) if isinstance(family, VisionFamily) else (),
    )


def logical_parameters(model: Any) -> int:
    """Parameters before quantisation; weights shared between two modules count once."""
    return int(model.num_parameters())


def memory_bytes(model: Any) -> int:
    """Bytes of all parameters and buffers; tensors that share storage count once."""
    seen: dict[int, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 of what decides how text becomes ids: the whole tokenizer pipeline with its added tokens."""
    return _digest(tokenizer.backend_tokenizer.to_str())


def template_hash(tokenizer: Any) -> str:
    """SHA-256 of the chat template; empty where there is none."""
    template = tokenizer.chat_template
    return _digest(template) if isinstance(template, str) else ""


def default_thinking(tokenizer: Any) -> bool | None:
    """Whether the template lets the model think when nobody says; None where it has no such switch."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or "enable_thinking" not in template:
        return None
    messages = [{"role": "user", "content": "x"}]
    plain, *switched = (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **switch)
        for switch in ({}, {"enable_thinking": True}, {"enable_thinking": False})
    )
    return None if switched[0] == switched[1] else plain == switched[0]


def stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Ids that end an answer: those of the settings and the tokenizer, and Qwen's end of turn and of text."""
    settings = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = set(settings if isinstance(settings, list) else [settings]) | {tokenizer.eos_token_id}
    vocabulary = tokenizer.get_vocab()
    ids |= {vocabulary.get(token) for token in ("<|im_end|>", "<|endoftext|>")}
    return tuple(sorted(token for token in ids if token is not None))


def sliding_window(config: Any) -> int | None:
    """The attention window in tokens of the blocks that have one; None where every block sees everything."""
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return None
    return getattr(config, "sliding_window", None)


def rope_scaling(config: Any) -> str:
    """How rotary positions are stretched, in a few words."""
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return "default"
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    return kind + (f" x{factor:g}" if factor else "") + (f" from {original}" if original else "")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
