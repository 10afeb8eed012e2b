"""Questions about the loaded model."""

from __future__ import annotations

from dataclasses import asdict as plain
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from labtui_artifacts.errors import LabError
from labtui_kernels.broker.methods.registry import Params, method

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker


class Tokens(Params):
    """What to render: chat messages, the thinking switch, the beginning of the answer, and the bounds of pictures."""

    messages: list[dict[str, Any]]
    thinking: bool | None = None
    prefill: str = ""
    min_pixels: int | None = None
    max_pixels: int | None = None
    fps: float | None = None
    max_frames: int | None = None


@method("tokens", Tokens)
async def tokens(broker: Broker, client: Client, params: Tokens) -> dict[str, Any]:
    """The prompt as the model gets it: ``ids, pieces, content, text``, and ``images``, where its pictures lie."""
    return await broker.keeper.ask("tokens", asdict(params))


@method("sites")
async def sites(broker: Broker, client: Client, params: Params) -> dict[str, Any]:
    """The model's sites: ``shape``, and for each its ``site``, ``width`` and what others call it."""
    from labtui_kernels.lang.sites import all_sites, other_names, site_width

    shape = broker.keeper.shape
    if shape is None:
        raise LabError(f"the model is not loaded yet: the kernel is {broker.state} ({broker.detail})")
    rows = [
        {"site": str(site), "short": site.short, "width": site_width(site, shape), **other_names(site, shape)}
        for site in all_sites(shape)
    ]
    return {"shape": plain(shape), "sites": rows, "model": broker.keeper.info}
