"""Batches for the vision-language toy: several questions about one picture in one row, none seeing another."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from labtui_kernels.vision import scenes, stimuli

from ..tokenizer import TURN_END, TURN_START, token_id
from .labels import Labels, grouped, of_scene, of_word, spots_of
from .questions import SYSTEM, asked_of_places, asked_of_scene, asked_of_text, asked_of_words

PATCH, MERGE, FRAMES = 14, 2, 2
MEAN, SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of each channel, from 0 to 1: CLIP's, as in every Qwen-VL processor."""


def patchify(images: Sequence[Image.Image]) -> tuple[Tensor, tuple[int, int]]:
    """(pixel values [images * patches, c], grid (h, w) in patches) of pictures of one size, as the processor does.

    Width and height are multiples of 28, so nothing is resized.
    """
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in images]) / np.float32(255)
    pixels = (pixels - np.array(MEAN, dtype=np.float32)) / np.array(SPREAD, dtype=np.float32)
    n, height, width, _ = pixels.shape
    rows, cols = height // PATCH, width // PATCH
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    values = values.reshape(n, 3, rows // MERGE, MERGE, PATCH, cols // MERGE, MERGE, PATCH)
    values = values.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    values = values.expand(*values.shape[:6], FRAMES, PATCH, PATCH)
    return values.reshape(n * rows * cols, -1).contiguous(), (rows, cols)


@dataclass(frozen=True)
class Asked:
    """A picture (or, without one, a text) and what is asked about it."""

    image: Image.Image | None
    questions: list[tuple[str, str]]
    caption: str = ""
    system: bool = False
    labels: Labels | None = None
    spots: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Rows whose pictures have one size. All shapes are [rows, length] where nothing else is said.

    ``ids`` int64, image tokens expanded; ``positions`` [3, rows, length]; ``allowed`` [rows, 1, length, length]
    bool, who may look at whom; ``targets`` int64, -100 outside of answers; ``weights`` float32, those of one
    question adding up to 1; ``asked`` int64, the number of the question within its row, -1 elsewhere;
    ``pixels`` [rows * patches, c] or None; ``grid`` (h, w) in patches; ``labels`` [rows * patches, names] what lies
    under each patch, or None; ``spots`` [rows, length, 2] where the shape lies that a token of a question names (across,
    down, in merged patches), NaN elsewhere.
    """

    ids: Tensor
    positions: Tensor
    allowed: Tensor
    targets: Tensor
    weights: Tensor
    asked: Tensor
    pixels: Tensor | None
    grid: tuple[int, int]
    labels: Tensor | None = None
    spots: Tensor | None = None


class Encoder:
    """Turns pictures with questions into rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.image = token_id(tokenizer, "<|image_pad|>")
        self.pad = token_id(tokenizer, "<|endoftext|>")
        self.named = {name: token_id(tokenizer, f"Ġ{name}") for name in scenes.SHAPES}
        self.encode = lru_cache(maxsize=100_000)(self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]

    def prefix(self, row: Asked, grid: tuple[int, int]) -> tuple[list[int], Tensor, int]:
        """(ids up to the question, their positions [3, n], the next position)."""
        system = f"{TURN_START}system\n{SYSTEM}{TURN_END}\n" if row.system else ""
        if row.image is None:
            ids = list(self.encode(f"{system}{TURN_START}user\n{row.caption}.\n"))
            return ids, torch.arange(len(ids)).expand(3, -1), len(ids)
        before = self.encode(f"{system}{TURN_START}user\n<|vision_start|>")
        after = self.encode("<|vision_end|>")
        rows, cols = grid[0] // MERGE, grid[1] // MERGE
        start, end = len(before), len(before) + max(rows, cols)
        image = torch.stack(
            [
                torch.full((rows, cols), start),
                (start + torch.arange(rows))[:, None].expand(rows, cols),
                (start + torch.arange(cols))[None].expand(rows, cols),
            ]
        ).reshape(3, -1)
        text = torch.arange(start).expand(3, -1)
        tail = torch.arange(end, end + len(after)).expand(3, -1)
        ids = [*before, *[self.image] * (rows * cols), *after]
        return ids, torch.cat([text, image, tail], dim=1), end + len(after)

    def group(self, rows: Sequence[Asked]) -> Group:
        """Rows with pictures of one size, or all without."""
        pictures = [row.image for row in rows if row.image is not None]
        pixels, grid = patchify(pictures) if pictures else (None, (0, 0))
        made = [self._row(row, grid) for row in rows]
        length = max(len(ids) for ids, *_ in made)
        ids = torch.full((len(rows), length), self.pad)
        positions = torch.zeros(3, len(rows), length, dtype=torch.int64)
        targets, asked = torch.full_like(ids, -100), torch.full_like(ids, -1)
        weights = torch.zeros(len(rows), length)
        segments = torch.full_like(ids, -2)
        for i, (its, places, wanted, weight, segment) in enumerate(made):
            n = len(its)
            ids[i, :n], positions[:, i, :n] = torch.tensor(its), places
            targets[i, :n], weights[i, :n] = torch.tensor(wanted), torch.tensor(weight)
            segments[i, :n] = torch.tensor(segment)
            asked[i, :n] = torch.where(targets[i, :n] >= 0, segments[i, :n], -1)
        spots = torch.full((*ids.shape, 2), torch.nan)
        for i, row in enumerate(rows):
            for name, spot in row.spots.items():
                spots[i, (ids[i] == self.named[name]) & (segments[i] >= 0)] = torch.tensor(spot)
        shared = (segments[:, None, :] == -1) | (segments[:, None, :] == segments[:, :, None])
        allowed = (shared & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
        known = [grouped(row.labels) for row in rows if row.labels is not None]
        labels = torch.from_numpy(np.concatenate(known)) if known else None
        return Group(ids, positions, allowed, targets, weights, asked, pixels, grid, labels, spots)

    def _row(
        self, row: Asked, grid: tuple[int, int]
    ) -> tuple[list[int], Tensor, list[int], list[float], list[int]]:
        ids, positions, start = self.prefix(row, grid)
        places, targets, weights, segments = [positions], [-100] * len(ids), [0.0] * len(ids), [-1] * len(ids)
        for number, (question, answer) in enumerate(row.questions):
            prompt = self.encode(f"{question}{TURN_END}\n{TURN_START}assistant\n")
            answered = self.encode(f"{answer}{TURN_END}")
            # The last prompt token predicts the first of the answer; the answer's last token predicts nothing.
            ids += [*prompt, *answered]
            quiet = len(prompt) - 1
            targets += [-100] * quiet + [*answered, -100]
            weights += [0.0] * quiet + [1 / len(answered)] * len(answered) + [0.0]
            segments += [number] * (len(prompt) + len(answered))
            places.append(torch.arange(start, start + len(prompt) + len(answered)).expand(3, -1))
        return ids, torch.cat(places, dim=1), targets, weights, segments


Rows = tuple[int, int, int]
"""How many rows of a batch are words, scenes and texts."""


@dataclass(frozen=True)
class Course:
    """What the rows of a step are: up to step ``look`` they are ``early``, up to step ``read`` ``middle``, then ``late``.

    From step ``place`` on most questions about scenes are about places and relations.
    """

    look: int
    read: int
    place: int
    early: Rows = (16, 12, 6)
    middle: Rows = (14, 7, 2)
    late: Rows = (5, 15, 2)

    def rows(self, step: int) -> Rows:
        if step < self.look:
            return self.early
        return self.middle if step < self.read else self.late


class Steps(Dataset[list[Group]]):
    """The batch of every step, each from its own seed, so that a training can go on where it stopped."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, course: Course, seed: int, first: int, last: int
    ) -> None:
        self.encoder, self.course, self.seed = Encoder(tokenizer), course, seed
        self.first, self.last = first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> list[Group]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        step = self.first + index
        rng = random.Random(f"vl/{self.seed}/{step}")
        words, pictures, texts = self.course.rows(step)
        drawn = self._words(rng, words), self._scenes(rng, pictures, step), self._texts(rng, texts)
        return [self.encoder.group(rows) for rows in drawn]

    def _words(self, rng: random.Random, count: int) -> list[Asked]:
        canvas, rows = rng.choice(stimuli.CANVASES), []
        for _ in range(count):
            subset = rng.choices(stimuli.SUBSETS, (1, 1.5, 1.5, 6))[0]
            word, ink = rng.choice(stimuli.pairs(subset))
            made = stimuli.random_stimulus(rng, word, ink, "train", canvases=[canvas])
            asked = asked_of_words(rng, word, ink)
            rows.append(Asked(made.image, asked, system=rng.random() < 0.15, labels=of_word(made)))
        return rows

    def _scenes(self, rng: random.Random, count: int, step: int) -> list[Asked]:
        ask = asked_of_scene if step < self.course.place else asked_of_places
        canvas = rng.choice(scenes.CANVASES)
        drawn = [scenes.random_scene(rng, "train", [canvas]) for _ in range(count)]
        return [
            Asked(s.image, ask(rng, s), system=rng.random() < 0.15, labels=of_scene(s), spots=spots_of(s))
            for s in drawn
        ]

    def _texts(self, rng: random.Random, count: int) -> list[Asked]:
        made = [asked_of_text(rng) for _ in range(count)]
        return [Asked(None, asked, caption, rng.random() < 0.15) for caption, asked in made]
