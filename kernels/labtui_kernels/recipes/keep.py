"""Keeping a direction: its artifact, and the refusal to overwrite another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds import direction

from ..lang.sites import Site
from ..specs import Spec, to_dict
from .context import JobContext
from .norms import known

KIND = "direction"


def check_free(ctx: JobContext, name: str, replace: bool) -> None:
    """Raise UsageError when ``name`` is taken, unless by this very job, which may have been interrupted."""
    if replace or name not in ctx.store:
        return
    if ctx.store.get(name).meta.get("job") == ctx.job:
        return
    raise UsageError(
        f"there is an artifact named {name!r} already; choose another name, or set replace = true"
    )


def finite(value: float | None) -> float | None:
    """``value``, or None where it is no finite number (JSON has no NaN)."""
    return value if value is not None and math.isfinite(value) else None


def keep(
    ctx: JobContext,
    name: str,
    vectors: Mapping[Site, torch.Tensor],
    spec: Spec,
    meta: Mapping[str, Any],
    references: Mapping[Site, tuple[float | None, float | None]] | None = None,
    shuffled: Mapping[Site, torch.Tensor] | None = None,
) -> None:
    """Save float32 vectors by site as a direction, with the reference norms and where it all came from.

    ``shuffled``: site to [count, d], the same pipeline with permuted labels.
    """
    found = {site: (norms.median, norms.mean) for site, norms in known(ctx).items()}
    found |= dict(references or {})
    tensors, made = direction.build(
        {str(site): vector.numpy() for site, vector in vectors.items()},
        references={str(site): found[site] for site in vectors if site in found},
        shuffled={str(site): nulls.numpy() for site, nulls in (shuffled or {}).items()},
        meta={
            "name": name,
            **meta,
            "model": ctx.loaded.info.to_dict(),
            "spec": to_dict(spec),
            "job": ctx.job,
            "versions": {package: version(package) for package in ("torch", "transformers")},
        },
    )
    ctx.save_artifact(name, KIND, tensors, made)
