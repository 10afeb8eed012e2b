"""A grid of 20 (site, strength) pairs x 4 prompts x 64 tokens, against plain transformers, on real weights.

The alternatives use the model as transformers loads it, with a plain hook: (a) one ``generate`` for each row, (b) one
``generate`` for each pair on its padded prompts; both are timed on a sample of the grid, spread evenly, and scaled up.
(c) is the engine without edits. Rows of the sample must be token for token those of (a). Needs LABTUI_REAL_QWEN.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from labtui_kernels.engine import Edit, Engine, Prompt, Row
from labtui_kernels.lang.sites import Site
from labtui_kernels.models.chat import render
from labtui_kernels.models.load import LoadedModel, load
from labtui_kernels.models.packing import unpack_linears

PROMPTS = (
    "What is a mutex?",
    "Explain how a tide comes about.",
    "Why is the sky blue?",
    "How does a bicycle stay upright?",
)
BLOCKS, SHARES, TOKENS = (4, 8, 12, 16, 20), (0.05, 0.1, 0.2, 0.4), 64
SAMPLE = 8


def prompts(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """The rendered prompts, with the model's own system prompt."""
    return [tuple(render(loaded.tokenizer, [{"role": "user", "content": text}]).ids) for text in PROMPTS]


def grid(engine: Engine, edited: bool = True) -> list[Row]:
    """The rows: a random direction at shares of the norm that the prompts' last tokens have at each site."""
    loaded, ids = engine.loaded, prompts(engine.loaded)
    sites = [Site("llm", block, "out") for block in BLOCKS]
    norms = {
        s: float(h.norm(dim=-1).median()) for s, h in engine.capture([Prompt(i) for i in ids], sites).items()
    }
    drawn = torch.randn(loaded.info.width, generator=torch.Generator().manual_seed(1))
    unit = drawn / drawn.norm()
    points = [
        (Edit(site, "add", unit, share * norms[site]),) if edited else ()
        for site in sites
        for share in SHARES
    ]
    return [
        Row(key=f"{p}-{n}", ids=one, edits=edits, max_new_tokens=TOKENS)
        for p, edits in enumerate(points)
        for n, one in enumerate(ids)
    ]


def engine_run(engine: Engine, rows: list[Row]) -> tuple[float, dict[str, list[int]]]:
    """Seconds, and the tokens of each row."""
    batch = engine.batch(slots=64, fill=True)
    for row in rows:
        batch.add(row)
    tokens: dict[str, list[int]] = {row.key: [] for row in rows}
    began = time.perf_counter()
    while not batch.done:
        for emitted in batch.step():
            tokens[emitted.key].append(emitted.token)
    seconds = time.perf_counter() - began
    batch.close()
    return seconds, tokens


def generate(loaded: LoadedModel, rows: list[Row]) -> tuple[float, list[list[int]]]:
    """Seconds of one ``generate`` over rows of one point, padded on the left, steered by a hook; their tokens."""
    longest = max(len(row.ids) for row in rows)
    pads = [longest - len(row.ids) for row in rows]
    ids = torch.tensor([[0] * pad + list(row.ids) for pad, row in zip(pads, rows, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * len(row.ids) for pad, row in zip(pads, rows, strict=True)])
    (edit,) = rows[0].edits
    shift = (edit.strength * edit.vectors.sum(0)).to(loaded.model.dtype)

    def steer(_module: torch.nn.Module, _args: object, out: Any) -> Any:
        return (out[0] + shift, *out[1:]) if isinstance(out, tuple) else out + shift

    assert edit.site.block is not None
    handle = loaded.family.blocks(loaded.model)[edit.site.block].register_forward_hook(steer)
    began = time.perf_counter()
    out = loaded.model.generate(
        ids, attention_mask=mask, min_new_tokens=TOKENS, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0,
        repetition_penalty=1.0,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    handle.remove()
    return seconds, out[:, longest:].tolist()


def main() -> list[dict[str, object]]:
    """The grid's tokens a second against (a), (b) and (c); nothing without real weights."""
    folder = os.environ.get("LABTUI_REAL_QWEN")
    if not folder:
        return []
    lines: list[dict[str, object]] = []
    for dtype in ("float32", "bfloat16"):
        loaded = load(str(Path(folder) / "model.gguf"), dtype=dtype, device="cpu")
        engine = Engine(loaded)
        rows = grid(engine)
        engine_run(engine, rows[:2])
        seconds, tokens = engine_run(engine, rows)
        plain, _ = engine_run(engine, grid(engine, edited=False))
        engine.close()
        unpack_linears(loaded.model)
        chosen = rows[:: len(rows) // SAMPLE]
        alone = [generate(loaded, [row]) for row in chosen]
        equal = sum(tokens[row.key] == found[0] for row, (_, found) in zip(chosen, alone, strict=True))
        pairs = [rows[start : start + len(PROMPTS)] for start in range(0, len(rows), len(rows) // 4)]
        padded = [generate(loaded, pair) for pair in pairs]
        each = sum(took for took, _ in alone) / len(alone) * len(rows)
        by_pair = sum(took for took, _ in padded) / len(padded) * len(rows) / len(PROMPTS)
        total = len(rows) * TOKENS
        name = f"Qwen2.5-Coder-0.5B {dtype}: 20 pairs x 4 prompts x 64 tokens, tokens/s"
        for what, other in (
            (f"(a) one generate per row ({equal} of {len(chosen)} rows equal)", each),
            ("(b) one generate per pair, padded", by_pair),
            ("(c) the engine without edits", plain),
        ):
            lines.append(
                {
                    "what": name,
                    "figure": f"{total / seconds:.1f}",
                    "against": f"{what}: {total / other:.1f}",
                    "ratio": f"{other / seconds:.2f}x",
                }
            )
    return lines


if __name__ == "__main__":
    for line in main():
        print(line)
