"""What ships with the lab: small models, style axes and prompt sets, read without torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import BadFile, UsageError

ROOT = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Style:
    """A style axis: system prompts for its two poles, in pairs, and the prompts they are put before.

    Contrast ``(i, j)`` is ``positive_system[j]`` against ``negative_system[j]``, both with ``prompts[i]``.
    """

    name: str
    opposite: str
    description: str
    positive_system: tuple[str, ...]
    negative_system: tuple[str, ...]
    prompts: tuple[str, ...]

    def contrasts(self) -> list[tuple[list[dict[str, str]], list[dict[str, str]]]]:
        """Every contrast as a pair of chat message lists: (positive, negative)."""
        return [
            (_chat(positive, prompt), _chat(negative, prompt))
            for prompt in self.prompts
            for positive, negative in zip(self.positive_system, self.negative_system, strict=True)
        ]


@dataclass(frozen=True)
class PromptSet:
    """A bundled list of prompts; ``system`` is empty for the model's default."""

    name: str
    description: str
    prompts: tuple[str, ...]
    system: str = ""


def models() -> list[str]:
    """The names of the bundled models."""
    return sorted(path.parent.name for path in ROOT.glob("models/*/config.json"))


def model_path(name: str) -> Path:
    """The folder of a bundled model; UsageError lists those there are."""
    if name not in models():
        raise UsageError(_unknown("bundled model", name, models()))
    return ROOT / "models" / name


def styles() -> list[str]:
    """The names of the bundled style axes."""
    return sorted(path.stem for path in ROOT.glob("styles/*.toml"))


@cache
def style(name: str) -> Style:
    """A bundled style axis; UsageError lists those there are."""
    if name not in styles():
        raise UsageError(_unknown("style", name, styles()))
    path = ROOT / "styles" / f"{name}.toml"
    said = _load(path)
    found = Style(
        name=_text(path, said, "name"),
        opposite=_text(path, said, "opposite"),
        description=_text(path, said, "description"),
        positive_system=_texts(path, said, "positive_system"),
        negative_system=_texts(path, said, "negative_system"),
        prompts=_texts(path, said, "prompts"),
    )
    if len(found.positive_system) != len(found.negative_system):
        raise BadFile(f"{path}: positive_system and negative_system must be paired, their lengths differ")
    return found


def prompt_sets() -> list[str]:
    """The names of the bundled prompt sets."""
    return sorted(path.stem for path in ROOT.glob("sets/*.toml"))


@cache
def prompt_set(name: str) -> PromptSet:
    """A bundled prompt set; UsageError lists those there are."""
    if name not in prompt_sets():
        raise UsageError(_unknown("prompt set", name, prompt_sets()))
    path = ROOT / "sets" / f"{name}.toml"
    said = _load(path)
    return PromptSet(
        name=_text(path, said, "name"),
        description=_text(path, said, "description"),
        prompts=_texts(path, said, "prompts"),
        system=_text(path, said, "system") if "system" in said else "",
    )


def _chat(system: str, prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BadFile(f"{path}: cannot be read ({problem}): reinstall labtui") from problem


def _text(path: Path, said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise BadFile(f"{path}: {key} must be a text")
    return value


def _texts(path: Path, said: dict[str, Any], key: str) -> tuple[str, ...]:
    value = said.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise BadFile(f"{path}: {key} must be a list of texts")
    return tuple(value)


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return f"no {what} {name!r}: {hint}"
