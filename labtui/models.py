"""Models as the command line shows them: which are at hand, and what one of them is, without loading it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from labtui import config
from labtui_artifacts import library
from labtui_artifacts.errors import LabError
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.models.checkpoint import Checkpoint, inspect
from labtui_kernels.models.sites import alias_table, site_table
from labtui_kernels.models.source import locate


def check_model(model: str) -> None:
    """Look at a model on this disk as loading will; UsageError or BadFile with one line.

    A Hub id is left to the kernel, which may have to fetch it.
    """
    if model in library.models() or Path(model).expanduser().exists():
        inspect(locate(model))


def at_hand() -> list[dict[str, Any]]:
    """Models that need no download: bundled ones, those of the profiles, and the Hub's cache."""
    named = [(name, "bundled") for name in library.models()]
    named += [(profile.model, f"profile {name}") for name, profile in config.settings().profiles.items()]
    named += [(name, "Hub cache") for name in _cached() if name not in dict(named)]
    return [_line(model, where) for model, where in named]


def _cached() -> list[str]:
    """Hub ids in the cache whose name says Qwen."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    names = sorted(path.name for path in folder.glob("models--*--*") if "qwen" in path.name.lower())
    return ["/".join(name.split("--")[1:]) for name in names]


def _line(model: str, where: str) -> dict[str, Any]:
    try:
        found = inspect(locate(model))
    except LabError as error:
        return {"model": model, "where": where, "architecture": None, "bytes": None, "problem": str(error)}
    size = sum(path.stat().st_size for path in found.files)
    return {
        "model": model,
        "where": where,
        "architecture": found.architecture,
        "bytes": size,
        "problem": None,
    }


def describe(model: str) -> dict[str, Any]:
    """A model's facts and its sites: name, width, shape, and what other tools call each."""
    found = inspect(locate(model))
    return {**_facts(found), **sites_of(found.shape, found.windowed)}


def _facts(found: Checkpoint) -> dict[str, Any]:
    return {
        "name": found.name,
        "family": found.family.name,
        "architecture": found.architecture,
        "blocks": found.blocks,
        "width": found.width,
        "vision_blocks": found.shape.vision_blocks,
        "vision_width": found.shape.vision_width,
        "merge": found.shape.merge,
        "deepstack": found.shape.deepstack,
        "context_length": found.context_length,
        "parameters": found.elements,
        "tower_parameters": found.tower,
        "stored": found.stored,
        "path": str(found.source.path),
    }


def sites_of(shape: ModelShape, windowed: Collection[int]) -> dict[str, Any]:
    """``sites``, one row a site in the order of a forward pass, and ``aliases``, the study's names for some of them."""
    return {"aliases": alias_table(shape, windowed), "sites": site_table(shape, windowed)}
