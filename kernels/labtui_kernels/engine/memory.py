"""How many cache slots fit: an estimate before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import torch

from labtui_artifacts.errors import UsageError

from .forward import Forward

KEEP = 0.15
"""Share of the free memory that is left alone: activations of a prefill, fragmentation, others."""


def bytes_per_slot(forward: Forward, tokens: int) -> int:
    """Bytes of one slot for ``tokens`` positions: keys and values, recurrent states, and its share of the
    logits.

    Attention blocks hold 2 · tokens · key-value heads · head width values in the model's dtype;
    linear-attention blocks a float32 state [value heads, key width, value width] and the convolution's last
    inputs.
    """
    config = forward.model.config.get_text_config()
    size = torch.empty(0, dtype=forward.dtype).element_size()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    attention = 2 * tokens * heads * width * size
    total = 0
    for kind in forward.layer_types:
        if kind != "linear_attention":
            total += attention
            continue
        keys, values = config.linear_key_head_dim, config.linear_value_head_dim
        state = config.linear_num_value_heads * keys * values * 4
        channels = 2 * keys * config.linear_num_key_heads + values * config.linear_num_value_heads
        total += state + channels * config.linear_conv_kernel_dim * size
    return total + 3 * 4 * forward.vocab


def free_bytes(device: torch.device) -> int:
    """Free memory of the device: CUDA's own figure with torch's unused reserve, or what Linux says is
    available.

    On a CPU a control group's limit counts too. 0 when nothing can be found out.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserve
    figures = [value for value in (_available(), _group_room()) if value is not None]
    return min(figures, default=0)


def slots_that_fit(forward: Forward, tokens: int, free: int | None = None, most: int = 64) -> int:
    """How many slots of ``tokens`` positions fit into ``free`` bytes (default: what the device has), at most
    ``most``.

    While a batch fills, a prefill of the same size lies beside it, so one slot is held back. UsageError when
    not even one fits; the line gives both sizes.
    """
    if tokens < 1:
        raise UsageError(f"slots of {tokens} tokens; expected at least 1")
    free = free_bytes(forward.device) if free is None else free
    each = bytes_per_slot(forward, tokens)
    fit = int(free * (1 - KEEP)) // each - 1
    if fit < 1:
        raise UsageError(
            f"no room for one row of {tokens} tokens: it needs {2 * each / 1e6:.0f} MB of cache and "
            f"{free / 1e6:.0f} MB are free; use shorter rows, a smaller dtype or another device"
        )
    return min(fit, most)


def _available() -> int | None:
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_room() -> int | None:
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not (limit.exists() and used.exists()):
        return None
    text = limit.read_text().strip()
    return None if text == "max" else max(0, int(text) - int(used.read_text()))
