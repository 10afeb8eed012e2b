"""Checkpoints with a vision tower: the whole model comes back, is counted whole, and keeps its tower in 4 and 8 bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models import memory
from labtui_kernels.models.chat import render
from labtui_kernels.models.checkpoint import inspect
from labtui_kernels.models.info import ModelInfo
from labtui_kernels.models.load import LoadedModel, load
from labtui_kernels.models.pictures import Picture
from labtui_kernels.models.pixels import prepare_pixels, settings_of
from labtui_kernels.models.source import locate
from tests.support.tiny import tiny, tiny_tokenizer
from tests.support.tiny_vision import VISION_FAMILIES, noise, tiny_vision

PICTURE = Picture(noise(200, 130), "sha256:0", (200, 130), "noise.png")


def save(loaded: LoadedModel, folder: Path, **processor: Any) -> Path:
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def looked(loaded: LoadedModel) -> torch.Tensor:
    """Logits of a prompt with a picture, by the model's own forward."""
    pixels = prepare_pixels(loaded, PICTURE, 1, 12 * settings_of(loaded).factor ** 2)
    messages = [{"role": "user", "content": "What is written?", "images": 1}]
    ids = torch.tensor([render(loaded.tokenizer, messages, pictures=[pixels]).ids])
    loaded.model.model.rope_deltas = None
    with torch.inference_mode():
        return loaded.model(
            input_ids=ids,
            mm_token_type_ids=(ids == loaded.model.config.image_token_id).int(),
            pixel_values=pixels.values,
            image_grid_thw=torch.tensor([pixels.grid]),
        ).logits


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_a_folder_comes_back_whole(name: str, tmp_path: Path) -> None:
    original = tiny_vision(name)
    folder = save(original, tmp_path / name, min_pixels=3136, max_pixels=50_000)
    loaded = load(str(folder))
    assert type(loaded.model) is type(original.model) and loaded.family is original.family
    assert torch.equal(looked(loaded), looked(original))
    for field in (
        "parameters",
        "memory_bytes",
        "blocks",
        "vision_blocks",
        "vision_width",
        "deepstack",
        "merge",
    ):
        assert getattr(loaded.info, field) == getattr(original.info, field), field
    assert loaded.info.vision_blocks == 3 and loaded.info.vision_width == 32
    assert loaded.info.deepstack == (2 if name.startswith("qwen3_vl") else 0)
    assert loaded.info.vision_windowed == ((0, 2) if name == "qwen2_5_vl" else ())
    assert ModelInfo.from_dict(json.loads(json.dumps(loaded.info.to_dict()))) == loaded.info
    assert loaded.processor is not None and settings_of(loaded).max_pixels == 50_000
    assert prepare_pixels(loaded, PICTURE).values.shape[0] * settings_of(loaded).patch ** 2 <= 50_000


@pytest.mark.parametrize("name", VISION_FAMILIES)
def test_headers_count_the_tower_too(name: str, tmp_path: Path) -> None:
    original = tiny_vision(name)
    found = inspect(locate(str(save(original, tmp_path))))
    tower = sum(parameter.numel() for parameter in original.family.tower(original.model).parameters())  # type: ignore[attr-defined]
    assert found.elements == original.info.parameters and found.tower == tower > 0
    assert found.shape == original.info.shape and found.windowed == original.info.vision_windowed
    need = memory.needed(found, "float32", None) - memory.WORKSPACE
    assert original.info.memory_bytes <= need <= 1.5 * original.info.memory_bytes
    decoder = sum(
        parameter.numel()
        for name, parameter in original.model.named_parameters()
        if ".layers." in name and "_proj" in name and name.endswith("weight") and "experts." not in name
    )
    assert found.linear == decoder  # nothing of the tower shrinks


def test_another_tower_is_another_model(tmp_path: Path) -> None:
    first = load(str(save(tiny_vision("qwen2_vl"), tmp_path)))
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["visual.blocks.0.mlp.fc1.weight"][0, 0] += 1.0
    save_file(tensors, file, metadata={"format": "pt"})
    assert load(str(tmp_path)).info.weight_hash != first.info.weight_hash


def test_a_draft_head_stays_on_disk(tmp_path: Path) -> None:
    original = tiny_vision("qwen3_5_vl")
    folder = save(original, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["mtp.layers.0.mlp.up_proj.weight"] = torch.zeros(64, 48)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert inspect(locate(str(folder))).elements == original.info.parameters
    assert torch.equal(looked(load(str(folder))), looked(original))


def test_a_text_class_leaves_the_tower_on_disk(tmp_path: Path) -> None:
    original = tiny_vision("qwen3_5_vl")
    folder = save(original, tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Qwen3_5ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    found, loaded = inspect(locate(str(folder))), load(str(folder))
    assert type(loaded.model).__name__ == "Qwen3_5ForCausalLM" and loaded.info.vision_blocks == 0
    assert found.elements == loaded.info.parameters < original.info.parameters
    assert found.tower == 0 and found.processor is None is loaded.processor
    ids = torch.arange(12)[None] * 5
    with torch.inference_mode():
        assert torch.allclose(loaded.model(ids).logits, original.model(ids).logits, atol=1e-5)
    with pytest.raises(UsageError, match="reads text only"):
        prepare_pixels(loaded, PICTURE)


def wide(name: str) -> LoadedModel:
    """Widths that 4-bit kernels run on a CPU; the tower's would not all be."""
    rope = {**tiny_vision(name).model.config.text_config.rope_parameters, "mrope_section": [4, 2, 2]}
    text = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "rope_parameters": rope}
    out = {"hidden_size": 64} if name == "qwen2_vl" else {"out_hidden_size": 64}
    return tiny_vision(name, text=text, tower=out)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize(("quantize", "layer"), [("4bit", "Linear4bit"), ("8bit", "Linear8bitLt")])
def test_the_tower_and_the_head_stay_whole(name: str, quantize: str, layer: str, tmp_path: Path) -> None:
    original = wide(name)
    loaded = load(str(save(original, tmp_path)), quantize=quantize, device="cpu")
    family: Any = loaded.family
    tower, theirs = family.tower(loaded.model), original.family.tower(original.model)  # type: ignore[attr-defined]
    weights = dict(theirs.named_parameters())
    dtype = next(tower.parameters()).dtype
    for key, parameter in tower.named_parameters():
        assert parameter.is_floating_point() and torch.equal(parameter, weights.pop(key).to(dtype)), key
    assert not weights
    assert {type(module) for module in tower.modules() if "Linear" in type(module).__name__} == {
        torch.nn.Linear
    }
    assert type(family.head(loaded.model)) is torch.nn.Linear
    for block in family.blocks(loaded.model):
        assert type(family.attn_module(block).q_proj).__name__ == layer
        assert type(family.mlp_module(block).down_proj).__name__ == layer
    assert loaded.info.parameters == original.info.parameters
    assert loaded.info.memory_bytes < 0.8 * original.info.memory_bytes
    pixels = prepare_pixels(original, PICTURE, 1, 12 * settings_of(original).factor ** 2)
    grids = torch.tensor([pixels.grid])
    with torch.inference_mode():
        ours = tower(pixels.values.to(dtype), grid_thw=grids).pooler_output
        wanted = theirs.to(dtype)(pixels.values.to(dtype), grid_thw=grids).pooler_output
    assert torch.equal(ours, wanted)
    theirs.to(torch.float32)
    assert looked(loaded).isfinite().all()


def test_needed_memory_of_a_quantised_model_keeps_the_tower_whole(tmp_path: Path) -> None:
    found = inspect(locate(str(save(wide("qwen2_vl"), tmp_path))))
    whole = [memory.needed(found, "float32", how) for how in (None, "8bit", "4bit")]
    assert whole == sorted(whole, reverse=True)
    assert whole[2] - memory.WORKSPACE > 4 * (found.elements - found.linear)


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        change(settings)
        (folder / name).write_text(json.dumps(settings))

    return apply


def lose_the_tower(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in tensors.items() if "visual" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def tower(**fields: Any) -> Callable[[Path], None]:
    return edit("config.json", lambda config: config["vision_config"].update(fields))


BROKEN: list[tuple[Callable[[Path], object], type[LabError], str]] = [
    (lose_the_tower, BadFile, "weights are missing in its files, such as model.visual"),
    (edit("config.json", lambda config: config.pop("vision_config")), UsageError, "depth=None"),
    (edit("config.json", lambda config: config.update(vision_config="x")), UsageError, "depth=None"),
    (tower(depth=10**12), UsageError, "depth=1000000000000; expected a positive integer"),
    (tower(spatial_merge_size="2"), UsageError, "spatial_merge_size='2'"),
    (tower(patch_size=10**6), BadFile, "patch_size is '1000000'; expected a whole number from 1 to 64"),
    (tower(fullatt_block_indexes="all"), UsageError, "fullatt_block_indexes=all; expected a list"),
    (tower(fullatt_block_indexes=[0.5]), UsageError, "fullatt_block_indexes"),
    (edit("config.json", lambda config: config.update(image_token_id=3)), BadFile, "its config.json says 3"),
    (edit("preprocessor_config.json", lambda said: said.update(max_pixels=10**15)), BadFile, "max_pixels is"),
    (
        edit("preprocessor_config.json", lambda said: said.update(patch_size="14")),
        BadFile,
        "patch_size is '14'",
    ),
    (lambda folder: (folder / "preprocessor_config.json").write_text("[" * 99_999), BadFile, "is not JSON"),
    (
        lambda folder: (folder / "preprocessor_config.json").write_text("[1]"),
        BadFile,
        "expected a JSON object",
    ),
]


@pytest.mark.parametrize(("damage", "kind", "line"), BROKEN, ids=[line[:40] for _, _, line in BROKEN])
def test_broken_folders(
    damage: Callable[[Path], object], kind: type[LabError], line: str, tmp_path: Path
) -> None:
    folder = save(tiny_vision("qwen2_5_vl"), tmp_path / "model", min_pixels=3136, max_pixels=50_000)
    damage(folder)
    with pytest.raises(LabError) as caught:
        load(str(folder))
    found = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {found}"
    assert "\n" not in found and 20 < len(found) < 500 and line in found and "model" in found


@pytest.mark.parametrize("value", [5, "all", [0.5], None])
def test_deepstack_blocks_that_are_no_list_are_refused(value: object, tmp_path: Path) -> None:
    folder = save(tiny_vision("qwen3_vl"), tmp_path / "model")
    tower(deepstack_visual_indexes=value)(folder)
    with pytest.raises(UsageError, match=r"deepstack_visual_indexes=.*expected a list of blocks"):
        load(str(folder))


def test_a_folder_without_processor_settings_takes_the_familys(tmp_path: Path) -> None:
    original = tiny_vision("qwen3_vl")
    loaded = load(str(save(original, tmp_path)))
    assert settings_of(loaded) == settings_of(original) and torch.equal(looked(loaded), looked(original))


def test_a_tokenizer_without_image_tokens_still_reads_text(tmp_path: Path) -> None:
    folder = save(tiny_vision("qwen2_vl"), tmp_path)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(str(tiny_tokenizer().chat_template))
    loaded = load(str(folder))
    assert render(loaded.tokenizer, [{"role": "user", "content": "x"}]).ids
    pixels = prepare_pixels(loaded, PICTURE)
    with pytest.raises(UsageError, match="no image token"):
        render(loaded.tokenizer, [{"role": "user", "content": "x", "images": 1}], pictures=[pixels])


def test_a_flat_configuration_as_first_released_is_read(tmp_path: Path) -> None:
    """Qwen2-VL and 2.5-VL were released with the decoder's fields at the top of config.json."""
    original = tiny_vision("qwen2_vl")
    folder = save(original, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    text.pop("model_type")
    (folder / "config.json").write_text(json.dumps(text | config))
    assert inspect(locate(str(folder))).shape == original.info.shape
    assert torch.equal(looked(load(str(folder))), looked(original))


def test_text_models_have_no_processor(tmp_path: Path) -> None:
    loaded = load(str(save(tiny("qwen3"), tmp_path)))
    assert loaded.processor is None and loaded.info.vision_windowed == ()
    assert isinstance(loaded.model, transformers.Qwen3ForCausalLM)
