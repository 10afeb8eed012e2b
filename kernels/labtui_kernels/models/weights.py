"""Which files a folder's weights lie in. Torch-free; pickles are never read."""

from __future__ import annotations

import re
from pathlib import Path

from labtui_artifacts.errors import BadFile
from labtui_kernels.models.jsonfile import read_json

_SHARD = re.compile(r"[\w.-]+\.safetensors")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the folder's weights lie in, whether or not they are there."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        what = f"only pickled weights ({pickled[0].name}), which are not read" if pickled else "no weights"
        raise BadFile(f"{folder}: {what}; expected model.safetensors or model.safetensors.index.json")
    return [folder / shard for shard in sorted(set(weight_map(index).values()))]


def weight_map(index: Path) -> dict[str, str]:
    """File by tensor name, from ``model.safetensors.index.json``; BadFile for names that are no plain shard's."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise BadFile(f"{index}: expected a weight_map from tensor names to files")
    for shard in found.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise BadFile(
                f"{index}: names {str(shard)[:80]!r}; expected files such as model-00001-of-00002.safetensors"
            )
    return found
