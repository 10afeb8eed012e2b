"""What a site grammar needs to know about a model, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """The depth and the widths of a model.

    ``family`` is an adapter's name (``"qwen2"``, ``"qwen3_moe"``, ...). ``blocks`` and ``width`` are the
    language model's; ``vision_blocks`` and ``vision_width`` the vision tower's (0 without one);
    ``deepstack`` is how many early blocks get image features added after their output (Qwen3-VL); ``merge``
    is the side of the square of patches that the merger makes into one image token (0 without a tower).
    """

    family: str
    blocks: int
    width: int
    vision_blocks: int = 0
    vision_width: int = 0
    deepstack: int = 0
    merge: int = 0
