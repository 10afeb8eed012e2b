"""Whether a direction that was fitted on one model may be used on another. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from labtui_kernels.models.info import ModelInfo

Match = Literal["same", "precision", "width", "no"]


def compatibility(meta: Mapping[str, Any], info: ModelInfo, sites: Iterable[str] = ()) -> Match:
    """How the model that a direction was fitted on relates to the model at hand.

    ``meta`` is the direction's metadata, with the fingerprint under ``model``, or the fingerprint itself. ``sites`` are
    those that it has vectors at (none given: sites of the decoder); what counts is how wide both models are there.

    - ``"same"``: the same weights in the same precision.
    - ``"precision"``: the same weights, or the same revision of the same Hub model, held in another dtype
      or quantisation; use it with a warning.
    - ``"width"``: another model that is as wide at some of the sites; use it only when forced, and say so.
    - ``"no"``: another width at all of them, or no fingerprint to tell by.

    A GGUF file and the folder it was made from have different hashes and cannot be recognised as one:
    ``"width"``.
    """
    fingerprint = meta.get("model", meta)
    if not isinstance(fingerprint, Mapping):
        return "no"
    here = info.to_dict()
    if not any(here[key] and fingerprint.get(key) == here[key] for key in _widths(sites)):
        return "no"

    def agree(*names: str) -> bool:
        return all(fingerprint.get(name) == here[name] for name in names)

    weights = bool(here["weight_hash"]) and agree("weight_hash")
    revision = bool(here["revision"]) and agree("name", "revision")
    if not (weights or revision) or not agree("family", "blocks"):
        return "width"
    return "same" if weights and agree("dtype", "quantisation") else "precision"


def warning(match: Match, meta: Mapping[str, Any], info: ModelInfo, sites: Iterable[str] = ()) -> str:
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
    widths = {key: (theirs.get(key) or "?", getattr(info, key)) for key in _widths(sites)}
    of = " and ".join(f"{_WIDTHS[key]} {there}" for key, (there, _) in widths.items())
    has = " and ".join(
        f"{_WIDTHS[key]} {ours}" if ours else "no vision tower" for key, (_, ours) in widths.items()
    )
    return {
        "same": "",
        "precision": f"fitted on the same model in another precision ({held}; here {here})",
        "width": f"fitted on {other}: their spaces have the same width but need not agree",
        "no": f"fitted on {name} of {of}; {info.name} has {has}",
    }[match]


_WIDTHS = {"width": "width", "vision_width": "tower width"}


def _widths(sites: Iterable[str]) -> list[str]:
    """Which widths of a model count at these sites. (What the merger gives is as wide as the decoder.)"""
    tower = [site.startswith("vision.") and site != "vision.merged" for site in sites] or [False]
    return [key for key, there in (("width", not all(tower)), ("vision_width", any(tower))) if there]


def _precision(dtype: object, quantisation: object) -> str:
    return f"{str(dtype or '?')[:20]}, {str(quantisation)[:20]}" if quantisation else str(dtype or "?")[:20]
