"""The k vectors with the largest cosine to each query, exactly: fast products choose, exact ones decide.

Cosines of a block of vectors come from one matrix product in half precision where the device is fast at that
(bfloat16 on CPUs with AVX512_BF16 or AMX, float16 on CUDA), else in float32. How far such a number can be from the
true cosine is bounded, not guessed: by Cauchy-Schwarz, with the rounding residuals of the very vectors at hand, the
error of summing d products and that of the result's own format. Whatever the bound does not rule out is scored
again, and only these scores count. So recall is 1 by construction, ties included.

With queries q and vectors x the score is the cosine of q and x - m as float32 has it (m the part's mean when
centred, else 0), with sums in float64, rounded to float32. A vector of length 0 has cosine 0 with everything. Equal
scores go by the vector's number.

Half precision is relative, and hidden states of one layer share a large common direction: with c a mean unit vector
of the block, q.x = q.c + q.(x - c), where only the second, small, product is done in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from labtui_artifacts.errors import BadFile, UsageError

from .bounds import SINGLE, Bound, Queries, at_most, fast_dtype

BLOCK = 8192
"""Vectors of one matrix product."""
QUERIES = 512
"""Queries of one matrix product."""
PREPARE = 1024
"""Vectors prepared at a time, so that they stay in the processor's cache."""
GROUP = 64
"""Products of one query that are looked at together."""
RESCORE = 2048
"""Pairs scored exactly at a time."""
MAX_K = 1024
SAMPLE = 8192
"""Vectors over all parts that a search looks at first."""
SKIP = 32
"""At most so many blocks go to float32 at once after one where half precision ruled too little out."""
FEW = 256
"""Exact scores of more than one in so many pairs of a block cost more than a product in float32."""
_SAMPLE = 1024


@dataclass(frozen=True, eq=False)
class Part:
    """Vectors that are centred alike: ``vectors`` float16 or float32 [n, d], ``mean`` float32 [d] or None for raw."""

    vectors: np.ndarray
    mean: np.ndarray | None = None
    what: str = "vectors"


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest vectors of each query: their numbers int64 [q, k] and cosines float32 [q, k], best first.

    Where there are fewer than k vectors the rest is number -1 and cosine NaN.
    """

    numbers: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class _Block:
    """Some vectors of a part, ready for a product: ``rows`` is x/|x| - c, rounded; errors hold for each of them."""

    part: int
    start: int
    stop: int
    rows: torch.Tensor
    offset: torch.Tensor  # c, float64 [d]
    residual: float  # largest |rounded - exact|
    length: float  # largest |exact|


class Searcher:
    """Exact nearest neighbours by cosine among the vectors of ``parts``, which count from 0 through all of them."""

    def __init__(
        self,
        parts: Sequence[Part],
        device: torch.device | str = "cpu",
        *,
        dtype: torch.dtype | None = None,
        keep: int = 0,
        block: int = BLOCK,
    ) -> None:
        """``keep``: bytes that prepared vectors may take on the device; where they need more, each search prepares
        them anew. ``dtype``: of the products that choose (default: what the device is fast at)."""
        widths = {part.vectors.shape[1] for part in parts}
        if len(widths) != 1 or not sum(len(part.vectors) for part in parts):
            raise UsageError("neighbours: nothing to search in; expected vectors of one width")
        self.parts, self.device = list(parts), torch.device(device)
        (self.width,) = widths
        self.dtype = dtype or fast_dtype(self.device)
        self.firsts = np.cumsum([0, *(len(part.vectors) for part in parts)])
        self._block = block
        size = int(self.firsts[-1]) * self.width * self.dtype.itemsize
        self._kept: list[_Block] | None = [] if size <= keep else None
        self._ready = False
        self._skip, self._pause = 0, 1  # blocks for which half precision is not asked

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return int(self.firsts[-1])

    @property
    def blocks(self) -> int:
        """How many steps a search has."""
        return sum(-(-len(part.vectors) // self._block) for part in self.parts)

    def prepare(self) -> None:
        """Prepare all vectors now, where they may be kept; else nothing."""
        if self._kept is not None and not self._ready:
            for _ in self._blocks():
                pass

    def search(self, queries: torch.Tensor, k: int) -> Hits:
        """The ``k`` nearest vectors of each of ``queries``, float [q, d] (centred by the caller where parts are)."""
        found = _Best(queries, k, self.width)
        for _ in self.search_parts(found):
            pass
        return found.hits()

    def search_parts(self, found: _Best) -> Iterator[int]:
        """The search in bounded steps: yields the number of steps done; ``found.hits()`` has the result."""
        scaled = found.prepared(self.dtype, self.device)
        if self.blocks > 1:
            self._set_floors(found, scaled)
        for done, block in enumerate(self._blocks(), 1):
            for query in scaled:
                self._look(block, query, found)
            self._skip -= 1
            yield done

    def begin(self, queries: torch.Tensor, k: int) -> _Best:
        """What :meth:`search_parts` works on."""
        return _Best(queries, k, self.width)

    def _blocks(self) -> Iterator[_Block]:
        if self._kept is not None and self._ready:
            yield from self._kept
            return
        made: list[_Block] = []
        for number, part in enumerate(self.parts):
            offset: torch.Tensor | None = None
            for start in range(0, len(part.vectors), self._block):
                stop = min(start + self._block, len(part.vectors))
                if offset is None:
                    offset = self._offset(part)
                block = self._prepare(number, part, start, stop, offset)
                if self._kept is not None:
                    made.append(block)
                yield block
        if self._kept is not None:
            self._kept, self._ready = made, True

    def _offset(self, part: Part) -> torch.Tensor:
        """A mean direction of some of the part's vectors, float64 [d]: any vector will do for the bounds."""
        chosen = np.unique(np.linspace(0, len(part.vectors) - 1, _SAMPLE).round().astype(np.int64))
        rows = _float32(part, chosen)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
        # Of so few bits that float32 and float64 agree on it.
        return rows.mean(0).to(torch.bfloat16).to(torch.float64)

    def _prepare(self, number: int, part: Part, start: int, stop: int, offset: torch.Tensor) -> _Block:
        rows = torch.empty(stop - start, self.width, dtype=self.dtype)
        residual = length = 0.0
        shift = offset.float()
        for low in range(start, stop, PREPARE):
            exact = _units(part, low, min(low + PREPARE, stop)).sub_(shift)
            rounded = rows[low - start : low - start + len(exact)]
            rounded.copy_(exact)
            length = max(length, float(torch.linalg.vector_norm(exact, dim=1).max()))
            if self.dtype != torch.float32:
                residual = max(residual, float(torch.linalg.vector_norm(exact.sub_(rounded), dim=1).max()))
        residual, length = residual * 1.001 + self._slack, length * 1.001 + self._slack
        return _Block(number, start, stop, rows.to(self.device), offset, residual, length)

    @property
    def _slack(self) -> float:
        """What float32 rounds on the way to a unit vector: its length (sums of some lanes), the shift, the norms."""
        return (self.width / 8 + 16) * SINGLE

    def _look(self, block: _Block, query: Queries, found: _Best) -> None:
        """Score exactly whatever may be among the best, and take note."""
        pairs: np.ndarray | None = None
        if self.dtype == torch.float32 or self._skip <= 0:
            rough = query.products(block.rows)
            bound = Bound.of(self.dtype, query, block.offset, block.residual, block.length)
            # Where vectors crowd, half precision rules little out: then float32 is asked, for some blocks at once.
            pairs = _survivors(rough, bound, query, found, few=self.dtype != torch.float32)
            self._pause = 1 if pairs is not None else min(2 * self._pause, SKIP)
            if pairs is None:
                self._skip = self._pause
        if pairs is None:
            pairs = self._look_closely(block, query, found)
        self._score(block, query, found, pairs)

    def _look_closely(self, block: _Block, query: Queries, found: _Best) -> np.ndarray:
        """Line and column of what a product in float32 does not rule out."""
        exact = self._exact(self.parts[block.part], np.arange(block.start, block.stop), block.offset)
        fine = query.fine(self.device)
        pairs = _survivors(fine.products(exact), self._fine_bound(fine, block.offset, exact), fine, found)
        assert pairs is not None
        return pairs

    def _exact(self, part: Part, lines: np.ndarray, offset: torch.Tensor) -> torch.Tensor:
        """x/|x| - c at these lines of a part as float32 has them, on the device."""
        rows = torch.empty(len(lines), self.width)
        for low in range(0, len(lines), PREPARE):
            piece = lines[low : low + PREPARE]
            rows[low : low + len(piece)] = _units(part, piece).sub_(offset.float())
        return rows.to(self.device)

    def _fine_bound(self, fine: Queries, offset: torch.Tensor, exact: torch.Tensor) -> Bound:
        length = float(torch.linalg.vector_norm(exact, dim=1).max()) * 1.001 + self._slack
        return Bound.of(torch.float32, fine, offset, self._slack, length)

    def _set_floors(self, found: _Best, scaled: Sequence[Queries]) -> None:
        """Scores that the best k surely reach, from some vectors of every part: they spare exact scores later."""
        each = max(16, min(SAMPLE, self.count // 32) // len(self.parts))
        for query in scaled:
            fine = query.fine(self.device)
            reached: list[np.ndarray] = []
            for part in self.parts:
                if not len(part.vectors):
                    continue
                lines = np.unique(np.linspace(0, len(part.vectors) - 1, each).round().astype(np.int64))
                none = torch.zeros(self.width, dtype=torch.float64)
                exact = self._exact(part, lines, none)
                rough = fine.products(exact).T.cpu().numpy().astype(np.float64)
                bound = self._fine_bound(fine, none, exact)
                low = bound.lower(rough, fine.numbers[:, None])
                reached.append(np.sort(low, axis=1)[:, -found.k :])
            every = np.concatenate(reached, axis=1)
            if every.shape[1] >= found.k:
                found.floor[query.lines] = np.sort(every, axis=1)[:, -found.k]

    def _score(self, block: _Block, query: Queries, found: _Best, pairs: np.ndarray) -> None:
        part, first = self.parts[block.part], int(self.firsts[block.part]) + block.start
        for low in range(0, pairs.shape[1], RESCORE):
            lines, columns = pairs[:, low : low + RESCORE]
            rows = _float32(part, columns + block.start).double()
            own = found.units[query.lines[lines]]
            lengths = torch.linalg.vector_norm(rows, dim=1)
            scores = (rows * own).sum(1) / torch.where(lengths > 0, lengths, 1.0)
            found.take(query.lines[lines], columns + first, scores.float().numpy())


class _Best:
    """The best so far of every query."""

    def __init__(self, queries: torch.Tensor, k: int, width: int) -> None:
        if queries.ndim != 2 or queries.shape[1] != width:
            raise UsageError(f"neighbours: queries have shape {tuple(queries.shape)}, expected [q, {width}]")
        if not 1 <= k <= MAX_K:
            raise UsageError(f"neighbours: k is {k}; expected 1 to {MAX_K}")
        exact = queries.detach().cpu().float().double()
        if not bool(torch.isfinite(exact).all()):
            raise UsageError("neighbours: the queries hold NaN or infinity")
        lengths = exact.square().sum(1, keepdim=True).sqrt()
        self.k = k
        self.units = exact / torch.where(lengths > 0, lengths, 1.0)
        count = len(exact)
        self.numbers = np.full((count, k), -1, np.int64)
        self.scores = np.full((count, k), -np.inf, np.float32)
        self.kth = np.full(count, -np.inf)
        self.floor = np.full(count, -np.inf)

    def prepared(self, dtype: torch.dtype, device: torch.device) -> list[Queries]:
        """The queries in pieces, ready for products."""
        lines = np.arange(len(self.units))
        pieces = [lines[low : low + QUERIES] for low in range(0, len(lines), QUERIES)]
        return [Queries.of(piece, self.units[torch.from_numpy(piece)], dtype, device) for piece in pieces]

    def take(self, lines: np.ndarray, numbers: np.ndarray, scores: np.ndarray) -> None:
        """Put scored pairs among the best: higher scores first, then lower numbers."""
        changed = np.unique(lines)
        at = np.concatenate([np.repeat(changed, self.k), lines])
        every = np.concatenate([self.numbers[changed].ravel(), numbers])
        value = np.concatenate([self.scores[changed].ravel(), scores])
        order = np.lexsort((np.where(every < 0, np.iinfo(np.int64).max, every), -value, at))
        at, every, value = at[order], every[order], value[order]
        starts = np.searchsorted(at, changed)
        chosen = starts[:, None] + np.arange(self.k)
        self.numbers[changed], self.scores[changed] = every[chosen], value[chosen]
        self.kth[changed] = self.scores[changed, -1]

    def hits(self) -> Hits:
        """The result so far."""
        return Hits(self.numbers.copy(), np.where(self.numbers < 0, np.nan, self.scores).astype(np.float32))


def _survivors(
    rough: torch.Tensor, bound: Bound, query: Queries, found: _Best, *, few: bool = False
) -> np.ndarray | None:
    """Query and vector [2, pairs] of the products [n, q] that the bound does not rule out; with ``few``, None for many.

    Looked for in groups of vectors: nearly all of them have no such product, which their largest tells.
    """
    most = rough.numel() // FEW
    groups = -(-len(rough) // GROUP)
    if len(rough) % GROUP:
        rough = torch.nn.functional.pad(rough, (0, 0, 0, groups * GROUP - len(rough)), value=-torch.inf)
    grouped = rough.view(groups, GROUP, rough.shape[1])
    tops = grouped.amax(1)
    best = np.maximum(found.kth[query.lines], found.floor[query.lines]) - bound.base
    if groups >= found.k:
        # What the tops of k groups surely reach, the best k of all vectors reach.
        reached = (
            tops.T.contiguous().topk(found.k, dim=1).values[:, -1].float().cpu().numpy().astype(np.float64)
        )
        best = np.maximum(best, bound.lower(reached, query.numbers))
    cut = at_most(bound.cut(best, query.numbers), rough.dtype).to(rough.device)
    hot = tops >= cut
    if few and int(hot.sum()) > most:
        return None
    places, lines = hot.nonzero(as_tuple=True)
    held = grouped[places, :, lines]
    # Without a threshold yet padding passes too, but for being no number.
    inside, columns = ((held >= cut[lines, None]) & (held > -torch.inf)).nonzero(as_tuple=True)
    if few and len(inside) > most:
        return None
    return torch.stack([lines[inside], columns + places[inside] * GROUP]).cpu().numpy()


def _float32(part: Part, lines: np.ndarray) -> torch.Tensor:
    """The part's vectors at ``lines`` as float32 [n, d], centred, finite."""
    rows = torch.from_numpy(np.ascontiguousarray(part.vectors[lines])).float()
    if part.mean is not None:
        rows -= torch.from_numpy(part.mean)
    return rows


def _units(part: Part, start: int | np.ndarray, stop: int = 0) -> torch.Tensor:
    """Vectors start to stop of the part, or at the lines ``start``, at length 1 (or 0), as float32 has them."""
    if isinstance(start, np.ndarray):
        rows = _float32(part, start)
    else:
        rows = torch.from_numpy(part.vectors[start:stop]).to(torch.float32, copy=True)
        if part.mean is not None:
            rows -= torch.from_numpy(part.mean)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if not bool(torch.isfinite(lengths).all()):
        raise BadFile(f"{part.what}: hold NaN or infinity: build the index again")
    return rows.mul_(torch.where(lengths > 0, 1 / lengths, 0.0))
