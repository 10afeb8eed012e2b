"""PyTorch ``.pt`` files, read with ``weights_only=True`` and never otherwise: tensors, and no code.

Accepted: a tensor [d] (needs --site) or [layers, d]; a dict of layer numbers to vectors; a dict of our site
names to vectors; a dict that holds one tensor. A layer number is a block output counted from 0. Needs torch.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange.base import Imported, Reading, as_float32, block_output, from_array
from labtui_artifacts.files import Array
from labtui_artifacts.header import open_regular
from labtui_artifacts.kinds.direction import SITE, DirectionFile

CONVENTION = "a layer number or row k is the output of block k, counted from 0, unless --rows hidden-states"
MAX_FILE = 4 << 30
_NUMBER = re.compile(r"0|[1-9]\d{0,3}")


def read(path: Path, reading: Reading) -> Imported:
    """Read a direction from a ``.pt`` file; UsageError without torch, BadFile for anything but tensors."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as problem:
        raise UsageError(
            f'{path}: reading a .pt file needs torch: pip install "labtui[kernel]", or convert it to .npy'
        ) from problem
    with open_regular(path) as handle:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(f"{path}: longer than {MAX_FILE} bytes, no direction")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of its opinion on old pickles; what matters is refused below
                value = torch.load(handle, map_location="cpu", weights_only=True)
        except Exception as problem:  # a hostile file may fail in any way torch knows
            reason = " ".join(str(problem).split())[:120]
            raise BadFile(f"{path}: not a .pt file of plain tensors ({reason})") from problem
    if isinstance(value, dict) and len(value) == 1 and not _sites(value):
        value = next(iter(value.values()))
    if isinstance(value, torch.Tensor):
        return from_array(_array(value, str(path)), reading, str(path))
    if isinstance(value, dict) and (sites := _sites(value)):
        vectors = {
            site: _vector(tensor, torch, f"{path}: {key!r}")
            for site, (key, tensor) in zip(sites, value.items(), strict=True)
        }
        return Imported(vectors)
    raise BadFile(f"{path}: holds a {type(value).__name__}, expected a tensor or a dict of layers to vectors")


def write(direction: DirectionFile, out: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Not offered: the format can carry code."""
    raise UsageError(
        "directions are not exported as .pt, a format that can carry code: use npy or safetensors"
    )


def _sites(value: dict[Any, Any]) -> list[str]:
    """The sites of a dict's keys, or nothing when one of them is neither layer number nor site."""
    sites = []
    for key in value:
        text = str(key)
        if _NUMBER.fullmatch(text):
            sites.append(block_output(int(text), "key"))
        elif SITE.fullmatch(text):
            sites.append(text)
        else:
            return []
    return sites if len(set(sites)) == len(sites) else []


def _vector(tensor: Any, torch: Any, where: str) -> Array:
    if not isinstance(tensor, torch.Tensor):
        raise BadFile(f"{where} is a {type(tensor).__name__}, expected a tensor")
    value = as_float32(_array(tensor, where), where)
    if value.ndim == 2 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != 1:
        raise BadFile(f"{where} has shape {list(value.shape)}, expected [d]")
    return value


def _array(tensor: Any, where: str) -> Array:
    if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
        raise BadFile(f"{where}: a sparse, quantised or complex tensor, expected plain numbers")
    return np.asarray(tensor.detach().float().numpy())
