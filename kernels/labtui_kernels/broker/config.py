"""What a kernel is started with, and what is remembered of it so that it can be started again."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from labtui_artifacts import paths
from labtui_artifacts.errors import BadFile, UsageError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
QUANTIZE: Final = ("4bit", "8bit")
DEFAULT_TTL: Final = 8 * 3600.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """Bounds and delays of a broker, in bytes and seconds. Tests tighten them."""

    client_bytes: int = 4 * 1024 * 1024
    clients: int = 64
    catch_up: int = 4_000
    ping_every: float = 15.0
    silent_after: float = 50.0
    hello_within: float = 15.0
    beat_timeout: float = 90.0
    load_budget: float = 3600.0
    quit_grace: float = 15.0
    retry_delays: tuple[float, ...] = (0.2, 1.0, 5.0)
    losses: int = 3
    disk_retry: float = 2.0


class KernelConfig(msgspec.Struct, forbid_unknown_fields=True):
    """A kernel: its name and how its model is to be loaded. ``idle_ttl`` in seconds, 0 for never."""

    name: str
    model: str
    dtype: str = "auto"
    device: str = "auto"
    quantize: str | None = None
    idle_ttl: float = DEFAULT_TTL
    limits: Limits = msgspec.field(default_factory=Limits)


class Record(msgspec.Struct):
    """What is kept of a kernel between two runs: its configuration and the session that it was in."""

    config: KernelConfig
    session: str = ""


def check_name(name: str) -> str:
    """``name`` when a kernel may have it, else UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"kernel name {name!r}: expected up to 64 of a-z, 0-9, dot, dash and underscore, "
            "beginning with a letter or digit"
        )
    return name


def check(config: KernelConfig) -> KernelConfig:
    """The configuration, each field checked; UsageError names the first that is wrong."""
    check_name(config.name)
    if not config.model:
        raise UsageError(
            "--model: expected a bundled name (toy-qwen3), a Hub id, a local folder or a .gguf file"
        )
    if config.dtype not in DTYPES:
        raise UsageError(f"--dtype {config.dtype!r}: expected one of {', '.join(DTYPES)}")
    if not _DEVICE.fullmatch(config.device):
        raise UsageError(f"--device {config.device!r}: expected auto, cpu, cuda or cuda:N")
    if config.quantize is not None and config.quantize not in QUANTIZE:
        raise UsageError(f"--quantize {config.quantize!r}: expected one of {', '.join(QUANTIZE)}")
    if not (0 <= config.idle_ttl < float("inf")):
        raise UsageError(f"--idle-ttl {config.idle_ttl!r}: expected seconds, at least 0")
    return config


def parse_duration(text: str, what: str = "--idle-ttl") -> float:
    """``30s``, ``10m``, ``8h``, ``2d``, a number of seconds, or ``never`` (0) as seconds."""
    word = text.strip().lower()
    if word in ("never", "0"):
        return 0.0
    match = _DURATION.fullmatch(word)
    if match is None:
        raise UsageError(f"{what} {text!r}: expected a time such as 30s, 10m, 8h, 2d, or never")
    return float(match[1]) * _UNITS[match[2]]


def record_path(name: str) -> Path:
    """Where the record of that kernel is kept."""
    folder = paths.secure_folder(paths.home() / "kernels", what="kernels folder")
    return folder / f"{check_name(name)}.json"


def read_record(name: str) -> Record | None:
    """What is known of a kernel that ran before; None when nothing is. BadFile when it is damaged."""
    path = record_path(name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{path}: not a kernel's record ({error}): remove it and start the kernel anew"
        ) from error


def write_record(record: Record) -> None:
    """Keep the record; replaces the old one whole."""
    path = record_path(record.config.name)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".record-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
