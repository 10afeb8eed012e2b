"""Random directions that are the same everywhere: controls must be repeatable on any machine."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def random_direction(seed: int, width: int, *, norm: float = 1.0, stream: object = "") -> Tensor:
    """A float32 vector ``[width]`` of norm ``norm``, uniform on the sphere.

    ``stream`` tells draws of one seed apart (a site's name, a number). Bits come from Philox (a counter-based
    generator whose output is fixed by its definition), normals from the Box-Muller transform in float64,
    rounded to float32 at the end: processors and library versions agree but for the rarest last bit.
    """
    key = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=16).digest()
    pairs = (width + 1) // 2
    bits = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(2 * pairs)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(uniform[:pairs])), 2.0 * np.pi * uniform[pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:width]
    vector = torch.from_numpy(normal)
    return (vector * (norm / vector.norm())).float()
