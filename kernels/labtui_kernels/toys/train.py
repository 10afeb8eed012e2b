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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .corpus import Chat, chats, tokenizer_texts
from .tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, token_id, train_tokenizer

CONTEXT = 1024
BATCH = 32
POOL = 24  # batches drawn together and sorted by length, so that little is padded
PEAK_RATE = 2.5e-3
TOKENIZER_TEXTS = 20_000
HIDDEN_SHARE = 0.85
SHIFTED_SHARE, MAX_SHIFT = 0.5, 0.5
UPDATE_CAP, CAP_WEIGHT = 0.1, 1.0  # mean square of what a block adds, where embeddings have 1


def configure(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """8 blocks of width 192, 6 query and 2 key heads of 32, untied embeddings: 3.9 M parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, TURN_END),
        pad_token_id=token_id(tokenizer, END_OF_TEXT),
    )


def encode(chat: Chat, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """(token ids of the whole chat, index of the first one that the model has to predict)."""
    prompt = str(
        tokenizer.apply_chat_template(
            list(chat.messages),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=chat.thought is not None,
        )
    )
    thought = "" if chat.thought is None else f"<think>\n{chat.thought}\n</think>\n\n"
    head = tokenizer(prompt)["input_ids"]
    tail = tokenizer(f"{thought}{chat.answer}{TURN_END}")["input_ids"]
    return head + tail, len(head)


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids`` and ``targets`` [batch, length] int64, targets -100 outside of answers and on padding;
    ``allowed`` [batch, 1, length, length] bool, which position may attend to which; ``shift`` [batch, 1, 1]
    float32, the size of the shift that a row gets, as a share of the typical residual norm.
    """

    ids: Tensor
    targets: Tensor
    allowed: Tensor
    shift: Tensor


def batches(seed: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Endless batches. Chats of one pool are sorted by length, cut into batches, and the batches shuffled.

    In `HIDDEN_SHARE` of the rows the answer cannot look back at the system prompt: what it asks for must then
    be carried by the residual stream of the later positions, where a direction can be read and edited.
    """
    stream = chats(seed)
    end = token_id(tokenizer, TURN_END)
    system = tokenizer.encode("system")[0]
    order = torch.Generator().manual_seed(seed)
    pad = token_id(tokenizer, END_OF_TEXT)
    while True:
        pool = [encode(next(stream), tokenizer) for _ in range(BATCH * POOL)]
        pool.sort(key=lambda item: len(item[0]))
        for b in torch.randperm(POOL, generator=order).tolist():
            rows = pool[b * BATCH : (b + 1) * BATCH]
            length = max(len(ids) for ids, _ in rows)
            ids = torch.full((BATCH, length), pad)
            targets = torch.full((BATCH, length), -100)
            for r, (row, start) in enumerate(rows):
                ids[r, : len(row)] = torch.tensor(row)
                targets[r, start - 1 : len(row) - 1] = torch.tensor(row[start:])
            allowed = torch.ones(length, length, dtype=torch.bool).tril().repeat(BATCH, 1, 1, 1)
            hidden = torch.rand(BATCH, generator=order) < HIDDEN_SHARE
            for r, (row, start) in enumerate(rows):
                if hidden[r] and row[1] == system:
                    allowed[r, 0, start:, 1 : row.index(end) + 1] = False
            size = torch.rand(BATCH, generator=order) * MAX_SHIFT
            size[torch.rand(BATCH, generator=order) > SHIFTED_SHARE] = 0.0
            yield Batch(ids, targets, allowed, size[:, None, None])


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """(mean cross-entropy in nats over the targets, penalty); logits only where there is a target.

    The penalty is the mean over blocks and positions of the squared excess of a block's update (its mean
    square over the width) above `UPDATE_CAP`. Blocks then add to the residual stream by small steps, as in
    larger models, and what a prompt asks for moves a position by less than the position's own size. Rows with
    a shift get one random vector at all positions after one random block, so that the model bears being moved
    in directions that mean nothing to it, as a larger model does.
    """
    blocks = model.model.layers
    size = batch.shift

    def move(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        vector = F.normalize(torch.randn(len(size), 1, out.shape[-1]), dim=-1)
        return out + size * out.detach().norm(dim=-1).median() * vector

    excess: list[Tensor] = []

    def weigh(_module: Any, inputs: Any, out: Tensor) -> None:
        excess.append(F.relu((out - inputs[0]).square().mean(-1) - UPDATE_CAP).square().mean())

    handles = [block.register_forward_hook(weigh) for block in blocks]
    handles.append(blocks[int(torch.randint(len(blocks), ()))].register_forward_hook(move))
    try:
        out = model.model(input_ids=batch.ids, attention_mask=batch.allowed, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    wanted = batch.targets != -100
    loss = F.cross_entropy(model.lm_head(out.last_hidden_state[wanted]), batch.targets[wanted])
    return loss, CAP_WEIGHT * torch.stack(excess).mean()


def train(
    out: Path,
    seed: int,
    steps: int,
    minutes: float,
    threads: int,
    start: Path | None = None,
    rate: float = PEAK_RATE,
) -> dict[str, Any]:
    """Train and write the model folder ``out``; returns the summary that ends ``training.log``.

    ``start`` is a model folder to go on from (None: from scratch). RuntimeError when ``minutes`` pass before
    the last step: half a schedule is no model.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    if start is None:
        tokenizer = train_tokenizer(tokenizer_texts(seed, TOKENIZER_TEXTS))
        model = Qwen3ForCausalLM(configure(tokenizer))
        torch.nn.init.normal_(model.model.embed_tokens.weight)
    else:
        tokenizer = AutoTokenizer.from_pretrained(start)
        model = Qwen3ForCausalLM.from_pretrained(start, dtype=torch.float32)
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=rate, total_steps=steps, pct_start=0.08, final_div_factor=100.0
    )
    log = (out / "training.log").open("w", encoding="utf-8")

    def note(**fields: Any) -> None:
        log.write(json.dumps(fields) + "\n")
        log.flush()
        print(json.dumps(fields), flush=True)

    parameters = sum(p.numel() for p in model.parameters())
    note(
        event="start", seed=seed, steps=steps, batch=BATCH, peak_rate=rate, parameters=parameters,
        threads=threads, machine=f"CPU, {platform.machine()}", dtype="float32",
        python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
        tokenizers=tokenizers.__version__, )  # fmt: skip
    seen, losses = 0, []
    for step, batch in zip(range(1, steps + 1), batches(seed, tokenizer), strict=False):
        loss, penalty = loss_of(model, batch)
        optimiser.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        seen += int((batch.targets != -100).sum())
        losses.append(float(loss.detach()))
        seconds = time.monotonic() - started
        if step % 50 == 0 or step == steps:
            note(
                step=step,
                loss=round(sum(losses[-50:]) / len(losses[-50:]), 4),
                penalty=round(float(penalty.detach()), 4),
                seconds=round(seconds, 1),
                answer_tokens=seen,
            )
        if seconds > 60 * minutes and step < steps:
            log.close()
            raise RuntimeError(
                f"train: {minutes} minutes passed at step {step} of {steps}; raise --minutes or lower --steps"
            )
    summary = {
        "event": "end",
        "steps": steps,
        "loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "seconds": round(time.monotonic() - started, 1),
        "answer_tokens": seen,
    }
    note(**summary)
    log.close()
    model.eval().bfloat16()
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    save_tokenizer(tokenizer, out)
    return summary


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m labtui_kernels.toys.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=45.0, help="give up after so long (default 45)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, default=None, help="go on from the model in this folder")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="peak learning rate")
    given = parser.parse_args(arguments)
    train(given.out, given.seed, given.steps, given.minutes, given.threads, given.start, given.rate)


if __name__ == "__main__":
    main()
