"""Judge the bundled vision-language model: ``python -m labtui_kernels.toys.vl.evaluate DIR [--json]``.

Held-out pictures only: no font, size or place of a word, and no size of a shape, is in any training picture. Every
question is asked alone and answered greedily by ``transformers``; an answer counts when it is the right one, word
for word, and ends by itself. Stroop interference is congruent minus incongruent, in accuracy and in nats of the
right answer. Writes ``evaluation.json`` into the folder. Nothing of the lab's engine is used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from labtui_kernels.vision import scenes, stimuli
from labtui_sessions.stats import intervals

WORDS_EACH, SCENES, SEED = 240, 240, 2024
INK_BAR, WORD_BAR, SCENE_BAR = 0.97, 0.95, 0.90
MAX_TOKENS = 24


@dataclass(frozen=True)
class Item:
    """One question about one picture. ``kind``: `ink`, `word`, or the kind of a scene's question."""

    image: Image.Image
    question: str
    answer: str
    kind: str
    subset: str


class Judge:
    """The model of a folder, in float32, asked one question at a time but many at once."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.image = int(self.model.config.image_token_id)

    def inputs(self, items: Sequence[Item], answers: bool = False) -> dict[str, Tensor]:
        """What the model takes, padded on the left; with ``answers`` the right answer and end of turn follow."""
        seen = self.processor([item.image for item in items], return_tensors="pt")
        texts = []
        for item, grid in zip(items, seen["image_grid_thw"], strict=True):
            content = [{"type": "image"}, {"type": "text", "text": item.question}]
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            pads = "<|image_pad|>" * (int(grid.prod()) // 4)
            text = str(text).replace("<|image_pad|>", pads)
            texts.append(f"{text}{item.answer}<|im_end|>" if answers else text)
        made = dict(self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False))
        return {**made, **seen, "mm_token_type_ids": (made["input_ids"] == self.image).int()}

    @torch.no_grad()
    def answers(self, items: Sequence[Item], size: int = 48) -> list[str]:
        """Greedy answers; one that does not end within `MAX_TOKENS` tokens gets an ellipsis."""
        told = []
        for some in _chunks(items, size):
            inputs = self.inputs(some)
            out = self.model.generate(  # type: ignore[attr-defined]
                **inputs, max_new_tokens=MAX_TOKENS, do_sample=False
            )
            for row in out[:, inputs["input_ids"].shape[1] :]:
                text = str(self.tokenizer.decode(row)).split("<|im_end|>")
                told.append(text[0].strip() if len(text) > 1 else f"{text[0].strip()}…")
        return told

    @torch.no_grad()
    def nats(self, items: Sequence[Item], size: int = 48) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Log-probability [items] of each right answer with its end of turn."""
        found: list[float] = []
        for some in _chunks(items, size):
            inputs = self.inputs(some, answers=True)
            ids = inputs["input_ids"]
            logs = self.model(**inputs, use_cache=False).logits.log_softmax(-1)
            for i, item in enumerate(some):
                n = len(self.tokenizer(f"{item.answer}<|im_end|>")["input_ids"])
                picked = logs[i, -n - 1 : -1].gather(-1, ids[i, -n:, None])
                found.append(float(picked.sum()))
        return np.array(found)


def _chunks(items: Sequence[Item], size: int) -> Iterable[Sequence[Item]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def word_items(n: int, seed: int) -> list[Item]:
    """Both questions about ``n`` held-out pictures of every subset."""
    kinds = {stimuli.INK_QUESTION: "ink", stimuli.WORD_QUESTION: "word"}
    return [
        Item(made.image, question, answer, kinds[question], subset)
        for subset in stimuli.SUBSETS
        for made in stimuli.generate(subset, n, seed, "held-out")
        for question, answer in made.answers.items()
    ]


def scene_items(n: int, seed: int) -> list[Item]:
    """Every question about ``n`` held-out scenes, but of those whose answer is zero only each third."""
    made = [
        Item(scene.image, question, answer, scenes.kind_of(question), "scene")
        for scene in scenes.generate(n, seed, "held-out")
        for question, answer in scene.questions
    ]
    zeros = [item for item in made if item.answer == "zero"]
    left_out = {id(item) for i, item in enumerate(zeros) if i % 3}
    return [item for item in made if id(item) not in left_out]


def rate(hits: Sequence[bool]) -> dict[str, Any]:
    """Right answers of how many, their share and its Wilson interval."""
    share = sum(hits) / len(hits)
    low, high = intervals.wilson(np.array([share]), np.array([len(hits)]))
    return {
        "right": sum(hits),
        "asked": len(hits),
        "accuracy": round(share, 4),
        "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
    }


def interference(judge: Judge, items: Sequence[Item], hits: Sequence[bool], kind: str) -> dict[str, Any]:
    """Congruent minus incongruent for one question: accuracy (Newcombe's interval for two independent rates, as
    many pictures of each) and nats of the right answer (Welch's interval with normal quantiles).
    """
    marks = {
        subset: [
            hit for item, hit in zip(items, hits, strict=True) if (item.kind, item.subset) == (kind, subset)
        ]
        for subset in ("congruent", "incongruent")
    }
    one, other = (np.array([np.mean(marks[subset])]) for subset in ("congruent", "incongruent"))
    count = np.array([len(marks["congruent"])])
    low, high = intervals.paired_rates(one, other, np.zeros(1), count)
    mine = {s: [i for i in items if (i.kind, i.subset) == (kind, s)] for s in ("congruent", "incongruent")}
    same, apart = judge.nats(mine["congruent"]), judge.nats(mine["incongruent"])
    gap = float(same.mean() - apart.mean())
    half = 1.96 * float(np.sqrt(same.var(ddof=1) / len(same) + apart.var(ddof=1) / len(apart)))
    return {
        "accuracy": round(float(one[0] - other[0]), 4),
        "interval": [round(float(low[0]), 4), round(float(high[0]), 4)],
        "nats": round(gap, 8),
        "nats_interval": [round(gap - half, 8), round(gap + half, 8)],
        "pictures_each": int(count[0]),
    }


def evaluate(
    folder: Path, words_each: int = WORDS_EACH, n_scenes: int = SCENES, seed: int = SEED
) -> dict[str, Any]:
    """Every figure of the model in ``folder``."""
    started = time.monotonic()
    judge = Judge(folder)
    words, pictures = word_items(words_each, seed), scene_items(n_scenes, seed)
    items = [*words, *pictures]
    told = judge.answers(items)
    hits = [item.answer == answer for item, answer in zip(items, told, strict=True)]

    def where(**wanted: str) -> dict[str, Any]:
        return rate([
            hit for item, hit in zip(items, hits, strict=True)
            if all(getattr(item, name) == value for name, value in wanted.items())
        ])  # fmt: skip

    kinds = sorted({item.kind for item in pictures})
    figures = {
        "ink": where(kind="ink"),
        "word": where(kind="word"),
        "scenes": where(subset="scene"),
        "ink_by_subset": {subset: where(kind="ink", subset=subset) for subset in stimuli.SUBSETS},
        "word_by_subset": {subset: where(kind="word", subset=subset) for subset in stimuli.SUBSETS},
        "scenes_by_kind": {kind: where(kind=kind) for kind in kinds},
        "interference": {
            kind: interference(judge, words, hits[: len(words)], kind) for kind in ("ink", "word")
        },
        "wrong": [
            {"subset": item.subset, "question": item.question, "answer": item.answer, "told": answer}
            for item, answer, hit in zip(items, told, hits, strict=True)
            if not hit
        ][:40],
        "seed": seed,
    }
    bars = {"ink": INK_BAR, "word": WORD_BAR, "scenes": SCENE_BAR}
    passed = {name: figures[name]["accuracy"] >= bar for name, bar in bars.items()}
    return {"passed": passed, **figures, "seconds": round(time.monotonic() - started, 1)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.vl.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args(arguments)
    figures = evaluate(given.folder)
    (given.folder / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n")
    if given.json:
        print(json.dumps(figures))
        return
    for name in ("ink", "word", "scenes"):
        low, high = figures[name]["interval"]
        print(f"{name}: {figures[name]['accuracy']:.1%} [{low:.1%}, {high:.1%}] of {figures[name]['asked']}")
    for kind, gap in figures["interference"].items():
        low, high = gap["interval"]
        print(
            f"interference, {kind}: {gap['accuracy']:+.1%} [{low:+.1%}, {high:+.1%}], {gap['nats']:+.2g} nats"
        )


if __name__ == "__main__":
    main()
