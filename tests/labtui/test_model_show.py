"""``labtui model show`` of a model that sees: tower sites, the attention of its blocks, and the study's names for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from labtui.commands.model import command

TOWER = {
    **{"depth": 32, "hidden_size": 8, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2},
    **{"fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112},
}
CONFIG = {
    **{"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl"},
    **{"num_hidden_layers": 28, "hidden_size": 16, "vocab_size": 10, "max_position_embeddings": 512},
    **{"vision_config": TOWER, "image_token_id": 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As Qwen2.5-VL-7B is released, but for its widths."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tensors = {"model.embed_tokens.weight": np.zeros((10, 16), dtype=np.float32)}
    tensors["visual.blocks.0.attn.qkv.weight"] = np.zeros((24, 8), dtype=np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_the_towers_sites_with_their_widths_and_attention(folder: Path) -> None:
    shown = json.loads(CliRunner().invoke(command, ["show", str(folder), "--json"]).stdout)
    assert (shown["vision_blocks"], shown["vision_width"], shown["merge"], shown["deepstack"]) == (
        32,
        8,
        2,
        0,
    )
    assert shown["parameters"] == 160 + 192 and shown["tower_parameters"] == 192
    sites = {row["site"]: row for row in shown["sites"]}
    assert list(sites)[:2] == ["vision.embed", "vision.0.in"] and len(sites) == 2 * 32 + 3 + 4 * 28 + 2
    assert sites["vision.7.out"]["note"] == "full attention"
    assert sites["vision.8.in"]["note"] == "window attention"
    assert sites["vision.7.out"]["shape"] == "[patches, 8]"
    assert sites["vision.merged"]["shape"] == "[merged patches, 16]"
    aliases = {row["alias"]: row for row in shown["aliases"]}
    assert [aliases[f"E{n}"]["site"] for n in range(1, 9)] == [
        *("vision.embed", "vision.7.out", "vision.15.out", "vision.premerge", "vision.merged"),
        *("llm.0.out", "llm.13.out", "llm.27.out"),
    ]
    assert aliases["E2"]["note"] == "E2 = vision.7 in this model, full attention"


def test_as_a_table_for_people(folder: Path) -> None:
    done = CliRunner().invoke(command, ["show", str(folder)])
    assert done.exit_code == 0
    assert "E7 = llm.13 in this model (image positions)" in done.stdout
    assert "window attention; counting from 1: vision block 9 of 32" in done.stdout


def test_a_text_model_shows_none_of_it() -> None:
    done = CliRunner().invoke(command, ["show", "toy-qwen3"])
    assert done.exit_code == 0 and "vision" not in done.stdout and "E1 " not in done.stdout


def test_where_deepstack_adds_features_is_said(folder: Path) -> None:
    tower = {**TOWER, "patch_size": 16, "deepstack_visual_indexes": [8, 16, 24]}
    config = {**CONFIG, "architectures": ["Qwen3VLForConditionalGeneration"], "vision_config": tower}
    (folder / "config.json").write_text(json.dumps(config))
    shown = json.loads(CliRunner().invoke(command, ["show", str(folder), "--json"]).stdout)
    notes = {row["site"]: row["note"] for row in shown["sites"]}
    assert shown["deepstack"] == 3 and notes["vision.8.in"] == "full attention"
    assert [site for site, note in notes.items() if "DeepStack" in note] == [
        "llm.1.in",
        "llm.2.in",
        "llm.3.in",
    ]
    assert notes["llm.3.in"].startswith("llm.2.out with DeepStack")
