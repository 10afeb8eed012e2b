"""The vision-language toy's batches and forward pass against the plain model and image processor."""

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from labtui_kernels.toys.vl import batches, forward, labels, questions, train
from labtui_kernels.toys.vl.batches import Asked, Course, Encoder, Steps
from labtui_kernels.vision import scenes, stimuli


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return questions.make_tokenizer(0)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLForConditionalGeneration:
    torch.manual_seed(0)
    return Qwen2VLForConditionalGeneration(train.configure(tokenizer)).eval()


def test_every_one_word_answer_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    words = [*stimuli.COLORS, stimuli.NEUTRAL, stimuli.NO_WORD, *scenes.SHAPES, *scenes.NUMBERS]
    for word in [*words, "left", "right", "above", "below"]:
        assert len(tokenizer(word)["input_ids"]) == 1, word


def test_the_template_is_that_of_qwen2_vl(tokenizer: PreTrainedTokenizerFast) -> None:
    content: Any = [
        {"type": "image", "image": "a.png"},
        {"type": "image"},
        {"type": "text", "text": "Which?"},
    ]
    chat: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]
    one = "<|vision_start|><|image_pad|><|vision_end|>"
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{one}{one}Which?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    plain = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert tokenizer.apply_chat_template(plain, tokenize=False) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n"
    )
    with pytest.raises(Exception, match="unknown role judge"):
        tokenizer.apply_chat_template([{"role": "judge", "content": ""}], tokenize=False)


@pytest.mark.parametrize("canvas", [*stimuli.CANVASES, (28, 112)])
def test_patches_are_those_of_the_image_processor(canvas: tuple[int, int]) -> None:
    rng = random.Random(0)
    pictures = [scenes.random_scene(rng, "train", [(112, 84)]).image.resize(canvas) for _ in range(3)]
    processor = Qwen2VLImageProcessorPil(min_pixels=train.MIN_PIXELS, max_pixels=train.MAX_PIXELS)
    wanted = processor(pictures, return_tensors="pt")
    values, grid = batches.patchify(pictures)
    assert wanted["image_grid_thw"].tolist() == [[1, *grid]] * 3
    torch.testing.assert_close(values, wanted["pixel_values"], atol=1e-6, rtol=0)


def test_all_pictures_at_once_give_what_the_tower_gives_one_by_one(
    model: Qwen2VLForConditionalGeneration,
) -> None:
    pictures = [scene.image for scene in scenes.generate(12, 0) if scene.image.size == (112, 84)]
    assert len(pictures) > 1
    values, grid = batches.patchify(pictures)
    with torch.no_grad():
        states, mine = forward.see(model, values, grid)
        wanted = model.model.visual(values, torch.tensor([[1, *grid]] * len(pictures)))
    torch.testing.assert_close(mine, wanted.pooler_output, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states, wanted.last_hidden_state, atol=1e-5, rtol=1e-4)


def test_questions_in_one_row_are_answered_as_if_each_were_asked_alone(
    model: Qwen2VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Logits of the answers in a batch of rows against the plain model on one prompt, positions included."""
    encoder = Encoder(tokenizer)
    made = stimuli.draw("red", "blue", canvas=(140, 84))
    asked = [*made.answers.items(), (questions.DESCRIBE, "the word red in blue ink")]
    group = encoder.group([Asked(made.image, asked[:1], system=True), Asked(made.image, asked)])
    values, grid = batches.patchify([made.image])
    with torch.no_grad():
        mine = forward.logits_of(model, group)[2:]
        wanted = []
        for question, answer in asked:
            content: Any = [{"type": "image"}, {"type": "text", "text": question}]
            text = str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
                )
            ).replace("<|image_pad|>", "<|image_pad|>" * 15)
            tail = len(tokenizer(f"{answer}<|im_end|>")["input_ids"])
            ids = tokenizer(f"{text}{answer}<|im_end|>", return_tensors="pt")["input_ids"]
            out = model(
                input_ids=ids,
                pixel_values=values,
                image_grid_thw=torch.tensor([[1, *grid]]),
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
            )
            wanted.append(out.logits[0, -tail - 1 : -1])
    torch.testing.assert_close(mine, torch.cat(wanted), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mine[0], mine[2])


def test_only_answers_are_targets_and_each_question_counts_once(tokenizer: PreTrainedTokenizerFast) -> None:
    steps = Steps(tokenizer, Course(look=10, read=20, place=30), 0, 0, 100)
    for step in (0, 15, 25, 35):
        for group in steps[step]:
            for row in range(len(group.ids)):
                places = (group.targets[row] >= 0).nonzero()[:, 0]
                assert torch.equal(group.targets[row, places], group.ids[row, places + 1])
                count = int(group.asked[row].max()) + 1
                assert float(group.weights[row].sum()) == pytest.approx(count)
                text = str(tokenizer.decode(group.targets[row, places]))
                assert text.count("<|im_end|>") == count and text.endswith("<|im_end|>")


def test_a_step_can_be_drawn_again_from_anywhere(tokenizer: PreTrainedTokenizerFast) -> None:
    course = Course(look=100, read=300, place=600)
    steps = Steps(tokenizer, course, 0, 0, 1000)
    assert {tuple(len(group.ids) for group in steps[step]) for step in (0, 99)} == {course.early}
    assert {tuple(len(group.ids) for group in steps[step]) for step in (100, 299)} == {course.middle}
    assert {tuple(len(group.ids) for group in steps[step]) for step in (300, 900)} == {course.late}
    assert len({steps[step][0].grid for step in range(30)}) == len(stimuli.CANVASES)
    again = Steps(tokenizer, course, 0, 200, 1000)
    assert torch.equal(steps[250][1].ids, again[50][1].ids)
    pixels, same = steps[250][1].pixels, again[50][1].pixels
    assert pixels is not None and same is not None and torch.equal(pixels, same)


def test_labels_say_what_lies_under_each_patch() -> None:
    made = stimuli.draw("red", "blue", font="mono", size=24, canvas=(140, 56))
    found = labels.of_word(made)
    assert found.shape == (4, 10, len(labels.NAMES))
    inks = {name for name in (*stimuli.COLORS, stimuli.NEUTRAL) if found[..., labels.NUMBER[name]].any()}
    letters = {name for name in string.ascii_lowercase if found[..., labels.NUMBER[name]].any()}
    assert inks == {"blue"} and letters == set("red")
    columns = [found[..., labels.NUMBER[letter]].nonzero()[1] for letter in "red"]
    assert columns[0].max() <= columns[1].max() <= columns[2].max() and columns[0].min() < columns[2].min()
    blank = stimuli.draw(stimuli.NO_WORD, "green")
    assert labels.of_word(blank)[..., labels.NUMBER["x"]].any()
    scene = scenes.Scene(made.image, [("cross", "red", (0, 0, 28, 28))], [])
    marks = labels.of_scene(scene)
    assert marks[..., labels.NUMBER["cross"]].nonzero()[0].tolist() == [0, 0, 1, 1]
    assert marks.sum() == 8


def test_labels_are_put_in_the_towers_order() -> None:
    rows, cols = 4, 6
    place = torch.arange(rows * cols, dtype=torch.float32).reshape(rows, cols, 1)
    found = labels.grouped(place.numpy())[:, 0].tolist()
    assert found[:8] == [0, 1, 6, 7, 2, 3, 8, 9] and found[12:16] == [12, 13, 18, 19]
    picture = Image.new("RGB", (cols * 14, rows * 14))
    for patch in range(rows * cols):
        box = (patch % cols * 14, patch // cols * 14)
        picture.paste((patch * 10, 0, 0), (*box, box[0] + 14, box[1] + 14))
    values, _ = batches.patchify([picture])
    assert values[:, 0].argsort().argsort().tolist() == [int(number) for number in found]


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    cycles = train.Cycle(2, 4, 1e-3), train.Cycle(4, 4, 1e-3)
    plan = train.Plan(
        cycles, Course(look=1, read=4, place=5, early=(3, 2, 1), middle=(3, 2, 1), late=(2, 3, 1))
    )
    assert plan.steps == 6 and [plan.cycle_at(step) for step in (0, 1, 2, 5, 6)] == [0, 0, 1, 1, 1]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train.train(whole, 0, 5.0, 1, 4, plan, watch=2)
    parted.mkdir()
    with pytest.raises(RuntimeError, match="out of time at step 1"):
        train.Training(plan, 0, parted).run(0.0, 4, lambda **fields: None, watch=2)
    train.train(parted, 0, 5.0, 1, 4, plan, watch=2)
    models = [Qwen2VLForConditionalGeneration.from_pretrained(folder) for folder in (whole, parted)]
    for name, weight in models[0].state_dict().items():
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(models[1].state_dict()[name], weight, msg=name)
    log = [json.loads(line) for line in (parted / "training.log").read_text().splitlines()]
    assert [line["event"] for line in log if "event" in line] == ["resume", "end"]
    assert set(log[-2]["held_out"]) >= {"ink", "word", "count"}
    assert log[-2]["places"] > 0


def test_a_stop_between_two_cycles_goes_on_with_the_second(tmp_path: Path) -> None:
    cycles = train.Cycle(1, 4, 1e-3), train.Cycle(4, 4, 5e-4)
    plan = train.Plan(
        cycles, Course(look=1, read=4, place=5, early=(1, 1, 1), middle=(1, 1, 1), late=(1, 1, 1))
    )
    first = train.Training(plan, 0, tmp_path)
    with pytest.raises(RuntimeError, match="out of time at step 1"):
        first.run(0.0, 4, lambda **fields: None, watch=1)
    second = train.Training(plan, 0, tmp_path)
    second.resume()
    assert second.schedule.total_steps == 4 and second.schedule.last_epoch == 0
    assert second.optimiser.param_groups[0]["max_lr"] == 5e-4 and not second.optimiser.state
    for name, weight in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], weight, msg=name)


def test_a_token_that_names_a_shape_is_told_where_it_lies(tokenizer: PreTrainedTokenizerFast) -> None:
    shapes: list[scenes.Shape] = [
        ("circle", "red", (14, 42, 42, 70)),
        ("square", "blue", (56, 0, 84, 28)),
        ("cross", "red", (90, 60, 110, 80)),
        ("cross", "green", (4, 4, 24, 24)),
    ]
    scene = scenes.Scene(scenes.paint((112, 84), "white", shapes), shapes, [])
    spots = labels.spots_of(scene)
    assert spots == {"circle": (1.0, 2.0), "square": (2.5, 0.5)}
    asked = [("Where is the circle, seen from the square?", "left"), ("How many crosses are there?", "two")]
    group = Encoder(tokenizer).group([Asked(scene.image, asked, spots=spots)])
    assert group.spots is not None
    known = group.spots.isfinite().all(dim=-1)
    assert [str(tokenizer.decode(i)) for i in group.ids[known]] == [" circle", " square"]
    assert group.spots[known].tolist() == [[1.0, 2.0], [2.5, 0.5]]


def test_late_questions_about_scenes_are_mostly_about_places() -> None:
    rng = random.Random(0)
    kinds = []
    for scene in scenes.generate(60, 0):
        asked = questions.asked_of_places(rng, scene)
        assert set(asked) <= {*scene.questions, (questions.DESCRIBE, scenes.describe(scene.shapes))}
        kinds += [scenes.kind_of(question) for question, _ in asked if question != questions.DESCRIBE]
    assert kinds.count("relation") + kinds.count("place") > 0.4 * len(kinds)
    assert {"count", "name", "color"} <= set(kinds)


def test_the_place_head_reads_rows_and_columns() -> None:
    heads = forward.Heads(8, 8)
    with torch.no_grad():
        heads.place.weight.copy_(torch.eye(8)[:2])
        heads.place.bias.zero_()
    states = torch.zeros(2, 2 * 3, 8)
    states[:, :, 0] = torch.tensor([0.0, 0, 0, 1, 1, 1])
    states[:, :, 1] = torch.tensor([0.0, 1, 2, 0, 1, 2])
    assert float(heads.places(states.reshape(-1, 8), (4, 6)).detach()) == 0
    assert float(heads.places(states.flip(1).reshape(-1, 8), (4, 6)).detach()) > 0.5
