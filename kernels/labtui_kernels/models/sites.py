"""The sites of a model as a table: what ``labtui model show`` prints. Torch-free."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import (
    ALIASES,
    Site,
    alias_note,
    all_sites,
    other_names,
    parse_site,
    site_width,
)


def site_table(shape: ModelShape, windowed: Collection[int] = ()) -> list[dict[str, Any]]:
    """One row a site, in the order of a forward pass.

    ``site`` is the lab's name, ``width`` its last axis, ``shape`` the activation's axes, ``also`` what other tools call
    the same tensor (``{"transformers": "hidden_states[15]"}``), and ``note`` what sets it apart: the kind of attention of a
    tower block (``windowed`` are those that see windows only), and where DeepStack adds image features.
    """
    return [
        {
            "site": str(site),
            "width": site_width(site, shape),
            "shape": f"[{_axis(site)}, {site_width(site, shape)}]",
            "also": other_names(site, shape),
            "note": _note(site, shape, windowed),
        }
        for site in all_sites(shape)
    ]


def alias_table(shape: ModelShape, windowed: Collection[int] = ()) -> list[dict[str, Any]]:
    """The extraction points E1 to E8 of the information study in this model: ``alias, site, note``; none without a tower."""
    if not shape.vision_blocks:
        return []
    rows: list[dict[str, Any]] = []
    for name in ALIASES:
        site = parse_site(name, shape)
        attention = f", {attention_of(site, windowed)}" if attention_of(site, windowed) else ""
        rows.append({"alias": name, "site": str(site), "note": alias_note(name, shape) + attention})
    return rows


def attention_of(site: Site, windowed: Collection[int]) -> str:
    """``full attention`` or ``window attention`` for a block of a tower, else ``""``."""
    if site.tower != "vision" or site.block is None:
        return ""
    return "window attention" if site.block in windowed else "full attention"


def _axis(site: Site) -> str:
    if site.tower == "llm":
        return "positions"
    return "merged patches" if site.point == "merged" else "patches"


def _note(site: Site, shape: ModelShape, windowed: Collection[int]) -> str:
    if site.tower == "llm" and site.point == "in" and site.block and site.block <= shape.deepstack:
        return f"llm.{site.block - 1}.out with DeepStack features added at image positions"
    if site.point == "premerge":
        return f"the output of vision.{shape.vision_blocks - 1}, as the merger receives it"
    return attention_of(site, windowed)
