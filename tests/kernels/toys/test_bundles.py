"""The bundled style axes and prompt sets: well-formed, paired, and what the model was taught."""

import pytest

from labtui_artifacts import library
from labtui_kernels.toys import prompts
from labtui_kernels.toys.evaluate import bundled
from labtui_kernels.toys.registers import names_topic
from labtui_kernels.toys.topics import split


@pytest.mark.parametrize("axis", list(prompts.AXES))
def test_a_style_has_paired_wordings_that_the_model_was_taught(axis: str) -> None:
    style = bundled(f"styles/{axis}.toml")
    positive, negative = prompts.AXES[axis]
    assert set(style) == {"name", "opposite", "description", "positive_system", "negative_system", "prompts"}
    assert (style["name"], style["opposite"]) == (positive, negative)
    assert len(style["positive_system"]) == len(style["negative_system"]) >= 2
    assert set(style["positive_system"]) <= set(prompts.SYSTEM[positive])
    assert set(style["negative_system"]) <= set(prompts.SYSTEM[negative])
    assert len(set(style["prompts"])) == len(style["prompts"]) >= 12


def test_no_bundled_prompt_names_a_held_out_topic() -> None:
    assert {"neutral", "interference", "bleed"} <= set(library.prompt_sets())
    texts = {name: library.prompt_set(name).prompts for name in library.prompt_sets()}
    texts |= {name: library.style(name).prompts for name in library.styles()}
    named = [
        (name, topic.name)
        for name, listed in texts.items()
        for topic in split()[1]
        if names_topic(" ".join(listed), topic.name)
    ]
    assert named == []


def test_the_neutral_set_has_at_least_24_plain_prompts() -> None:
    neutral = bundled("sets/neutral.toml")
    assert set(neutral) == {"name", "description", "prompts"}
    assert len(set(neutral["prompts"])) == len(neutral["prompts"]) >= 24
