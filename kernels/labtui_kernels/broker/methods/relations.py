"""How stored directions relate: cosines, from the files alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.broker.methods.artifacts import store
from labtui_kernels.broker.methods.registry import Params, method

if TYPE_CHECKING:
    import numpy as np

    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

MOST = 32


class Cosine(Params):
    """``names`` of directions; ``site``: one site, or every site that two of them share."""

    names: list[str]
    site: str | None = None


@method("cosine", Cosine)
async def cosine(broker: Broker, client: Client, params: Cosine) -> dict[str, Any]:
    """Cosines between directions: ``names, site, matrix``; an entry is a mean over shared sites.

    An entry is None where two share no site of one width, or a vector there is zero.
    """
    if not 2 <= len(params.names) <= MOST:
        raise UsageError(f"cosine: {len(params.names)} names; expected 2 to {MOST} directions")
    return await asyncio.to_thread(_table, params.names, params.site)


def _table(names: list[str], site: str | None) -> dict[str, Any]:
    import numpy as np  # here, because a kernel answers before it has numpy

    from labtui_artifacts.kinds.direction import DirectionFile

    vectors = []
    for name in names:
        file = DirectionFile.open(store().path(name), name)
        sites = file.sites if site is None else (site,)
        vectors.append({place: file.vector(place).astype(np.float64) for place in sites})
    matrix = [[_mean_cosine(one, other) for other in vectors] for one in vectors]
    shared = set.intersection(*(set(v) for v in vectors))
    return {"names": names, "site": site or f"mean of {len(shared)} sites", "matrix": matrix}


def _mean_cosine(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float | None:
    import numpy as np

    found = []
    for place, a in one.items():
        b = other.get(place)
        if b is None or a.shape != b.shape:
            continue
        scale = float(np.linalg.norm(a) * np.linalg.norm(b))
        if scale > 0:
            found.append(float(a @ b) / scale)
    return sum(found) / len(found) if found else None
