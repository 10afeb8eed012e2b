"""Recipes: each experiment on the model side, from a checked spec to committed rows.

``recipe(spec)`` finds the recipe of a spec by its kind; the modules that need torch are imported then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_kernels.recipes.context import Recipe
    from labtui_kernels.specs import Spec

KINDS = (
    "generate", "direction", "sweep", "rerun", "patch", "compose", "reference", "diagnose", "calibrate", "match",
    "index", "vision-tokens", "look", "stroop",
)  # fmt: skip


def recipe(spec: Spec) -> Recipe:
    """The recipe for a spec that ``specs.load`` has checked."""
    kind = type(spec).__struct_config__.tag
    if kind not in KINDS:
        raise UsageError(f"no recipe for specs of kind {kind!r}; expected one of {', '.join(KINDS)}")
    module = import_module(f"labtui_kernels.recipes.{kind.replace('-', '_')}")
    return module.make(spec)
