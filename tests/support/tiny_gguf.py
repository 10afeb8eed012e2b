"""Writing a tiny model as a GGUF file, as llama.cpp's converter would."""

from __future__ import annotations

import json
from pathlib import Path

import gguf

from labtui_kernels.models.load import LoadedModel

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
ARCHITECTURES = {"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}


def write_gguf(loaded: LoadedModel, path: Path, *, name: str = "Tiny Qwen", quantise: bool = False) -> Path:
    """Write ``loaded`` (of family qwen2 or qwen3) to ``path``: float32, or its matrices in Q8_0."""
    config = loaded.model.config
    architecture = ARCHITECTURES[loaded.family.name]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if loaded.family.name == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, loaded)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for key, tensor in loaded.model.state_dict().items():
        target = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert target is not None, f"{key} has no name in GGUF"
        values = tensor.numpy()
        if quantise and values.ndim == 2 and values.shape[1] % 32 == 0:
            raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(target, raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    added = tokenizer.added_tokens_decoder
    tokens = [
        tokenizer.convert_ids_to_tokens(index) if index < len(tokenizer) else f"[PAD{index}]"
        for index in range(loaded.info.vocab)
    ]
    kinds = [
        NORMAL if index not in added else CONTROL if added[index].special else USER_DEFINED
        for index in range(loaded.info.vocab)
    ]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
