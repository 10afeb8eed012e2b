"""Families whose every block is attention followed by an MLP or by experts."""

from __future__ import annotations

from labtui_kernels.models.families.base import TextFamily

# Qwen2.5 text models use Qwen2's class.
QWEN2 = TextFamily(
    name="qwen2", architectures=("Qwen2ForCausalLM",), model_types=("qwen2",), causal_class="Qwen2ForCausalLM"
)

QWEN2_MOE = TextFamily(
    name="qwen2_moe",
    architectures=("Qwen2MoeForCausalLM",),
    model_types=("qwen2_moe",),
    causal_class="Qwen2MoeForCausalLM",
)

QWEN3 = TextFamily(
    name="qwen3", architectures=("Qwen3ForCausalLM",), model_types=("qwen3",), causal_class="Qwen3ForCausalLM"
)

QWEN3_MOE = TextFamily(
    name="qwen3_moe",
    architectures=("Qwen3MoeForCausalLM",),
    model_types=("qwen3_moe",),
    causal_class="Qwen3MoeForCausalLM",
)
