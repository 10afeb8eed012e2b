"""Says as one JSON line what the model libraries are and can do; run as ``python -m labtui.doctor.probe``.

A module of its own, for a process of its own: nothing of the app ever imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import shutil
import subprocess
from typing import Any


def look() -> dict[str, Any]:
    """Versions of torch, transformers, bitsandbytes, gguf and PyAV, and the devices; a problem where one fails."""
    found: dict[str, Any] = {"nvidia": _driver()}
    torch = _load("torch", found)
    if torch is None:
        return found
    found["threads"] = importlib.import_module("labtui_kernels.models.threads").settle_threads()
    found["bfloat16"] = importlib.import_module("labtui_kernels.models.packing").multiplies(torch.bfloat16)
    found["cuda"] = torch.version.cuda
    found["gpus"] = _gpus(torch, found)
    _load("transformers", found)
    if _load("bitsandbytes", found) is not None:
        _quantize(torch, found)
    _load("gguf", found)
    _load("av", found)
    return found


def _load(name: str, found: dict[str, Any]) -> Any:
    try:
        module = importlib.import_module(name)
        if name == "transformers":
            _ = module.Qwen3ForCausalLM
    except Exception as problem:  # a broken install fails in any way
        found[f"{name}_problem"] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        return None
    found[name] = getattr(module, "__version__", None) or importlib.import_module(
        "importlib.metadata"
    ).version(name)
    return module


def _gpus(torch: Any, found: dict[str, Any]) -> list[dict[str, Any]]:
    gpus = []
    try:
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            major, minor = torch.cuda.get_device_capability(number)
            name = torch.cuda.get_device_name(number)
            gpus.append({"name": name, "free": free, "total": total, "capability": f"{major}.{minor}"})
        if not gpus:
            found["cuda_problem"] = (
                "built without CUDA" if torch.version.cuda is None else "no device visible"
            )
    except Exception as problem:  # a driver that is too old raises here
        found["cuda_problem"] = " ".join(str(problem).split())[:200]
    return gpus


def _quantize(torch: Any, found: dict[str, Any]) -> None:
    """Quantise a small matrix to 4 bits and back, on the device that models would use."""
    try:
        functional = importlib.import_module("bitsandbytes.functional")
        device = "cuda" if found["gpus"] else "cpu"
        weight = torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
        packed, state = functional.quantize_4bit(weight, quant_type="nf4")
        worst = (functional.dequantize_4bit(packed, state) - weight).abs().max().item()
        if not worst < 0.2:
            raise RuntimeError(f"a 4-bit round trip was off by {worst:.2g}")
        found["bitsandbytes_note"] = f"4-bit works on {device}"
    except Exception as problem:  # its compiled part may be missing or wrong
        found.pop("bitsandbytes")
        found["bitsandbytes_problem"] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"


def _driver() -> str:
    """The GPUs and driver version that nvidia-smi names; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.strip().splitlines())[:300] if done.returncode == 0 else ""


if __name__ == "__main__":
    gc.disable()  # this process imports, says what it saw, and ends
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise):
        result = look()
    print(json.dumps(result))
