"""The engine's speed: rows decoded together against one ``generate`` per row, and capture against a forward.

On toy-qwen3, and on real weights where LABTUI_REAL_QWEN names a folder with ``model.gguf``. Interleaved
repeats, the best of each, so that other work on the machine weighs little.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch

from labtui_kernels.engine import Edit, Engine, Prompt, Row
from labtui_kernels.lang.sites import Site
from labtui_kernels.models.load import LoadedModel, load
from labtui_kernels.models.memory import free_main_memory
from labtui_kernels.models.packing import pack_linears, unpack_linears

BATCHES = (1, 8, 32, 64)


def rows_of(loaded: LoadedModel, count: int, new: int, edited: bool = True) -> list[Row]:
    """Rows of 24 to 40 random prompt tokens, each steered at the middle block, that do not stop early."""
    chooser = random.Random(count)
    width, block = loaded.info.width, loaded.info.blocks // 2
    vector = torch.randn(width, generator=torch.Generator().manual_seed(1))
    edit = Edit(Site("llm", block, "out"), "add", vector / vector.norm() * 0.1)
    return [
        Row(
            key=str(n),
            ids=tuple(chooser.randrange(200, 1500) for _ in range(24 + n % 17)),
            edits=(edit,) if edited else (),
            max_new_tokens=new,
        )
        for n in range(count)
    ]


def batched(engine: Engine, count: int, new: int) -> float:
    """Tokens a second of ``count`` steered rows decoded together, prefill included."""
    batch = engine.batch(slots=count, fill=True)
    for row in rows_of(engine.loaded, count, new):
        batch.add(row)
    began = time.perf_counter()
    tokens = 0
    while not batch.done:
        tokens += len(batch.step())
    elapsed = time.perf_counter() - began
    batch.close()
    return tokens / elapsed


def one_by_one(loaded: LoadedModel, count: int, new: int) -> float:
    """Tokens a second of ``generate`` for each row in turn, steered by a plain hook; of at most 4 rows."""
    rows = rows_of(loaded, min(count, 4), new)
    vector = rows[0].edits[0].vectors
    block = loaded.family.blocks(loaded.model)[loaded.info.blocks // 2]

    def steer(_module: torch.nn.Module, _args: object, out: torch.Tensor) -> torch.Tensor:
        return out + vector.to(out.dtype)

    handle = block.register_forward_hook(steer)
    began = time.perf_counter()
    for row in rows:
        ids = torch.tensor([row.ids])
        loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=new,
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
    handle.remove()
    return len(rows) * new / (time.perf_counter() - began)


def bare_steps(loaded: LoadedModel, count: int, new: int) -> float:
    """Tokens a second of a hand-written decode loop over equal, unsteered rows: what the model allows."""
    from transformers import DynamicCache

    ids = torch.randint(200, 1500, (count, 32), generator=torch.Generator().manual_seed(1))
    cache = DynamicCache(config=loaded.model.config.get_text_config())
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(new):
            out = loaded.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ids = out.logits[:, -1:].argmax(-1)
    return count * new / (time.perf_counter() - began)


def best(
    measures: dict[str, Callable[[], float]], repeats: int, pick: Callable[..., float]
) -> dict[str, float]:
    """Run the measures in turn ``repeats`` times; the ``pick`` (max or min) of each."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: pick(values) for name, values in found.items()}


def decoding(name: str, loaded: LoadedModel, new: int, repeats: int) -> list[dict[str, object]]:
    """Tokens a second by number of rows, against generate on the model as transformers has it, and the bare loop."""
    unpack_linears(loaded.model)
    alone = best({"one": lambda: one_by_one(loaded, 4, new)}, repeats, max)["one"]
    pack_linears(loaded.model, free_main_memory())
    engine = Engine(loaded)
    batched(engine, 2, 2)
    lines: list[dict[str, object]] = []
    for count in BATCHES:
        speeds = best(
            {
                "engine": lambda count=count: batched(engine, count, new),
                "bare": lambda count=count: bare_steps(loaded, count, new),
            },
            repeats,
            max,
        )
        lines.append(
            {
                "what": f"{name}: {count} steered rows, tokens/s (bare loop: {speeds['bare']:.0f})",
                "figure": f"{speeds['engine']:.1f}",
                "against": f"one generate per row: {alone:.1f}",
                "ratio": f"{speeds['engine'] / alone:.2f}x",
            }
        )
    return lines


def capturing(name: str, loaded: LoadedModel, repeats: int) -> list[dict[str, object]]:
    """Time to read every block's pooled output over 16 prompts of 64 tokens, against a plain forward."""
    count, length = 16, 64
    engine = Engine(loaded, chunk_tokens=count * length)
    chooser = random.Random(3)
    texts = [Prompt(tuple(chooser.randrange(200, 1500) for _ in range(length))) for _ in range(count)]
    ids = torch.tensor([text.ids for text in texts])
    sites = [Site("llm", block, "out") for block in range(loaded.info.blocks)]
    decoder = loaded.family.decoder(loaded.model)

    def plain() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            decoder(input_ids=ids, use_cache=False)
        return time.perf_counter() - began

    def read(pooling: str) -> float:
        began = time.perf_counter()
        engine.capture(texts, sites, pooling=pooling)  # type: ignore[arg-type]
        return time.perf_counter() - began

    measures = {"plain": plain, "mean": lambda: read("mean"), "last": lambda: read("last")}
    seconds = best(measures, repeats, min)
    return [
        {
            "what": f"{name}: capture of all {len(sites)} blocks, {pooling}-pooled, ms",
            "figure": f"{seconds[pooling] * 1e3:.1f}",
            "against": f"plain forward: {seconds['plain'] * 1e3:.1f}; aim under 5% over",
            "ratio": f"{(seconds[pooling] / seconds['plain'] - 1) * 100:+.1f}%",
        }
        for pooling in ("mean", "last")
    ]


def main() -> list[dict[str, object]]:
    """All rows: toy-qwen3, and the real weights where they are."""
    toy = load("toy-qwen3", dtype="float32", device="cpu")
    lines = decoding("toy-qwen3", toy, new=64, repeats=3) + capturing("toy-qwen3", toy, repeats=30)
    folder = os.environ.get("LABTUI_REAL_QWEN")
    if folder:
        real = load(str(Path(folder) / "model.gguf"), dtype="float32", device="cpu")
        lines += decoding("Qwen2.5-Coder-0.5B", real, new=16, repeats=1)
        lines += capturing("Qwen2.5-Coder-0.5B", real, repeats=3)
    return lines


if __name__ == "__main__":
    for line in main():
        print(line)
