"""Whether a direction that was fitted on one model may be used on another. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from labtui_kernels.models.info import ModelInfo

Match = Literal["same", "precision", "width", "no"]


def compatibility(meta: Mapping[str, Any], info: ModelInfo) -> Match:
    """How the model that a direction was fitted on relates to the model at hand.

    ``meta`` is the direction's metadata, with the fingerprint under ``model``, or the fingerprint itself.

    - ``"same"``: the same weights in the same precision.
    - ``"precision"``: the same weights, or the same revision of the same Hub model, held in another dtype
      or quantisation; use it with a warning.
    - ``"width"``: another model whose residual stream is as wide; use it only when forced, and say so.
    - ``"no"``: another width, or no fingerprint to tell by.

    A GGUF file and the folder it was made from have different hashes and cannot be recognised as one:
    ``"width"``.
    """
    fingerprint = meta.get("model", meta)
    if not isinstance(fingerprint, Mapping) or fingerprint.get("width") != info.width:
        return "no"
    here = info.to_dict()

    def agree(*names: str) -> bool:
        return all(fingerprint.get(name) == here[name] for name in names)

    weights = bool(here["weight_hash"]) and agree("weight_hash")
    revision = bool(here["revision"]) and agree("name", "revision")
    if not (weights or revision) or not agree("family", "blocks"):
        return "width"
    return "same" if weights and agree("dtype", "quantisation") else "precision"


def warning(match: Match, meta: Mapping[str, Any], info: ModelInfo) -> str:
    """One line for the user about a match that is not ``"same"``; empty for ``"same"``."""
    fingerprint = meta.get("model", meta)
    theirs = fingerprint if isinstance(fingerprint, Mapping) else {}
    name = str(theirs.get("name", "an unknown model"))[:80]
    held = _precision(theirs.get("dtype"), theirs.get("quantisation"))
    here = _precision(info.dtype, info.quantisation)
    other = f"{name}, not on {info.name}"
    if name == info.name:
        hashes = str(theirs.get("weight_hash") or "?")[:12], (info.weight_hash or "?")[:12]
        other = f"other weights that are called {name} too ({hashes[0]}; here {hashes[1]})"
    return {
        "same": "",
        "precision": f"fitted on the same model in another precision ({held}; here {here})",
        "width": f"fitted on {other}: their spaces have the same width but need not agree",
        "no": f"fitted on {name} of width {theirs.get('width', '?')}; {info.name} has width {info.width}",
    }[match]


def _precision(dtype: object, quantisation: object) -> str:
    return f"{str(dtype or '?')[:20]}, {str(quantisation)[:20]}" if quantisation else str(dtype or "?")[:20]
