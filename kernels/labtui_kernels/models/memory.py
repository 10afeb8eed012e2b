"""Whether a model fits: what it will need, what is free, and what to do when it does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labtui_artifacts.errors import UsageError
from labtui_kernels.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4_BYTES = 0.5 + 4 / 64  # half a byte, and one float32 scale for 64 weights
INT8_BYTES = 1.0
WORKSPACE = 128 << 20
"""Bytes beside the weights: caches and activations of a short prompt."""


def needed(checkpoint: Checkpoint, dtype: str, quantize: str | None) -> int:
    """Peak bytes of loading: the weights, the tensor in flight (GGUF: the unpacked copy), workspace."""
    each = BYTES[dtype]
    linear = checkpoint.linear if quantize else 0
    shrunk = {None: 0.0, "4bit": NF4_BYTES, "8bit": INT8_BYTES}[quantize] * linear
    weights = (checkpoint.elements - linear) * each + int(shrunk)
    # Measured on a 0.5B model: unpacking a GGUF file peaks at 1.55 times the float32 weights.
    flight = int(0.6 * checkpoint.elements * BYTES["float32"]) if checkpoint.source.kind == "gguf" else 0
    return weights + max(flight, checkpoint.largest * each) + WORKSPACE


def free(device: torch.device) -> int | None:
    """Free bytes on the device; None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return free_main_memory()


def free_main_memory(root: Path = Path("/")) -> int | None:
    """What this process may still take: the machine's available memory, and any control group's limit."""
    known = [value for value in (_available(root), _group_room(root)) if value is not None]
    return min(known) if known else None


def require_fit(checkpoint: Checkpoint, dtype: str, quantize: str | None, device: torch.device) -> None:
    """UsageError with both sizes, and with what would help, when the model cannot fit on ``device``."""
    room = free(device)
    need = needed(checkpoint, dtype, quantize)
    if room is None or need <= room:
        return
    ways = [
        f"{option} needs {gib(needed(checkpoint, small, how))}"
        for option, small, how in (
            ("--dtype bfloat16", "bfloat16", quantize),
            ("--quantize 8bit", dtype, "8bit"),
            ("--quantize 4bit", dtype, "4bit"),
        )
        if needed(checkpoint, small, how) < min(need, room) and (how is None or checkpoint.linear)
    ]
    advice = "; ".join(ways) if ways else "take a smaller model or a larger machine"
    how = f"{dtype}, {quantize}" if quantize else dtype
    raise UsageError(
        f"{checkpoint.source.text} needs {gib(need)} as {how} and {device} has {gib(room)} free: {advice}"
    )


def gib(count: float) -> str:
    """Bytes for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _available(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _group_room(root: Path) -> int | None:
    """Room under the tightest memory limit of this process's control groups (version 2, then 1)."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    rooms: list[int] = []
    for line in groups:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / "sys/fs/cgroup" / controllers
            names = ("memory.max", "memory.current") if not controllers else _VERSION_1
            folder = base / place.lstrip("/")
            while folder == base or base in folder.parents:
                room = _room(folder, *names)
                rooms += [] if room is None else [room]
                folder = folder.parent
    return min(rooms) if rooms else None


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _room(folder: Path, limit_name: str, used_name: str) -> int | None:
    try:
        limit = (folder / limit_name).read_text().strip()
        used = int((folder / used_name).read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    # Cached file pages count as used but are given up when needed.
    cached = next(
        (int(n) for k, n in zip(statistics[::2], statistics[1::2], strict=False) if k == "inactive_file"), 0
    )
    return max(0, int(limit) - used + cached)
