"""How far fast products of unit vectors can be from their cosines: bounds, not guesses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ..models.packing import multiplies

SINGLE = 2.0**-24
_UNIT = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: SINGLE}
"""Half the distance of neighbouring numbers, relative to them, by dtype."""
_TINY = {torch.bfloat16: 1e-37, torch.float16: 2.0**-24, torch.float32: 1e-37}
"""What numbers near zero may be off by."""


@dataclass(frozen=True, eq=False)
class Queries:
    """Some queries, ready for a product: unit vectors, rounded; ``numbers`` [q, 2] are residual and length of each."""

    lines: np.ndarray
    rows: torch.Tensor
    exact: torch.Tensor
    numbers: np.ndarray
    packed: torch.Tensor | None = (
        None  # the rows as oneDNN likes them, where it is faster than torch's own product
    )

    def products(self, rows: torch.Tensor) -> torch.Tensor:
        """Of ``rows`` [n, d] with the queries: [n, q]."""
        with full_sums(), torch.inference_mode():
            if self.packed is None:
                return rows @ self.rows.T
            return torch.ops.mkldnn._linear_pointwise(rows, self.packed, None, "none", [], "")

    def fine(self, device: torch.device) -> Queries:
        """The same in float32."""
        if self.rows.dtype == torch.float32:
            return self
        return Queries.of(self.lines, self.exact, torch.float32, device)

    @classmethod
    def of(cls, lines: np.ndarray, exact: torch.Tensor, dtype: torch.dtype, device: torch.device) -> Queries:
        """Queries ``exact`` float64 [q, d] of length 1 (or 0), rounded."""
        rounded = exact.to(dtype)
        held = rounded.double()
        numbers = np.stack(
            [(held - exact).square().sum(1).sqrt().numpy(), held.square().sum(1).sqrt().numpy()], axis=1
        )
        rows, packed = rounded.to(device), None
        if device.type == "cpu" and dtype == torch.float32 and len(lines) >= 16 and multiplies(dtype):
            packed = torch.ops.mkldnn._reorder_linear_weight(rows)
        return cls(lines, rows, exact, numbers * 1.001 + 1e-12, packed)


@dataclass(frozen=True, eq=False)
class Bound:
    """How far the products of some queries with a block can be from the cosines less ``base``, which is q.c.

    |product - true| <= residual(q) * length(x) + length(q) * residual(x), by Cauchy-Schwarz, + what summing d
    products in float32 can lose (d roundings of at most length * length, taken four times over for fused and
    reordered sums) + the rounding of the result, relative to itself.
    """

    base: np.ndarray
    residual: float
    length: float
    dtype: torch.dtype
    width: int

    @classmethod
    def of(
        cls, dtype: torch.dtype, query: Queries, offset: torch.Tensor, residual: float, length: float
    ) -> Bound:
        return cls((query.exact @ offset).numpy(), residual, length, dtype, query.exact.shape[1])

    def _fixed(self, numbers: np.ndarray) -> np.ndarray:
        residual, length = numbers[..., 0], numbers[..., 1]
        rounding = residual * self.length + length * self.residual
        summing = 4 * (self.width + 8) * SINGLE * length * (self.length + self.residual)
        # The exact score is itself rounded to float32: cosines are at most 1.
        return rounding + summing + self.width * _TINY[self.dtype] + 4 * SINGLE

    def upper(self, products: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """No cosine less ``base`` of such a product is larger."""
        return products + np.abs(products) * _UNIT[self.dtype] * 1.01 + self._fixed(numbers)

    def lower(self, products: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """No cosine less ``base`` of such a product is smaller."""
        return products - np.abs(products) * _UNIT[self.dtype] * 1.01 - self._fixed(numbers)

    def cut(self, least: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Products below this have a cosine less ``base`` below ``least``."""
        wanted = least - self._fixed(numbers)
        unit = _UNIT[self.dtype] * 1.01
        return np.where(wanted >= 0, wanted / (1 + unit), wanted / (1 - unit))


@contextmanager
def full_sums() -> Iterator[None]:
    """Matrix products that keep float32 sums, whatever the process allows elsewhere."""
    flags = torch.backends.cuda.matmul
    kept = torch.get_float32_matmul_precision(), flags.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    flags.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(kept[0])
        flags.allow_fp16_reduced_precision_reduction = kept[1]


def fast_dtype(device: torch.device) -> torch.dtype:
    """The dtype of the products that choose, on this device."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def at_most(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """``values`` in ``dtype``, rounded down."""
    exact = torch.from_numpy(np.asarray(values, dtype=np.float64))
    rounded = exact.to(dtype)
    below = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.double() > exact, below, rounded)
