"""The Qwen families the lab knows: one small adapter each, found by what a ``config.json`` says.

This package imports without torch, so that a wrong model is refused before anything heavy is loaded.
"""

from __future__ import annotations

from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.models.families.base import Family, config_field
from labtui_kernels.models.families.hybrid import QWEN3_5, QWEN3_5_MOE, QWEN3_NEXT
from labtui_kernels.models.families.text import QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE
from labtui_kernels.models.families.vision import (
    QWEN2_5_VL,
    QWEN2_VL,
    QWEN3_5_VL,
    QWEN3_5_VL_MOE,
    QWEN3_VL,
    QWEN3_VL_MOE,
    VisionFamily,
)

FAMILIES: tuple[Family, ...] = (
    *(QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE, QWEN3_NEXT, QWEN3_5, QWEN3_5_MOE),
    *(QWEN2_VL, QWEN2_5_VL, QWEN3_VL, QWEN3_VL_MOE, QWEN3_5_VL, QWEN3_5_VL_MOE),
)

__all__ = ["FAMILIES", "Family", "VisionFamily", "by_name", "find", "known"]


def known() -> str:
    """The architectures the lab can load, as a refusal lists them."""
    return ", ".join(architecture for family in FAMILIES for architecture in family.architectures)


def by_name(name: str) -> Family:
    """The family called ``name`` ("qwen3"); UsageError names the others."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UsageError(f"family {name!r} is unknown; known: {', '.join(f.name for f in FAMILIES)}")


def find(config: Any, *, source: str = "the model") -> Family:
    """The family of ``config``: a ``config.json`` as a dict, or a transformers configuration.

    The first entry of ``architectures`` decides; a configuration that names none is judged by its
    ``model_type``. UsageError for anything else, with the architectures that are known.
    """
    named = config_field(config, "architectures") or []
    architecture = named[0] if isinstance(named, list | tuple) and named else None
    model_type = config_field(config, "model_type")
    for family in FAMILIES:
        if architecture in family.architectures or (
            architecture is None and model_type in family.model_types
        ):
            return family
    what = architecture if architecture is not None else f"model_type {model_type!r}"
    raise UsageError(f"{source} is a {str(what)[:80]}, which the lab does not know; known: {known()}")
