"""Every foreign format: round trips, its layer convention by an independent reader, hostile files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtui_artifacts import exchange, files
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.exchange import Reading, neuronpedia, read_foreign, write_foreign
from labtui_artifacts.exchange.base import stack_sites
from labtui_artifacts.kinds.direction import DirectionFile, build
from labtui_artifacts.store import Store
from tests.conftest import need_module

WIDTH = 6


def marked(block: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector that says which block it belongs to."""
    return np.full(WIDTH, block + 0.5, dtype=np.float32)


def direction(path: Path, sites: list[str] | None = None) -> DirectionFile:
    chosen = sites or [f"llm.{block}.out" for block in range(5)]
    vectors = {site: marked(int(site.split(".")[1])) for site in chosen}
    meta = {"model": {"family": "qwen3_moe", "name": "tiny"}}
    tensors, meta = build(vectors, references=dict.fromkeys(chosen, (7.0, 9.0)), meta=meta)
    files.write(path / "terse.safetensors", "direction", tensors, meta)
    return DirectionFile.open(path / "terse.safetensors")


def imported(path: Path, **options: Any) -> dict[str, list[float]]:
    tensors, meta, _ = read_foreign(path, **options)
    assert meta["sites"] == [name.removeprefix("site/") for name in tensors if name.startswith("site/")]
    return {site: tensors[f"site/{site}"].tolist() for site in meta["sites"]}


def expected(blocks: range) -> dict[str, list[float]]:
    return {f"llm.{block}.out": marked(block).tolist() for block in blocks}


@pytest.mark.parametrize(("format", "blocks"), [("gguf", range(1, 5)), ("npy", range(5)), ("svec", range(5))])
def test_block_outputs_come_back_at_the_same_blocks(tmp_path: Path, format: str, blocks: range) -> None:
    out = tmp_path / f"out.{format}"
    notes = write_foreign(direction(tmp_path), out, format)
    assert exchange.FORMATS[format].convention in notes[0]
    assert exchange.detect(out) == format
    assert imported(out) == expected(blocks)


def test_a_control_vector_is_what_the_gguf_package_reads(tmp_path: Path) -> None:
    out = tmp_path / "cv.gguf"
    notes = write_foreign(direction(tmp_path), out, "gguf")
    assert any("llm.0.out" in note for note in notes)
    opened = gguf.GGUFReader(out)
    found = {tensor.name: tensor for tensor in opened.tensors}
    assert sorted(found) == ["direction.1", "direction.2", "direction.3", "direction.4"]
    for block in range(1, 5):
        tensor = found[f"direction.{block}"]
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.data.tolist() == marked(block).tolist()
    assert opened.fields["general.architecture"].contents() == "controlvector"
    assert opened.fields["controlvector.model_hint"].contents() == "qwen3moe"
    assert opened.fields["controlvector.layer_count"].contents() == 4


def test_llama_cpp_would_add_each_vector_after_the_block_it_was_read_at(tmp_path: Path) -> None:
    """llama.cpp's arithmetic: the loader packs direction.k at (k-1)*n, the adapter reads il at (il-1)*n."""
    out = tmp_path / "cv.gguf"
    write_foreign(direction(tmp_path, ["llm.2.out", "llm.4.out"]), out, "gguf")
    packed = np.zeros(4 * WIDTH, dtype=np.float32)
    for tensor in gguf.GGUFReader(out).tensors:
        layer = int(tensor.name.split(".")[1])
        packed[(layer - 1) * WIDTH : layer * WIDTH] = tensor.data
    added = {il: packed[WIDTH * (il - 1) : WIDTH * il].tolist() for il in range(1, 5)}
    assert added[2] == marked(2).tolist() and added[4] == marked(4).tolist()
    assert added[1] == added[3] == [0.0] * WIDTH


def test_a_control_vector_of_the_gguf_package_is_read(tmp_path: Path) -> None:
    out = tmp_path / "cv.gguf"
    writer = gguf.GGUFWriter(out, "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_array("controlvector.notes", ["a", "b"])
    writer.add_array("controlvector.numbers", [1, 2, 3])
    writer.add_uint32("controlvector.layer_count", 2)
    for block in (3, 1):
        writer.add_tensor(f"direction.{block}", marked(block))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors, meta, _ = read_foreign(out)
    assert meta["sites"] == ["llm.1.out", "llm.3.out"]
    assert tensors["site/llm.3.out"].tolist() == marked(3).tolist()
    assert meta["origin"]["model_hint"] == "qwen2" and meta["origin"]["format"] == "gguf"


def gguf_with(path: Path, name: str, array: Any, arch: str = "controlvector") -> Path:
    writer = gguf.GGUFWriter(path, arch)
    writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("name", "array", "arch", "says"),
    [
        ("direction.0", marked(0), "controlvector", "direction.0, which llama.cpp refuses"),
        ("direction.1", marked(0).astype(np.float16), "controlvector", "expected float32"),
        ("direction.1", np.ones((2, 3), np.float32), "controlvector", "shape"),
        ("direction.1", np.array([1, np.nan], np.float32), "controlvector", "NaN or infinity"),
        ("direction.x", marked(0), "controlvector", "without a direction"),
        ("direction.1", marked(0), "qwen2", "architecture 'qwen2', expected 'controlvector'"),
    ],
)
def test_control_vectors_that_are_refused(
    tmp_path: Path, name: str, array: Any, arch: str, says: str
) -> None:
    with pytest.raises(BadFile, match=says):
        read_foreign(gguf_with(tmp_path / "x.gguf", name, array, arch))


def test_a_control_vector_cut_anywhere_or_flipped_is_refused_or_sound(tmp_path: Path) -> None:
    out, bad = tmp_path / "cv.gguf", tmp_path / "bad.gguf"
    write_foreign(direction(tmp_path, ["llm.1.out"]), out, "gguf")
    whole = bytearray(out.read_bytes())
    body_end = len(whole) - (32 - WIDTH * 4)
    for length in range(8, body_end):
        bad.write_bytes(whole[:length])
        with pytest.raises(BadFile) as caught:
            read_foreign(bad, format="gguf")
        assert "\n" not in str(caught.value)
    for byte in range(len(whole)):
        for value in (0x00, 0x7F, 0xFF):
            changed = bytearray(whole)
            changed[byte] = value
            bad.write_bytes(changed)
            try:
                tensors, _, _ = read_foreign(bad, format="gguf")
            except LabError:
                continue
            assert all(
                np.isfinite(array).all() for name, array in tensors.items() if name.startswith("site/")
            )


def test_promised_counts_beyond_the_file_are_refused_without_work(tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    for tensors, pairs in ((2**40, 0), (0, 2**40), (2**63, 2**63)):
        out.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, tensors, pairs) + bytes(64))
        with pytest.raises(BadFile, match="too many"):
            read_foreign(out)


def test_an_svec_file_is_the_json_that_aisteer360_saves(tmp_path: Path) -> None:
    out = tmp_path / "d.svec"
    write_foreign(direction(tmp_path), out, "svec")
    said = json.loads(out.read_text())
    assert said["model_type"] == "qwen3_moe"
    assert said["directions"]["3"] == [marked(3).tolist()]
    said["directions"] = {"2": marked(2).tolist()}
    out.write_text(json.dumps(said))
    assert imported(out) == expected(range(2, 3))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no .svec file"),
        ("{", "not the JSON"),
        ('{"directions": {}}', "no .svec file"),
        ('{"directions": {"01": [1]}}', "'01' is no layer number"),
        ('{"directions": {"-1": [1]}}', "is no layer number"),
        ('{"directions": {"99999": [1]}}', "is no layer number"),
        ('{"directions": {"1": [[1, 2], [3, 4]]}}', "holds 2 vectors"),
        ('{"directions": {"1": [[1, 2], [3]]}}', "expected a list of numbers"),
        ('{"directions": {"1": "text"}}', "expected a list of numbers"),
        ('{"directions": {"1": []}}', "is empty"),
        ('{"directions": {"1": [1e300]}}', "NaN or infinity"),
        ('{"directions": {"1": [NaN]}}', "NaN or infinity"),
        ('{"directions": {"1": [1], "2": [1, 2]}}', "differ in width"),
        ('{"num_heads": 4, "directions": {"1": [1]}}', "a direction a head"),
        ('{"directions": ' + "[" * 100_000, "not the JSON"),
    ],
)
def test_svec_files_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.svec"
    path.write_text(text)
    with pytest.raises(BadFile, match=says):
        read_foreign(path)


def test_an_array_file_keeps_its_sites_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "d.npy"
    write_foreign(direction(tmp_path, ["llm.4.out", "llm.1.out"]), out, "npy")
    assert np.load(out, allow_pickle=False).tolist() == [marked(4).tolist(), marked(1).tolist()]
    assert imported(out) == {"llm.4.out": marked(4).tolist(), "llm.1.out": marked(1).tolist()}


def test_a_bare_stack_is_read_as_block_outputs_or_hidden_states(tmp_path: Path) -> None:
    out = tmp_path / "bare.npy"
    np.save(out, np.asfortranarray(np.stack([marked(row) for row in range(4)])))
    assert imported(out) == expected(range(4))
    shifted = imported(out, reading=Reading(rows="hidden-states"))
    assert list(shifted) == ["llm.embed", "llm.0.out", "llm.1.out", "llm.norm"]
    assert shifted["llm.1.out"] == marked(2).tolist()
    with pytest.raises(UsageError, match="--site is for one"):
        imported(out, reading=Reading(site="llm.1.out"))


def test_a_single_vector_needs_its_site(tmp_path: Path) -> None:
    out = tmp_path / "one.npy"
    np.save(out, marked(3).astype(np.float64))
    with pytest.raises(UsageError, match="give its --site"):
        imported(out)
    assert imported(out, reading=Reading(site="llm.3.out")) == expected(range(3, 4))
    with pytest.raises(UsageError, match=r"'llm.3' is no site"):
        Reading(site="llm.3")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([{"a": 1}], dtype=object), "not a plain NumPy array"),
        (np.array(["text"]), "expected plain numbers"),
        (np.zeros((0, 3)), "is empty"),
        (np.zeros((2, 2, 2)), "expected .d. or .layers, d."),
        (np.array([np.inf]), "NaN or infinity"),
        (np.zeros(2, dtype=[("a", "f4")]), "expected plain numbers"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, array: Any, says: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(BadFile, match=says):
        read_foreign(tmp_path / "x.npy", reading=Reading(site="llm.1.out"))


def test_an_array_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", marked(1))
    whole = (tmp_path / "x.npy").read_bytes()
    for length in range(8, len(whole)):
        (tmp_path / "x.npy").write_bytes(whole[:length])
        with pytest.raises(BadFile, match="not a plain NumPy array"):
            read_foreign(tmp_path / "x.npy", format="npy", reading=Reading(site="llm.1.out"))


@pytest.mark.parametrize(
    ("site", "hook"),
    [
        ("llm.3.out", "blocks.3.hook_resid_post"),
        ("llm.3.in", "blocks.3.hook_resid_pre"),
        ("llm.0.attn", "blocks.0.hook_attn_out"),
        ("llm.12.mlp", "blocks.12.hook_mlp_out"),
        ("llm.embed", "hook_embed"),
        ("llm.norm", "ln_final.hook_normalized"),
    ],
)
def test_a_neuronpedia_vector_names_the_hook_of_its_site(tmp_path: Path, site: str, hook: str) -> None:
    tensors, meta = build({site: marked(3)}, meta={"model": {"name": 'we"ird: #name'}})
    files.write(tmp_path / "d.safetensors", "direction", tensors, meta)
    out = tmp_path / "vector"
    write_foreign(DirectionFile.open(tmp_path / "d.safetensors"), out, "neuronpedia")
    said = yaml.safe_load((out / "vector.yaml").read_text())
    assert said["hook_name"] == hook and said["model_id"] == 'we"ird: #name'
    body = safetensors.numpy.load_file(out / "vector.safetensors")
    assert list(body) == ["vector"] and body["vector"].tolist() == marked(3).tolist()
    for path in (out, out / "vector.yaml", out / "vector.safetensors"):
        assert exchange.detect(path) == "neuronpedia"
        assert imported(path) == {site: marked(3).tolist()}


def test_a_neuronpedia_vector_given_as_layer_and_hook_type(tmp_path: Path) -> None:
    (tmp_path / "vector.yaml").write_text(
        "# from the hub\nlabel: dinosaurs\nmodel_id: gemma-2-2b-it\n"
        "layer_num: 20\nhook_type: hook_resid_pre\n"
        "default_steer_strength: 44 # much\nextra:\n  nested: [1, 2]\n  - item\n"
    )
    safetensors.numpy.save_file({"anything": marked(1)[None]}, tmp_path / "vector.safetensors")
    tensors, meta, _ = read_foreign(tmp_path)
    assert meta["sites"] == ["llm.20.in"] and tensors["site/llm.20.in"].tolist() == marked(1).tolist()
    assert meta["origin"]["default_steer_strength"] == "44" and meta["origin"]["label"] == "dinosaurs"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hook_name: blocks.1.hook_resid_mid\n", "hook 'blocks.1.hook_resid_mid' is unknown"),
        ("label: x\n", "hook '' is unknown"),
        ("just text\n", "line 1 is not 'key: value'"),
        ("a: 1\na: 2\n", "line 2: a occurs twice"),
        ('a: "open\n', "line 1: a quoted text"),
        ("a: 'open\n", "line 1: a quoted text"),
        ('a: "b" c\n', "something follows"),
    ],
)
def test_neuronpedia_files_that_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "vector.yaml").write_text(text)
    safetensors.numpy.save_file({"vector": marked(1)}, tmp_path / "vector.safetensors")
    with pytest.raises(BadFile, match=says):
        read_foreign(tmp_path)


@settings(max_examples=100, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_quoted_yaml_is_read_as_yaml_does(value: str) -> None:
    for text in ("a: " + json.dumps(value, ensure_ascii=False), "a: '" + value.replace("'", "''") + "'"):
        lines = text.splitlines()
        if len(lines) == 1:
            assert neuronpedia.flat_yaml(text.encode(), Path("x"))["a"] == yaml.safe_load(text)["a"]


def test_several_sites_do_not_fit_a_neuronpedia_vector(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds one vector: choose its --site among llm.0.out"):
        write_foreign(direction(tmp_path), tmp_path / "v", "neuronpedia")
    write_foreign(direction(tmp_path), tmp_path / "v", "neuronpedia", ["llm.2.out"])
    assert imported(tmp_path / "v") == expected(range(2, 3))


@pytest.mark.parametrize("format", ["gguf", "svec"])
def test_a_direction_without_block_outputs_cannot_be_written(tmp_path: Path, format: str) -> None:
    with pytest.raises(UsageError, match=r"it has only llm.2.in"):
        write_foreign(direction(tmp_path, ["llm.2.in"]), tmp_path / "x", format)
    assert not (tmp_path / "x").exists()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=st.sets(st.integers(1, 300), min_size=1, max_size=6),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("format", ["gguf", "svec", "npy"])
def test_any_vector_survives_bit_for_bit(
    tmp_path: Path, format: str, blocks: set[int], width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = {
        f"llm.{block}.out": (rng.normal(size=width) * 10.0 ** rng.integers(-30, 30)).astype(np.float32)
        for block in sorted(blocks)
    }
    tensors, meta = build(vectors)
    files.write(tmp_path / "d.safetensors", "direction", tensors, meta)
    write_foreign(DirectionFile.open(tmp_path / "d.safetensors"), tmp_path / f"o.{format}", format)
    back, meta, _ = read_foreign(tmp_path / f"o.{format}")
    assert meta["sites"] == list(vectors)
    assert all(back[f"site/{site}"].tobytes() == vector.tobytes() for site, vector in vectors.items())


def test_into_a_store_and_out_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    source = direction(tmp_path)
    name, header, notes = exchange.import_into(store, source.file.path)
    assert (name, header.kind, notes) == ("terse", "direction", ())
    assert store.path("terse").read_bytes() == source.file.path.read_bytes()
    exchange.export_from(store, "terse", tmp_path / "My Vector.gguf", format="gguf")
    name, _, notes = exchange.import_into(store, tmp_path / "My Vector.gguf")
    assert name == "my-vector" and "counted from 0" in notes[0]
    with pytest.raises(UsageError, match="'terse' exists already"):
        exchange.import_into(store, source.file.path)
    with pytest.raises(UsageError, match="exists already: choose another name or say --force"):
        exchange.export_from(store, "terse", tmp_path / "My Vector.gguf", format="gguf")
    exchange.export_from(store, "terse", tmp_path / "copy.safetensors", format="safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == source.file.path.read_bytes()
    store.put("p", "probe", {}, {})
    with pytest.raises(BadFile, match="holds a probe: only a direction"):
        exchange.export_from(store, "p", tmp_path / "p.npy", format="npy")
    with pytest.raises(UsageError, match="format 'onnx': expected one of safetensors, gguf"):
        exchange.export_from(store, "terse", tmp_path / "p.x", format="onnx")
    with pytest.raises(UsageError, match="no such file"):
        exchange.import_into(store, tmp_path / "nothing.npy")
    with pytest.raises(UsageError, match=r"a folder without a vector.yaml"):
        exchange.import_into(store, tmp_path)


def test_hidden_states_rows_are_those_of_transformers() -> None:
    torch = need_module("torch")
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen3Model(config).eval()
    seen: dict[str, Any] = {}
    for block, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda _m, _a, out, block=block: seen.update({f"llm.{block}.out": out}))
    model.embed_tokens.register_forward_hook(lambda _m, _a, out: seen.update({"llm.embed": out}))
    model.norm.register_forward_hook(lambda _m, _a, out: seen.update({"llm.norm": out}))
    with torch.no_grad():
        states = model(torch.tensor([[1, 2, 3]]), output_hidden_states=True).hidden_states
    sites = stack_sites(len(states), "hidden-states")
    assert sites == ["llm.embed", "llm.0.out", "llm.1.out", "llm.norm"]
    for site, state in zip(sites, states, strict=True):
        assert torch.equal(seen[site], state), site
