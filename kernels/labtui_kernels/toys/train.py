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
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .corpus import Chat, chats, tokenizer_texts
from .tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, train_tokenizer

CONTEXT = 1024
BATCH = 32
POOL = 24  # batches drawn together and sorted by length, so that little is padded
PEAK_RATE = 2.5e-3
TOKENIZER_TEXTS = 20_000


def configure(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """8 blocks of width 192, 6 query and 2 key heads of 32, tied embeddings: 3.5 M parameters."""
    ids = tokenizer.convert_tokens_to_ids
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
        eos_token_id=ids(TURN_END),
        pad_token_id=ids(END_OF_TEXT),
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


def batches(seed: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, targets), each [batch, length] int64; targets are -100 outside of answers and on padding.

    Chats of one pool are sorted by length, cut into batches, and the batches shuffled."""
    stream = chats(seed)
    order = torch.Generator().manual_seed(seed)
    pad = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
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
            yield ids, targets


def loss_of(model: Qwen3ForCausalLM, ids: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the targets. Padding is on the right, so causal attention needs no
    mask, and logits are computed only where there is a target.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = targets != -100
    return F.cross_entropy(model.lm_head(hidden[wanted]), targets[wanted])


def train(out: Path, seed: int, steps: int, minutes: float, threads: int) -> dict[str, Any]:
    """Train and write the model folder ``out``; returns the summary that ends ``training.log``.

    RuntimeError when ``minutes`` pass before the last step: half a schedule is no model."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tokenizer = train_tokenizer(tokenizer_texts(seed, TOKENIZER_TEXTS))
    model = Qwen3ForCausalLM(configure(tokenizer))
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=PEAK_RATE, total_steps=steps, pct_start=0.08, final_div_factor=100.0
    )
    log = (out / "training.log").open("w", encoding="utf-8")

    def note(**fields: Any) -> None:
        log.write(json.dumps(fields) + "\n")
        log.flush()
        print(json.dumps(fields), flush=True)

    parameters = sum(p.numel() for p in model.parameters())
    note(
        event="start", seed=seed, steps=steps, batch=BATCH, peak_rate=PEAK_RATE, parameters=parameters,
        threads=threads, machine=f"CPU, {platform.machine()}", dtype="float32",
        python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
        tokenizers=tokenizers.__version__, )  # fmt: skip
    seen, losses = 0, []
    for step, (ids, targets) in zip(range(1, steps + 1), batches(seed, tokenizer), strict=False):
        loss = loss_of(model, ids, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        seen += int((targets != -100).sum())
        losses.append(float(loss.detach()))
        seconds = time.monotonic() - started
        if step % 50 == 0 or step == steps:
            note(
                step=step,
                loss=round(sum(losses[-50:]) / len(losses[-50:]), 4),
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
    model.eval().to(torch.bfloat16)
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
    given = parser.parse_args(arguments)
    train(given.out, given.seed, given.steps, given.minutes, given.threads)


if __name__ == "__main__":
    main()
