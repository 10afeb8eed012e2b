"""Short questions to the loaded model, answered between two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_kernels.engine import Engine
    from labtui_kernels.models.load import LoadedModel

BUDGET: Final = 600.0
MAX_PIECES: Final = 200_000
MAX_IMAGES: Final = 64


class TokensParams(msgspec.Struct, forbid_unknown_fields=True):
    """``tokens``: the messages to render, the thinking switch, the beginning of the answer, and the bounds of pictures."""

    messages: list[dict[str, Any]]
    thinking: bool | None = None
    prefill: str = ""
    min_pixels: int | None = None
    max_pixels: int | None = None
    fps: float | None = None
    max_frames: int | None = None


def answer(loaded: LoadedModel, engine: Engine, method: str, params: dict[str, Any]) -> Any:
    """The answer to ``method``; UsageError when there is no such question or its parameters are wrong."""
    handler = HANDLERS.get(method)
    if handler is None:
        raise UsageError(f"the worker knows no question {method!r}")
    try:
        return handler(loaded, engine, params)
    except msgspec.ValidationError as error:
        raise UsageError(f"{method}: {error}") from error


def _tokens(loaded: LoadedModel, engine: Engine, params: dict[str, Any]) -> dict[str, Any]:
    """The prompt as the model gets it: ``ids, pieces, content, text, images``."""
    from labtui_artifacts.images import ImageStore
    from labtui_kernels.models import chat
    from labtui_kernels.recipes.pictures import Area, stored_pixels
    from labtui_kernels.recipes.prompts import thinking_switch

    asked = msgspec.convert(params, TokensParams)
    thinking = thinking_switch(loaded, asked.thinking)  # as a job would render them
    store = ImageStore()
    named = [str(image) for message in asked.messages for image in message.get("images") or ()]
    if len(named) > MAX_IMAGES:
        raise UsageError(f"the prompt has {len(named)} pictures: too many to show")
    pixels = [stored_pixels(loaded, store, one, Area.of(asked)) for one in named]
    rendered = chat.render(
        loaded.tokenizer, asked.messages, thinking=thinking, prefill=asked.prefill, pictures=pixels
    )
    if len(rendered.ids) > MAX_PIECES:
        raise UsageError(f"the prompt has {len(rendered.ids):,} tokens: too many to show one by one")
    return asdict(rendered)


def memory(loaded: LoadedModel) -> dict[str, Any]:
    """Memory in bytes: of this process, and of the device where it has its own."""
    found: dict[str, Any] = {"device": str(loaded.device), "process": _resident()}
    if loaded.device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(loaded.device)
        found |= {"device_used": total - free, "device_total": total}
    return found


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    import os

    return pages * os.sysconf("SC_PAGE_SIZE")


HANDLERS: dict[str, Callable[[LoadedModel, Engine, dict[str, Any]], Any]] = {"tokens": _tokens}
