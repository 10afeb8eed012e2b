"""The bundled vision-language model: what it is made of, and that it answers on pictures it never saw."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, Qwen2VLForConditionalGeneration

import labtui_artifacts
from labtui_kernels.toys.vl.evaluate import INK_BAR, SCENE_BAR, WORD_BAR, Judge, scene_items, word_items
from labtui_kernels.toys.vl.train import PLAN

FOLDER = Path(labtui_artifacts.__file__).parent / "bundled" / "models" / "toy-qwen2-vl"
SCENE_FLOOR = 0.8


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(FOLDER)


def test_it_is_a_small_real_qwen2_vl() -> None:
    model = AutoModelForImageTextToText.from_pretrained(FOLDER)
    assert isinstance(model, Qwen2VLForConditionalGeneration)
    assert len(model.model.visual.blocks) >= 6 and len(model.model.language_model.layers) >= 6
    assert model.dtype == torch.bfloat16
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size <= 8_000_000
    with safe_open(path, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_its_processor_needs_pillow_alone_and_keeps_pictures_small(judge: Judge) -> None:
    config = json.loads((FOLDER / "preprocessor_config.json").read_text())
    assert config["patch_size"] == 14 and config["merge_size"] == 2
    assert config["image_processor_type"].startswith("Qwen2VLImageProcessor")
    from PIL import Image

    seen = judge.processor([Image.new("RGB", (3000, 2000)), Image.new("RGB", (10, 14))], return_tensors="pt")
    tokens = seen["image_grid_thw"].prod(-1) // 4
    assert int(tokens[0]) <= 64 and int(tokens[1]) >= 4


def test_its_training_log_is_whole_and_within_an_hour() -> None:
    """Every step is there, the plan in force at its end is the script's, and it took less than an hour."""
    lines = [json.loads(line) for line in (FOLDER / "training.log").read_text().splitlines()]
    plans = [line["plan"] for line in lines if "plan" in line]
    assert plans[-1] == json.loads(json.dumps(asdict(PLAN)))
    assert {line.get("step") for line in lines} >= set(range(100, PLAN.steps + 1, 100))
    assert lines[-1]["event"] == "end" and lines[-1]["steps"] == PLAN.steps
    assert lines[-1]["seconds"] <= 3600


def test_it_answers_questions_about_words_and_scenes_it_never_saw(judge: Judge) -> None:
    """A few pictures of another seed than the evaluation's; the bars leave room for so few."""
    words, pictures = word_items(12, 77), scene_items(12, 77)
    told = judge.answers([*words, *pictures])
    hits = [item.answer == answer for item, answer in zip([*words, *pictures], told, strict=True)]
    ink = [hit for item, hit in zip(words, hits, strict=False) if item.kind == "ink"]
    word = [hit for item, hit in zip(words, hits, strict=False) if item.kind == "word"]
    assert len(ink) == len(word) == 48
    assert sum(ink) >= 44 and sum(word) >= 42
    assert sum(hits[len(words) :]) >= SCENE_FLOOR * len(pictures)


def test_its_figures_are_those_of_its_weights(judge: Judge) -> None:
    """The written log-probabilities' inputs repeat: a sample of the evaluation gives its own verdicts again."""
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    assert figures["passed"] == {
        "ink": figures["ink"]["accuracy"] >= INK_BAR,
        "word": figures["word"]["accuracy"] >= WORD_BAR,
        "scenes": figures["scenes"]["accuracy"] >= SCENE_BAR,
    }
    items = scene_items(240, figures["seed"])
    wrong = {(w["question"], w["answer"]) for w in figures["wrong"] if w["subset"] == "scene"}
    sample = [item for item in items if (item.question, item.answer) not in wrong][:30]
    assert judge.answers(sample) == [item.answer for item in sample]


def test_a_text_without_a_picture_is_answered_too(judge: Judge) -> None:
    content = "the word red in blue ink.\nWhat is the ink color of the text?"
    text = judge.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = judge.tokenizer(str(text), return_tensors="pt", return_token_type_ids=False)
    out = judge.model.generate(  # type: ignore[attr-defined]
        **inputs, max_new_tokens=4, do_sample=False
    )
    answer = judge.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "blue"
