"""The recipe ``index``: what it keeps against transformers' own hidden states; killed builds; other people's files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.kinds import index
from labtui_artifacts.kinds.index import IndexFile
from labtui_artifacts.store import Store
from labtui_kernels import recipes, specs
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.specs.index import study_sites
from labtui_kernels.toys.captions import captions
from tests.kernels.recipes.lab import Lab

CAPTIONS = [
    "A red circle on a white background.",
    "A red square.",
    "A red circle is small.",
    "Trains leave.",
    "A",
]
SPEC: dict[str, Any] = {"kind": "index", "name": "text", "captions": CAPTIONS, "sites": "llm.0,2", "shard": 2}


def everything(root: Path) -> dict[str, bytes]:
    """Every file of a store but locks, by its path."""
    found = (path for path in root.rglob("*.safetensors") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def opened(lab: Lab) -> IndexFile:
    return IndexFile.open(lab.store.path("text"))


def test_the_bundled_captions_are_what_the_script_writes() -> None:
    assert list(library.captions("plain")) == captions() and len(captions()) >= 200


def test_the_studys_sites_move_with_the_depth() -> None:
    sites = study_sites(ModelShape("qwen2", 28, 8))
    assert [site.block for site in sites] == [0, 1, 3, 7, 15, 23, 25, 26]
    assert [site.block for site in study_sites(ModelShape("qwen2", 6, 8))] == [0, 1, 3, 5]


def test_vectors_are_transformers_hidden_states(lab: Lab) -> None:
    ctx, result = lab.run(SPEC)
    found = opened(lab)
    assert found.sites == ("llm.0.out", "llm.2.out") and found.captions == CAPTIONS and len(found.shards) == 3
    assert result["vectors"] == found.tokens * 2 and result["dropped"] == 0
    seen: set[tuple[int, ...]] = set()
    number = 0
    for line, text in enumerate(CAPTIONS):
        encoded = lab.loaded.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
        ids = encoded["input_ids"]
        with torch.no_grad():
            states = lab.loaded.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        for position in range(len(ids)):
            prefix = tuple(ids[: position + 1])
            new, _ = prefix not in seen, seen.add(prefix)
            if position == 0 or not new:
                continue
            for place, state in enumerate((1, 3)):
                site, shard, at = found.locate(place * found.tokens + number)
                assert site == found.sites[place]
                np.testing.assert_allclose(
                    shard.vectors(site)[at], states[state][0, position], rtol=2e-3, atol=2e-3
                )
                assert shard.column("token")[at] == ids[position]
                assert (shard.column("caption")[at], shard.column("position")[at]) == (line, position)
                assert shard.column("span")[at].tolist() == list(encoded["offset_mapping"][position])
            number += 1
    assert number == found.tokens
    stored = np.concatenate([shard.vectors("llm.2.out") for shard in found.shards])
    np.testing.assert_allclose(found.mean("llm.2.out"), stored.astype(np.float64).mean(0), rtol=1e-6)
    rows = ctx.of("cell.committed")[0]["rows"]
    assert [row["site"] for row in rows] == ["llm.0", "llm.2"] and rows[0][
        "hidden_state"
    ] == "hidden_states[1]"
    norms = np.linalg.norm(stored.astype(np.float32), axis=1)
    assert rows[1]["norm"] == pytest.approx(np.median(norms), rel=1e-4)
    found.verify()


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 8])
def test_a_build_that_was_killed_gives_the_same_bytes(lab: Lab, tmp_path: Path, steps: int) -> None:
    """However far it came, and whatever the engine has learnt about its speed in between."""
    lab.run(SPEC)
    whole = everything(lab.store.root)
    lab.store = Store(tmp_path / "other")
    ctx = lab.context()
    recipe = recipes.recipe(specs.load(SPEC))
    recipe.plan(ctx)
    run = recipe.run(ctx)
    for _ in range(steps):
        next(run)
    del run  # what a lost worker leaves: no manifest, whole shards
    lab.engine.forward.pace.tokens = 16
    _, result = lab.run(SPEC, job="j2")
    assert everything(lab.store.root) == whole
    assert result["reused"] == len([name for name in whole if "shards" in name]) or steps < 7


def test_half_a_shard_is_read_anew(lab: Lab) -> None:
    lab.run(SPEC)
    whole = everything(lab.store.root)
    folder = opened(lab).shards[0].header.path.parent
    path = index.shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-7])
    (folder / ".00002.safetensors.0123456789ab.part").write_bytes(b"half")
    with pytest.raises(BadFile, match="truncated"):
        opened(lab)
    lab.run({**SPEC, "replace": True}, job="j2")
    assert everything(lab.store.root) == whole


def test_what_a_killed_build_left_half_written_is_removed(lab: Lab) -> None:
    lab.run(SPEC)
    folder = opened(lab).shards[0].header.path.parent
    part = folder / ".00001.safetensors.0123456789ab.part"
    part.write_bytes(b"half")
    lab.run({**SPEC, "replace": True})
    assert not part.exists() and len(opened(lab).shards) == 3


def test_two_jobs_do_not_build_the_same_index(lab: Lab) -> None:
    first = recipes.recipe(specs.load(SPEC)).run(lab.context())
    next(first)
    next(first)
    with pytest.raises(LabError, match="another job builds the same one"):
        lab.run(SPEC, job="j2")
    first.close()
    assert lab.run(SPEC, job="j2")[1]["artifact"] == "text"


def test_another_index_does_not_take_the_name(lab: Lab) -> None:
    lab.run(SPEC)
    assert lab.run(SPEC, job="j2")[1]["reused"] == 3
    with pytest.raises(UsageError, match="already; choose another name, or set replace"):
        lab.run({**SPEC, "first": 0})
    assert lab.run({**SPEC, "first": 0, "replace": True})[1]["tokens"] > 0


def test_removing_an_index_removes_its_shards(lab: Lab) -> None:
    lab.run(SPEC)
    lab.run({**SPEC, "name": "same"})
    folder = opened(lab).shards[0].header.path.parent
    lab.store.delete("text")
    assert folder.is_dir() and IndexFile.open(lab.store.path("same")).tokens
    lab.store.delete("same")
    assert not folder.exists()


def test_vectors_that_half_precision_cannot_hold_are_left_out_and_counted(tmp_path: Path) -> None:
    lab = Lab(tmp_path)  # of its own: its weights are changed
    norm = lab.loaded.model.get_input_embeddings().weight
    token = lab.loaded.tokenizer(" square", add_special_tokens=False)["input_ids"][-1]
    norm[token] *= 1e8
    _, result = lab.run(SPEC)
    assert result["dropped"] >= 1
    assert all(np.isfinite(shard.vectors("llm.0.out")).all() for shard in opened(lab).shards)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"captions": []}, "captions"),
        ({"captions": ["a", "  "]}, r"captions\[1\]: is empty"),
        ({"captions": {"set": "plaim"}}, "no caption set 'plaim': did you mean 'plain'"),
        ({"captions": {"set": "plain", "file": "x"}}, "a file or a set"),
        ({"sites": "llm.0.mlp"}, "not the decoder's residual stream"),
        ({"sites": "vision.merged"}, "not the decoder's residual stream"),
        ({"sites": "llm.9"}, "block 9 does not exist"),
        ({"name": "No"}, "is no name"),
        ({"captions": ["word " * 2000]}, "caption 1: .* tokens; the model's context holds"),
    ],
)
def test_specs_that_cannot_be_run(lab: Lab, change: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        lab.run({**SPEC, **change})


def test_captions_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("One.\n\nTwo.\n")
    spec = specs.inline(specs.load({**SPEC, "captions": {"file": "c.txt"}}), tmp_path)
    assert isinstance(spec, specs.Index) and spec.captions == ["One.", "Two."]


def rewritten(path: Path, change: Any) -> None:
    """The same file with another header."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


def said(**changes: Any) -> Any:
    def change(header: dict[str, Any]) -> None:
        meta = json.loads(header["__metadata__"]["labtui.meta"])
        meta.update(changes)
        header["__metadata__"]["labtui.meta"] = json.dumps(meta)

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (said(key="../../../../etc"), "24 hex digits"),
        (said(key="0" * 24), "no such file"),
        (said(sites=["llm.0.out", "llm.0.out"]), "list of sites"),
        (said(sites=["../x"]), "is no site"),
        (said(sites=["llm.1.out", "llm.2.out"]), "site/llm.1.out is missing"),
        (said(width=0), "width must be"),
        (said(width=7), "expected F16"),
        (said(tokens=3), "its shards hold"),
        (said(shards=[]), "expected 1 to"),
        (said(shards=[{"tokens": -1, "sha256": "0" * 64}]), "must say its tokens"),
        (said(shards=[{"tokens": 1 << 30, "sha256": "0" * 64}]), "damaged shard: holds"),
    ],
)
def test_a_manifest_that_lies(lab: Lab, change: Any, line: str) -> None:
    lab.run(SPEC)
    rewritten(lab.store.path("text"), change)
    with pytest.raises(LabError, match=line) as caught:
        opened(lab)
    assert "\n" not in str(caught.value)


def test_shards_that_lie(lab: Lab) -> None:
    lab.run(SPEC)
    found = opened(lab)
    first, second = (shard.header.path for shard in found.shards[:2])
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(BadFile, match="is no shard 0"):
        opened(lab)
    first.write_bytes(kept[:-2] + b"\xff\xff")
    with pytest.raises(BadFile, match="differs from what the index says"):
        opened(lab).verify()
    with pytest.raises(BadFile, match="is one shard of an index"):
        IndexFile.open(first)
    with pytest.raises(UsageError, match="more than this file"):
        lab.store.put_file("again", lab.store.path("text"))
