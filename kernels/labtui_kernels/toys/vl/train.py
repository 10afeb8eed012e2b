"""Train the bundled vision-language model from scratch: ``python -m labtui_kernels.toys.vl.train --out DIR``.

Writes a folder that transformers loads as ``Qwen2VLForConditionalGeneration`` (bfloat16 weights, tokenizer, chat
template, image processor) and ``training.log``, one JSON document a line. Training runs in float32 on a CPU. It
can be stopped and started again: ``checkpoint.pt`` in ``DIR`` is written every few minutes, and each step draws
its batch from a seed of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from labtui_kernels.vision import scenes, stimuli

from ..tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, token_id
from .batches import Asked, Course, Encoder, Steps
from .forward import Heads, losses_of, right
from .questions import make_tokenizer

MIN_PIXELS, MAX_PIXELS = 56 * 56, 64 * 28 * 28
"""Smaller and larger pictures are resized: an image is at most 64 tokens."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """The first ``steps`` of a one-cycle schedule of ``length`` that peaks at ``rate``, with an optimiser of its own."""

    steps: int
    length: int
    rate: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One training over a course of pictures, in ``cycles``; the head for places is taught from step ``course.read``
    on, the one for spots from step ``course.place`` on.
    """

    cycles: tuple[Cycle, ...]
    course: Course
    looks: float = 0.1
    places: float = 0.3
    """Weights of the losses of `Heads` beside that of the answers."""

    @property
    def steps(self) -> int:
        return sum(cycle.steps for cycle in self.cycles)

    def cycle_at(self, step: int) -> int:
        """The number of the cycle that ``step`` (from 0) belongs to; the last one's after the end."""
        ends = itertools.accumulate(cycle.steps for cycle in self.cycles)
        return next((number for number, end in enumerate(ends) if step < end), len(self.cycles) - 1)


PLAN = Plan(
    (Cycle(3000, 4500, 1.5e-3), Cycle(1500, 2400, 1e-3), Cycle(2400, 2400, 1e-3)),
    Course(look=1300, read=3000, place=4500),
)
"""First the tower learns, patch by patch, which letters, inks and shapes lie under it, while the decoder answers
questions about captions; then questions about pictures are asked, first mostly about words, which are read by step 2,500,
in the second cycle mostly about scenes, and in the third mostly about places and relations in them. Without the first
part reading stays at chance as soon as words move: answers of one word tell the tower too little."""


def configure(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLConfig:
    """A tower of 6 blocks of width 96 (4 heads of 24), a decoder of 6 of width 128 (4 query and 2 key heads of 32)."""
    return Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": token_id(tokenizer, TURN_END),
            "pad_token_id": token_id(tokenizer, END_OF_TEXT),
            "tie_word_embeddings": True,
        },
        vision_config={"depth": 6, "embed_dim": 96, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 4},
        image_token_id=token_id(tokenizer, "<|image_pad|>"),
        video_token_id=token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )


@torch.no_grad()
def scale(model: Qwen2VLForConditionalGeneration) -> None:
    """Give every layer's weights the spread 1 / sqrt(inputs), embeddings 0.05: the default of 0.02 is made for widths
    of thousands, and here leaves attention even and blocks idle for long.
    """
    for part in model.modules():
        if isinstance(part, torch.nn.Linear) and part is not model.lm_head:
            part.weight.normal_(std=part.in_features**-0.5)
        elif isinstance(part, torch.nn.Conv3d):
            part.weight.normal_(std=part.weight[0].numel() ** -0.5)
        elif isinstance(part, torch.nn.Embedding):
            part.weight.normal_(std=0.05)


def held_out(n: int, seed: int) -> list[tuple[str, Asked]]:
    """(kind, picture with its questions) of ``4 n`` words and ``n`` scenes that are in no training picture."""
    made: list[tuple[str, Asked]] = []
    for subset in stimuli.SUBSETS:
        for s in stimuli.generate(subset, n, seed, "held-out"):
            made.append((subset, Asked(s.image, list(s.answers.items()))))
    made += [("scene", Asked(s.image, s.questions)) for s in scenes.generate(n, seed, "held-out")]
    return made


def judge(
    model: Qwen2VLForConditionalGeneration, encoder: Encoder, pictures: list[tuple[str, Asked]]
) -> dict[str, float]:
    """Share of right answers by kind of question: ink, word, and those of scenes."""
    model.eval()
    by_size: dict[tuple[int, int], list[Asked]] = {}
    for _, picture in pictures:
        assert picture.image is not None
        by_size.setdefault(picture.image.size, []).append(picture)
    hits: dict[str, list[bool]] = {}
    for rows in by_size.values():
        for some in (rows[i : i + 32] for i in range(0, len(rows), 32)):
            answered = right(model, encoder.group(some), [len(row.questions) for row in some])
            for row, marks in zip(some, answered, strict=True):
                for (question, _), mark in zip(row.questions, marks, strict=True):
                    hits.setdefault(topic_of(question), []).append(mark)
    model.train()
    return {topic: round(sum(marks) / len(marks), 4) for topic, marks in sorted(hits.items())}


def topic_of(question: str) -> str:
    """``ink``, ``word``, or the kind of a question about a scene."""
    if question == stimuli.INK_QUESTION:
        return "ink"
    return "word" if question == stimuli.WORD_QUESTION else scenes.kind_of(question)


class Training:
    """A model in training, with its optimiser and how far it is."""

    def __init__(self, plan: Plan, seed: int, out: Path) -> None:
        torch.manual_seed(seed)
        self.plan, self.seed, self.out, self.step, self.seconds = plan, seed, out, 0, 0.0
        self.tokenizer = make_tokenizer(seed)
        self.model = Qwen2VLForConditionalGeneration(configure(self.tokenizer))
        scale(self.model)
        self.model.train()
        tower: Any = self.model.model.visual
        self.heads = Heads(tower.config.embed_dim, tower.config.hidden_size)
        self.weights = [*self.model.parameters(), *self.heads.parameters()]
        self.begin()

    def begin(self) -> None:
        """A new optimiser and schedule, those of the cycle that the next step belongs to."""
        cycle = self.plan.cycles[self.plan.cycle_at(self.step)]
        decayed = [p for p in self.weights if p.ndim > 1]
        others = [p for p in self.weights if p.ndim == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=cycle.rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            max_lr=cycle.rate,
            total_steps=cycle.length,
            pct_start=0.05,
            final_div_factor=100.0,
        )

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def keep(self) -> None:
        """Write the state to disk; the file is whole at every moment."""
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def resume(self) -> None:
        """Go on from ``checkpoint.pt``."""
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.begin()
        if self.plan.cycle_at(self.step) == self.plan.cycle_at(self.step - 1):
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])

    def run(self, minutes: float, every: int, note: Callable[..., None], watch: int = 72) -> None:
        """All steps that are left; kept, and judged on ``watch`` held-out pictures of a kind, ``every`` so many.

        RuntimeError when out of time.
        """
        encoder, watched = Encoder(self.tokenizer), held_out(watch, self.seed + 1)
        batches = Steps(self.tokenizer, self.plan.course, self.seed, self.step, self.plan.steps)
        before, started, losses = self.seconds, time.monotonic(), []
        for groups in DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4):
            self.optimiser.zero_grad(set_to_none=True)
            if self.plan.cycle_at(self.step) != self.plan.cycle_at(self.step - 1):
                self.begin()
            asks, placed = self.step >= self.plan.course.look, self.step >= self.plan.course.read
            parts = [losses_of(self.model, self.heads, group, asks, placed) for group in groups]
            answers = torch.stack([part.answers for part in parts]).sum() / sum(
                part.questions for part in parts
            )
            looks = torch.stack([part.looks for part in parts]).sum()
            places = torch.stack([part.places for part in parts]).sum()
            if self.step >= self.plan.course.place:
                places = places + torch.stack([part.spots for part in parts]).sum()
            (answers + self.plan.looks * looks + self.plan.places * places).backward()
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimiser.step()
            self.schedule.step()
            self.step += 1
            mean = [float(part.answers.detach()) / max(part.questions, 1.0) for part in parts]
            losses.append([*mean, *(float(part.looks.detach()) for part in parts[:2])])
            self.seconds = before + time.monotonic() - started
            if self.step % 100 == 0 or self.step == self.plan.steps:
                names = ("words", "scenes", "texts", "looks_words", "looks_scenes")
                each = {
                    name: round(sum(values) / len(values), 4)
                    for name, values in zip(names, zip(*losses, strict=True), strict=True)
                }
                each["places"] = round(float(places.detach()), 4)
                judged = {}
                if self.step % every == 0 or self.step == self.plan.steps:
                    judged = {"held_out": judge(self.model, encoder, watched)}
                    self.keep()
                note(step=self.step, **each, seconds=round(self.seconds, 1), **judged)
                losses = []
            if self.seconds > 60 * minutes and self.step < self.plan.steps:
                self.keep()
                raise RuntimeError(f"train: out of time at step {self.step}; raise --minutes and start again")

    def save(self) -> None:
        """Write the model folder: bfloat16 weights, tokenizer, template, image processor."""
        model = self.model.eval().bfloat16()
        model.generation_config.do_sample = False
        model.save_pretrained(self.out)
        save_tokenizer(self.tokenizer, self.out)
        Qwen2VLImageProcessorPil(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS).save_pretrained(self.out)


def train(
    out: Path, seed: int, minutes: float, threads: int, every: int, plan: Plan = PLAN, watch: int = 72
) -> None:
    """Train through ``plan``, or go on from ``out``'s checkpoint, and write the model folder ``out``."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    training = Training(plan, seed, out)
    again = training.checkpoint.exists()
    if again:
        training.resume()
    with (out / "training.log").open("a" if again else "w", encoding="utf-8") as log:

        def note(**fields: Any) -> None:
            log.write(json.dumps(fields) + "\n")
            log.flush()
            print(json.dumps(fields), flush=True)

        note(
            event="resume" if again else "start", seed=seed, plan=asdict(plan), step=training.step,
            parameters=sum(p.numel() for p in training.model.parameters()), threads=threads,
            machine=f"CPU, {platform.machine()}", dtype="float32", python=platform.python_version(),
            torch=torch.__version__, transformers=transformers.__version__,
        )  # fmt: skip
        training.run(minutes, every, note, watch)
        note(event="end", steps=training.step, seconds=round(training.seconds, 1))
    training.save()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.vl.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="give up after so long (default 60)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints (default 500)")
    given = parser.parse_args(arguments)
    train(given.out, given.seed, given.minutes, given.threads, given.every)


if __name__ == "__main__":
    main()
