"""What a model on disk is, from headers alone: its family, its weight files, how large it gets. Torch-free.

Every check that needs no weights is made here, so a wrong path, a damaged file or an unknown architecture is
refused within a second and in one line, before torch is even imported. Code that a repository brings along
(``auto_map``) is never looked at.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.header import Layout, read_layout
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.models import families, gguf
from labtui_kernels.models.families.base import Family, config_field, text_part
from labtui_kernels.models.families.vision import VisionFamily
from labtui_kernels.models.jsonfile import read_json
from labtui_kernels.models.processor import ProcessorSettings, read_settings
from labtui_kernels.models.source import Source
from labtui_kernels.models.videosettings import VideoSettings, read_video_settings
from labtui_kernels.models.weights import weight_files, weight_map

GGUF_FAMILIES = {
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "qwen35": "qwen3_5",
    "qwen35moe": "qwen3_5_moe",
}
"""GGUF's names for the families that transformers can unpack."""

_DTYPES = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Parts of a checkpoint that stay on disk: the draft head, and for a class that reads text only the vision tower.
_DRAFT = re.compile(r"^(model\.)?mtp\.")
_TOWER = re.compile(r"^(model\.)?visual\.")
# What bitsandbytes replaces: the linear layers inside the blocks; embeddings, head, norms and experts stay.
_QUANTISED = re.compile(r"\.layers\.\d+\..*_proj\w*\.weight$")
_EXPERTS = re.compile(r"\.experts\.")


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk that passed every check short of reading its weights.

    ``dtype`` is the one most of its weights are stored in (None for quantised GGUF types). ``elements``
    counts the parameters that will be loaded, ``tower`` those of them in a vision tower, ``linear`` those that 4-bit and
    8-bit loading shrinks. ``windowed`` are the tower's blocks whose attention stays in windows; ``processor`` says how
    pictures are prepared.
    """

    source: Source
    family: Family
    architecture: str
    shape: ModelShape
    context_length: int
    dtype: str | None
    elements: int
    linear: int
    largest: int
    files: tuple[Path, ...]
    stored: str
    tower: int = 0
    windowed: tuple[int, ...] = ()
    processor: ProcessorSettings | None = None
    videos: VideoSettings | None = None

    @property
    def blocks(self) -> int:
        """Decoder blocks."""
        return self.shape.blocks

    @property
    def width(self) -> int:
        """Width of the decoder's residual stream."""
        return self.shape.width

    @property
    def name(self) -> str:
        """What to call the model."""
        return self.source.name


def inspect(source: Source) -> Checkpoint:
    """Check everything that headers tell. UsageError or BadFile with one line; see the module's text."""
    return _inspect_gguf(source) if source.kind == "gguf" else _inspect_folder(source)


def _inspect_folder(source: Source) -> Checkpoint:
    folder = source.path
    if not (folder / "config.json").exists():
        loose = sorted(folder.glob("*.gguf"))
        hint = f"name the file {loose[0].name} in it" if loose else "expected a Hugging Face model folder"
        raise UsageError(f"{folder}: not a model folder (it has no config.json); {hint}")
    config = read_json(folder / "config.json")
    family = families.find(config, source=str(folder))
    _refuse_quantised(folder, config)
    shape = family.shape(config)
    layouts = _read_weights(folder)
    text = text_part(config)
    tensors = {name: entry for layout in layouts for name, entry in layout.tensors.items()}
    _check_embedding(folder, tensors, text)
    seeing = family if isinstance(family, VisionFamily) else None
    kept = {
        name: entry
        for name, entry in tensors.items()
        if not _DRAFT.match(name) and (seeing or not _TOWER.match(name))
    }
    sizes = {name: math.prod(shape) for name, (_, shape) in kept.items()}
    stored: Counter[str] = Counter()
    for name, size in sizes.items():
        stored[kept[name][0]] += size
    common = stored.most_common(1)[0][0]
    if common not in _DTYPES:
        raise UsageError(
            f"{folder}: its weights are stored as {common}; expected one of {', '.join(_DTYPES)}"
        )
    return Checkpoint(
        source=source,
        family=family,
        architecture=family.causal_class,
        shape=shape,
        context_length=_context(text),
        dtype=_DTYPES[common],
        elements=sum(sizes.values()),
        linear=sum(size for name, size in sizes.items() if _shrinks(name)),
        largest=max(sizes.values()),
        files=tuple(layout.path for layout in layouts),
        stored=common,
        tower=sum(size for name, size in sizes.items() if _TOWER.match(name)),
        windowed=seeing.windowed(config) if seeing else (),
        processor=read_settings(folder, config) if seeing else None,
        videos=read_video_settings(folder, config) if seeing else None,
    )


def _shrinks(name: str) -> bool:
    return bool(_QUANTISED.search(name)) and not _EXPERTS.search(name)


def _context(text: Any) -> int:
    value = config_field(text, "max_position_embeddings")
    return value if isinstance(value, int) and value > 0 else 0


def _refuse_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    settings = config.get("quantization_config") or text_part(config).get("quantization_config")
    if settings:
        method = (
            settings.get("quant_method", "some method") if isinstance(settings, Mapping) else "some method"
        )
        raise UsageError(
            f"{folder}: its weights are already quantised ({str(method)[:40]}), which is not supported; use "
            "the full checkpoint, with --quantize 4bit where memory is short"
        )


def _read_weights(folder: Path) -> list[Layout]:
    """The layouts of all weight files, each checked, and together holding what an index promises."""
    layouts: list[Layout] = []
    for file in weight_files(folder):
        if not file.exists():
            raise BadFile(f"{folder}: its index names {file.name}, which is not there; fetch the model again")
        layouts.append(read_layout(file))
    index = folder / "model.safetensors.index.json"
    if index.exists() and not (folder / "model.safetensors").exists():
        held = {layout.path.name: layout.tensors for layout in layouts}
        for name, shard in weight_map(index).items():
            if name not in held[shard]:
                raise BadFile(f"{folder}: its index says that {shard} holds {name[:80]!r}, but it does not")
    if not any(layout.tensors for layout in layouts):
        raise BadFile(f"{folder}: its weight files hold no tensors")
    return layouts


def _check_embedding(folder: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], text: Any) -> None:
    """The embedding's shape must be what the configuration says: the commonest sign of a mixed-up folder."""
    name = next((name for name in tensors if name.endswith("embed_tokens.weight")), None)
    if name is None:
        raise BadFile(f"{folder}: its weights hold no token embedding (…embed_tokens.weight)")
    said = (config_field(text, "vocab_size"), config_field(text, "hidden_size"))
    if tensors[name][1] != said:
        raise BadFile(
            f"{folder}: config.json says {said[0]} tokens of width {said[1]}, but {name} has shape "
            f"{list(tensors[name][1])}; the two do not belong together"
        )


def _inspect_gguf(source: Source) -> Checkpoint:
    header = gguf.read_header(source.path)
    gguf.refuse_parts(header)
    architecture = header.metadata.get("general.architecture")
    if architecture not in GGUF_FAMILIES:
        raise UsageError(
            f"{source.path}: a GGUF file of architecture {str(architecture)[:40]!r}, which the lab does not "
            f"know; known: {', '.join(GGUF_FAMILIES)}"
        )
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise BadFile(f"{source.path}: holds no tokenizer; expected a GGUF file of a whole model")
    if "token_embd.weight" not in header.tensors:
        raise BadFile(f"{source.path}: holds no token_embd.weight; expected a GGUF file of a whole model")
    family = families.by_name(GGUF_FAMILIES[architecture])
    stored: Counter[str] = Counter()
    for kind, shape in header.tensors.values():
        stored[kind] += math.prod(shape)
    common = stored.most_common(1)[0][0]
    sizes = [math.prod(shape) for _, shape in header.tensors.values()]
    name = header.metadata.get("general.name")
    return Checkpoint(
        source=Source(source.text, "gguf", source.path, str(name)[:120]) if name else source,
        family=family,
        architecture=family.causal_class,
        shape=ModelShape(
            family=family.name,
            blocks=header.count(f"{architecture}.block_count"),
            width=header.count(f"{architecture}.embedding_length"),
        ),
        context_length=header.count(f"{architecture}.context_length"),
        dtype=_DTYPES.get(common),
        elements=sum(sizes),
        linear=0,
        largest=max(sizes),
        files=(source.path,),
        stored=common,
    )
