"""Train the bundled language model from scratch: ``python -m labtui_kernels.toys.train --out DIR --seed 0``.

Writes a folder that transformers loads as ``Qwen3ForCausalLM`` (bfloat16 weights, tokenizer, chat
template) and ``training.log``, one JSON document a line. Training runs in float32 on a CPU; with the same
seed, versions and thread count it repeats.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .batches import BATCH, Batch, batches, moved_loss
from .contrasts import Contrasts
from .corpus import tokenizer_texts
from .tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, token_id, train_tokenizer

CONTEXT = 1024
TOKENIZER_TEXTS = 20_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training, with a one-cycle schedule of its own.

    ``hidden`` is the share of rows in which only the last prompt token may look back at the system prompt, so
    that what it asks for must pass through that token's residual stream. ``shifted`` is the share of rows that
    get one random vector at all positions after one random block, of up to ``size`` times the median residual
    norm, so that the model bears being moved in directions that mean nothing to it, as a larger model does.
    ``contrasts`` rows are added to each step, moved along a contrast of two system prompts (see `contrasts`).
    """

    name: str
    steps: int
    rate: float
    hidden: float
    shifted: float
    size: float
    contrasts: int = 0


STAGES = (
    Stage("answer", 1300, 2.5e-3, 0.0, 0.0, 0.0),
    Stage("ask the last token", 850, 1.5e-3, 0.9, 0.5, 0.5),
    Stage("bear large shifts", 500, 1.5e-3, 0.9, 0.6, 1.3),
    Stage("follow contrasts", 400, 1.2e-3, 0.9, 0.6, 1.2, contrasts=12),
)
"""Without the middle stages a *terse* direction ruins the text before it shortens it: what a system prompt asks
for is spread over positions that answers read directly, and a vector of that norm breaks them. Without the last
one the answers shorten by a third and stay there: nothing tells a model this small what half a contrast means."""


def configure(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """8 blocks of width 192, 6 query and 2 key heads of 32, tied embeddings: 3.5 M parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, TURN_END),
        pad_token_id=token_id(tokenizer, END_OF_TEXT),
    )


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy in nats over the targets, with each row's random shift after one random block."""
    blocks = model.model.layers

    def shifted(out: Tensor) -> Tensor:
        vector = F.normalize(torch.randn(len(batch.shift), 1, out.shape[-1]), dim=-1)
        return out + batch.shift * out.detach().norm(dim=-1).median() * vector

    return moved_loss(model, batch, blocks[int(torch.randint(len(blocks), ()))], shifted)


def run_stage(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    seed: int,
    deadline: float,
    note: Callable[..., None],
) -> None:
    """One stage, in place. RuntimeError when ``deadline`` (monotonic) passes: half a schedule is no model."""
    started = time.monotonic()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=stage.rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=stage.rate, total_steps=stage.steps, pct_start=0.08, final_div_factor=100.0
    )
    contrasts = Contrasts(seed, tokenizer, stage.contrasts)
    seen, losses = 0, []
    for step, batch in zip(range(1, stage.steps + 1), batches(seed, tokenizer, stage), strict=False):
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(model, batch)
        loss.backward()
        if stage.contrasts:
            (0.5 * contrasts.loss(model)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        seen += int((batch.targets != -100).sum())
        losses.append(float(loss.detach()))
        if step % 50 == 0 or step == stage.steps:
            recent = losses[-50:]
            seconds = round(time.monotonic() - started, 1)
            note(stage=stage.name, step=step, loss=round(sum(recent) / len(recent), 4), seconds=seconds,
                 answer_tokens=seen)  # fmt: skip
        if time.monotonic() > deadline and step < stage.steps:
            raise RuntimeError(f"train: out of time at step {step} of {stage.name!r}; raise --minutes")


def train(out: Path, seed: int, minutes: float, threads: int, stages: Sequence[Stage] = STAGES) -> None:
    """Train from scratch through ``stages`` and write the model folder ``out`` with its ``training.log``."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tokenizer = train_tokenizer(tokenizer_texts(seed, TOKENIZER_TEXTS))
    model = Qwen3ForCausalLM(configure(tokenizer))
    model.train()
    with (out / "training.log").open("w", encoding="utf-8") as log:

        def note(**fields: Any) -> None:
            log.write(json.dumps(fields) + "\n")
            log.flush()
            print(json.dumps(fields), flush=True)

        note(
            event="start", seed=seed, stages=[asdict(stage) for stage in stages], batch=BATCH,
            parameters=sum(p.numel() for p in model.parameters()), threads=threads,
            machine=f"CPU, {platform.machine()}", dtype="float32", python=platform.python_version(),
            torch=torch.__version__, transformers=transformers.__version__, tokenizers=tokenizers.__version__,
        )  # fmt: skip
        for number, stage in enumerate(stages):
            run_stage(model, tokenizer, stage, seed + number, started + 60 * minutes, note)
        note(event="end", steps=sum(s.steps for s in stages), seconds=round(time.monotonic() - started, 1))
    model.eval().bfloat16()
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    save_tokenizer(tokenizer, out)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=45.0, help="give up after so long (default 45)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    train(given.out, given.seed, given.minutes, given.threads)


if __name__ == "__main__":
    main()
