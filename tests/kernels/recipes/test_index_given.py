"""Folders of LatentLens: converted by their own command, checked against the model, and searched as any index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.exchange import latentlens
from labtui_artifacts.kinds.index import IndexFile
from labtui_kernels.lang.sites import parse_site
from labtui_kernels.neighbours.latentlens import convert, main
from labtui_kernels.neighbours.search import IndexSearch
from tests.kernels.recipes.lab import Lab

CAPTIONS = [
    "A red circle on a white background.",
    "Naïve café, said the dog.",
    "Trains leave.",
    "The word green.",
]
LAYERS = (0, 1, 3, 4)


def saved_by_latentlens(
    lab: Lab, folder: Path, layers: tuple[int, ...] = LAYERS
) -> dict[int, dict[str, Any]]:
    """What ``ContextualIndex.save`` writes: unit vectors of hidden states from position 2 on, with their metadata."""
    held: dict[int, dict[str, Any]] = {layer: {"embeddings": [], "metadata": []} for layer in layers}
    for caption in CAPTIONS:
        ids = lab.loaded.tokenizer(caption)["input_ids"]
        with torch.no_grad():
            states = lab.loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer in layers:
            for position in range(2, len(ids)):
                token = ids[position]
                text = lab.loaded.tokenizer.decode([token])
                held[layer]["embeddings"].append(states[layer][0, position])
                held[layer]["metadata"].append(
                    {"token_str": text, "token_id": token, "caption": caption, "position": position}
                )
    (folder / "metadata.json").parent.mkdir(parents=True, exist_ok=True)
    for layer, cache in held.items():
        cache["embeddings"] = torch.nn.functional.normalize(torch.stack(cache["embeddings"]), dim=-1)
        (folder / f"layer_{layer}").mkdir()
        torch.save(cache, folder / f"layer_{layer}" / latentlens.CACHE)
    return held


def spec(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"kind": "index", "name": "theirs", "vectors": str(folder), **fields}


def test_the_said_way_works_from_their_folder_to_a_search(lab: Lab, tmp_path: Path) -> None:
    held = saved_by_latentlens(lab, tmp_path / "theirs")
    with pytest.raises(BadFile, match="LatentLens folder") as refused:
        latentlens.check(tmp_path / "theirs")
    said = str(refused.value).split("`")[1].replace("OUT", str(tmp_path / "out")).split()
    done = subprocess.run(
        [sys.executable, *said[1:]], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{len(held[0]['metadata'])} rows of 4 captions in 4 layers")
    ctx, result = lab.run(spec(tmp_path / "out"))
    assert result["sites"] == ["llm.embed", "llm.0", "llm.2", "llm.norm"] and result["captions"] == 4
    assert all(cosine > 0.999 for cosine in result["cosine"].values()) and "length 1" in result["notes"][0]
    found = IndexFile.open(lab.store.path("theirs"))
    found.verify()
    assert found.captions == CAPTIONS and found.meta["unit"] is True
    bank = np.concatenate([held[layer]["embeddings"].numpy() for layer in LAYERS])
    search = IndexSearch(found)
    tokens = len(held[0]["metadata"])
    draw = np.random.default_rng(3).choice(len(bank), 6, replace=False)
    queries = torch.from_numpy(bank[draw]) * 7 + 0.01
    hits = search.searcher(centred=False).search(queries, 3)
    unit = queries.numpy() / np.linalg.norm(queries.numpy(), axis=1, keepdims=True)
    own = bank.astype(np.float16).astype(np.float32)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    cosines = unit @ own.T
    assert hits.scores == pytest.approx(np.sort(cosines, axis=1)[:, ::-1][:, :3], abs=1e-5)
    for line, drawn, cosine in zip(hits.numbers, draw, cosines, strict=True):
        at = int(line[0])
        assert cosine[at] == pytest.approx(cosine.max(), abs=1e-5), (
            "ties: embeddings of a token are all the same"
        )
        assert at == drawn or drawn < tokens
        (hit,) = search.hits(line[:1])
        row = held[LAYERS[at // tokens]]["metadata"][at % tokens]
        assert (hit.caption, hit.position) == (row["caption"], row["position"])
        assert hit.site == ("llm.embed", "llm.0", "llm.2", "llm.norm")[at // tokens]
    with pytest.raises(UsageError, match="cannot be centred"):
        search.searcher(centred=True)
    assert ctx.of("cell.committed")[0]["rows"][0]["norm"] == pytest.approx(1, abs=1e-3)


def test_some_of_its_layers_are_taken_on_demand(lab: Lab, tmp_path: Path) -> None:
    saved_by_latentlens(lab, tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "out")
    _, result = lab.run(spec(tmp_path / "out", sites="llm.2"))
    assert result["sites"] == ["llm.2"]
    with pytest.raises(UsageError, match=r"no vectors of llm\.1"):
        lab.run(spec(tmp_path / "out", sites="llm.1,2", name="more"))


def test_rows_that_one_layer_lacks_are_left_out(lab: Lab, tmp_path: Path) -> None:
    held = saved_by_latentlens(lab, tmp_path / "theirs")
    short = {"embeddings": held[1]["embeddings"][3:].half(), "metadata": held[1]["metadata"][3:][::-1]}
    short["embeddings"] = short["embeddings"].flip(0)
    torch.save(short, tmp_path / "theirs" / "layer_1" / latentlens.CACHE)
    done = convert(tmp_path / "theirs", tmp_path / "out")
    assert done["left_out"] == 3 and done["rows"] == len(held[0]["metadata"]) - 3
    lab.run(spec(tmp_path / "out"))


@pytest.mark.parametrize("change", ["weights", "layer", "token", "width", "state", "position"])
def test_vectors_of_another_model_are_refused_and_nothing_is_kept(
    lab: Lab, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    if change == "weights":
        other = Lab(tmp_path / "other", seed=5)
        saved_by_latentlens(other, tmp_path / "theirs")
    else:
        saved_by_latentlens(lab, tmp_path / "theirs")
    convert(tmp_path / "theirs", out)
    rows = load_file(out / "rows.safetensors")
    if change == "layer":
        (out / "layer_1.safetensors").rename(out / "layer_2.safetensors")
    if change == "state":
        (out / "layer_1.safetensors").rename(out / "layer_9.safetensors")
    if change in ("token", "position"):
        rows[change][4] += 1 if change == "token" else 500
        save_file(rows, out / "rows.safetensors")
    if change == "width":
        for path in out.glob("layer_*"):
            save_file({"vectors": np.ones((len(rows["token"]), 24), np.float16)}, path)
    line = {
        "weights": "median cosine", "layer": "at llm.1 the median cosine", "state": "hidden state 9",
        "token": "tokenizer has token", "position": "tokenizer has nothing", "width": "of width 24",
    }[change]  # fmt: skip
    with pytest.raises(UsageError, match=line) as refused:
        lab.run(spec(out))
    assert "\n" not in str(refused.value) and "theirs" not in lab.store


def hostile(out: Path, what: str) -> None:
    rows = load_file(out / "rows.safetensors")
    if what == "gone":
        (out / "rows.safetensors").unlink()
    elif what == "short":
        (out / "layer_1.safetensors").write_bytes((out / "layer_1.safetensors").read_bytes()[:-5])
    elif what == "negative":
        rows["position"][0] = -1
    elif what == "caption":
        rows["caption"][0] = 99
    elif what == "ends":
        rows["ends"][0] = 1 << 40
    elif what == "utf":
        rows["captions"][:4] = 0xFF
    elif what == "nan":
        vectors = load_file(out / "layer_3.safetensors")["vectors"]
        vectors[:] = np.nan
        save_file({"vectors": vectors}, out / "layer_3.safetensors")
    elif what == "large":
        vectors = load_file(out / "layer_3.safetensors")["vectors"].astype(np.float32)
        save_file({"vectors": vectors * 1e6}, out / "layer_3.safetensors")
    elif what == "type":
        rows["token"] = rows["token"].astype(np.int64)
    elif what == "count":
        rows["token"] = rows["token"][:-1]
    if what != "gone":
        save_file(rows, out / "rows.safetensors")


@pytest.mark.parametrize(
    "what", ["gone", "short", "negative", "caption", "ends", "utf", "nan", "large", "type", "count"]
)
def test_a_folder_that_lies_is_refused_on_one_line(lab: Lab, tmp_path: Path, what: str) -> None:
    saved_by_latentlens(lab, tmp_path / "theirs")
    convert(tmp_path / "theirs", tmp_path / "out")
    hostile(tmp_path / "out", what)
    with pytest.raises(BadFile, match=str(tmp_path)) as refused:
        lab.run(spec(tmp_path / "out"))
    assert "\n" not in str(refused.value) and "theirs" not in lab.store


class Trap:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.remove, (str(self.victim),)


@pytest.mark.parametrize("what", ["trap", "empty", "text", "shape", "rows", "caption", "surrogate", "number"])
def test_the_converter_runs_no_code_and_believes_nothing(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("still here")
    row = {"token_str": "a", "token_id": 1, "caption": "a b", "position": 1}
    held: Any = {"embeddings": torch.ones(2, 4), "metadata": [row, {**row, "position": 2}]}
    if what == "trap":
        held["trap"] = Trap(victim)
    elif what == "shape":
        held["embeddings"] = torch.ones(2)
    elif what == "rows":
        held["metadata"].append(row)
    elif what == "caption":
        held["metadata"][1]["caption"] = "x" * 200_000
    elif what == "surrogate":
        held["metadata"][1]["caption"] = "a \ud800"
    elif what == "number":
        held["metadata"][1]["token_id"] = 1 << 40
    place = tmp_path / "theirs" / "layer_8" / latentlens.CACHE
    place.parent.mkdir(parents=True)
    torch.save([held] if what == "text" else held, place)
    if what == "empty":
        place.write_bytes(b"")
    assert main([str(tmp_path / "theirs"), str(tmp_path / "out")]) == 4
    said = capsys.readouterr().err
    named = place.parent.parent if what == "surrogate" else place
    assert said.count("\n") == 1 and str(named) in said and victim.exists()
    assert not (tmp_path / "out" / "rows.safetensors").exists()


def test_the_converter_overwrites_nothing_and_says_how_it_is_used(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2
    (tmp_path / "layer_1").mkdir()
    (tmp_path / "layer_1" / latentlens.CACHE).write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(LabError, match="exists already"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="no layer_N"):
        convert(tmp_path / "out", tmp_path / "new")
    assert parse_site("llm.norm").point == "norm"
