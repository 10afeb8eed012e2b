"""The engine of one loaded model."""

from __future__ import annotations

from typing import Any

from .batch import Batch
from .forward import Forward


class Engine:
    """Batches, captures, scores and audits on one model, from one thread.

    ``loaded`` has ``model`` (a transformers causal language model), ``family`` (where its parts are, see
    ``models.families``) and ``device``. The model is put into evaluation mode.
    """

    def __init__(self, loaded: Any) -> None:
        loaded.model.eval()
        self.loaded = loaded
        self.forward = Forward(loaded)

    def batch(self, slots: int = 8) -> Batch:
        """A new batch that runs at most ``slots`` rows at a time (a row with surprise counts twice)."""
        return Batch(self.forward, slots)
