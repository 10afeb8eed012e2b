"""Loading whole models: what comes back, how progress is told, and how quantised ones behave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import transformers

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_kernels.models.chat import render
from labtui_kernels.models.info import ModelInfo
from labtui_kernels.models.load import LoadedModel, load
from tests.support.tiny import TEXT_FAMILIES, tiny, tiny_tokenizer
from tests.support.tiny_gguf import write_gguf

IDS = torch.arange(24)[None] * 5


def save(loaded: LoadedModel, folder: Path, **options: Any) -> Path:
    loaded.model.save_pretrained(folder, **options)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_a_folder_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    original = tiny(name)
    loaded = load(str(save(original, tmp_path / name)))
    assert torch.equal(logits(loaded.model), logits(original.model))
    assert type(loaded.model) is type(original.model) and loaded.family is original.family
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training
    for field in (
        "blocks",
        "width",
        "vocab",
        "parameters",
        "memory_bytes",
        "context_length",
        "stop_ids",
        "dtype",
    ):
        assert getattr(loaded.info, field) == getattr(original.info, field), field
    assert loaded.info.template_hash == original.info.template_hash
    assert loaded.info.default_thinking is True
    assert loaded.info.memory_bytes == 4 * sum(p.numel() for p in original.model.parameters()) + sum(
        buffer.nbytes for buffer in original.model.buffers()
    )
    assert ModelInfo.from_dict(json.loads(json.dumps(loaded.info.to_dict()))) == loaded.info


def test_progress_runs_through_its_phases_and_never_backwards(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    load(str(save(tiny("qwen3"), tmp_path)), progress=lambda phase, fraction: told.append((phase, fraction)))
    phases = list(dict.fromkeys(phase for phase, _ in told))
    assert phases == ["reading", "hashing", "weights", "moving"]
    for phase in phases:
        fractions = [fraction for name, fraction in told if name == phase]
        assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0
    assert [phase for phase, _ in told] == sorted((phase for phase, _ in told), key=phases.index)
    assert sum(phase == "weights" for phase, _ in told) > 20


def test_shards_load_and_hash_like_any_files(tmp_path: Path) -> None:
    original = tiny("qwen2")
    folder = save(original, tmp_path / "shards", max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    loaded = load(str(folder))
    assert torch.equal(logits(loaded.model), logits(original.model))
    again = load(str(folder))
    assert loaded.info.weight_hash == again.info.weight_hash
    assert loaded.info.weight_hash != load(str(save(tiny("qwen2", seed=1), tmp_path / "b"))).info.weight_hash


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_obeyed(dtype: str, tmp_path: Path) -> None:
    loaded = load(str(save(tiny("qwen3"), tmp_path)), dtype=dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}
    assert loaded.info.dtype == dtype


def test_auto_is_float32_on_a_cpu_also_for_a_bfloat16_checkpoint(tmp_path: Path) -> None:
    original = tiny("qwen3")
    original.model.to(torch.bfloat16)
    loaded = load(str(save(original, tmp_path)), device="cpu")
    assert loaded.info.dtype == "float32"
    assert torch.equal(loaded.model.lm_head.weight, original.model.lm_head.weight.float())


def test_tied_heads_stay_tied(tmp_path: Path) -> None:
    original = tiny("qwen2", tie_word_embeddings=True)
    loaded = load(str(save(original, tmp_path)))
    assert loaded.model.lm_head.weight.data_ptr() == loaded.model.model.embed_tokens.weight.data_ptr()
    assert torch.equal(logits(loaded.model), logits(original.model))


def test_a_checkpoint_with_a_vision_tower_is_loaded_whole(tmp_path: Path) -> None:
    text = tiny("qwen3_5")
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48}
    config = transformers.Qwen3_5Config(text_config=text.model.config.to_dict(), vision_config=vision)
    torch.manual_seed(0)
    whole: Any = transformers.Qwen3_5ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path)
    text.tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    assert loaded.info.architecture == "Qwen3_5ForConditionalGeneration"
    assert loaded.info.parameters == whole.num_parameters()
    assert torch.equal(logits(loaded.model), logits(whole))


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = save(tiny("qwen3"), tmp_path / "m")
    trap = tmp_path / "sprung"
    (folder / "trap.py").write_text(f"open({str(trap)!r}, 'w').close()\nclass Trap: pass\n")
    for name, field in (("config.json", "AutoModelForCausalLM"), ("tokenizer_config.json", "AutoTokenizer")):
        settings = json.loads((folder / name).read_text())
        settings["auto_map"] = {field: "trap.Trap", "AutoConfig": "trap.Trap"}
        (folder / name).write_text(json.dumps(settings))
    loaded = load(str(folder))
    assert type(loaded.model).__name__ == "Qwen3ForCausalLM"
    assert not trap.exists()


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_gguf_files_load_with_their_tokenizer_and_template(name: str, tmp_path: Path) -> None:
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}
    head = {"head_dim": 128} if name == "qwen3" else {}
    original = tiny(name, hidden_size=64, **rope, **head)
    told: list[tuple[str, float]] = []
    loaded = load(
        str(write_gguf(original, tmp_path / "m.gguf")),
        progress=lambda phase, share: told.append((phase, share)),
    )
    assert torch.equal(logits(loaded.model), logits(original.model))
    assert (loaded.info.name, loaded.info.context_length) == ("Tiny Qwen", 1024)
    assert loaded.info.stop_ids == original.info.stop_ids
    messages = [{"role": "user", "content": "What is a mutex? <|im_end|> 漢"}]
    assert render(loaded.tokenizer, messages) == render(original.tokenizer, messages)
    assert sum(phase == "weights" for phase, _ in told) > 20


def test_a_quantised_gguf_is_unpacked(tmp_path: Path) -> None:
    original = tiny("qwen2", hidden_size=64)
    loaded = load(str(write_gguf(original, tmp_path / "m.gguf", quantise=True)), dtype="bfloat16")
    assert loaded.info.dtype == "bfloat16" and loaded.info.quantisation is None
    theirs, ours = original.model.lm_head.weight, loaded.model.lm_head.weight.float()
    assert 0 < (theirs - ours).abs().max() < 0.02 * theirs.abs().max()


WIDE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


@pytest.mark.parametrize(
    ("quantize", "layer", "error"), [("4bit", "Linear4bit", 0.2), ("8bit", "Linear8bitLt", 0.02)]
)
def test_quantised_models_load_generate_and_take_hooks(
    quantize: str, layer: str, error: float, tmp_path: Path
) -> None:
    original = tiny("qwen3", **WIDE)
    loaded = load(str(save(original, tmp_path)), quantize=quantize, device="cpu")
    blocks = loaded.family.blocks(loaded.model)
    mlp: Any = loaded.family.mlp_module(blocks[0])
    assert type(mlp.gate_proj).__name__ == layer
    assert type(loaded.family.head(loaded.model)) is torch.nn.Linear
    assert loaded.info.quantisation == {"4bit": "nf4", "8bit": "int8"}[quantize]
    assert loaded.info.parameters == original.info.parameters
    assert loaded.info.memory_bytes < 0.6 * original.info.memory_bytes
    # One layer against its original: the quantisation error, and nothing else.
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    expected = original.family.mlp_module(original.family.blocks(original.model)[0]).gate_proj(x)  # type: ignore[operator]
    with torch.inference_mode():
        found = mlp.gate_proj(x)
    assert 0 < (found - expected).norm() / expected.norm() < error
    before = logits(loaded.model)
    block: Any = blocks[1]
    handle = block.register_forward_hook(lambda module, args, output: output + 5.0)
    assert not torch.allclose(logits(loaded.model), before)
    handle.remove()
    assert torch.equal(logits(loaded.model), before)
    answer = loaded.model.generate(IDS, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > IDS.shape[1]


def test_widths_that_4_bit_kernels_cannot_run_are_refused_at_loading(tmp_path: Path) -> None:
    folder = save(tiny("qwen3"), tmp_path)
    try:
        loaded = load(str(folder), quantize="4bit", device="cpu")
    except UsageError as error:
        assert "cannot run the layer widths" in str(error) and "\n" not in str(error)
    else:  # processors without the packed kernel run any width
        assert logits(loaded.model).isfinite().all()


def hub_cache(root: Path, repo: str, commit: str, loaded: LoadedModel | None) -> None:
    folder = root / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    if loaded is not None:
        save(loaded, snapshot)
    else:
        (snapshot / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))


def test_hub_ids_come_from_the_cache_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    hub_cache(tmp_path, "Qwen/Tiny", commit, tiny("qwen3"))
    hub_cache(tmp_path, "Qwen/Half", commit, None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for text in ("Qwen/Tiny", f"Qwen/Tiny@{commit}"):
        loaded = load(text)
        assert (loaded.info.name, loaded.info.revision, loaded.info.source) == ("Qwen/Tiny", commit, text)
    with pytest.raises(
        UsageError, match=r"Qwen/Missing: no such folder here.*not in the cache.*HF_HUB_OFFLINE"
    ):
        load("Qwen/Missing")
    with pytest.raises(UsageError, match="only partly in the cache"):
        load("Qwen/Half")


@pytest.mark.skipif("toy-qwen3" not in library.models(), reason="the bundled model is not in this checkout")
def test_the_bundled_model_loads_by_name() -> None:
    loaded = load("toy-qwen3")
    assert loaded.info.family == "qwen3" and loaded.info.blocks >= 8
    assert loaded.info.source == loaded.info.name == "toy-qwen3"


def test_tiny_models_are_the_same_every_time() -> None:
    for name in TEXT_FAMILIES:
        assert torch.equal(logits(tiny(name).model), logits(tiny(name).model))
    assert not torch.equal(logits(tiny("qwen3").model), logits(tiny("qwen3", seed=1).model))
    assert tiny_tokenizer().backend_tokenizer.to_str() == tiny_tokenizer().backend_tokenizer.to_str()
