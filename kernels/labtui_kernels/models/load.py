"""Loading a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.models import families
from labtui_kernels.models.families.base import Family
from labtui_kernels.models.info import ModelInfo

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, float], None]


def _silent(phase: str, fraction: float) -> None:
    """The progress callback of a caller who does not watch."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready: in evaluation mode without gradients, with its tokenizer and its adapter."""

    model: Any
    tokenizer: Any
    family: Family
    info: ModelInfo
    device: torch.device


def load(
    source: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    quantize: str | None = None,
    progress: Progress = _silent,
) -> LoadedModel:
    """Load the model in the local folder ``source``."""
    import torch
    import transformers

    from labtui_kernels.models.describe import describe

    path = Path(source).expanduser()
    if not path.is_dir():
        raise UsageError(f"{source}: no such folder")
    progress("reading", 0.0)
    config = transformers.AutoConfig.from_pretrained(path)
    family = families.find(config, source=str(path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model_class = getattr(transformers, family.causal_class)
    target = torch.device("cpu" if device == "auto" else device)
    model = model_class.from_pretrained(
        path, dtype=torch.float32 if dtype == "auto" else getattr(torch, dtype)
    )
    model.to(target).eval().requires_grad_(False)
    progress("moving", 1.0)
    info = describe(
        model, tokenizer, family, source=source, name=path.name, quantisation=quantize, weight_hash=""
    )
    return LoadedModel(model, tokenizer, family, info, target)
