"""Rows with pictures for tests, and what they must equal: plain transformers with hooks written out by hand.

Nothing here comes from the engine or from what the families say of patch order: the order of Qwen2.5-VL's windows is worked
out again, and hooks sit on modules by their transformers paths.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import transformers

from labtui_kernels.engine import Edit, Emitted, ImageInput, Row
from labtui_kernels.lang.sites import Site
from labtui_kernels.models.load import LoadedModel
from tests.support.tiny_vision import noise

from . import reference


def site(text: str) -> Site:
    """``vision.1.in``, ``llm.embed``: split by hand, apart from the grammar."""
    words = text.split(".")
    if len(words) == 2:
        return Site(words[0], None, words[1])  # type: ignore[arg-type]
    return Site(words[0], int(words[1]), words[2])  # type: ignore[arg-type]


def patch_size(loaded: LoadedModel) -> int:
    return int(loaded.model.model.visual.config.patch_size)


def processed(loaded: LoadedModel, pictures: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel values and grids by the processor alone; the pictures are of whole merged patches already."""
    side = patch_size(loaded)
    processor = transformers.Qwen2VLImageProcessorPil(
        patch_size=side, min_pixels=(2 * side) ** 2, max_pixels=(2 * side) ** 2 * 400
    )
    made = processor(images=pictures, return_tensors="pt")
    return made["pixel_values"], made["image_grid_thw"]


def picture(loaded: LoadedModel, cols: int, rows: int, seed: int) -> Any:
    """A noise picture of so many merged patches."""
    side = 2 * patch_size(loaded)
    return noise(cols * side, rows * side, seed)


def pictured(
    loaded: LoadedModel, sizes: list[tuple[int, int]], number: int = 0, key: str = "row", **fields: Any
) -> Row:
    """A row with noise pictures of so many merged patches (columns, rows), and text around each."""
    made = [picture(loaded, cols, rows, 100 * number + n) for n, (cols, rows) in enumerate(sizes)]
    return shown(loaded, made, number, key, **fields)


def shown(loaded: LoadedModel, pictures: list[Any], number: int = 0, key: str = "row", **fields: Any) -> Row:
    """A row with these pictures, and random text around each."""
    config, chooser = loaded.model.config, random.Random(number)
    ids = [chooser.randrange(250) for _ in range(3 + number % 4)]
    images: list[ImageInput] = []
    for each in pictures:
        values, grids = processed(loaded, [each])
        frames, rows, cols = grids[0].tolist()
        ids.append(config.vision_start_token_id)
        images.append(ImageInput(values, (frames, rows, cols), len(ids)))
        ids += [config.image_token_id] * (rows * cols // 4)
        ids.append(config.vision_end_token_id)
        ids += [chooser.randrange(250) for _ in range(2 + number % 3)]
    fields = {"max_new_tokens": 8, **fields}
    return Row(key=key, ids=tuple(ids), images=tuple(images), **fields)


def plain_inputs(loaded: LoadedModel, row: Row, generated: list[int]) -> dict[str, Any]:
    """What a transformers call takes for the row: ids, pixels, grids and token types."""
    ids = torch.tensor([[*row.ids, *generated]])
    found: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if row.images:
        kinds = (ids == loaded.model.config.image_token_id).int()
        kinds[:, len(row.ids) :] = 0
        found |= {
            "pixel_values": torch.cat([image.pixels for image in row.images]),
            "image_grid_thw": torch.tensor([image.grid for image in row.images]),
            "mm_token_type_ids": kinds,
        }
    return found


def generate(loaded: LoadedModel, row: Row) -> list[int]:
    """What ``generate`` gives for the row without edits, greedy."""
    model = loaded.model
    made = model.generate(
        **plain_inputs(loaded, row, []),
        max_new_tokens=row.max_new_tokens,
        min_new_tokens=row.max_new_tokens,
        do_sample=False,
        eos_token_id=None,
    )
    model.model.rope_deltas = None
    return made[0, len(row.ids) :].tolist()


def window_order(loaded: LoadedModel, rows: int, cols: int) -> list[int]:
    """The merged patches of one picture in the order in which the tower's blocks have them: window by window in
    Qwen2.5-VL, each window row by row and cut off at the picture's edge; row by row elsewhere."""
    config = loaded.model.model.visual.config
    if loaded.family.name != "qwen2_5_vl":
        return list(range(rows * cols))
    side = config.window_size // config.patch_size // config.spatial_merge_size
    return [
        row * cols + col
        for top in range(0, rows, side)
        for left in range(0, cols, side)
        for row in range(top, min(top + side, rows))
        for col in range(left, min(left + side, cols))
    ]


def chosen(edit: Edit, row: Row) -> list[list[int]]:
    """The merged patches of each image that an edit means, by its name."""
    where = edit.where
    found = []
    for number, image in enumerate(row.images):
        rows, cols = image.grid[1] // 2, image.grid[2] // 2
        if where.number not in (None, number):
            found.append([])
        elif where.rect is not None:
            top, bottom, left, right = where.rect
            found.append([r * cols + c for r in range(top, bottom) for c in range(left, right)])
        elif where.kind == "ink":
            found.append([n for n, mark in enumerate(image.ink) if mark])
        else:
            found.append(list(range(rows * cols)))
    return found


def lines(loaded: LoadedModel, edit: Edit, row: Row, unit: int) -> list[int]:
    """Where these patches stand in the tower's own order, all images packed."""
    found: list[int] = []
    start = 0
    for image, patches in zip(row.images, chosen(edit, row), strict=True):
        order = window_order(loaded, image.grid[1] // 2, image.grid[2] // 2)
        for place, patch in enumerate(order):
            if patch in patches:
                found += [(start + place) * unit + n for n in range(unit)]
        start += len(order)
    return found


def token_places(edit: Edit, row: Row, total: int) -> list[int]:
    """The positions at which an edit of the decoder applies, image places included."""
    if edit.where.kind in ("image", "ink"):
        pairs = zip(row.images, chosen(edit, row), strict=True)
        return [image.start + patch for image, patches in pairs for patch in patches]
    if edit.where.kind == "text":
        inside = {p for image in row.images for p in range(image.start, image.start + len(image.pixels) // 4)}
        return [place for place in range(total) if place not in inside]
    return reference.places(edit, len(row.ids), total)


def attach(stack: ExitStack, loaded: LoadedModel, row: Row, total: int) -> None:
    """Hooks for all edits of a row, in the tower and in the decoder."""
    tower, decoder = loaded.model.model.visual, loaded.model.model.language_model
    # What is reached first at one module is hooked first: embed and premerge share one with what comes after.
    early = sorted(range(len(row.edits)), key=lambda n: row.edits[n].site.point != "embed")
    for index in early:
        edit = row.edits[index]
        point, block = edit.site.point, edit.site.block
        module, before = _module(loaded, tower if edit.site.tower == "vision" else decoder, edit.site)
        change = _change(loaded, row, index, total)
        if before or point == "embed":
            stack.callback(module.register_forward_pre_hook(_before(change), with_kwargs=True).remove)
        else:
            stack.callback(module.register_forward_hook(_after(change)).remove)
        assert block is None or point not in ("embed", "norm", "premerge", "merged")


def _module(loaded: LoadedModel, part: Any, site: Site) -> tuple[Any, bool]:
    blocks = part.blocks if site.tower == "vision" else part.layers
    if site.block is None:
        plain = {
            "embed": (blocks[0], True),
            "norm": (getattr(part, "norm", None), False),
            "premerge": (getattr(part, "merger", None), True),
            "merged": (getattr(part, "merger", None), False),
        }
        return plain[site.point]
    block = blocks[site.block]
    if site.point == "attn":
        return (block.linear_attn if hasattr(block, "linear_attn") else block.self_attn), False
    if site.point == "mlp":
        return block.mlp, False
    return block, site.point == "in"


def _change(loaded: LoadedModel, row: Row, index: int, total: int) -> Callable[[torch.Tensor], torch.Tensor]:
    edit = row.edits[index]

    def change(hidden: torch.Tensor) -> torch.Tensor:
        result = hidden.clone()
        if edit.site.tower == "vision":
            places = lines(loaded, edit, row, 1 if edit.site.point == "merged" else 4)
            strength = reference.strengths(row, index, len(row.ids), 0)
            result[places] = reference.edited(hidden[places], edit, strength)
            return result
        for place in token_places(edit, row, total):
            strength = reference.strengths(row, index, len(row.ids), place)
            result[:, place] = reference.edited(hidden[:, place], edit, strength)
        return result

    return change


def _before(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def hook(_module: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    return hook


def _after(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def hook(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    return hook


@torch.no_grad()
def logits(loaded: LoadedModel, row: Row, generated: list[int]) -> torch.Tensor:
    """Logits [positions, vocab] of prompt and generated tokens under the row's edits, in one uncached pass."""
    with ExitStack() as stack:
        attach(stack, loaded, row, len(row.ids) + len(generated))
        out = loaded.model(**plain_inputs(loaded, row, generated), use_cache=False).logits[0].float()
    loaded.model.model.rope_deltas = None
    return out


def wrong(loaded: LoadedModel, row: Row, emitted: Sequence[Emitted], near: float = 1e-3) -> str:
    """What the emissions of a row that has ended have wrong; empty when each token is the one that plain transformers
    chooses after those before it (greedy, forced, or drawn with the uniforms of the seed), as probable to ``near`` nats.
    """
    said = [each.token for each in emitted]
    count = row.max_new_tokens if row.forced is None else len(row.forced)
    if len(said) != count or [each.index for each in emitted] != list(range(count)):
        return f"{len(said)} tokens where {count} were expected"
    points = reference.uniforms(row.seed, count)
    table = logits(loaded, row, said[:-1])[len(row.ids) - 1 :]
    for step, (last, each) in enumerate(zip(table, emitted, strict=True)):
        if row.forced is not None:
            token = row.forced[step]
        elif row.sampling.greedy:
            token = int(last.argmax())
        else:
            token = reference.drawn(last, row.sampling, float(points[step]))
        logprob = float(last.log_softmax(-1)[token])
        if token != each.token or abs(logprob - each.logprob) > near:
            return f"step {step}: {each.token} at {each.logprob:.4f}, expected {token} at {logprob:.4f}"
    return ""


def logprobs(loaded: LoadedModel, row: Row, said: Sequence[int]) -> list[float]:
    """Log-probabilities of known tokens under the row's edits."""
    table = logits(loaded, row, list(said[:-1]))[len(row.ids) - 1 :].log_softmax(-1)
    return [float(line[token]) for line, token in zip(table, said, strict=True)]
