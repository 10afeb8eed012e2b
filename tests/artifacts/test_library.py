"""What ships with the lab can be read, and unknown names are answered with those there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labtui_artifacts import library
from labtui_artifacts.errors import BadFile, UsageError


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


def test_the_interference_set_has_a_class_for_each_prompt() -> None:
    found = library.prompt_set("interference")
    assert len(found.prompts) == len(set(found.prompts)) == len(found.classes) == 112
    assert set(found.classes) == {"code", "maths", "mixed"}
    parts = [found.of(name) for name in ("code", "maths", "mixed")]
    assert min(map(len, parts)) >= 30 and sorted(p for part in parts for p in part) == sorted(found.prompts)
    with pytest.raises(UsageError, match="did you mean 'maths'"):
        found.of("math")


def test_the_bleed_set_is_of_forty_topics_without_classes() -> None:
    found = library.prompt_set("bleed")
    assert len(found.prompts) == len(set(found.prompts)) == 40 and found.classes == ()


def test_a_file_of_the_user_s_is_found_by_name_or_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABTUI_HOME", str(tmp_path))
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "colours.toml").write_text('description = "Names"\ntokens = ["red"]\n')
    (folder / "maths.toml").write_text('tokens = ["mine"]\n')
    assert {"colours", "maths"} <= set(library.names("tokens"))
    for name in ("colours", str(folder / "colours.toml")):
        found = library.find("tokens", name, "token set")
        assert (found.name, found.description, found.said["tokens"]) == ("colours", "Names", ["red"])
    assert library.find("tokens", "maths", "token set").path.is_relative_to(library.ROOT)  # bundled first
    (folder / "big.toml").write_text("#" * (library.MAX_FILE + 1))
    with pytest.raises(BadFile, match="larger than 256 KiB"):
        library.find("tokens", "big", "token set")
    (folder / "odd.toml").write_text("name = 3\n")
    with pytest.raises(BadFile, match="name must be a text"):
        library.find("tokens", "odd", "token set")
    (folder / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFile, match="cannot be read as TOML"):
        library.find("tokens", "bytes", "token set")


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
