"""Families that alternate attention with gated linear attention, which keeps a recurrent state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labtui_kernels.models.families.base import TextFamily

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class HybridFamily(TextFamily):
    """A decoder whose blocks mix tokens either through ``linear_attn`` or through ``self_attn``."""

    hybrid: bool = True

    def attn_module(self, block: Any) -> nn.Module:
        return block.linear_attn if hasattr(block, "linear_attn") else block.self_attn


QWEN3_NEXT = HybridFamily(
    name="qwen3_next",
    architectures=("Qwen3NextForCausalLM",),
    model_types=("qwen3_next",),
    causal_class="Qwen3NextForCausalLM",
)

QWEN3_5 = HybridFamily(
    name="qwen3_5",
    architectures=("Qwen3_5ForCausalLM",),
    model_types=("qwen3_5_text",),
    causal_class="Qwen3_5ForCausalLM",
)

QWEN3_5_MOE = HybridFamily(
    name="qwen3_5_moe",
    architectures=("Qwen3_5MoeForCausalLM",),
    model_types=("qwen3_5_moe_text",),
    causal_class="Qwen3_5MoeForCausalLM",
)
