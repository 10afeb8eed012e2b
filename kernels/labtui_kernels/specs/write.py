"""Specs as TOML, as commented templates, and as command lines that do the same."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from labtui_artifacts.errors import UsageError

from ..lang.text import did_you_mean, shown
from .base import Spec
from .docs import describe
from .kinds import KINDS
from .load import to_dict

WIDTH = 110

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_EXAMPLES: dict[str, dict[str, Any]] = {
    "generate": {"prompt": "Explain what a mutex is.", "edits": "2.0*terse@llm.12"},
    "direction": {"name": "terse", "style": "terse"},
    "sweep": {"prompts": ["Explain what a mutex is."], "directions": ["terse"]},
    "rerun": {"rows": [], "tolerance": 1e-3},
    "patch": {"prompt": "Explain what a mutex is.", "site": "llm.12", "edits": "2.0*terse@llm.12"},
    "compose": {"name": "terse-and-casual", "expr": "0.5*terse - 0.2*formal"},
    "reference": {},
    "diagnose": {"style": "terse"},
    "look": {"prompt": "@photo.png What is this?"},
    "calibrate": {"direction": "terse"},
    "index": {"name": "captions"},
    "vision-tokens": {"images": ["photo.png"], "index": "captions"},
    "match": {"direction": "terse", "like": "8%*terse@llm.4"},
    "stroop": {},
}
"""What a template says where a field has no default worth showing."""
_UNSET: dict[str, Any] = {
    "thinking": True, "min_pixels": 56 * 56, "max_pixels": 1024 * 1024, "fps": 2, "max_frames": 32, "seconds": 60,
}  # fmt: skip
"""What a template's comment shows of a field that is left out by default."""


def toml_value(value: Any) -> str:
    """A plain value as TOML, on one line. Keys of tables whose value is None are left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        text = repr(value)
        return text if any(mark in text for mark in ".en") else f"{text}.0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        pairs = [f"{_key(str(key))} = {toml_value(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"{type(value).__name__} has no TOML form")


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else json.dumps(key, ensure_ascii=False)


def _fields(kind: type[Spec]) -> list[msgspec.structs.FieldInfo]:
    """The fields as they are best read: those without default, the kind's own, the shared ones."""
    own = set(kind.__annotations__)
    return sorted(msgspec.structs.fields(kind), key=lambda info: (not info.required, info.name not in own))


def _default(info: msgspec.structs.FieldInfo) -> Any:
    if info.default is not msgspec.NODEFAULT:
        return info.default
    if info.default_factory is not msgspec.NODEFAULT:
        return info.default_factory()
    return msgspec.NODEFAULT


def _differences(spec: Spec) -> Iterator[tuple[str, Any]]:
    """The fields that are required or differ from their default, as plain values."""
    plain = to_dict(spec)
    for info in _fields(type(spec)):
        value = getattr(spec, info.name)
        if value is not None and (info.required or value != _default(info)):
            yield info.name, plain[info.name]


def to_toml(spec: Spec) -> str:
    """The spec as TOML: its kind, and every field that differs from its default."""
    lines = [f'kind = "{spec.kind}"']
    for name, value in _differences(spec):
        text = f"{name} = {toml_value(value)}"
        if isinstance(value, list) and len(text) > WIDTH:
            items = "".join(f"    {toml_value(item)},\n" for item in value)
            text = f"{name} = [\n{items}]"
        lines.append(text)
    return "\n".join(lines) + "\n"


def to_command(spec: Spec, kernel: str = "", session: str = "") -> str:
    """One shell command line that runs the same spec."""
    words = ["labtui", "run", spec.kind]
    if kernel:
        words += ["--kernel", kernel]
    if session:
        words += ["--session", session]
    for name, value in _differences(spec):
        plain = (
            isinstance(value, str) and value == value.strip() and value[:1] not in ("", '"', "'", "[", "{")
        )
        words += ["--set", f"{name}={value if plain and chr(10) not in value else toml_value(value)}"]
    return " ".join(shlex.quote(word) for word in words)


def _plain(value: Any) -> bool:
    """Whether a text can stand without TOML's quotes and still be read as itself."""
    return (
        isinstance(value, str)
        and value == value.strip()
        and "\n" not in value
        and value[:1] not in {*"\"'[{", ""}
    )


def template(kind: str) -> str:
    """A commented TOML template with every field of that kind of spec and its default. Raises UsageError."""
    if kind not in KINDS:
        raise UsageError(
            f"no spec of kind {shown(kind)}{did_you_mean(kind, KINDS)} (kinds: {', '.join(KINDS)})"
        )
    spec = KINDS[kind]
    texts = describe(kind)
    head = textwrap.wrap((spec.__doc__ or "").split("\n")[0], WIDTH - 2)
    lines = [*(f"# {line}" for line in head), f'kind = "{kind}"']
    for info in _fields(spec):
        example = _EXAMPLES[kind].get(info.name, msgspec.NODEFAULT)
        value = _default(info) if example is msgspec.NODEFAULT else example
        comment = texts.get(info.name, "")
        text = (
            f"# {info.name} = {toml_value(_UNSET[info.name])}"
            if value is None
            else f"{info.name} = {toml_value(msgspec.to_builtins(value))}"
        )
        gap = " " * max(2, 38 - len(text))
        lines.append(f"{text}{gap}# {comment}" if comment else text)
    return "\n".join(lines) + "\n"
