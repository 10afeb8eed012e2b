"""What ships with the lab: small models, style axes, prompt sets, lenses and token sets, read without torch.

Lenses, token sets and choice sets may also be the user's: ``NAME.toml`` in ``lenses``, ``tokens`` or ``choices`` of
``$LABTUI_HOME``, or a path to a TOML file.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from labtui_artifacts import paths
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.header import open_regular

ROOT = Path(__file__).parent / "bundled"
MAX_FILE = 256 * 1024
"""Largest TOML file of a user's that is read, in bytes."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}\Z")


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
    """A bundled list of prompts; ``system`` is empty for the model's default.

    ``classes`` has the class of each prompt (``code``, ``maths``), empty in a set without classes.
    """

    name: str
    description: str
    prompts: tuple[str, ...]
    system: str = ""
    classes: tuple[str, ...] = ()

    def of(self, name: str) -> tuple[str, ...]:
        """The prompts of a class; UsageError lists the classes there are."""
        if name not in self.classes:
            raise UsageError(_unknown(f"class of the set {self.name!r}", name, sorted(set(self.classes))))
        return tuple(p for p, group in zip(self.prompts, self.classes, strict=True) if group == name)


@dataclass(frozen=True)
class Found:
    """A TOML file found by name or path, bundled or the user's: its name, description, and what it says."""

    name: str
    description: str
    path: Path
    said: dict[str, Any]


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
    groups = said.get("classes", {})
    if not isinstance(groups, dict) or bool(groups) == ("prompts" in said):
        raise BadFile(f"{path}: expected prompts, or a table of classes with the prompts of each")
    listed = [(group, text) for group in groups for text in _texts(path, groups, group)]
    return PromptSet(
        name=_text(path, said, "name"),
        description=_text(path, said, "description"),
        prompts=tuple(text for _, text in listed) if groups else _texts(path, said, "prompts"),
        system=_text(path, said, "system") if "system" in said else "",
        classes=tuple(group for group, _ in listed),
    )


def caption_sets() -> list[str]:
    """The names of the bundled caption sets."""
    return sorted(path.stem for path in ROOT.glob("captions/*.txt"))


@cache
def captions(name: str) -> tuple[str, ...]:
    """A bundled set of captions; UsageError lists those there are."""
    if name not in caption_sets():
        raise UsageError(_unknown("caption set", name, caption_sets()))
    text = (ROOT / "captions" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


@cache
def prompt_origins() -> dict[str, tuple[str, str]]:
    """For each bundled prompt, by its text, the set and the class that it is of (empty: a set without classes)."""
    found: dict[str, tuple[str, str]] = {}
    for name in prompt_sets():
        known = prompt_set(name)
        classes = known.classes or ("",) * len(known.prompts)
        for text, group in zip(known.prompts, classes, strict=True):
            found.setdefault(text, (name, group))
    return found


def names(folder: str) -> list[str]:
    """The names of ``lenses``, ``tokens`` or ``choices``: the bundled files of that folder, and the user's."""
    return sorted({path.stem for root in _roots(folder) for path in root.glob("*.toml")})


def find(folder: str, name: str, what: str) -> Found:
    """A file of ``lenses``, ``tokens`` or ``choices`` by its name, or by a path that ends in ``.toml``.

    A bundled name is always the bundled file's. ``what`` says in errors what is looked for. UsageError for an
    unknown name, BadFile for a file that cannot be read, is over 256 KiB, or is not TOML with a description.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if name.startswith("~/"):
            path = Path.home() / name[2:]
        if not path.is_absolute():  # a kernel runs in another folder than whoever writes the spec
            raise UsageError(f"{what} {name!r}: expected a name, or a path from / or ~/ on")
        if not path.is_file():
            raise UsageError(f"no {what} {name!r}: there is no such file")
        return _found(path)
    if _NAME.match(name):
        for root in _roots(folder):
            if (root / f"{name}.toml").is_file():
                return _found(root / f"{name}.toml")
    place = paths.home_location() / folder
    raise UsageError(f"{_unknown(what, name, names(folder))} (your own go to {place}/NAME.toml)")


def _roots(folder: str) -> tuple[Path, ...]:
    return ROOT / folder, paths.home_location() / folder


def _found(path: Path) -> Found:
    try:
        with open_regular(path) as handle:
            data = handle.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise BadFile(f"{path}: larger than {MAX_FILE // 1024} KiB; expected a short list of texts")
        said = tomllib.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise BadFile(f"{path}: cannot be read as TOML ({problem})") from problem
    name = _text(path, said, "name") if "name" in said else path.stem
    return Found(name, _text(path, said, "description") if "description" in said else "", path, said)


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
