"""What the model is trained on: answers are the targets, most of which cannot see the system prompt."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM

import labtui_artifacts
from labtui_kernels.toys import batches, compose, prompts, train
from labtui_kernels.toys.contrasts import Contrasts
from labtui_kernels.toys.corpus import Chat, chats
from labtui_kernels.toys.registers import words
from labtui_kernels.toys.tokenizer import TURN_END, token_id

LAST = train.STAGES[-1]
FOLDER = Path(labtui_artifacts.__file__).parent / "bundled" / "models" / "toy-qwen3"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


def test_only_answers_are_targets(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = chats(0)
    for _ in range(50):
        chat = next(stream)
        ids, start = batches.encode(chat, tokenizer)
        text = str(tokenizer.decode(ids[start:]))
        assert text.endswith(chat.answer + TURN_END)
        assert str(tokenizer.decode(ids[:start])).rstrip().endswith(("assistant", "</think>"))


def test_batches_repeat_and_hide_the_system_prompt_from_most_answers(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    batch = next(batches.batches(0, tokenizer, LAST))
    again = next(batches.batches(0, tokenizer, LAST))
    assert torch.equal(batch.ids, again.ids) and torch.equal(batch.allowed, again.allowed)
    system = tokenizer.encode("system")[0]
    end = token_id(tokenizer, TURN_END)
    blind = with_system = 0
    for ids, targets, allowed in zip(batch.ids, batch.targets, batch.allowed[:, 0], strict=True):
        first = int((targets != -100).nonzero()[0])  # the last prompt token: it sees everything before it
        assert bool(allowed[first, : first + 1].all())
        assert not bool(allowed.triu(1).any())
        if ids[1] == system:
            with_system += 1
            turn = ids.tolist().index(end)
            hidden = not bool(allowed[first + 1, 1 : turn + 1].any())
            blind += hidden
            between = allowed[turn + 1 : first, 1 : turn + 1]
            assert bool(between.any()) != hidden or not between.numel()
            assert bool(allowed[first + 1, turn + 1 : first + 2].all())
    assert 0.5 * with_system < blind <= with_system


def test_a_step_lowers_the_loss_of_its_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(train.configure(tokenizer))
    batch = next(batches.batches(0, tokenizer, LAST))
    batch.shift.zero_()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    before = train.loss_of(model, batch)
    before.backward()
    optimiser.step()
    assert float(train.loss_of(model, batch).detach()) < float(before.detach())
    assert all(not block._forward_hooks for block in model.model.layers)


def test_rows_that_follow_a_contrast_are_as_long_as_it_asks_for(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = Contrasts(0, tokenizer, 4)
    drawn = [stream.draw() for _ in range(300)]
    wordings = {text: register for register, texts in prompts.SYSTEM.items() for text in texts}

    def level(chat: Chat) -> float:
        return compose.LEVELS[wordings[chat.messages[0]["content"]]]

    found, lengths = [], []
    for row, low, high, share in drawn:
        assert 0.0 < share <= 1.0 and low.messages[1] == high.messages[1]
        found.append(level(row) + share * (level(high) - level(low)))
        lengths.append(words(row.answer))
    order = torch.tensor(found).argsort()
    short, long = (
        torch.tensor(lengths, dtype=torch.float32)[part].mean() for part in (order[:60], order[-60:])
    )
    assert 4 * float(short) < float(long)
    again = Contrasts(0, tokenizer, 4)
    assert [again.draw() for _ in range(300)] == drawn


def test_a_contrast_moves_the_row_and_leaves_no_hook(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(train.configure(tokenizer))
    loss = Contrasts(0, tokenizer, 3).loss(model)
    loss.backward()
    assert loss.isfinite() and model.lm_head.weight.grad is not None
    assert all(not block._forward_hooks for block in model.model.layers)
