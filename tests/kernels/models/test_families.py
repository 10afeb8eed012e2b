"""Each adapter against the real class: the parts that it names must add up to the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from labtui_artifacts.errors import UsageError
from labtui_kernels.models import families
from tests.support.tiny import TEXT_FAMILIES, tiny


def record(module: nn.Module, into: dict[str, Tensor], name: str) -> None:
    def keep(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args:
            into[name + ".in"] = args[0]
        into[name] = output[0] if isinstance(output, tuple) else output

    module.register_forward_hook(keep)


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_parts_add_up_to_the_model(name: str) -> None:
    loaded = tiny(name)
    family, model = loaded.family, loaded.model
    seen: dict[str, Tensor] = {}
    blocks = family.blocks(model)
    for index, block in enumerate(blocks):
        record(block, seen, f"block{index}")
        record(family.attn_module(block), seen, f"attn{index}")
        record(family.mlp_module(block), seen, f"mlp{index}")
    record(family.embed(model), seen, "embed")
    record(family.norm(model), seen, "norm")
    with torch.inference_mode():
        output = model(torch.arange(20)[None] * 7, output_hidden_states=True)
    states = output.hidden_states
    assert len(blocks) == 4 == family.shape(model.config).blocks
    assert torch.equal(seen["embed"], states[0]) and torch.equal(seen["norm"], states[4])
    for index in range(4):
        stream = seen[f"block{index}.in"]
        assert torch.equal(stream, states[index])
        parts = stream + seen[f"attn{index}"] + seen[f"mlp{index}"].view_as(stream)
        assert torch.allclose(parts, seen[f"block{index}"], atol=1e-5)
    assert torch.equal(seen["norm.in"], seen["block3"])
    assert torch.equal(family.head(model)(seen["norm"]), output.logits)
    assert family.decoder(model) is model.model


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_families_are_found_by_dict_and_by_configuration(name: str) -> None:
    loaded = tiny(name)
    config = loaded.model.config
    assert families.find(config) is loaded.family
    written = config.to_dict() | {"architectures": [type(loaded.model).__name__]}
    assert families.find(written) is loaded.family
    shape = loaded.family.shape(written)
    assert (shape.family, shape.blocks, shape.width) == (name, 4, 48)
    assert shape == loaded.info.shape


def test_hybrid_families_say_so_and_mix_both_kinds_of_block() -> None:
    for name in TEXT_FAMILIES:
        loaded = tiny(name)
        kinds = {
            type(loaded.family.attn_module(block)).__name__ for block in loaded.family.blocks(loaded.model)
        }
        assert loaded.family.hybrid == (len(kinds) == 2), (name, kinds)


def test_a_configuration_with_a_vision_tower_gives_both_shapes() -> None:
    text = transformers.Qwen3_5TextConfig(hidden_size=64, num_hidden_layers=8)
    config = transformers.Qwen3_5Config(
        text_config=text.to_dict(), vision_config={"depth": 5, "hidden_size": 32}
    )
    config.architectures = ["Qwen3_5ForConditionalGeneration"]
    for form in (config, config.to_dict()):
        family = families.find(form)
        assert family.name == "qwen3_5_vl"
        shape = family.shape(form)
        assert (shape.blocks, shape.width, shape.vision_blocks, shape.vision_width) == (8, 64, 5, 32)


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        {"architectures": ["Qwen3ForSequenceClassification"], "model_type": "qwen3"},
        {"architectures": "Qwen3ForCausalLM"},
        {"model_type": "mamba"},
        {"model_type": 7},
        {},
    ],
)
def test_unknown_architectures_are_refused_with_the_known_ones(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        families.find(config, source="/models/x")
    line = str(caught.value)
    assert line.startswith("/models/x") and "\n" not in line
    assert all(name in line for name in ("Qwen2ForCausalLM", "Qwen3NextForCausalLM", "Qwen3_5ForCausalLM"))


@pytest.mark.parametrize("value", [0, -1, "28", None, True, 2**40, 1.5])
def test_shapes_that_are_no_counts_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match="num_hidden_layers"):
        families.by_name("qwen3").shape({"num_hidden_layers": value, "hidden_size": 64})
