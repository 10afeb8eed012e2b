"""What cannot be loaded is refused in one line: what, where, what was expected, what to do."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models import memory
from labtui_kernels.models.checkpoint import inspect
from labtui_kernels.models.gguf import read_header
from labtui_kernels.models.load import load
from labtui_kernels.models.source import locate
from tests.support.tiny import tiny
from tests.support.tiny_gguf import write_gguf

QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good folder of several shards, to be copied and broken."""
    folder = tmp_path_factory.mktemp("good") / "model"
    loaded = tiny("qwen3")
    loaded.model.save_pretrained(folder, max_shard_size="100KB")
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tiny("qwen2", hidden_size=64), tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


def line_of(call: Callable[[], Any], kind: type[LabError]) -> str:
    with pytest.raises(LabError) as caught:
        call()
    line = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__}: {line}"
    assert "\n" not in line and 20 < len(line) < 500
    return line


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        settings.update(changes)
        (folder / name).write_text(json.dumps(settings))

    return apply


def shard(folder: Path, index: int = 1) -> Path:
    return sorted(folder.glob("*.safetensors"))[index]


def truncate(folder: Path) -> None:
    file = shard(folder)
    file.write_bytes(file.read_bytes()[:-100])


def scribble(folder: Path) -> None:
    file = shard(folder)
    file.write_bytes(b"\xff" * 40 + file.read_bytes()[40:])


def pickle_only(folder: Path) -> None:
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def escape(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"] = dict.fromkeys(found["weight_map"], "../other.safetensors")
    index.write_text(json.dumps(found))


def lose_a_tensor(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"]["model.norm.extra"] = shard(folder).name
    index.write_text(json.dumps(found))


def lose_a_weight(folder: Path) -> None:
    from safetensors.numpy import load_file

    tensors: dict[str, Any] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN: list[tuple[Callable[[Path], object], type[LabError], str]] = [
    (
        lambda folder: (folder / "config.json").unlink(),
        UsageError,
        "not a model folder (it has no config.json)",
    ),
    (
        lambda folder: (folder / "config.json").write_text("{nope") and None,
        BadFile,
        "config.json: is not JSON",
    ),
    (lambda folder: (folder / "config.json").write_text("[1]"), BadFile, "expected a JSON object"),
    (lambda folder: (folder / "config.json").write_text("[" * 99_999), BadFile, "is not JSON"),
    (edit("config.json", architectures=["LlamaForCausalLM"]), UsageError, "known: Qwen2ForCausalLM"),
    (edit("config.json", num_hidden_layers="4"), UsageError, "num_hidden_layers='4'; expected a positive"),
    (edit("config.json", hidden_size=64), BadFile, "do not belong together"),
    (edit("config.json", intermediate_size=80), BadFile, "do not belong together"),
    (edit("config.json", num_hidden_layers=5), BadFile, "its config.json could not be read"),
    (
        edit("config.json", num_hidden_layers=5, layer_types=["full_attention"] * 5),
        BadFile,
        "11 weights are missing in its files, such as model.layers.4",
    ),
    (edit("config.json", quantization_config={"quant_method": "awq"}), UsageError, "already quantised (awq)"),
    (truncate, BadFile, "truncated"),
    (scribble, BadFile, "not a safetensors file"),
    (pickle_only, BadFile, "only pickled weights (pytorch_model.bin)"),
    (lambda folder: shard(folder).unlink(), BadFile, "which is not there; fetch the model again"),
    (edit("model.safetensors.index.json", weight_map=3), BadFile, "expected a weight_map"),
    (escape, BadFile, "names '../other.safetensors'"),
    (lose_a_tensor, BadFile, "holds 'model.norm.extra', but it does not"),
    (lose_a_weight, BadFile, "1 weights are missing in its files, such as model.layers.2.mlp.up_proj.weight"),
    (
        lambda folder: (folder / "tokenizer.json").write_text("{}") and None,
        BadFile,
        "its tokenizer could not be read",
    ),
]


@pytest.mark.parametrize(("damage", "kind", "line"), BROKEN, ids=[line[:40] for _, _, line in BROKEN])
def test_broken_folders(
    damage: Callable[[Path], object], kind: type[LabError], line: str, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    damage(folder)
    found = line_of(lambda: load(str(folder)), kind)
    assert line in found and "model" in found


def test_the_copied_folder_itself_is_good(model: Path) -> None:
    assert load(str(model)).info.blocks == 4


@pytest.mark.parametrize(
    "text",
    [
        "/no/such/place",
        "gpt2",
        "",
        "~/nope.gguf",
        "a/b/c",
        "Qwen/x.gguf",
        "../x" * 80,
        "x" * 5000,
        "a\0b",
        "~nobody-here/x",
    ],
)
def test_paths_that_are_not_there(text: str) -> None:
    found = line_of(lambda: load(text), UsageError)
    assert "no such file or folder" in found and "Qwen/Qwen3-0.6B" in found


def test_files_that_are_no_models(tmp_path: Path, model: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    assert "no GGUF file" in line_of(lambda: load(str(text)), BadFile)
    assert "name the folder" in line_of(lambda: load(str(shard(model))), BadFile)
    assert "neither a file nor a folder" in line_of(lambda: load("/dev/null"), BadFile)
    (tmp_path / "m.gguf").write_bytes(b"hello")
    assert "not a GGUF file" in line_of(lambda: load(str(tmp_path / "m.gguf")), BadFile)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.gguf").write_bytes(b"GGUF")
    assert "name the file x.gguf" in line_of(lambda: load(str(tmp_path / "folder")), UsageError)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dtype": "int8"}, "--dtype 'int8': expected one of auto, float32"),
        ({"device": "tpu"}, "--device 'tpu': expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "--device 'cuda:x'"),
        ({"quantize": "2bit"}, "--quantize '2bit': expected one of 4bit, 8bit"),
        ({"device": "cuda:97"}, "CUDA device"),
    ],
)
def test_options_that_cannot_be_met(options: dict[str, str], line: str, model: Path) -> None:
    assert line in line_of(lambda: load(str(model), **options), UsageError)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_without_cuda(model: Path) -> None:
    found = line_of(lambda: load(str(model), device="cuda"), UsageError)
    assert "torch sees no CUDA device here" in found and "use --device cpu" in found


def sparse_model(folder: Path, rows: int, width: int) -> Path:
    """A folder whose weight file has an honest header and no bytes on disk: only its size is there."""
    folder.mkdir()
    config = {**QWEN3, "num_hidden_layers": 2, "hidden_size": width, "vocab_size": rows}
    (folder / "config.json").write_text(json.dumps(config))
    tensors: dict[str, Any] = {}
    end = 0
    for name, shape in {
        "model.embed_tokens.weight": [rows, width],
        "model.layers.0.mlp.up_proj.weight": [100 * width, width],
        "model.layers.1.mlp.up_proj.weight": [100 * width, width],
    }.items():
        start, end = end, end + shape[0] * shape[1] * 2
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(tensors).encode()
    with (folder / "model.safetensors").open("wb") as handle:
        handle.write(struct.pack("<Q", len(header)) + header)
        handle.truncate(8 + len(header) + end)
    return folder


def test_what_does_not_fit_is_refused_with_sizes_and_ways_out(tmp_path: Path) -> None:
    folder = sparse_model(tmp_path / "huge", 1000, 100_000)  # 2e12 weights in its layers
    checkpoint = inspect(locate(str(folder)))
    assert checkpoint.elements == 1000 * 100_000 + 2 * 100 * 100_000**2
    assert checkpoint.linear == 2 * 100 * 100_000**2
    found = line_of(lambda: load(str(folder), device="cpu"), UsageError)
    assert "needs 11,1" in found and "GiB free" in found and "as float32" in found
    assert "take a smaller model or a larger machine" in found


def test_the_ways_out_are_those_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = inspect(locate(str(sparse_model(tmp_path / "m", 1000, 2048))))
    cpu = torch.device("cpu")
    sizes = [memory.needed(checkpoint, "float32", how) for how in (None, "8bit", "4bit")]
    assert sizes == sorted(sizes, reverse=True)
    monkeypatch.setattr(memory, "free", lambda device: sizes[0] - 1)
    found = line_of(lambda: memory.require_fit(checkpoint, "float32", None, cpu), UsageError)
    assert all(way in found for way in ("--dtype bfloat16", "--quantize 8bit", "--quantize 4bit"))
    monkeypatch.setattr(memory, "free", lambda device: sizes[2] + 1)
    found = line_of(lambda: memory.require_fit(checkpoint, "float32", None, cpu), UsageError)
    assert "--quantize 4bit" in found and "8bit" not in found
    monkeypatch.setattr(memory, "free", lambda device: sizes[0])
    memory.require_fit(checkpoint, "float32", None, cpu)


def test_free_memory_obeys_the_tightest_control_group(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 64 kB\nMemAvailable:  50000 kB\n")
    assert memory.free_main_memory(tmp_path) == 50_000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
    for place, limit in (("job", "9000000"), ("job/step", "max")):
        group = tmp_path / "sys/fs/cgroup" / place
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("5000000")
        (group / "memory.stat").write_text("anon 1\ninactive_file 1000000\n")
    assert memory.free_main_memory(tmp_path) == 9_000_000 - 5_000_000 + 1_000_000
    assert memory.free_main_memory(tmp_path / "elsewhere") is None


def test_needed_memory_is_about_what_loading_takes(model: Path) -> None:
    loaded = load(str(model))
    checkpoint = inspect(locate(str(model)))
    need = memory.needed(checkpoint, "float32", None) - memory.WORKSPACE
    assert loaded.info.memory_bytes <= need <= 1.5 * loaded.info.memory_bytes


def test_checks_need_no_torch(model: Path) -> None:
    program = (
        "import sys; from labtui_kernels.models.checkpoint import inspect; "
        "from labtui_kernels.models.source import locate; inspect(locate(sys.argv[1])); "
        "assert not {'torch', 'transformers'} & set(sys.modules), 'imported'"
    )
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {program}", str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_gguf_cut_anywhere_is_refused(gguf_bytes: bytes, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    cuts = [4, 8, 20, 24, 25, 100, 1000, 5000, len(gguf_bytes) // 2, len(gguf_bytes) - 1]
    cuts += np.random.default_rng(0).integers(4, len(gguf_bytes), 40).tolist()
    for cut in cuts:
        file.write_bytes(gguf_bytes[:cut])
        assert "truncated" in line_of(lambda: load(str(file)), BadFile), cut


def test_a_scribbled_gguf_never_escapes_as_a_traceback(gguf_bytes: bytes, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    random = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(gguf_bytes)
        for place in random.integers(4, 3000, 3):
            broken[place] = int(random.integers(256))
        file.write_bytes(bytes(broken))
        try:
            read_header(file)
        except BadFile as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ((0, b"GGML"), "not a GGUF file"),
        ((4, struct.pack("<I", 1)), "GGUF version 1; versions 2 and 3"),
        ((4, struct.pack(">I", 3)), "big-endian"),
        ((8, struct.pack("<Q", 1 << 60)), "cannot be right"),
        ((16, struct.pack("<Q", 1 << 60)), "cannot be right"),
        ((24, struct.pack("<Q", 1 << 60)), "a string of"),
    ],
)
def test_gguf_headers_that_lie(
    change: tuple[int, bytes], line: str, gguf_bytes: bytes, tmp_path: Path
) -> None:
    at, value = change
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf_bytes[:at] + value + gguf_bytes[at + len(value) :])
    assert line in line_of(lambda: load(str(file)), BadFile)


def test_gguf_of_other_architectures_and_with_quantize(gguf_bytes: bytes, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf_bytes.replace(b"qwen2", b"llama"))
    assert "architecture 'llama'" in line_of(lambda: load(str(file)), UsageError)
    file.write_bytes(gguf_bytes)
    assert "GGUF file is unpacked" in line_of(lambda: load(str(file), quantize="4bit"), UsageError)
