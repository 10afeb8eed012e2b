"""The engine of one loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..lang.positions import Where
from ..lang.sites import Site
from . import capture as reading
from . import memory, score
from .audit import Audit, Auditor
from .batch import Batch
from .capture import Pooling, RefNorm, Tokens
from .forward import Forward
from .observe import Look, Sight, observe_parts
from .rows import Edit, Emitted, Row


class Engine:
    """Batches, captures, scores and audits on one model, from one thread.

    ``loaded`` has ``model`` (a transformers causal language model), ``family`` (where its parts are, see
    ``models.families``) and ``device``. The model is put into evaluation mode. ``chunk_tokens`` fixes the
    size of a prefill chunk in tokens; by default it is measured so that a chunk costs about a third of a
    second. ``deep_baseline`` hashes every parameter after the first pass, for deep audits.
    """

    def __init__(self, loaded: Any, *, chunk_tokens: int | None = None, deep_baseline: bool = False) -> None:
        loaded.model.eval()
        self.loaded = loaded
        self.forward = Forward(loaded, chunk_tokens)
        self._auditor = Auditor(loaded.model, self.forward.hooks)
        self.forward.after_first_pass = lambda: self._auditor.take_baseline(deep_baseline)

    def batch(self, slots: int = 8, *, fill: bool = False) -> Batch:
        """A new batch that runs at most ``slots`` rows at a time (a row with surprise counts twice).

        ``fill``: prefill waiting rows before those that run decode on, for work that nobody watches token by token.
        """
        return Batch(self.forward, slots, fill)

    def slots_that_fit(self, tokens: int, free: int | None = None, most: int = 64) -> int:
        """How many slots for rows of ``tokens`` tokens (prompt and answer) fit into memory; see
        :mod:`.memory`.
        """
        return memory.slots_that_fit(self.forward, tokens, free, most)

    def capture(
        self,
        rows: Sequence[Tokens],
        sites: Sequence[Site],
        *,
        pooling: Pooling = "last",
        where: Where | None = None,
        edits: Sequence[Edit] = (),
    ) -> dict[Site, torch.Tensor]:
        """Hidden states at ``sites``, pooled over the positions ``where`` selects: float32 [n, d] on the CPU.

        All sites in one pass over the prompts. ``last`` is the last selected position; with ``none`` there is
        one line for every selected position of every row, in order (:func:`capture.selected` tells which).
        At sites of the vision tower ``where`` selects patches of the rows' images (:func:`capture.selected_patches`),
        and ``last`` is refused.
        """
        return reading.capture(self.forward, rows, sites, pooling, where, edits)

    def capture_parts(
        self,
        rows: Sequence[Tokens],
        sites: Sequence[Site],
        *,
        pooling: Pooling = "last",
        where: Where | None = None,
        edits: Sequence[Edit] = (),
    ) -> Iterator[tuple[tuple[int, ...], dict[Site, torch.Tensor]]]:
        """:meth:`capture` in bounded steps: (row numbers, their readings), empty while a long row goes on."""
        return reading.capture_parts(self.forward, rows, sites, pooling, where, edits)

    def score(self, rows: Sequence[Row]) -> list[list[Emitted]]:
        """What the model says of the rows' ``forced`` tokens, edits and knobs in place."""
        return score.score(self.forward, rows)

    def score_parts(self, rows: Sequence[Row]) -> Iterator[dict[int, list[Emitted]]]:
        """:meth:`score` in bounded steps: row number → its Emitted, empty while a long row goes on."""
        return score.score_parts(self.forward, rows)

    def divergence(self, rows: Sequence[Row]) -> list[list[float]]:
        """KL(steered ‖ unsteered) in nats at each of the rows' ``forced`` tokens."""
        found: dict[int, list[float]] = {}
        for part in self.divergence_parts(rows):
            found.update(part)
        return [found[index] for index in range(len(rows))]

    def divergence_parts(self, rows: Sequence[Row]) -> Iterator[dict[int, list[float]]]:
        """:meth:`divergence` in bounded steps."""
        return score.divergence_parts(self.forward, rows)

    def kl(self, steered: torch.Tensor, plain: torch.Tensor) -> list[float]:
        """KL(steered ‖ plain) in nats of next-token distributions, from normed hidden states [n, d] each."""
        return score.kl(self.forward, steered, plain)

    def observe_parts(self, looks: Sequence[Look]) -> Iterator[dict[int, Sight]]:
        """Several readings of each row in one teacher-forced pass; see :mod:`.observe`."""
        return observe_parts(self.forward, looks)

    def reference_norms(self, rows: Sequence[Tokens], sites: Sequence[Site]) -> dict[Site, RefNorm]:
        """Norms of the hidden state at each site over (neutral) prompts, which need ``content`` marks; at sites of the
        vision tower over all patches of the prompts' images.
        """
        return reading.reference_norms(self.forward, rows, sites)

    def audit(self, deep: bool = False) -> Audit:
        """Whether hooks and parameters are as they should be; see :meth:`Auditor.audit`."""
        return self._auditor.audit(deep)

    def take_baseline(self, deep: bool = False) -> None:
        """Remember the parameters as they are now, in place of the baseline taken after the first pass."""
        self.forward.after_first_pass = None
        self._auditor.take_baseline(deep)

    def close(self) -> None:
        """Take the engine's hooks off the model. Its batches must not be stepped afterwards."""
        self.forward.hooks.remove()
