"""From plain data, a TOML file or a command line to a checked spec. A failure is one line with the field."""

from __future__ import annotations

import re
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from labtui_artifacts.errors import UsageError

from ..lang.text import did_you_mean, shown
from .base import MAX_PROMPTS, MAX_TEXT, Message, Part, PromptSource, Spec
from .images import as_prompt, expand
from .index import Index
from .kinds import KINDS, Calibrate, Controls, Match, RecordedRow, Sweep
from .vision_tokens import Label

MAX_FILE = 16 * 1024 * 1024
MAX_SETTING = 1_000_000

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>.*)`)?\Z", re.S)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`\Z", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`\Z")
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?P<bound>.*?)(?:, got `(?P<got>[^`]*)`)?\Z", re.S)
_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]+)\]")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_PARTS: dict[str, type[Part]] = {
    "controls": Controls,
    "prompts": PromptSource,
    "captions": PromptSource,
    "labels": Label,
    "rows": RecordedRow,
}


def _find(data: Any, path: str) -> tuple[str, Any]:
    """The field that msgspec's path names, and the value there (None where it leads nowhere)."""
    value = data
    for key, index in _STEP.findall(path):
        if key and isinstance(value, Mapping):
            value = value.get(key)
        elif index and isinstance(value, (list, tuple)) and int(index) < len(value):
            value = value[int(index)]
        else:
            value = None
    return path.removeprefix("$").removeprefix("."), value


def _show(value: Any) -> str:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, (Mapping, list, tuple)):
        return "a table" if isinstance(value, Mapping) else "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)[:60]


def _choices(kind: str, field: str) -> str:
    """The words that a field takes, for an error about another word."""
    name = field.split(".")[-1]
    owner: type = Message if name == "role" else KINDS[kind]
    hints = typing.get_type_hints(owner)
    words = [word for word in _literals(hints.get(name)) if isinstance(word, str)]
    return ", ".join(words)


def _literals(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [word for part in typing.get_args(hint) for word in _literals(part)]


def _explain(error: str, data: Mapping[str, Any], kind: str) -> str:
    at = _AT.match(error)
    what, path = (at["what"], at["path"] or "$") if at else (error, "$")
    field, value = _find(data, path)
    if unknown := _UNKNOWN.match(what):
        top = re.split(r"[.\[]", field)[0]
        owner: type[msgspec.Struct] = KINDS[kind] if not field else _PARTS.get(top, Message)
        if field.count("["):
            owner = RecordedRow if top == "rows" else Message
        known = owner.__struct_fields__
        hint = did_you_mean(unknown["key"], known) or f" (known: {', '.join(known)})"
        return f"unknown key {shown(unknown['key'])}{f' in {field}' if field else ''}{hint}"
    if missing := _MISSING.match(what):
        key = missing["key"]
        return f"{f'{field}.' if field else ''}{key} is missing; `labtui spec {kind}` shows every field"
    if what.startswith("Invalid enum value"):
        choices = _choices(kind, field)
        hint = did_you_mean(str(value), choices.split(", "))
        return f"{field}: expected one of {choices}, found {_show(value)}{hint}"
    if expected := _EXPECTED.match(what):
        kinds = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in expected["types"].split("|"))
        bound = expected["bound"].strip()
        if bound.startswith("of length"):
            unit = "characters" if isinstance(value, str) else "entries"
            count = len(value) if isinstance(value, (str, list)) else 0
            return f"{field}: {count:,} {unit}; expected {bound.removeprefix('of length ')}"
        return f"{field or 'the spec'}: expected {kinds}{f' {bound}' if bound else ''}, found {_show(value)}"
    return f"{field}: {what}" if field else what


def load(data: Mapping[str, Any]) -> Spec:
    """A checked spec from plain data with a key ``kind``. Raises UsageError."""
    if not isinstance(data, Mapping):
        raise UsageError(f"spec: expected a table of keys, found {type(data).__name__}")
    if not all(isinstance(key, str) for key in data):
        raise UsageError("spec: every key must be text")
    kind = data.get("kind")
    if kind is None:
        raise UsageError(f"spec: kind is missing; expected one of {', '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        near = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise UsageError(f"spec: kind: expected one of {', '.join(KINDS)}, found {_show(kind)}{near}")
    try:
        spec = msgspec.convert(dict(data), KINDS[kind])
    except msgspec.ValidationError as error:
        raise UsageError(f"spec {kind}: {_explain(str(error), data, kind)}") from None
    except RecursionError:
        raise UsageError(f"spec {kind}: nested too deep") from None
    try:
        spec.check()
    except UsageError as error:
        line = str(error)
        raise UsageError(line if line.startswith("spec ") else f"spec {kind}: {line}") from None
    return spec


def to_dict(spec: Spec) -> dict[str, Any]:
    """Plain data that ``load`` reads back as an equal spec."""
    return msgspec.to_builtins(spec)


def read_prompts(path: Path, what: str = "prompts") -> list[str]:
    """The prompts of a text file: UTF-8, one a line, blank lines left out, at most 20,000."""
    text = _read_text(path, what)
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise UsageError(f"{what}: {path} holds no prompt; expected one a line")
    if len(prompts) > MAX_PROMPTS:
        raise UsageError(f"{what}: {path} holds {len(prompts):,} prompts; at most {MAX_PROMPTS:,} are read")
    for index, prompt in enumerate(prompts):
        if len(prompt) > MAX_TEXT:
            raise UsageError(
                f"{what}: {path}, prompt {index + 1} has {len(prompt):,} characters; at most {MAX_TEXT:,}"
            )
    return prompts


def _read_text(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{what}: cannot read {path}: {error.strerror or error}") from None
    if len(raw) > MAX_FILE:
        raise UsageError(f"{what}: {path} is longer than {MAX_FILE // 2**20} MiB")
    return _decode(raw, f"{what}: {path}")


def _decode(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text (byte {error.start})") from None


def inline(spec: Spec, base: Path) -> Spec:
    """The same spec with a prompt file's prompts in place of its name, which is relative to ``base``.

    Specs travel to kernels on other machines, so files are read where the spec is written. Pictures in its lines are
    found from its own folder.
    """
    if isinstance(spec, Index):
        source = spec.captions
        if not isinstance(source, PromptSource) or source.file is None:
            return spec
        path = base / Path(source.file).expanduser()
        return msgspec.structs.replace(spec, captions=read_prompts(path, "spec index: captions"))
    if not isinstance(spec, Sweep | Calibrate | Match) or not isinstance(spec.prompts, PromptSource):
        return spec
    if spec.prompts.file is None:
        return spec
    path = base / Path(spec.prompts.file).expanduser()
    prompts = read_prompts(path, f"spec {spec.kind}: prompts")
    folder = path.parent.absolute()
    return msgspec.structs.replace(spec, prompts=[as_prompt(prompt, folder) for prompt in prompts])


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The table in a TOML text; ``name`` says in errors which text."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{name}: nested too deep") from None


def load_toml(path: str | Path, overrides: Iterable[str] = ()) -> Spec:
    """A checked spec from a TOML file, with ``key=value`` settings applied and prompt files read.

    Pictures are found from the file's folder, those of the settings from the working directory.
    """
    path = Path(path)
    data = expand(parse_toml(_read_text(path, "spec"), f"spec {path}"), path.parent.absolute())
    for setting in overrides:
        data = override(data, setting)
    return inline(load(expand(data, Path.cwd())), path.parent)


def read(source: str, overrides: Iterable[str] = ()) -> Spec:
    """A spec from what a command line names: a TOML file, ``-`` (standard input) or a kind of spec."""
    if source in KINDS and not Path(source).exists():
        data: dict[str, Any] = {"kind": source}
    elif source == "-":
        raw = sys.stdin.buffer.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise UsageError(f"spec: standard input is longer than {MAX_FILE // 2**20} MiB")
        data = parse_toml(_decode(raw, "spec: standard input"), "spec on standard input")
    else:
        return load_toml(source, overrides)
    for setting in overrides:
        data = override(data, setting)
    return inline(load(expand(data, Path.cwd())), Path.cwd())


def _is_text(kind: Any, keys: list[str]) -> bool:
    """Whether the field of that kind of spec takes text and nothing else that TOML could mean."""
    if not isinstance(kind, str) or kind not in KINDS:
        return False
    owner: type[msgspec.Struct] = KINDS[kind]
    if len(keys) == 2 and keys[0] in _PARTS:
        owner = _PARTS[keys[0]]
    elif len(keys) != 1:
        return False
    hint = typing.get_type_hints(owner).get(keys[-1])
    words = _literals(hint)
    plain = set(_plain(hint))
    return (bool(words) and not plain - {str}) or (str in plain and not plain - {str, type(None)})


def _plain(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(hint) for kind in _plain(part)]
    if origin is typing.Literal:
        return [str]
    return [origin or hint]


def override(data: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """``data`` with one ``key=value`` applied; the key may be dotted (``controls.random=20``).

    The value is TOML; a field that takes text takes the value as it stands, quoted or not, and so does
    anything that is not TOML. Raises UsageError.
    """
    key, mark, value = setting.partition("=")
    keys = [word.strip() for word in key.split(".")]
    if not mark or not all(keys):
        raise UsageError(f"--set {shown(setting)}: expected key=value, as in strengths=[0,1]")
    if len(setting) > MAX_SETTING:
        raise UsageError(f"--set {shown(key)}: {len(setting):,} characters; at most {MAX_SETTING:,} are read")
    kind = data.get("kind")
    if isinstance(kind, str) and kind in KINDS and keys != ["kind"]:
        known = KINDS[kind].__struct_fields__
        if keys[0] not in known:
            hint = did_you_mean(keys[0], known)
            raise UsageError(f"--set {shown(setting)}: spec {kind} has no key {shown(keys[0])}{hint}")
    changed: dict[str, Any] = dict(data)
    table = changed
    for word in keys[:-1]:
        inner = table.get(word)
        if inner is not None and not isinstance(inner, Mapping):
            inner = None
        table[word] = dict(inner) if inner else {}
        table = table[word]
    table[keys[-1]] = _value(value.strip(), _is_text(kind, keys))
    return changed


def _value(text: str, takes_text: bool) -> Any:
    try:
        found = tomllib.loads(f"value = {text}\n")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    if set(found) != {"value"} or (takes_text and not isinstance(found["value"], str)):
        return text
    return found["value"]
