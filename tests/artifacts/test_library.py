"""What ships with the lab can be read, and unknown names are answered with those there are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError


def test_the_four_style_axes_are_bundled() -> None:
    assert library.styles() == ["dry", "formal", "socratic", "terse"]
    for name in library.styles():
        style = library.style(name)
        assert style.name == name and style.opposite and style.description
        assert len(style.prompts) >= 12 and len(set(style.prompts)) == len(style.prompts)
        contrasts = style.contrasts()
        assert len(contrasts) == len(style.prompts) * len(style.positive_system)
        for positive, negative in contrasts:
            assert [message["role"] for message in positive] == ["system", "user"]
            assert positive[1] == negative[1] and positive[0] != negative[0]


def test_the_neutral_set_asks_for_no_style() -> None:
    neutral = library.prompt_set("neutral")
    assert len(neutral.prompts) >= 16 and "neutral" in library.prompt_sets()


@pytest.mark.parametrize("ask", [library.style, library.prompt_set, library.model_path])
def test_unknown_names(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(UsageError, match=r"no .* 'zzz': there are: "):
        ask("zzz")
    with pytest.raises(UsageError):
        ask("../styles/terse")


def test_a_near_miss_is_corrected() -> None:
    with pytest.raises(UsageError, match="did you mean 'terse'"):
        library.style("tersse")


def test_no_model_library_is_imported() -> None:
    code = (
        "import sys, labtui_artifacts.library, labtui_artifacts.store, labtui_artifacts.exchange\n"
        "print([name for name in ('torch', 'transformers', 'gguf', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
