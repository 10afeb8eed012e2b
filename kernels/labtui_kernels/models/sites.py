"""The sites of a model as a table: what ``labtui model show`` prints. Torch-free."""

from __future__ import annotations

from labtui_kernels.lang.sites import all_sites, other_names, site_width
from labtui_kernels.models.info import ModelInfo


def site_table(info: ModelInfo) -> list[dict[str, object]]:
    """One row a site, in the order of a forward pass.

    ``site`` is the lab's name, ``width`` its last axis, ``shape`` the activation's axes, and ``also`` what
    other tools call the same tensor (``{"transformers": "hidden_states[15]"}``).
    """
    shape = info.shape
    return [
        {
            "site": str(site),
            "width": site_width(site, shape),
            "shape": f"[positions, {site_width(site, shape)}]",
            "also": other_names(site, shape),
        }
        for site in all_sites(shape)
    ]
