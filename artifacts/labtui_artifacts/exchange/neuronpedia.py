"""Neuronpedia vectors: a folder with ``vector.yaml`` (flat keys) and ``vector.safetensors`` (one tensor).

The hook names the place as TransformerLens does: ``blocks.N.hook_resid_pre`` is what block N receives
(``llm.N.in``), ``blocks.N.hook_resid_post`` what it leaves (``llm.N.out``), N from 0. So resid_pre of N and
resid_post of N - 1 are the same stream. The keys are those of Neuronpedia's Python library (``NPVector``):
label, model_id, layer_num, hook_type or hook_name, default_steer_strength.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange.base import (
    MAX_LAYER,
    Imported,
    Reading,
    as_float32,
    one_site,
    read_limited,
)
from labtui_artifacts.files import read_tensor, write_atomically, write_safetensors
from labtui_artifacts.header import read_layout
from labtui_artifacts.kinds.direction import DirectionFile

CONVENTION = "blocks.N.hook_resid_pre is the input of block N, blocks.N.hook_resid_post its output, N from 0"
MAX_YAML = 1 << 20
POINTS = {"hook_resid_pre": "in", "hook_resid_post": "out", "hook_attn_out": "attn", "hook_mlp_out": "mlp"}
WHOLE = {"hook_embed": "llm.embed", "ln_final.hook_normalized": "llm.norm"}
_HOOK = re.compile(r"blocks\.(0|[1-9]\d{0,3})\.(\w+)")
_LINE = re.compile(r"([A-Za-z_][\w-]*)\s*:(?:\s+(.*))?")


def read(path: Path, reading: Reading) -> Imported:
    """Read a vector from its folder, its ``vector.yaml`` or its ``vector.safetensors``."""
    folder = path if path.is_dir() else path.parent
    described, body = folder / "vector.yaml", folder / "vector.safetensors"
    said = flat_yaml(read_limited(described, MAX_YAML), described)
    site = reading.site or site_of(said, described)
    layout = read_layout(body)
    name = "vector" if "vector" in layout.tensors else next(iter(layout.tensors), "")
    if len(layout.tensors) != 1 and name != "vector":
        raise BadFile(f"{body}: has {len(layout.tensors)} tensors, expected one, or one named 'vector'")
    value = as_float32(read_tensor(layout, name), str(body))
    if value.ndim == 2 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != 1:
        raise BadFile(f"{body}: tensor {name!r} has shape {list(value.shape)}, expected [d]")
    kept = {
        key: said[key] for key in ("label", "model_id", "hook_name", "default_steer_strength") if key in said
    }
    return Imported({site: value}, kept)


def write(direction: DirectionFile, out: Path, sites: Sequence[str] | None) -> tuple[str, ...]:
    """Write one site's vector into the folder ``out`` (made when missing)."""
    site = one_site(direction, sites, "a Neuronpedia vector")
    hook = hook_of(site)
    lines = [
        "label: " + _quote(direction.name),
        "model_id: " + _quote(str(direction.model.get("name", "unknown"))),
        "hook_name: " + _quote(hook),
    ]
    match = _HOOK.fullmatch(hook)
    if match:
        lines += [f"layer_num: {match[1]}", "hook_type: " + _quote(match[2])]
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(out / "vector.safetensors", {"vector": direction.vector(site)}, {"hook_name": hook})
    write_atomically(
        out / "vector.yaml", lambda handle: handle.write(("\n".join(lines) + "\n").encode("utf-8"))
    )
    return (f"{site} was written as {hook}",)


def hook_of(site: str) -> str:
    """The TransformerLens hook name of a site; UsageError when it has none."""
    for hook, whole in WHOLE.items():
        if site == whole:
            return hook
    tower, _, rest = site.partition(".")
    block, _, point = rest.partition(".")
    for hook, ours in POINTS.items():
        if tower == "llm" and point == ours:
            return f"blocks.{block}.{hook}"
    raise UsageError(f"{site} has no TransformerLens hook name, which a Neuronpedia vector needs")


def site_of(said: dict[str, str], path: Path) -> str:
    """Our site for what a ``vector.yaml`` says; BadFile when it says none that we know."""
    hook = said.get("hook_name", "")
    if not hook and "hook_type" in said and "layer_num" in said:
        hook = f"blocks.{said['layer_num']}.{said['hook_type']}"
    if hook in WHOLE:
        return WHOLE[hook]
    match = _HOOK.fullmatch(hook)
    if match is None or match[2] not in POINTS or int(match[1]) > MAX_LAYER:
        known = ", ".join(["blocks.N." + name for name in POINTS] + list(WHOLE))
        raise BadFile(f"{path}: hook {hook[:60]!r} is unknown, expected hook_name as one of {known}")
    return f"llm.{match[1]}.{POINTS[match[2]]}"


def flat_yaml(raw: bytes, path: Path) -> dict[str, str]:
    """The top-level ``key: scalar`` lines of a YAML file as texts; nested parts are skipped."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadFile(f"{path}: not UTF-8 text") from problem
    said: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (
            not line.strip()
            or line.lstrip().startswith("#")
            or line[0] in " \t-"
            or line.startswith(("---", "..."))
        ):
            continue
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            raise BadFile(f"{path}: line {number} is not 'key: value'")
        if match[1] in said:
            raise BadFile(f"{path}: line {number}: {match[1]} occurs twice")
        said[match[1]] = _scalar(match[2] or "", path, number)
    return said


def _quote(text: str) -> str:
    """``text`` as a double-quoted YAML scalar, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False)


def _scalar(text: str, path: Path, number: int) -> str:
    if text.startswith('"'):
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except ValueError as problem:
            raise BadFile(
                f"{path}: line {number}: a quoted text that does not end or escapes strangely"
            ) from problem
        rest = text[end:]
    elif text.startswith("'"):
        match = re.fullmatch(r"'((?:[^']|'')*)'(.*)", text)
        if match is None:
            raise BadFile(f"{path}: line {number}: a quoted text that does not end")
        value, rest = match[1].replace("''", "'"), match[2]
    else:
        return re.split(r"\s#", text, maxsplit=1)[0].strip()
    if rest.strip() and not rest.lstrip().startswith("#"):
        raise BadFile(f"{path}: line {number}: something follows a quoted text")
    return value
