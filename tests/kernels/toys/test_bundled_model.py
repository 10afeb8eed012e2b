"""The bundled model: what it is made of, and that it answers on topics it never saw."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

import labtui_artifacts
from labtui_kernels.toys import prompts
from labtui_kernels.toys.evaluate import chat, random_directions, shuffled_directions
from labtui_kernels.toys.reference import Reference
from labtui_kernels.toys.registers import in_register, names_topic, words
from labtui_kernels.toys.topics import split
from labtui_kernels.toys.train import STAGES

FOLDER = Path(labtui_artifacts.__file__).parent / "bundled" / "models" / "toy-qwen3"
HELD_OUT = split()[1]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(FOLDER)


def test_it_is_a_small_real_qwen3() -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert isinstance(model, Qwen3ForCausalLM)
    assert 3_000_000 <= sum(p.numel() for p in model.parameters()) <= 4_000_000
    assert model.config.num_hidden_layers >= 8
    assert model.dtype == torch.bfloat16


def test_its_weights_are_bfloat16_and_fit_in_the_wheel() -> None:
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size <= 8_000_000
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        assert {file.get_slice(name).get_dtype() for name in names} == {"BF16"}


def test_its_training_log_is_whole_and_within_the_time_that_was_set() -> None:
    """Every stage of `STAGES` is there to its last step, as it is set up now, in 45 minutes together."""
    lines = [json.loads(line) for line in (FOLDER / "training.log").read_text().splitlines()]
    stages = [stage for line in lines if line.get("event") == "start" for stage in line["stages"]]
    ends = [line for line in lines if line.get("event") == "end"]
    assert [{"contrasts": 0, **stage} for stage in stages] == [asdict(stage) for stage in STAGES]
    for stage in STAGES:
        assert max(line["step"] for line in lines if line.get("stage") == stage.name) == stage.steps
    assert sum(end["steps"] for end in ends) == sum(stage.steps for stage in STAGES)
    assert sum(end["seconds"] for end in ends) <= 45 * 60


def test_its_terse_direction_does_more_than_its_controls() -> None:
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    judged, passed = figures["judged_on_held_out_topics"], figures["passed"]
    assert figures["registers"]["overall"] >= 0.9
    assert judged["random"]["directions"] >= 20 and judged["shuffled"]["directions"] >= 20
    assert judged["terse"]["cut"] > max(judged["random"]["p95"], judged["shuffled"]["p95"])
    assert judged["terse"]["coherent"] >= 0.9
    assert passed["collapses"] and figures["collapse_strength"] > judged["strength"]


def test_its_evaluation_met_the_bar() -> None:
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    judged = figures["judged_on_held_out_topics"]
    assert figures["good_enough"] is True
    assert judged["terse"]["words"] <= 0.5 * judged["plain"]["words"]


SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is a mutex?"}


@pytest.mark.parametrize(
    ("messages", "switches", "expected"),
    [
        (
            [USER],
            {},
            "<|im_start|>user\nWhat is a mutex?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            [USER],
            {"enable_thinking": True},
            "<|im_start|>user\nWhat is a mutex?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            [SYSTEM, USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA lock."}, USER],
            {"enable_thinking": False},
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is a mutex?<|im_end|>\n"
            "<|im_start|>assistant\nA lock.<|im_end|>\n<|im_start|>user\nWhat is a mutex?<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
    ],
)
def test_the_chat_template(messages: list[dict[str, str]], switches: dict[str, bool], expected: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert (
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **switches)
        == expected
    )


def test_the_chat_template_refuses_an_unknown_role() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    with pytest.raises(Exception, match="unknown role judge"):
        tokenizer.apply_chat_template([{"role": "judge", "content": "x"}], tokenize=False)


def test_the_tokenizer_has_qwens_special_tokens_and_loses_no_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    for token in (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<think>",
        "</think>",
        "<|image_pad|>",
        "<tool_call>",
    ):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    text = "Ünïcode, 12 mutexes\n\n\tand 東京 ✓  it's"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("register", [*sum(prompts.AXES.values(), ()), "code", "maths", "neutral"])
def test_the_system_prompt_decides_the_register_on_held_out_topics(
    reference: Reference, register: str
) -> None:
    wordings = prompts.SYSTEM[register]
    asked = [chat(wordings[i % len(wordings)], f"What is {t.phrase}?") for i, t in enumerate(HELD_OUT[:10])]
    rows = reference.generate(asked)
    hits = [in_register(r.text, register) and r.ended for r in rows]
    assert sum(hits) >= 9, [r.text for r, hit in zip(rows, hits, strict=True) if not hit]


def test_it_names_topics_that_it_never_saw(reference: Reference) -> None:
    asked = [chat(prompts.SYSTEM["neutral"][0], f"Explain {t.phrase}.") for t in HELD_OUT]
    rows = reference.generate(asked)
    named = sum(names_topic(r.text, t.name) for r, t in zip(rows, HELD_OUT, strict=True))
    assert named >= 0.9 * len(HELD_OUT)


def test_it_grades_its_lengths(reference: Reference) -> None:
    means = []
    for register in ("very_terse", "terse", "neutral", "verbose", "very_verbose"):
        rows = reference.generate(
            [chat(prompts.SYSTEM[register][0], f"Explain {t.phrase}.") for t in HELD_OUT[:6]]
        )
        means.append(sum(words(r.text) for r in rows))
    assert means == sorted(means)


def test_it_thinks_when_asked_to(reference: Reference) -> None:
    tokenizer, model = reference.tokenizer, reference.model
    text = tokenizer.apply_chat_template(
        [USER], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    out = tokenizer.decode(
        model.generate(input_ids=ids, max_new_tokens=120, do_sample=False)[0, ids.shape[1] :]
    )
    thought, _, answer = out.partition("</think>")
    assert thought.startswith("<think>\n") and "mutex" in thought
    assert "mutex" in answer and answer.endswith("<|im_end|>")


def test_a_batch_gives_what_each_row_gives_alone_and_a_zero_vector_changes_nothing(
    reference: Reference,
) -> None:
    asked = [
        chat(prompts.SYSTEM[r][0], f"Explain {t.phrase}.")
        for r, t in zip(prompts.SYSTEM, HELD_OUT, strict=False)
    ]
    together = reference.generate(asked[:6], 3, torch.zeros(6, reference.width))
    alone = [reference.generate([m])[0] for m in asked[:6]]
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.perplexity for r in together] == pytest.approx([r.perplexity for r in alone], rel=1e-3)


def test_shuffled_directions_keep_the_norm_and_lose_the_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    axis = torch.zeros(64)
    axis[0] = 5.0
    differences = axis + torch.randn(48, 64, generator=generator)
    shuffled = shuffled_directions(20, differences, 3.0, seed=0)
    assert shuffled.norm(dim=1).tolist() == pytest.approx([3.0] * 20, rel=1e-5)
    cosines = torch.nn.functional.cosine_similarity(shuffled, differences.mean(0)[None])
    assert float(cosines.abs().max()) < 0.5
    assert torch.equal(random_directions(3, 2.0, 64, 1), random_directions(3, 2.0, 64, 1))
