"""Loading a model: from its name to weights that are ready to be steered.

Order of work: find it, check everything that headers tell (in under a second, before torch is imported),
fingerprint the files, refuse what cannot fit, read the tokenizer, then the weights straight onto the device.

``dtype="auto"`` means the checkpoint's own on CUDA and float32 on a CPU, where float32 is exact: a row's tokens do not
depend on the rows beside it. Ask for bfloat16 there to save memory and, on a processor that multiplies it, time: on a
0.5B model, on cores that have AVX512_BF16, it took 0.57 times as long for one row and 0.53 for 32.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.models import memory
from labtui_kernels.models.checkpoint import Checkpoint, inspect
from labtui_kernels.models.families import Family, VisionFamily
from labtui_kernels.models.hashing import weight_hash
from labtui_kernels.models.imagetokens import image_token
from labtui_kernels.models.info import ModelInfo
from labtui_kernels.models.processor import ProcessorSettings
from labtui_kernels.models.progress import Progress, Steps, silent, watch_tensors
from labtui_kernels.models.source import Source, locate
from labtui_kernels.models.videosettings import VideoSettings

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTISATIONS = ("4bit", "8bit")


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready: in evaluation mode without gradients, with its tokenizer and its adapter.

    ``processor`` and ``videos`` say how pictures and videos are prepared; None for text models, and where nothing but the
    family's defaults is known.
    """

    model: Any
    tokenizer: Any
    family: Family
    info: ModelInfo
    device: torch.device
    processor: ProcessorSettings | None = None
    videos: VideoSettings | None = None


def load(
    source: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    quantize: str | None = None,
    progress: Progress = silent,
) -> LoadedModel:
    """Load ``source``: a bundled name, a local folder, a Hub id, or a ``.gguf`` file.

    ``dtype`` is ``auto, float32, bfloat16`` or ``float16``; ``device`` is ``auto, cpu, cuda`` or ``cuda:N``;
    ``quantize`` is ``4bit`` (NF4), ``8bit`` or None. ``progress`` follows the phases ``downloading`` (Hub ids
    that are not cached), ``reading``, ``hashing``, ``weights``, ``moving``.

    Every refusal is one line: UsageError for what the caller can change (no such model, an unknown
    architecture, no such device, does not fit), BadFile for damaged files.
    """
    _check_words(dtype, device, quantize)
    steps = Steps(progress)
    found = locate(source, report=steps.downloading)
    with steps.phase("reading") as report:
        checkpoint = inspect(found)
        _check_quantise(checkpoint, quantize)
        target = pick_device(device)
        chosen = pick_dtype(dtype, checkpoint, target)
        memory.require_fit(checkpoint, chosen, quantize, target)
        report(0.1)
        with _one_line(found, "its config.json"):
            _read_config(checkpoint)
        with _one_line(found, "its tokenizer"):
            tokenizer = _tokenizer(checkpoint)
    with steps.phase("hashing") as report:
        fingerprint = weight_hash(checkpoint.files, report)
    with steps.phase("weights") as report, _one_line(found, "its weights"), watch_tensors(report):
        model = _weights(checkpoint, chosen, target, quantize)
    with steps.phase("moving"):
        if quantize is None:
            model.to(target)
        model.eval().requires_grad_(False)
        if quantize is not None:
            _try(checkpoint, model, quantize)
        if target.type == "cpu":
            _pack(model)
    return _loaded(checkpoint, model, tokenizer, target, quantize, fingerprint)


def pick_device(device: str) -> torch.device:
    """The device that ``device`` names; ``auto`` is the first CUDA one, else the CPU."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    target = torch.device(device)
    if target.type == "cuda" and (target.index or 0) >= count:
        has = f"only {count} CUDA device(s)" if count else "no CUDA device"
        build = "" if torch.version.cuda else " (this torch is a CPU build)"
        raise UsageError(f"--device {device}: torch sees {has} here{build}; use --device cpu or auto")
    return torch.device("cuda", target.index or 0) if target.type == "cuda" else target


def pick_dtype(dtype: str, checkpoint: Checkpoint, device: torch.device) -> str:
    """What ``auto`` means for this checkpoint on this device; other names stand for themselves."""
    if dtype != "auto":
        return dtype
    if device.type == "cpu":
        return "float32"
    return checkpoint.dtype or "bfloat16"


def _check_words(dtype: str, device: str, quantize: str | None) -> None:
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    kind, _, index = device.partition(":")
    if device not in ("auto", "cpu", "cuda") and not (
        kind == "cuda" and index.isdecimal() and len(index) < 4
    ):
        raise UsageError(f"--device {device!r}: expected auto, cpu, cuda or cuda:N")
    if quantize is not None and quantize not in QUANTISATIONS:
        raise UsageError(f"--quantize {quantize!r}: expected one of {', '.join(QUANTISATIONS)}")


def _check_quantise(checkpoint: Checkpoint, quantize: str | None) -> None:
    if quantize is None:
        return
    if checkpoint.source.kind == "gguf":
        raise UsageError(
            f"--quantize {quantize}: a GGUF file is unpacked when loaded; quantise the original folder"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"--quantize {quantize} needs bitsandbytes: pip install 'labtui[kernel]'")


def _read_config(checkpoint: Checkpoint) -> None:
    """Let transformers judge the configuration first: a fault in it is not blamed on another file."""
    import transformers

    if checkpoint.source.kind == "folder":
        transformers.AutoConfig.from_pretrained(
            str(checkpoint.source.path), trust_remote_code=False, local_files_only=True
        )


def _tokenizer(checkpoint: Checkpoint) -> Any:
    import transformers

    folder, extra = _folder(checkpoint)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True, **extra
    )
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise BadFile(f"{checkpoint.source.text}: has no tokenizer.json; expected a Qwen tokenizer")
    return tokenizer


def _folder(checkpoint: Checkpoint) -> tuple[str, dict[str, Any]]:
    path = checkpoint.source.path
    return (
        (str(path.parent), {"gguf_file": path.name}) if checkpoint.source.kind == "gguf" else (str(path), {})
    )


def _weights(checkpoint: Checkpoint, dtype: str, device: torch.device, quantize: str | None) -> Any:
    """The model, its weights on ``device``. Nothing in the folder chooses code to run."""
    import torch
    import transformers

    folder, extra = _folder(checkpoint)
    if extra and hasattr(transformers, "GgufConfig"):
        extra["quantization_config"] = transformers.GgufConfig(dequantize=True)
    if quantize is not None:
        extra["quantization_config"] = _quantisation(checkpoint.family, quantize, dtype)
    if quantize is not None or device.type != "cpu":
        extra["device_map"] = {"": device}
    model_class = getattr(transformers, checkpoint.family.causal_class)
    model, report = model_class.from_pretrained(
        folder,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=None if "gguf_file" in extra else True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below, in one line
        **extra,
    )
    for name, stored, wanted in sorted(report["mismatched_keys"], key=str):
        raise BadFile(
            f"{checkpoint.source.text}: its {name} has shape {list(stored)}, but its configuration asks for "
            f"{list(wanted)}; the two do not belong together"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise BadFile(
            f"{checkpoint.source.text}: {len(missing)} weights are missing in its files, such as {missing[0]}"
        )
    return model


def _pack(model: Any) -> None:
    from labtui_kernels.models.packing import pack_linears

    pack_linears(model, memory.free_main_memory())


def _try(checkpoint: Checkpoint, model: Any, quantize: str) -> None:
    """One token through a quantised model: some widths load but do not run, which only running tells.

    On a CPU bitsandbytes repacks 4-bit weights during the first forward, so that parameters are settled after
    this.
    """
    import torch

    # 8-bit layers compute in float16 and would say so at every one of their calls.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        with torch.inference_mode():
            model(torch.zeros((1, 1), dtype=torch.long, device=model.device))
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"--quantize {quantize}: bitsandbytes cannot run the layer widths of {checkpoint.source.text} "
            f"on this device ({reason}); load it without --quantize"
        ) from error


def _quantisation(family: Family, quantize: str, dtype: str) -> Any:
    import torch
    import transformers

    # Naming any module drops the default (the head), so the list is complete.
    whole = list(family.unquantised)
    if quantize == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=whole,
    )


@contextmanager
def _one_line(source: Source, what: str) -> Iterator[None]:
    """Turn whatever transformers raises over hostile or damaged files into one line."""
    import torch

    try:
        yield
    except LabError:
        raise
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{source.text}: ran out of GPU memory while loading; use --quantize 4bit or a smaller model"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFile(
            f"{source.text}: {what} could not be read ({type(error).__name__}: {reason}); fetch it again"
        ) from error


def _loaded(
    checkpoint: Checkpoint,
    model: Any,
    tokenizer: Any,
    device: torch.device,
    quantize: str | None,
    fingerprint: str,
) -> LoadedModel:
    from labtui_kernels.models.describe import describe

    with _one_line(checkpoint.source, "its settings"):
        info = describe(
            model,
            tokenizer,
            checkpoint.family,
            source=checkpoint.source.text,
            name=checkpoint.name,
            quantisation="nf4" if quantize == "4bit" else "int8" if quantize else None,
            weight_hash=fingerprint,
            revision=checkpoint.source.revision,
        )
    if info.vocab < len(tokenizer):
        raise BadFile(
            f"{checkpoint.source.text}: its tokenizer has {len(tokenizer)} tokens, its embedding "
            f"{info.vocab}; the two do not belong together"
        )
    _check_image_token(checkpoint, model, tokenizer)
    info = replace(info, device=str(device))
    return LoadedModel(
        model, tokenizer, checkpoint.family, info, device, checkpoint.processor, checkpoint.videos
    )


def _check_image_token(checkpoint: Checkpoint, model: Any, tokenizer: Any) -> None:
    """The tokenizer's image token must be the one that the model puts image features on, where it has one."""
    if not isinstance(checkpoint.family, VisionFamily):
        return
    try:
        token, found = image_token(tokenizer)
    except UsageError:
        return  # said when a prompt has a picture: text can be asked without
    wanted = checkpoint.family.image_token(model.config)
    if found != wanted:
        raise BadFile(
            f"{checkpoint.source.text}: its tokenizer has {token} as token {found}, its config.json says {wanted}; "
            "the two do not belong together"
        )
