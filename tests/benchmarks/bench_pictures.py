"""Pictures a second: answers steered in the tower, and hidden states of every block, against plain transformers.

On toy-qwen2-vl; and, where LABTUI_BENCH_SHAPE names one of :data:`SHAPES`, on random weights of that model's real shape,
written to a temporary folder (LABTUI_BENCH_FOLDER says under which) and loaded from there as a user's checkpoint would be:
in bfloat16, and where there is CUDA also in 4 bit. The alternative is what a script does: one ``generate``, or one forward
with ``output_hidden_states``, per picture. Interleaved repeats, the best of each.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers

from labtui_kernels.engine import Edit, Engine, ImageInput, Row
from labtui_kernels.lang.positions import Where
from labtui_kernels.lang.sites import Site
from labtui_kernels.models.load import LoadedModel, load
from labtui_kernels.models.source import locate
from labtui_kernels.vision.stimuli import generate

from .bench_engine import best

NEW = 4
"""Tokens of each answer."""
BATCH = 16
_TURNS = itertools.count()
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "Qwen2.5-VL-7B": (
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
        | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
        {"hidden_size": 1280, "out_hidden_size": 3584},
        False,
    ),
    "Qwen2.5-VL-3B": (
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36}
        | {"num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936},
        {"hidden_size": 1280, "out_hidden_size": 2048},
        True,
    ),
}
"""Text part, tower, and whether the embeddings are tied, as the published configurations have them."""


def checkpoint(name: str, folder: Path) -> None:
    """Write random bfloat16 weights of that shape to ``folder``, with the tokenizer of toy-qwen2-vl."""
    text, tower, tied = SHAPES[name]
    toy = locate("toy-qwen2-vl").path
    known = json.loads((toy / "config.json").read_text(encoding="utf-8"))
    ids = {key: value for key, value in known.items() if key.endswith("_token_id")}
    ends = {key: known["text_config"][key] for key in ("eos_token_id", "pad_token_id", "bos_token_id")}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**text, **ends, "rope_parameters": rope, "tie_word_embeddings": tied},
        vision_config=tower,
        tie_word_embeddings=tied,
        **ids,
    )
    with torch.device("meta"):
        model: Any = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.to(torch.bfloat16).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for part in model.parameters():
        # Norms near one and small matrices keep the hidden states finite over all blocks.
        part.data.normal_(1.0 if part.ndim == 1 else 0.0, 0.02, generator=draw)
    model.tie_weights()
    model.save_pretrained(folder, max_shard_size="4GB")
    for file in toy.iterdir():
        if file.name.startswith(("tokenizer", "chat_template", "preprocessor", "generation")):
            shutil.copy(file, folder)


def pictures(loaded: LoadedModel, count: int, side: int) -> tuple[list[torch.Tensor], tuple[int, int, int]]:
    """Pixel values of so many Stroop stimuli, resized to ``side`` pixels, and their grid in patches."""
    processor = transformers.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 784, "longest_edge": side * side}
    )
    drawn = [stimulus.image.resize((side, side)) for stimulus in generate("incongruent", count, seed=5)]
    made = [processor(images=[image], return_tensors="pt") for image in drawn]
    frames, rows, cols = (int(size) for size in made[0]["image_grid_thw"][0])
    return [one["pixel_values"] for one in made], (frames, rows, cols)


def rows_of(loaded: LoadedModel, count: int, side: int, edited: bool) -> list[Row]:
    """One question about each picture, steered at the tower's middle block at every patch."""
    values, grid = pictures(loaded, count, side)
    config = loaded.model.config
    before, after = [5, 6, 7, config.vision_start_token_id], [config.vision_end_token_id, 9, 10, 11, 12, 13]
    ids = (*before, *[config.image_token_id] * (grid[1] * grid[2] // 4), *after)
    block, width = len(loaded.model.model.visual.blocks) // 2, loaded.info.vision_width
    vector = torch.randn(width, generator=torch.Generator().manual_seed(1))
    edit = Edit(Site("vision", block, "out"), "add", vector / vector.norm(), where=Where("all"))
    return [
        Row(
            key=str(number),
            ids=ids,
            edits=(edit,) if edited else (),
            max_new_tokens=NEW,
            images=(ImageInput(pixels, grid, len(before), f"sha256:{number:064x}"),),
        )
        for number, pixels in enumerate(values)
    ]


def unseen(rows: list[Row]) -> list[Row]:
    """The same rows under new digests, so that features which the engine kept are not used again."""
    number = next(_TURNS)
    return [
        replace(row, images=(replace(row.images[0], digest=f"{number}/{row.images[0].digest}"),))
        for row in rows
    ]


def batched(engine: Engine, rows: list[Row]) -> float:
    """Pictures a second, all rows in one batch."""
    rows = unseen(rows)
    batch = engine.batch(slots=BATCH, fill=True)
    for row in rows:
        batch.add(row)
    began = time.perf_counter()
    while not batch.done:
        batch.step()
    elapsed = time.perf_counter() - began
    batch.close()
    return len(rows) / elapsed


def one_by_one(loaded: LoadedModel, rows: list[Row]) -> float:
    """Pictures a second of ``generate`` for each in turn, steered by a plain hook."""
    edit = rows[0].edits[0]
    vector = edit.vectors[0].to(loaded.device)
    block = loaded.model.model.visual.blocks[edit.site.block or 0]
    handle = block.register_forward_hook(lambda _module, _args, out: out + vector.to(out.dtype))
    began = time.perf_counter()
    for row in rows:
        loaded.model.generate(**inputs(loaded, row), min_new_tokens=NEW, max_new_tokens=NEW, do_sample=False)
    elapsed = time.perf_counter() - began
    handle.remove()
    return len(rows) / elapsed


def inputs(loaded: LoadedModel, row: Row) -> dict[str, Any]:
    ids = torch.tensor([row.ids], device=loaded.device)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == loaded.model.config.image_token_id).int(),
        "pixel_values": row.images[0].pixels.to(loaded.device),
        "image_grid_thw": torch.tensor([row.images[0].grid], device=loaded.device),
    }


def captured(engine: Engine, rows: list[Row]) -> float:
    """Pictures a second: the mean over image tokens at every block of the decoder."""
    rows = unseen(rows)
    sites = [Site("llm", block, "out") for block in range(engine.loaded.info.blocks)]
    began = time.perf_counter()
    engine.capture(rows, sites, pooling="mean", where=Where("image"))
    return len(rows) / (time.perf_counter() - began)


def hidden_states(loaded: LoadedModel, rows: list[Row]) -> float:
    """The same by one forward a picture."""
    began = time.perf_counter()
    with torch.inference_mode():
        for row in rows:
            out = loaded.model(**inputs(loaded, row), output_hidden_states=True, logits_to_keep=1)
            image = torch.tensor(row.ids) == loaded.model.config.image_token_id
            torch.stack([state[0, image].float().mean(0).cpu() for state in out.hidden_states[1:]])
    return len(rows) / (time.perf_counter() - began)


def measure(name: str, loaded: LoadedModel, count: int, side: int, repeats: int) -> list[dict[str, object]]:
    """Rows of the table for one model."""
    engine = Engine(loaded)
    steered, plain = rows_of(loaded, count, side, True), rows_of(loaded, count, side, False)
    batched(engine, steered[:2])
    few = min(count, 8)
    rates = best(
        {
            "steered": lambda: batched(engine, steered),
            "generate": lambda: one_by_one(loaded, steered[:few]),
            "captured": lambda: captured(engine, plain),
            "forward": lambda: hidden_states(loaded, plain[:few]),
        },
        repeats,
        max,
    )
    tokens = sum(token == loaded.model.config.image_token_id for token in plain[0].ids)
    pairs = (
        (f"steered in the tower, {NEW} tokens each", "steered", "generate", "one generate with a hook each"),
        ("mean hidden state of every block", "captured", "forward", "one forward with hidden states each"),
    )
    return [
        {
            "what": f"{name}: pictures of {tokens} tokens a second, {what}{memory(loaded)}",
            "figure": f"{rates[ours]:.2f}",
            "against": f"{words}: {rates[theirs]:.2f}",
            "ratio": f"{rates[ours] / rates[theirs]:.2f}x",
        }
        for what, ours, theirs, words in pairs
    ]


def memory(loaded: LoadedModel) -> str:
    """The peak of memory so far, of the device or else of the process."""
    if loaded.device.type == "cuda":
        return f" ({torch.cuda.max_memory_allocated() / 1e9:.1f} GB of the device)"
    return f" (peak of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB)"


def real_shape(name: str) -> list[dict[str, object]]:
    """The figures at a real model's shape: 448 x 448 pixels, 256 tokens a picture."""
    cuda = torch.cuda.is_available()
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("LABTUI_BENCH_FOLDER")) as made:
        folder = Path(made)
        # In a process of its own, so that the peak of memory is that of the lab.
        maker = get_context("spawn").Process(target=checkpoint, args=(name, folder))
        maker.start()
        maker.join()
        for quantize in (None, "4bit") if cuda else (None,):
            began = time.perf_counter()
            loaded = load(str(folder), dtype="bfloat16", quantize=quantize)
            took = time.perf_counter() - began
            title = f"{name}'s shape, {quantize or 'bfloat16'} on {loaded.device}, loaded in {took:.0f} s"
            found += measure(title, loaded, 32 if cuda else 4, 448, 3 if cuda else 2)
            del loaded
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    return found


def main() -> list[dict[str, object]]:
    """All rows: the bundled model, and a real shape where one is named."""
    toy = load("toy-qwen2-vl", dtype="float32", device="cpu")
    lines = measure("toy-qwen2-vl", toy, 32, 168, 3)
    name = os.environ.get("LABTUI_BENCH_SHAPE")
    return lines + (real_shape(name) if name else [])


if __name__ == "__main__":
    for line in main():
        print(line)
