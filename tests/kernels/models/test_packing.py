"""Packed linear layers: the same products, the same parameters, only where there is room."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from labtui_kernels.models.packing import LEAST_VALUES, pack_linears, unpack_linears

PLENTY = 1 << 40


def layers(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(768, 512), nn.SiLU(), nn.Linear(512, 768, bias=False), nn.Linear(768, 4)
    ).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("shape", [(1, 768), (5, 768), (3, 1, 768), (2, 9, 768), (0, 768)])
def test_packed_layers_give_what_plain_ones_give(dtype: torch.dtype, tolerance: float, shape) -> None:
    model = layers(dtype)
    before = {name: p.clone() for name, p in model.named_parameters()}
    given = torch.randn(*shape, dtype=dtype)
    with torch.inference_mode():
        plain = model(given)
        cost = pack_linears(model, PLENTY)
        packed = model(given)
    assert cost == 2 * 768 * 512 * dtype.itemsize  # the last layer is too small to gain
    assert packed.shape == plain.shape and packed.dtype == dtype
    torch.testing.assert_close(packed, plain, rtol=tolerance, atol=tolerance)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_a_sliced_input_that_is_not_contiguous_gives_the_same() -> None:
    model = layers(torch.float32)
    given = torch.randn(4, 1536)[:, ::2]
    with torch.inference_mode():
        plain = model(given)
        pack_linears(model, PLENTY)
        torch.testing.assert_close(model(given), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("free", [None, 0, 2 * 768 * 512 * 4])
def test_nothing_is_packed_without_room(free: int | None) -> None:
    model = layers(torch.float32)
    assert pack_linears(model, free) == 0
    assert all("forward" not in module.__dict__ for module in model)


def test_subclasses_small_layers_and_float16_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(1024, 1024), nn.Linear(8, LEAST_VALUES // 8 - 1), nn.Linear(1024, 1024).half())
    assert pack_linears(model, PLENTY) == 0


def test_hooks_on_a_packed_layer_are_called_and_unpacking_restores_it() -> None:
    def blank(_module: nn.Module, _args: object, out: Tensor) -> Tensor:
        return torch.zeros_like(out)

    model = layers(torch.float32)
    pack_linears(model, PLENTY)
    model[0].register_forward_hook(blank)
    with torch.inference_mode():
        assert torch.equal(model[:1](torch.randn(2, 768)), torch.zeros(2, 512))
    unpack_linears(model)
    assert "forward" not in model[0].__dict__
