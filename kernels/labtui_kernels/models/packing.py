"""Weights of linear layers in the layout that the processor multiplies fastest.

On a CPU torch multiplies float32 matrices through MKL, weights as they lie in memory. oneDNN reorders them once; on a
processor with AVX-512 the products of a decode step then take 1.4 (64 rows) to 2.3 times (8 rows) less time, in
bfloat16 1.1 to 5 times less. The reordered copy costs the memory of the weights again, so it is made only where there
is room. The parameters stay: audits, fingerprints and tied embeddings read them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LEAST_VALUES = 1 << 18
"""Weights of fewer values gain nothing: the call costs more than it saves."""
SPARE = 2.0
"""Memory that must be free, as a multiple of what the copies take: rows need caches too."""


def pack_linears(model: nn.Module, free: int | None) -> int:
    """Let every large linear layer of a CPU model multiply with a reordered copy of its weight.

    ``free`` is what this process may still take, in bytes (None: not known, nothing is packed). Returns the bytes of
    the copies; 0 when there is no room, no such layer, or this torch or processor cannot.
    """
    layers = [layer for layer in _plain_linears(model) if _packable(layer)]
    cost = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if not layers or free is None or free < SPARE * cost or not _agrees(layers[0]):
        return 0
    for layer in layers:
        layer.__dict__["forward"] = _multiply(layer)
    return cost


def unpack_linears(model: nn.Module) -> None:
    """Give every packed layer its own forward back, and free the copies."""
    for layer in _plain_linears(model):
        layer.__dict__.pop("forward", None)


def _agrees(layer: nn.Linear) -> bool:
    """Whether the packed product of this torch on this processor is the plain one, up to rounding."""
    values = torch.arange(3 * layer.in_features, dtype=torch.float32) % 7 - 3
    probe = values.view(3, -1).to(layer.weight.dtype)
    with torch.inference_mode():
        try:
            packed = _multiply(layer)(probe)
        except RuntimeError:
            return False
        plain = nn.functional.linear(probe, layer.weight, layer.bias)
    tolerance = 1e-4 if layer.weight.dtype == torch.float32 else 0.05
    return bool((packed - plain).float().norm() <= tolerance * plain.float().norm())


def _plain_linears(model: nn.Module) -> list[nn.Linear]:
    """Linear layers, no subclasses: those multiply in ways of their own."""
    return [module for module in model.modules() if type(module) is nn.Linear]


def _packable(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.device.type == "cpu" and weight.numel() >= LEAST_VALUES and multiplies(weight.dtype)


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN takes weights of that dtype here; bfloat16 only where the processor has instructions for it."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _multiply(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The forward of ``layer`` through its packed weight: [..., in] -> [..., out]."""
    weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
    bias = None if layer.bias is None else layer.bias.detach()

    def forward(input: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")

    return forward
