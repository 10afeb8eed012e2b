"""What a recipe runs on here: a real engine on a tiny random model, a real store, recorded events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labtui_artifacts.images import ImageStore
from labtui_artifacts.kinds import direction
from labtui_artifacts.paths import secure_folder
from labtui_artifacts.store import Store
from labtui_kernels import recipes, specs
from labtui_kernels.engine import Engine
from labtui_kernels.lang.sites import all_sites
from labtui_kernels.models.load import LoadedModel
from labtui_kernels.recipes.context import KnobTurn
from labtui_sessions.rerun import tolerance
from tests.support.tiny import tiny


class Lab:
    """A model with its engine and a store; makes contexts for jobs."""

    def __init__(
        self, root: Path, family: str = "qwen3", *, loaded: LoadedModel | None = None, **config: Any
    ) -> None:
        self.loaded = loaded or tiny(family, **config)
        self.engine = Engine(self.loaded)
        self.store = Store(root)
        self.images = ImageStore(secure_folder(root / "images"))
        self.shape = self.loaded.info.shape

    def direction(self, name: str, seed: int, scale: float = 1.0, **meta: Any) -> dict[str, np.ndarray]:
        """Store a random direction at every site; returns its vectors."""
        draw = np.random.default_rng(seed)
        vectors = {
            str(site): (scale * draw.standard_normal(self.shape.width)).astype(np.float32)
            for site in all_sites(self.shape)
        }
        tensors, made = direction.build(
            vectors, meta={"name": name, "model": self.loaded.info.to_dict(), "read": "last", **meta}
        )
        self.store.put(name, "direction", tensors, made)
        return vectors

    def context(self, job: str = "j1", committed: Collection[str] = ()) -> Context:
        return Context(self, job, committed)

    def run(self, spec: Mapping[str, Any], **options: Any) -> tuple[Context, dict[str, Any]]:
        """Run a spec to its end: the context with its events, and the result."""
        ctx = self.context(**options)
        return ctx, ctx.run(spec)


class Context:
    """A job's context that keeps what it is told."""

    def __init__(self, lab: Lab, job: str, committed: Collection[str]) -> None:
        self.job, self.loaded, self.engine, self.store = job, lab.loaded, lab.engine, lab.store
        self.images = lab.images
        self.committed = frozenset(committed)
        self.known: dict[str, dict[str, Any]] = {}
        self.first_row, self.halvings = 0, 0
        self.made_with: dict[str, str] = {}
        self.picture_names: dict[str, str] = {}
        self.own = frozenset[str]()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.told: list[tuple[float, float, str]] = []
        self.turns: list[KnobTurn] = []
        self.steps = 0

    def run(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        recipe = recipes.recipe(specs.load(spec))
        self.counts = recipe.plan(self)
        steps = recipe.run(self)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value
            self.steps += 1

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        self.events.append((kind, {"job": self.job, **data}))

    def save_artifact(
        self, name: str, kind: str, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]
    ) -> None:
        self.store.save_incoming(name, kind, tensors, meta)
        self.store.adopt(name, replace=True)
        self.events.append(("artifact.saved", {"name": name, "kind": kind}))

    def knobs(self) -> Sequence[KnobTurn]:
        turns, self.turns = self.turns, []
        return turns

    def progress(self, done: float, total: float, text: str) -> None:
        self.told.append((done, total, text))

    def budget(self, phase: str, seconds: float) -> None:
        assert seconds > 0

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of the events of a kind."""
        return [data for name, data in self.events if name == kind]

    def row(self, row: str) -> dict[str, Any]:
        """How a row ended, with its tokens put together from the chunks."""
        chunks = [data for data in self.of("row.tokens") if data["row"] == row]
        ended = next(data for data in self.of("row.finished") if data["row"] == row)
        starts = [chunk["start"] for chunk in chunks]
        assert starts == [sum(len(c["ids"]) for c in chunks[:i]) for i in range(len(chunks))]
        joined = {
            key: [value for chunk in chunks for value in chunk[key]]
            for key in ("ids", "pieces", "logprobs", "gaps")
        }
        return {**ended, **joined, "started": next(d for d in self.of("row.started") if d["row"] == row)}


def generate_by_hand(
    lab: Lab, ids: Sequence[int], edits: Mapping[int, torch.Tensor], count: int
) -> tuple[list[int], list[float]]:
    """Greedy tokens and their log-probabilities, by transformers' own ``generate`` under hand-written hooks.

    ``edits`` maps a block to the vector that is added to its output at every position.
    """
    model = lab.loaded.model
    handles = []
    for block, vector in edits.items():

        def add(module: Any, args: Any, output: torch.Tensor, vector: torch.Tensor = vector) -> torch.Tensor:
            return output + vector

        handles.append(model.model.layers[block].register_forward_hook(add))
    try:
        with torch.no_grad():
            out = model.generate(
                torch.tensor([list(ids)]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=count,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
                eos_token_id=sorted(lab.loaded.info.stop_ids) or None,
                pad_token_id=0,
            )
    finally:
        for handle in handles:
            handle.remove()
    tokens = out.sequences[0, len(ids) :].tolist()
    logprobs = [
        logits[0].log_softmax(-1)[token].item() for logits, token in zip(out.logits, tokens, strict=True)
    ]
    return tokens, logprobs


def rerun_of(lab: Lab, ctx: Context, name: str) -> dict[str, Any]:
    """The spec that runs the recorded plain and steered row of a ``generate`` again; ``name`` is that of its pictures."""
    rows = []
    for arm in ("plain", "steered"):
        row = ctx.row(arm)
        started = row["started"]
        images = [{**image, "name": name} for image in started["images"]]
        rows.append(
            {
                "key": f"j1/{arm}", "arm": arm, "ids": started["ids"], "content": started["content"],
                "edits": started["edits"], "forced": row["ids"], "logprobs": row["logprobs"], "images": images,
            }
        )  # fmt: skip
    model = lab.loaded.info.to_dict()
    return {"kind": "rerun", "rows": rows, "tolerance": tolerance("float32"), "model": model}
