"""The paired sign-flip permutation test, with the maximum over the grid for the family-wise p.

Were a steered answer no different from the unsteered one, the two could change places: the difference of a
prompt would be as likely with the other sign. So the signs of the prompts are flipped, each prompt's in all
cells together, which keeps how the cells go along with each other. A cell's statistic is the self-normalised
sum z = |sum d| / sqrt(sum d^2): it orders the flips as t does (t^2 = z^2 (n-1) / (n - z^2)), but has variance
1 under the flips whatever the number of prompts, and no poles where all differences are equal, so that no cell
of few prompts rules the maximum. p = share of flips whose z, or whose maximum over the cells, is at least the
one seen (Westfall & Young 1993); a sample of flips counts the one seen, (1 + hits) / (1 + draws).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

EXACT_PROMPTS = 14
"""Up to so many prompts all 2^n sign patterns are used."""
DRAWS = 9_999
SEED = 20_250_601
_BLOCK = 2_000_000  # numbers in one block of flipped sums
_SLACK = 1e-9  # ties that rounding has parted still count


@dataclass(frozen=True)
class Flips:
    """p values by cell, NaN where a cell has no differences."""

    p: Array
    """Two-sided, of each cell by itself."""
    p_family: Array
    """Two-sided, against the largest z of the whole grid."""
    exact: bool
    flips: int


def sign_flips(gaps: Array, *, draws: int = DRAWS, seed: int = SEED) -> Flips:
    """Test every row of ``gaps`` [cells, prompts]; NaN where a prompt has no difference in a cell."""
    there = np.isfinite(gaps)
    used = there.any(axis=0)
    known = np.where(there, gaps, 0.0)[:, used]
    norm = np.sqrt((known**2).sum(axis=1))
    unit = np.divide(known, norm[:, None], out=np.zeros_like(known), where=norm[:, None] > 0)
    seen = np.abs(unit.sum(axis=1))
    prompts = known.shape[1]
    exact = prompts <= EXACT_PROMPTS
    count = 2 ** max(0, prompts - 1) if exact else draws
    single, family = np.zeros(len(gaps)), np.zeros(len(gaps))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(1, len(gaps)))
    for start in range(0, count, block):
        size = min(block, count - start)
        signs = _all(start, size, prompts) if exact else generator.choice((-1.0, 1.0), (size, prompts))
        sums = np.abs(signs @ unit.T)
        single += (sums >= seen - _SLACK).sum(axis=0)
        largest = np.sort(sums.max(axis=1)) if len(gaps) else np.zeros(size)
        family += size - np.searchsorted(largest, seen - _SLACK, side="left")
    extra = 0 if exact else 1
    absent = ~there.any(axis=1)
    p, p_family = ((hits + extra) / (count + extra) for hits in (single, family))
    p[absent] = p_family[absent] = np.nan
    return Flips(p, p_family, exact, count)


def _all(start: int, size: int, prompts: int) -> Array:
    """Sign patterns ``start``, ``start + 1``, ... of those with + first; the others are their mirror images."""
    bits = np.arange(start, start + size)[:, None] >> np.arange(max(1, prompts))[None, :]
    return np.where(bits & 1, -1.0, 1.0)[:, :prompts]
