"""Python, the packages, the devices and the model libraries."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from labtui.doctor.check import Check
from labtui.output import size

CORE = (
    "click",
    "ml_dtypes",
    "msgspec",
    "numpy",
    "platformdirs",
    "plotext",
    "pyarrow",
    "safetensors",
    "textual",
)
KERNEL_EXTRA = 'pip install "labtui[kernel]"'
PROBE_SECONDS = 180.0


def checks() -> Iterator[Check]:
    """Python, platform, core packages, then what a kernel needs (asked in a process of its own)."""
    yield _python()
    yield Check("machine", "platform", "ok", f"{platform.platform()}, {os.cpu_count()} cores, {_memory()}")
    yield _packages()
    yield from _model_side(probe())


def probe(timeout: float = PROBE_SECONDS) -> dict[str, Any]:
    """What ``labtui.doctor.probe`` says, from a process of its own: torch never enters this one."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "labtui.doctor.probe"], capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"problem": f"importing torch and transformers took over {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"problem": f"the probe ended with code {done.returncode}: {last[:200]}"}


def _python() -> Check:
    found = platform.python_version()
    return Check("machine", "python", "ok", f"{found} at {sys.executable}", data={"version": found})


def _memory() -> str:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return "memory unknown"
    return f"{size(total)} memory"


def _packages() -> Check:
    versions, missing = {}, []
    for name in CORE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    what = ", ".join(f"{name} {version}" for name, version in versions.items())
    if missing:
        return Check(
            "machine", "packages", "fail", f"missing: {', '.join(missing)}", "pip install labtui", versions
        )
    return Check("machine", "packages", "ok", what, data=versions)


def _model_side(found: dict[str, Any]) -> Iterator[Check]:
    if problem := found.get("problem"):
        yield Check("models", "torch", "warn", problem, f"a kernel may not start here: {KERNEL_EXTRA}")
        return
    if "torch" not in found:
        what = f"not usable: {found.get('torch_problem', 'not installed')}"
        yield Check(
            "models", "torch", "warn", what, f"to run a kernel here: {KERNEL_EXTRA}; replay needs none"
        )
        return
    yield Check("models", "torch", "ok", f"{found['torch']}, {found['threads']} threads", data=found)
    yield _devices(found)
    for name in ("transformers", "bitsandbytes", "gguf", "av"):
        yield _library(name, found)


def _devices(found: dict[str, Any]) -> Check:
    gpus = found.get("gpus", [])
    if gpus:
        shown = "; ".join(
            f"cuda:{number} {gpu['name']} {size(gpu['free'])} free of {size(gpu['total'])}"
            for number, gpu in enumerate(gpus)
        )
        return Check("models", "devices", "ok", f"{shown} (CUDA {found.get('cuda')})", data={"gpus": gpus})
    if found.get("nvidia"):
        what = (
            f"the driver shows {found['nvidia']}, but torch sees no CUDA device ({found.get('cuda_problem')})"
        )
        return Check("models", "devices", "warn", what, "install a CUDA build of torch that suits the driver")
    fast = (
        ", which multiplies bfloat16: --dtype bfloat16 takes about half the time" if found["bfloat16"] else ""
    )
    return Check("models", "devices", "ok", f"no CUDA device: models run on the processor{fast}")


def _library(name: str, found: dict[str, Any]) -> Check:
    if name in found:
        extra = found.get(f"{name}_note", "")
        return Check("models", name, "ok", f"{found[name]}{', ' if extra else ''}{extra}")
    problem = found.get(f"{name}_problem", "not installed")
    needed = {
        "transformers": f"no model can be loaded: {KERNEL_EXTRA}",
        "bitsandbytes": f"--quantize will be refused: {KERNEL_EXTRA}",
        "gguf": f".gguf models will be refused: {KERNEL_EXTRA}",
        "av": f"videos will be refused: {KERNEL_EXTRA}",
    }
    return Check("models", name, "warn", f"not usable: {problem}", needed[name])
