"""JSON files of a model folder, which come from outside. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import BadFile
from labtui_artifacts.header import open_regular

MAX_JSON = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size; BadFile for anything else."""
    with open_regular(path) as handle:
        raw = handle.read(MAX_JSON + 1)
    if len(raw) > MAX_JSON:
        raise BadFile(f"{path}: over {MAX_JSON >> 20} MiB; that is no model configuration")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path}: is not JSON ({' '.join(str(error).split())[:120]})") from error
    if not isinstance(value, dict):
        raise BadFile(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
